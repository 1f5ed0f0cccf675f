//! The normalisation of rows on the CPU (flex).

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;

use crate::cpu::norm;
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};

/// [`super::apply`] on a flex device.
pub(crate) fn apply(x: Tensor<2>, parameters: Tensor<1>) -> Tensor<2> {
    let [rows, width] = x.dims();
    assert_eq!(parameters.dims(), [2 * width], "parameters of the norm");
    Tensor::from_dispatch(<Dispatch as NormOperator>::norm(
        x.into_dispatch(),
        parameters.into_dispatch(),
        rows,
        width,
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait NormOperator: Backend {
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
        let inputs = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = norm::forward(values(&x), values(&parameters));
        let output = tensor(output, [rows, width]);
        register::<_, C, _, 2>(inputs, output, SavedTensors { x, parameters })
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedTensors {
    x: FlexTensor,
    parameters: FlexTensor,
}

impl Saved<Flex, 2> for SavedTensors {
    fn backward(self, output_grad: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let output_grad = contiguous(output_grad);
        let (x, parameters) = (values(&self.x), values(&self.parameters));
        let (input, sums) = norm::backward(x, parameters, values(&output_grad));
        let (width, elements) = (parameters.len() / 2, x.len());
        [
            Some(tensor(input, [elements / width, width])),
            Some(tensor(sums, [2 * width])),
        ]
    }
}
