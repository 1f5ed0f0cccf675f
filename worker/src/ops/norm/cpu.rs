//! The normalisation of rows: one operator with its own backward pass on the CPU (flex), and plain
//! tensor operations elsewhere. Only a row's own values reach it, so that it is the same in any batch.

#[cfg(feature = "wgpu")]
pub mod gpu;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_flex::FlexTensor;
use speech::model::NORM_EPSILON;

use crate::cpu::norm;
use crate::ops::recurrent::cpu::{contiguous, tensor, values};

/// Rows [rows, width] normalised on a flex device; `parameters` are weight and bias.
pub fn fused(x: Tensor<2>, parameters: Tensor<1>) -> Tensor<2> {
    let [rows, width] = x.dims();
    assert_eq!(parameters.dims(), [2 * width], "parameters of the norm");
    Tensor::from_dispatch(<Dispatch as NormOperator>::norm(
        x.into_dispatch(),
        parameters.into_dispatch(),
        rows,
        width,
    ))
}

/// [`fused`] on any device.
pub fn reference(x: Tensor<2>, parameters: Tensor<1>) -> Tensor<2> {
    let [_, width] = x.dims();
    let centred = x.clone().sub(x.mean_dim(1));
    let variance = centred.clone().mul(centred.clone()).mean_dim(1);
    let normal = centred.div(variance.add_scalar(NORM_EPSILON).sqrt());
    let weight = parameters.clone().narrow(0, 0, width).reshape([1, width]);
    let bias = parameters.narrow(0, width, width).reshape([1, width]);
    normal.mul(weight).add(bias)
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait NormOperator: Backend {
    fn norm(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        rows: usize,
        width: usize,
    ) -> FloatTensor<Self>;
}

impl NormOperator for Flex {
    fn norm(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        rows: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        let (x, parameters) = (contiguous(x), contiguous(parameters));
        tensor(
            norm::forward(values(&x), values(&parameters)),
            [rows, width],
        )
    }
}

impl<C: CheckpointStrategy> NormOperator for Autodiff<Flex, C> {
    fn norm(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        rows: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = norm::forward(values(&x), values(&parameters));
        let output = tensor(output, [rows, width]);
        match burn_autodiff::ops::Backward::<Flex, 2>::prepare::<C>(Step, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, parameters), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Step;

impl burn_autodiff::ops::Backward<Flex, 2> for Step {
    /// What was normalised, and the parameters.
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = contiguous(gradients.consume::<Flex>(&ops.node));
        let (x, parameters) = ops.state;
        let (x, parameters) = (values(&x), values(&parameters));
        let (input, sums) = norm::backward(x, parameters, values(&slopes));
        let (width, elements) = (parameters.len() / 2, x.len());
        let [x_node, parameters_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, tensor(input, [elements / width, width]));
        }
        if let Some(node) = parameters_node {
            gradients.register::<Flex>(node.id, tensor(sums, [2 * width]));
        }
    }
}
