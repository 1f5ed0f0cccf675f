//! Linear layers on a GPU. It decides which products and kernels they are cut into.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use speech::model::Activation;

use crate::gpu::matmul::{Addend, Matrix, Size, Transposition, multiply, multiply_long, sum_rows};
use crate::gpu::{Gpu, arg, contiguous, flat_position, sigmoid, tanh, word};
use crate::ops::autodiff::{Saved, register};

/// [`super::apply`] on a wgpu device.
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

/// The operators as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait LinearOperator: Backend {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self>;
}

impl LinearOperator for CubeBackend {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let layer = Linear::new(x, parameters, outputs, width);
        let output = layer.forward();
        if let Some(activation) = activation {
            activate(&output, activation);
        }
        output
    }
}

impl<C: CheckpointStrategy> LinearOperator for Autodiff<CubeBackend, C> {
    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let inputs = [x.node(), parameters.node()];
        let (x, parameters) = (x.into_primitive(), parameters.into_primitive());
        let layer = Linear::new(x, parameters, outputs, width);
        let output = layer.forward();
        let activated = activation.map(|activation| {
            activate(&output, activation);
            (activation, output.clone())
        });
        register::<_, C, _, 2>(inputs, output, SavedTensors { layer, activated })
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedTensors {
    layer: Linear,
    /// The activation and what came out of it.
    activated: Option<(Activation, CubeTensor)>,
}

impl Saved<CubeBackend, 2> for SavedTensors {
    fn backward(self, output_grad: CubeTensor, wanted: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let mut output_grad = contiguous(output_grad);
        if let Some((activation, output)) = self.activated {
            output_grad = activation_backward(&output, &output_grad, activation);
        }
        [
            wanted[0].then(|| self.layer.input_gradient(&output_grad)),
            wanted[1].then(|| self.layer.parameter_gradient(&output_grad)),
        ]
    }
}

/// A layer and its input.
#[derive(Clone, Debug)]
struct Linear {
    /// [rows, width].
    x: CubeTensor,
    parameters: CubeTensor,
    rows: usize,
    outputs: usize,
    width: usize,
}

impl Linear {
    fn new(x: CubeTensor, parameters: CubeTensor, outputs: usize, width: usize) -> Self {
        let x = contiguous(x);
        Self {
            rows: x.meta.num_elements() / width.max(1),
            x,
            parameters: contiguous(parameters),
            outputs,
            width,
        }
    }

    fn forward(&self) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let result = gpu.empty([self.rows, self.outputs]);
        let size = Size {
            m: self.rows,
            n: self.outputs,
            k: self.width,
        };
        multiply(
            &gpu,
            Transposition::RightTransposed,
            size,
            whole(&self.x, self.width),
            whole(&self.parameters, self.width),
            Addend::Row(self.outputs * self.width),
            whole(&result, self.outputs),
        );
        result
    }

    fn input_gradient(&self, output_grad: &CubeTensor) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let gradient = gpu.empty([self.rows, self.width]);
        let size = Size {
            m: self.rows,
            n: self.width,
            k: self.outputs,
        };
        multiply(
            &gpu,
            Transposition::Plain,
            size,
            whole(output_grad, self.outputs),
            whole(&self.parameters, self.width),
            Addend::Zero,
            whole(&gradient, self.width),
        );
        gradient
    }

    fn parameter_gradient(&self, output_grad: &CubeTensor) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let gradient = gpu.empty([self.outputs * (self.width + 1)]);
        let size = Size {
            m: self.outputs,
            n: self.width,
            k: self.rows,
        };
        let output_grad = whole(output_grad, self.outputs);
        let x = whole(&self.x, self.width);
        multiply_long(&gpu, size, output_grad, x, whole(&gradient, self.width));
        let bias = [self.outputs * self.width];
        sum_rows(&gpu, output_grad, self.rows, self.outputs, &gradient, &bias);
        gradient
    }
}

fn whole(buffer: &CubeTensor, stride: usize) -> Matrix<'_> {
    Matrix {
        buffer,
        offset: 0,
        stride,
    }
}

/// In place.
fn activate(output: &CubeTensor, activation: Activation) {
    let gpu = Gpu::of(output);
    let elements = output.meta.num_elements();
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        activate_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(output),
            word(elements),
            activation,
        );
    }
}

fn activation_backward(
    output: &CubeTensor,
    output_grad: &CubeTensor,
    activation: Activation,
) -> CubeTensor {
    let gpu = Gpu::of(output);
    let elements = output.meta.num_elements();
    let (count, units) = gpu.plan.flat(elements);
    let result = gpu.empty([output.meta.shape()[0], output.meta.shape()[1]]);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        backward_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(output),
            arg(output_grad),
            arg(&result),
            word(elements),
            activation,
        );
    }
    result
}

#[cube(launch_unchecked)]
fn activate_kernel(values: &mut [f32], elements: u32, #[comptime] activation: Activation) {
    let element = flat_position();
    if element < elements {
        let element = element as usize;
        let value = values[element];
        if comptime!(activation == Activation::Relu) {
            values[element] = select(value < 0.0f32, 0.0f32, value);
        } else if comptime!(activation == Activation::Tanh) {
            values[element] = tanh(value);
        } else {
            values[element] = sigmoid(value);
        }
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    values: &[f32],
    output_grad: &[f32],
    result: &mut [f32],
    elements: u32,
    #[comptime] activation: Activation,
) {
    let element = flat_position();
    if element < elements {
        let element = element as usize;
        let value = values[element];
        let grad = output_grad[element];
        if comptime!(activation == Activation::Relu) {
            result[element] = select(value > 0.0f32, grad, 0.0f32);
        } else if comptime!(activation == Activation::Tanh) {
            result[element] = grad * (1.0f32 - value * value);
        } else {
            result[element] = grad * value * (1.0f32 - value);
        }
    }
}
