//! Linear layers with or without an activation: dense ones, projections to the outputs.

pub(crate) mod cpu;
#[cfg(feature = "wgpu")]
pub(crate) mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;
use speech::model::Activation;

use crate::ops::Implementation;

/// `x` [rows, width] times the transpose of the weight [outputs, width], plus the bias [outputs], and the activation
/// of that: [rows, outputs]. `parameters` are weight and bias.
///
/// # Panics
/// If the parameters are not those of a layer of this width.
pub(crate) fn apply(
    implementation: Implementation,
    x: Tensor<2>,
    parameters: Tensor<1>,
    outputs: usize,
    activation: Option<Activation>,
) -> Tensor<2> {
    dispatch!(implementation, x, parameters, outputs, activation)
}

/// The number of columns of `x`.
///
/// # Panics
/// If the parameters are not those of a layer of this width.
fn width(x: &Tensor<2>, parameters: &Tensor<1>, outputs: usize) -> usize {
    let [_, width] = x.dims();
    assert_eq!(
        parameters.dims(),
        [outputs * (width + 1)],
        "parameters of the linear layer"
    );
    width
}
