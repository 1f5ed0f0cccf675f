//! Convolutions over frames and bands: an operator of its own on the CPU, and im2col and a linear layer elsewhere.
//! Each sequence is computed by itself, so that neither its neighbours nor the threads that share out the
//! sequences reach its bits; what they contribute to a weight's gradient is added in the order of their places.

pub(crate) mod cpu;
mod im2col;

use std::sync::Arc;

use burn::tensor::Tensor;
use speech::model::Convolution;

use crate::ops::Implementation;
use crate::ops::packing::Packing;

/// How the frames lie that go in and come out.
#[derive(Clone, Debug)]
pub(crate) struct Packings {
    pub input: Arc<Packing>,
    pub output: Arc<Packing>,
}

/// Rows [rows, inputs] to rows [rows out, width].
///
/// # Panics
/// If the shapes do not fit, or a batch is padded and the implementation is the CPU's.
pub(crate) fn apply(
    implementation: Implementation,
    x: Tensor<2>,
    parameters: Tensor<1>,
    shape: Convolution,
    packings: Packings,
) -> Tensor<2> {
    match implementation {
        Implementation::Cpu => cpu::apply(x, parameters, shape, packings),
        other => im2col::apply(other, x, parameters, shape, &packings),
    }
}
