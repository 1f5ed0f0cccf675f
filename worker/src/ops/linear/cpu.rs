//! Linear layers with or without an activation: dense ones, projections to the outputs. It is one
//! operator with its own backward pass on the CPU (flex) and on a GPU, and plain tensor operations
//! elsewhere.

#[cfg(feature = "wgpu")]
pub mod gpu;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_flex::FlexTensor;
use speech::model::Activation;

use crate::cpu::matrix::{Left, Panels, Start, add_rows, multiply_parallel};
use crate::cpu::{Level, dense};
use crate::ops::recurrent::cpu::{contiguous, tensor, values};

/// `x` [rows, width] times the transpose of the weight [outputs, width], plus the bias, and the
/// activation of that, on a flex device; `parameters` are weight and bias.
pub fn fused(
    x: Tensor<2>,
    parameters: Tensor<1>,
    outputs: usize,
    activation: Option<Activation>,
) -> Tensor<2> {
    let width = width(&x, &parameters, outputs);
    Tensor::from_dispatch(<Dispatch as LinearOperator>::linear(
        x.into_dispatch(),
        parameters.into_dispatch(),
        outputs,
        width,
        activation,
    ))
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

/// [`fused`] on any device.
pub fn reference(
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

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait LinearOperator: Backend {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self>;
}

impl LinearOperator for Flex {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let (x, parameters) = (contiguous(x), contiguous(parameters));
        forward(&x, &parameters, outputs, width, activation)
    }
}

impl<C: CheckpointStrategy> LinearOperator for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = forward(&x, &parameters, outputs, width, activation);
        match burn_autodiff::ops::Backward::<Flex, 2>::prepare::<C>(Step, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                Saved {
                    x,
                    parameters,
                    activated: activation.map(|activation| (activation, output.clone())),
                    outputs,
                    width,
                },
                output,
            ),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Step;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    parameters: FlexTensor,
    /// The activation and what came out of it.
    activated: Option<(Activation, FlexTensor)>,
    outputs: usize,
    width: usize,
}

impl burn_autodiff::ops::Backward<Flex, 2> for Step {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let level = Level::detect();
        let output_gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let Saved {
            x,
            parameters,
            activated,
            outputs,
            width,
        } = ops.state;
        let slopes = activated.map(|(activation, output)| {
            let gradient = values(&output_gradient);
            dense::slopes(level, Some(activation), values(&output), gradient)
        });
        let slopes = match &slopes {
            Some(slopes) => slopes,
            None => values(&output_gradient),
        };
        let rows = slopes.len() / outputs.max(1);
        let weights = outputs * width;
        let [x_node, parameters_node] = ops.parents;
        if let Some(node) = x_node {
            let weight = Panels::pack(&values(&parameters)[..weights], outputs, width);
            let left = Left::rows(slopes, outputs);
            let mut gradient = vec![0.0; rows * width];
            multiply_parallel(level, left, &weight, Start::Zero, &mut gradient, width);
            gradients.register::<Flex>(node.id, tensor(gradient, [rows, width]));
        }
        if let Some(node) = parameters_node {
            let mut gradient = vec![0.0; weights + outputs];
            let (weight, bias) = gradient.split_at_mut(weights);
            let left = Left::transposed(slopes, outputs);
            let panels = Panels::pack(values(&x), rows, width);
            multiply_parallel(level, left, &panels, Start::Zero, weight, width);
            add_rows(level, slopes, bias);
            gradients.register::<Flex>(node.id, tensor(gradient, [weights + outputs]));
        }
    }
}

fn forward(
    x: &FlexTensor,
    parameters: &FlexTensor,
    outputs: usize,
    width: usize,
    activation: Option<Activation>,
) -> FlexTensor {
    let (x, parameters) = (values(x), values(parameters));
    let weight = Panels::transpose(&parameters[..outputs * width], width, outputs);
    let start = Start::Row(&parameters[outputs * width..]);
    let result = dense::forward(Level::detect(), x, &weight, start, activation);
    let rows = x.len() / width.max(1);
    tensor(result, [rows, outputs])
}
