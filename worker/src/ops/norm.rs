//! The normalisation of rows. Only a row's own values reach it, so that it is the same in any batch.

pub(crate) mod cpu;
#[cfg(feature = "wgpu")]
pub(crate) mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use crate::ops::Implementation;

/// Rows `x` [rows, width], each with the mean 0 and the variance 1, times the weight [width], plus the bias [width];
/// `parameters` are weight and bias.
///
/// # Panics
/// If the parameters are not those of a norm of this width.
pub(crate) fn apply(
    implementation: Implementation,
    x: Tensor<2>,
    parameters: Tensor<1>,
) -> Tensor<2> {
    dispatch!(implementation, x, parameters)
}
