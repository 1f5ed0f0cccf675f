//! Linear layers on the CPU (flex).

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;
use speech::model::Activation;

use crate::cpu::matrix::{Addend, Left, Panels, add_rows, multiply_parallel};
use crate::cpu::{Level, dense};
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};

/// [`super::apply`] on a flex device.
pub(crate) fn apply(
    x: Tensor<2>,
    parameters: Tensor<1>,
    outputs: usize,
    activation: Option<Activation>,
) -> Tensor<2> {
    let width = super::width(&x, &parameters, outputs);
    Tensor::from_dispatch(<Dispatch as LinearOperator>::linear(
        x.into_dispatch(),
        parameters.into_dispatch(),
        outputs,
        width,
        activation,
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait LinearOperator: Backend {
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
        let inputs = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = forward(&x, &parameters, outputs, width, activation);
        let activated = activation.map(|activation| (activation, output.clone()));
        let saved = SavedTensors {
            x,
            parameters,
            activated,
            outputs,
            width,
        };
        register::<_, C, _, 2>(inputs, output, saved)
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedTensors {
    x: FlexTensor,
    parameters: FlexTensor,
    /// The activation and what came out of it.
    activated: Option<(Activation, FlexTensor)>,
    outputs: usize,
    width: usize,
}

impl Saved<Flex, 2> for SavedTensors {
    fn backward(self, output_grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let level = Level::detect();
        let output_gradient = contiguous(output_grad);
        let Self {
            x,
            parameters,
            activated,
            outputs,
            width,
        } = self;
        let sum_grad = activated.map(|(activation, output)| {
            let gradient = values(&output_gradient);
            dense::activation_backward(level, Some(activation), values(&output), gradient)
        });
        let sum_grad = match &sum_grad {
            Some(sum_grad) => sum_grad,
            None => values(&output_gradient),
        };
        let rows = sum_grad.len() / outputs.max(1);
        let weights = outputs * width;
        let input = wanted[0].then(|| {
            let weight = Panels::pack(&values(&parameters)[..weights], outputs, width);
            let left = Left::rows(sum_grad, outputs);
            let mut gradient = vec![0.0; rows * width];
            multiply_parallel(level, left, &weight, Addend::Zero, &mut gradient, width);
            tensor(gradient, [rows, width])
        });
        let parameters = wanted[1].then(|| {
            let mut gradient = vec![0.0; weights + outputs];
            let (weight, bias) = gradient.split_at_mut(weights);
            let left = Left::transposed(sum_grad, outputs);
            let panels = Panels::pack(values(&x), rows, width);
            multiply_parallel(level, left, &panels, Addend::Zero, weight, width);
            add_rows(level, sum_grad, bias);
            tensor(gradient, [weights + outputs])
        });
        [input, parameters]
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
    let start = Addend::Row(&parameters[outputs * width..]);
    let result = dense::forward(Level::detect(), x, &weight, start, activation);
    let rows = x.len() / width.max(1);
    tensor(result, [rows, outputs])
}
