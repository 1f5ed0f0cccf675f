//! Products with constants that come from the CPU.

pub mod gpu;
