//! The normalisation of rows in plain tensor operations.

use burn::tensor::Tensor;
use speech::model::NORM_EPSILON;

/// [`super::apply`] on any device.
pub(crate) fn apply(x: Tensor<2>, parameters: Tensor<1>) -> Tensor<2> {
    let [_, width] = x.dims();
    let centred = x.clone().sub(x.mean_dim(1));
    let variance = centred.clone().mul(centred.clone()).mean_dim(1);
    let normal = centred.div(variance.add_scalar(NORM_EPSILON).sqrt());
    let weight = parameters.clone().narrow(0, 0, width).reshape([1, width]);
    let bias = parameters.narrow(0, width, width).reshape([1, width]);
    normal.mul(weight).add(bias)
}
