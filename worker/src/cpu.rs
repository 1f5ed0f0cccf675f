//! The arithmetic of the fused CPU operators: vectors of whatever width the processor has, a matrix
//! product and the activation functions. It decides the order of every sum, and does not depend on
//! about tensors, layers and threads.
//!
//! Each element of a result is one chain of fused multiply-adds in a fixed order, so the bits depend
//! neither on the vector width nor on how a caller shares out rows and columns among threads.

pub mod activation;
pub(crate) mod block;
pub(crate) mod convolution;
pub(crate) mod dense;
pub mod matrix;
pub(crate) mod norm;

pub use simd::Level;
