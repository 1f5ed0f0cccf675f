//! Linear layers in plain tensor operations.

use burn::tensor::Tensor;
use speech::model::Activation;

/// [`super::apply`] on any device.
pub(crate) fn apply(
    x: Tensor<2>,
    parameters: Tensor<1>,
    outputs: usize,
    activation: Option<Activation>,
) -> Tensor<2> {
    let [_, width] = x.dims();
    let weights = outputs * width;
    let weight = parameters
        .clone()
        .narrow(0, 0, weights)
        .reshape([outputs, width]);
    let bias = parameters.narrow(0, weights, outputs).reshape([1, outputs]);
    let sums = x.matmul(weight.transpose()).add(bias);
    match activation {
        None => sums,
        Some(Activation::Relu) => burn::tensor::activation::relu(sums),
        Some(Activation::Tanh) => sums.tanh(),
        Some(Activation::Sigmoid) => burn::tensor::activation::sigmoid(sums),
    }
}
