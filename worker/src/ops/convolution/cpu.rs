//! Convolutions over frames and bands: one operator with its own backward pass on the CPU (flex), and
//! patches and a product elsewhere. Each sequence is computed by itself, so that neither its
//! neighbours nor the threads that share out the sequences reach its bits; what they contribute to a
//! weight's gradient is added in the order of their places.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use speech::model::Convolution;

use super::gather::Mix;
use crate::cpu::convolution::{Weights, each_weight, from_patches};
use crate::cpu::{Level, dense};
use crate::ops::packing::Packing;
use crate::ops::recurrent::cpu::{contiguous, tensor, values};
use crate::ops::recurrent::reference::Linear;

/// Output frames of a sequence that a thread computes at a time.
const FRAMES: usize = 128;

/// How the frames lie that go in and come out.
#[derive(Clone, Debug)]
pub struct Packings {
    pub input: Arc<Packing>,
    pub output: Arc<Packing>,
}

/// Rows [rows, inputs] to rows [rows out, width], on a flex device.
///
/// # Panics
/// If a batch is padded, the shapes do not fit, or the device is another.
pub fn fused(
    x: Tensor<2>,
    parameters: Tensor<1>,
    shape: Convolution,
    packings: Packings,
) -> Tensor<2> {
    assert!(!packings.input.is_padded(), "a packed batch");
    assert_eq!(
        x.dims(),
        [packings.input.rows(), shape.inputs()],
        "input of the convolution"
    );
    Tensor::from_dispatch(<Dispatch as ConvolutionOperator>::convolution(
        x.into_dispatch(),
        parameters.into_dispatch(),
        shape,
        packings,
    ))
}

/// [`fused`] on any device and for any packing: the patches of all frames at once, mixed and
/// multiplied by operators of the device's.
pub fn plain(
    x: Tensor<2>,
    parameters: Tensor<1>,
    shape: Convolution,
    packings: &Packings,
    mix: fn(Tensor<2>, Mix) -> Tensor<2>,
    linear: Linear,
) -> Tensor<2> {
    let patches = Mix::patches(&packings.input, &packings.output, &shape);
    let rows = packings.output.rows();
    let bands = shape.output_bands();
    let patches = mix(x, patches).reshape([rows * bands, shape.depth()]);
    let [elements] = parameters.dims();
    let order = linear_order(&shape);
    let count = order.shape[0];
    let parameters = mix(parameters.reshape([elements, 1]), order).reshape([count]);
    linear(patches, parameters, shape.outputs, shape.activation).reshape([rows, shape.width()])
}

/// From the parameters of a convolution to those of the linear layer over patches that it is.
fn linear_order(shape: &Convolution) -> Mix {
    let weights = shape.outputs * shape.depth();
    let mut order = vec![0; weights];
    each_weight(shape, |torch, patch| order[patch] = torch as u32);
    let mut order: Vec<Option<u32>> = order.into_iter().map(Some).collect();
    let bias = (0..shape.outputs).map(|k| shape.bias.then_some((weights + k) as u32));
    order.extend(bias);
    let elements = weights + if shape.bias { shape.outputs } else { 0 };
    Mix::order(&order, elements)
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait ConvolutionOperator: Backend {
    fn convolution(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Convolution,
        packings: Packings,
    ) -> FloatTensor<Self>;
}

impl ConvolutionOperator for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Convolution,
        packings: Packings,
    ) -> FloatTensor<Self> {
        forward(&contiguous(x), &contiguous(parameters), &shape, &packings)
    }
}

impl<C: CheckpointStrategy> ConvolutionOperator for Autodiff<Flex, C> {
    fn convolution(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Convolution,
        packings: Packings,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = forward(&x, &parameters, &shape, &packings);
        match burn_autodiff::ops::Backward::<Flex, 2>::prepare::<C>(Step, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x,
                    parameters,
                    output: output.clone(),
                    shape,
                    packings,
                };
                prep.finish(saved, output)
            }
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
    output: FlexTensor,
    shape: Convolution,
    packings: Packings,
}

impl burn_autodiff::ops::Backward<Flex, 2> for Step {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [x_node, parameters_node] = ops.parents;
        let (input, parameters) = ops.state.backward(values(&gradient), x_node.is_some());
        if let (Some(node), Some(input)) = (x_node, input) {
            gradients.register::<Flex>(node.id, input);
        }
        if let Some(node) = parameters_node {
            gradients.register::<Flex>(node.id, parameters);
        }
    }
}

/// The frame `step` of the sequence in a place.
fn frame<'a>(
    packing: &Packing,
    rows: &'a [f32],
    width: usize,
    place: usize,
    step: usize,
) -> Option<&'a [f32]> {
    (step < packing.length(place)).then(|| &rows[packing.row(step, place) * width..][..width])
}

fn forward(
    x: &FlexTensor,
    parameters: &FlexTensor,
    shape: &Convolution,
    packings: &Packings,
) -> FlexTensor {
    let Packings { input, output } = packings;
    let weights = Weights::new(shape, values(parameters));
    let (x, level) = (values(x), Level::detect());
    let tasks: Vec<(usize, usize)> = (0..output.sequences())
        .flat_map(|place| {
            let starts = (0..output.length(place)).step_by(FRAMES);
            starts.map(move |start| (place, start))
        })
        .collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(place, start)| {
            let frames = start..output.length(place).min(start + FRAMES);
            weights.forward(level, frames, |step| {
                frame(input, x, shape.inputs(), place, step)
            })
        })
        .collect();
    let width = shape.width();
    let mut result = vec![0.0; output.rows() * width];
    for ((place, start), part) in tasks.into_iter().zip(parts) {
        for (i, row) in part.chunks_exact(width).enumerate() {
            result[output.row(start + i, place) * width..][..width].copy_from_slice(row);
        }
    }
    tensor(result, [output.rows(), width])
}

impl Saved {
    fn backward(self, gradient: &[f32], wants_input: bool) -> (Option<FlexTensor>, FlexTensor) {
        let Self {
            x,
            parameters,
            output,
            shape,
            packings,
        } = self;
        let weights = Weights::new(&shape, values(&parameters));
        let (x, level) = (values(&x), Level::detect());
        let (inputs, width) = (shape.inputs(), shape.width());
        let slopes = dense::slopes(level, shape.activation, values(&output), gradient);
        let Packings { input, output } = packings;
        let parts: Vec<_> = (0..output.sequences())
            .into_par_iter()
            .map(|place| {
                let length = output.length(place);
                let mut own = Vec::with_capacity(length * width);
                for step in 0..length {
                    own.extend_from_slice(&slopes[output.row(step, place) * width..][..width]);
                }
                weights.backward(level, &own, input.length(place), wants_input, |step| {
                    frame(&input, x, inputs, place, step)
                })
            })
            .collect();
        let mut input_gradient = vec![
            0.0;
            if wants_input {
                input.rows() * inputs
            } else {
                0
            }
        ];
        let mut weight = vec![0.0; shape.outputs * shape.depth()];
        let mut bias = vec![0.0; shape.outputs];
        for (place, part) in parts.into_iter().enumerate() {
            let add = |sums: &mut [f32], values: &[f32]| {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += value;
                }
            };
            add(&mut weight, &part.weight);
            add(&mut bias, &part.bias);
            let rows = part.input.iter().flat_map(|rows| rows.chunks_exact(inputs));
            for (step, row) in rows.enumerate() {
                input_gradient[input.row(step, place) * inputs..][..inputs].copy_from_slice(row);
            }
        }
        let mut gradient = from_patches(&shape, &weight);
        if shape.bias {
            gradient.extend_from_slice(&bias);
        }
        let elements = gradient.len();
        (
            wants_input.then(|| tensor(input_gradient, [input.rows(), inputs])),
            tensor(gradient, [elements]),
        )
    }
}
