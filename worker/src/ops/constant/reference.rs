//! Products with constants in plain tensor operations.

use burn::tensor::{Tensor, TensorData};

/// [`super::multiply`] on any device.
pub(super) fn multiply(x: Tensor<2>, constants: Vec<f32>) -> Tensor<2> {
    let constants = TensorData::new(constants, x.dims());
    let device = x.device();
    x.mul(Tensor::from_data(constants, &device))
}
