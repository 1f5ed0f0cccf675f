//! Recurrent layers for cubecl (wgpu): `lstm`, specialised kernels for LSTM layers without a projection, and `cells`,
//! kernels for every other layer.

pub mod cells;
pub mod lstm;
