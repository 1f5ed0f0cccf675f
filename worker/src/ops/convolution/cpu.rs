//! Convolutions on the CPU (flex): the patches of some frames of one sequence at a time.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;
use rayon::prelude::*;
use speech::model::Convolution;

use super::Packings;
use crate::cpu::convolution::{PackedKernel, from_patches};
use crate::cpu::{Level, dense};
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};
use crate::ops::packing::Packing;

/// Output frames of a sequence that a thread computes at a time.
const FRAMES: usize = 128;

/// [`super::apply`] on a flex device.
///
/// # Panics
/// If a batch is padded, the shapes do not fit, or the device is another.
pub(crate) fn apply(
    x: Tensor<2>,
    parameters: Tensor<1>,
    shape: Convolution,
    packings: Packings,
) -> Tensor<2> {
    let is_padded = packings.input.is_padded() || packings.output.is_padded();
    assert!(!is_padded, "a packed batch");
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

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ConvolutionOperator: Backend {
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
        let inputs = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = forward(&x, &parameters, &shape, &packings);
        let saved = SavedTensors {
            x,
            parameters,
            output: output.clone(),
            shape,
            packings,
        };
        register::<_, C, _, 2>(inputs, output, saved)
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedTensors {
    x: FlexTensor,
    parameters: FlexTensor,
    output: FlexTensor,
    shape: Convolution,
    packings: Packings,
}

impl Saved<Flex, 2> for SavedTensors {
    fn backward(self, output_grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let output_grad = contiguous(output_grad);
        let (input, parameters) = self.gradients(values(&output_grad), wanted[0]);
        [input, Some(parameters)]
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
    let weights = PackedKernel::new(shape, values(parameters));
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

impl SavedTensors {
    fn gradients(self, gradient: &[f32], wants_input: bool) -> (Option<FlexTensor>, FlexTensor) {
        let Self {
            x,
            parameters,
            output,
            shape,
            packings,
        } = self;
        let weights = PackedKernel::new(&shape, values(&parameters));
        let (x, level) = (values(&x), Level::detect());
        let (inputs, width) = (shape.inputs(), shape.width());
        let sum_grad =
            dense::activation_backward(level, shape.activation, values(&output), gradient);
        let Packings { input, output } = packings;
        let parts: Vec<_> = (0..output.sequences())
            .into_par_iter()
            .map(|place| {
                let length = output.length(place);
                let mut own = Vec::with_capacity(length * width);
                for step in 0..length {
                    own.extend_from_slice(&sum_grad[output.row(step, place) * width..][..width]);
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
