//! The layer as one operator with its own backward pass, for burn's flex backend on the CPU. It
//! decides what is kept between the passes; the arithmetic is `kernel`'s.

pub(crate) mod kernel;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::Recurrent;
use crate::cpu::Level;
use crate::ops::packing::Packing;
use kernel::{Direction, OutputColumns, Trace};

/// Rows `[packing.rows(), inputs]` and the flat parameters of a layer to rows
/// `[packing.rows(), outputs]`, on a flex device.
///
/// # Panics
/// If the batch is padded, the shapes do not fit, or the device is another.
pub fn layer(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
) -> Tensor<2> {
    super::check(&input, &parameters, &shape, packing);
    Tensor::from_dispatch(<Dispatch as RecurrentOperator>::recurrent(
        input.into_dispatch(),
        parameters.into_dispatch(),
        shape,
        packing.clone(),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait RecurrentOperator: Backend {
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self>;
}

impl RecurrentOperator for Flex {
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self> {
        forward(&contiguous(input), &contiguous(parameters), shape, &packing).0
    }
}

impl<C: CheckpointStrategy> RecurrentOperator for Autodiff<Flex, C> {
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self> {
        let guards = [input.node(), parameters.node()];
        let input = contiguous(input.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let (output, traces) = forward(&input, &parameters, shape, &packing);
        match burn_autodiff::ops::Backward::<Flex, 2>::prepare::<C>(Layer, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let traces = Arc::new(traces);
                let saved = Saved {
                    input,
                    parameters,
                    output: output.clone(),
                    traces,
                    shape,
                    packing,
                };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// The operator's name in the differentiation graph.
#[derive(Debug)]
struct Layer;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    parameters: FlexTensor,
    output: FlexTensor,
    traces: Arc<Vec<Trace>>,
    shape: Recurrent,
    packing: Arc<Packing>,
}

impl burn_autodiff::ops::Backward<Flex, 2> for Layer {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [input_node, parameters_node] = ops.parents;
        let (input_gradient, parameter_gradient) =
            backward(ops.state, &output_gradient, input_node.is_some());
        if let (Some(node), Some(gradient)) = (input_node, input_gradient) {
            gradients.register::<Flex>(node.id, gradient);
        }
        if let Some(node) = parameters_node {
            gradients.register::<Flex>(node.id, parameter_gradient);
        }
    }
}

fn forward(
    input: &FlexTensor,
    parameters: &FlexTensor,
    shape: Recurrent,
    packing: &Packing,
) -> (FlexTensor, Vec<Trace>) {
    let mut output = vec![0.0; packing.rows() * shape.outputs()];
    let traces = OutputColumns::split(&mut output, shape)
        .into_par_iter()
        .enumerate()
        .map(|(index, mut columns)| {
            let direction = Direction {
                level: Level::detect(),
                shape,
                packing,
                index,
            };
            direction.forward(values(input), values(parameters), &mut columns)
        })
        .collect();
    (tensor(output, [packing.rows(), shape.outputs()]), traces)
}

fn backward(
    saved: Saved,
    output_gradient: &FlexTensor,
    wants_input: bool,
) -> (Option<FlexTensor>, FlexTensor) {
    let Saved {
        input,
        parameters,
        output,
        traces,
        shape,
        packing,
    } = saved;
    let traces = Arc::try_unwrap(traces).unwrap_or_else(|shared| (*shared).clone());
    let elements = packing.rows() * shape.inputs;
    let parts: Vec<(Vec<f32>, Vec<f32>)> = traces
        .into_par_iter()
        .enumerate()
        .map(|(index, trace)| {
            let mut input_gradient = vec![0.0; if wants_input { elements } else { 0 }];
            let direction = Direction {
                level: Level::detect(),
                shape,
                packing: &packing,
                index,
            };
            let pass = kernel::Backward {
                input: values(&input),
                parameters: values(&parameters),
                output: values(&output),
                output_gradient: values(output_gradient),
                input_gradient: wants_input.then_some(&mut input_gradient[..]),
            };
            let parameter_gradient = direction.backward(pass, trace);
            (input_gradient, parameter_gradient)
        })
        .collect();
    let mut parts = parts.into_iter();
    let (mut input_gradient, mut parameter_gradient) = parts.next().unwrap_or_default();
    for (other_input, other_parameters) in parts {
        for (sum, value) in input_gradient.iter_mut().zip(other_input) {
            *sum += value;
        }
        parameter_gradient.extend(other_parameters);
    }
    let input_gradient =
        wants_input.then(|| tensor(input_gradient, [packing.rows(), shape.inputs]));
    (
        input_gradient,
        tensor(parameter_gradient, [shape.elements()]),
    )
}

/// The tensor with its elements in order and no others in its buffer's way.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    // `to_contiguous` would leave a second owner behind.
    if tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("a contiguous f32 tensor: made so where it came in")
}

pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
