//! The operators of a network, each in its own module: on the CPU (flex), on a GPU (`gpu`) and in plain tensor
//! operations, which the others are tested against.

#[cfg(feature = "wgpu")]
pub mod constant;
pub mod convolution;
pub mod dropout;
pub mod gather;
pub mod linear;
pub mod norm;
pub mod packing;
pub mod pool;
pub mod recurrent;
