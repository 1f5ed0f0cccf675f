//! A recurrent layer over a batch of sequences of different lengths: LSTM, GRU or plain, in several
//! implementations. It decides that padding reaches neither a result nor a gradient.
//!
//! The equations are torch's, and a layer's parameters are one flat tensor in torch's order: see
//! [`Recurrent`].

pub mod cpu;
#[cfg(feature = "wgpu")]
pub mod gpu;
pub mod reference;

pub use speech::model::{Cell, Recurrent};

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::ops::Implementation;
use crate::ops::packing::Packing;

/// Rows [packing.rows(), inputs] and the flat parameters of a layer to rows [packing.rows(), outputs].
///
/// # Panics
/// If the shapes do not fit, or the batch is padded where the implementation takes packed ones, or the other way
/// round.
pub fn apply(
    implementation: Implementation,
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
) -> Tensor<2> {
    dispatch!(implementation, input, parameters, shape, packing)
}

/// What every fused operator asks of what it is given.
///
/// # Panics
/// If the batch is padded, or the shapes do not fit.
fn check(input: &Tensor<2>, parameters: &Tensor<1>, shape: &Recurrent, packing: &Packing) {
    assert!(!packing.is_padded(), "a packed batch");
    assert_eq!(
        input.dims(),
        [packing.rows(), shape.inputs],
        "input of the layer"
    );
    assert_eq!(
        parameters.dims(),
        [shape.elements()],
        "parameters of the layer"
    );
}
