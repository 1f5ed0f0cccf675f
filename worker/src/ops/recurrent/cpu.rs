//! The layer as one operator with its own backward pass, for burn's flex backend on the CPU. It
//! decides what is kept between the passes; the arithmetic is `kernel`'s.

pub(crate) mod kernel;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::Recurrent;
use crate::cpu::Level;
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};
use crate::ops::packing::Packing;
use kernel::{Direction, OutputColumns, SavedActivations};

/// [`super::apply`] on a flex device.
///
/// # Panics
/// If the batch is padded, the shapes do not fit, or the device is another.
pub fn apply(
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
    /// The layer's outputs [rows, outputs].
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
        let inputs = [input.node(), parameters.node()];
        let input = contiguous(input.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let (output, activations) = forward(&input, &parameters, shape, &packing);
        let saved = SavedTensors {
            input,
            parameters,
            output: output.clone(),
            activations: Arc::new(activations),
            shape,
            packing,
        };
        register::<_, C, _, 2>(inputs, output, saved)
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedTensors {
    input: FlexTensor,
    parameters: FlexTensor,
    output: FlexTensor,
    activations: Arc<Vec<SavedActivations>>,
    shape: Recurrent,
    packing: Arc<Packing>,
}

impl Saved<Flex, 2> for SavedTensors {
    fn backward(self, output_grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let (input, parameters) = backward(self, &contiguous(output_grad), wanted[0]);
        [input, Some(parameters)]
    }
}

fn forward(
    input: &FlexTensor,
    parameters: &FlexTensor,
    shape: Recurrent,
    packing: &Packing,
) -> (FlexTensor, Vec<SavedActivations>) {
    let mut output = vec![0.0; packing.rows() * shape.outputs()];
    let activations = OutputColumns::split(&mut output, shape)
        .into_par_iter()
        .enumerate()
        .map(|(index, mut columns)| {
            let direction = Direction::new(Level::detect(), shape, packing, index);
            direction.forward(values(input), values(parameters), &mut columns)
        })
        .collect();
    (
        tensor(output, [packing.rows(), shape.outputs()]),
        activations,
    )
}

fn backward(
    saved: SavedTensors,
    output_gradient: &FlexTensor,
    wants_input: bool,
) -> (Option<FlexTensor>, FlexTensor) {
    let SavedTensors {
        input,
        parameters,
        output,
        activations,
        shape,
        packing,
    } = saved;
    let activations = Arc::try_unwrap(activations).unwrap_or_else(|shared| (*shared).clone());
    let elements = packing.rows() * shape.inputs;
    let parts: Vec<(Vec<f32>, Vec<f32>)> = activations
        .into_par_iter()
        .enumerate()
        .map(|(index, saved)| {
            let mut input_gradient = vec![0.0; if wants_input { elements } else { 0 }];
            let direction = Direction::new(Level::detect(), shape, &packing, index);
            let pass = kernel::Backward {
                input: values(&input),
                parameters: values(&parameters),
                output: values(&output),
                output_gradient: values(output_gradient),
                input_gradient: wants_input.then_some(&mut input_gradient[..]),
            };
            let parameter_gradient = direction.backward(pass, saved);
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
