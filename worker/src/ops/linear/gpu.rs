//! Linear layers on a GPU. It decides which products and kernels they are cut into.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use speech::model::Activation;

use crate::gpu::matmul::{Kind, Matrix, Size, Start, multiply, multiply_long, sum_rows};
use crate::gpu::{Gpu, arg, contiguous, flat_position, sigmoid, tanh, word};

/// [`super::fused`] on a wgpu device.
pub fn linear(
    x: Tensor<2>,
    parameters: Tensor<1>,
    outputs: usize,
    activation: Option<Activation>,
) -> Tensor<2> {
    let width = super::width(&x, &parameters, outputs);
    Tensor::from_dispatch(<Dispatch as CubeLinearOperator>::cube_linear(
        x.into_dispatch(),
        parameters.into_dispatch(),
        outputs,
        width,
        activation,
    ))
}

/// The operators as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait CubeLinearOperator: Backend {
    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self>;
}

impl CubeLinearOperator for CubeBackend {
    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let linear = Linear::new(x, parameters, outputs, width);
        let output = linear.forward();
        if let Some(activation) = activation {
            activate(&output, activation);
        }
        output
    }
}

impl<C: CheckpointStrategy> CubeLinearOperator for Autodiff<CubeBackend, C> {
    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let (x, parameters) = (x.into_primitive(), parameters.into_primitive());
        let linear = Linear::new(x, parameters, outputs, width);
        let output = linear.forward();
        let activated = activation.map(|activation| {
            activate(&output, activation);
            (activation, output.clone())
        });
        match burn_autodiff::ops::Backward::<CubeBackend, 2>::prepare::<C>(LinearStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((linear, activated), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct LinearStep;

impl burn_autodiff::ops::Backward<CubeBackend, 2> for LinearStep {
    /// The layer, its activation and what came out of that.
    type State = (Linear, Option<(Activation, CubeTensor)>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        let (linear, activated) = ops.state;
        let slopes = match activated {
            Some((activation, output)) => activation_slopes(&output, &slopes, activation),
            None => slopes,
        };
        let [x_node, parameters_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<CubeBackend>(node.id, linear.input_gradient(&slopes));
        }
        if let Some(node) = parameters_node {
            gradients.register::<CubeBackend>(node.id, linear.parameter_gradient(&slopes));
        }
    }
}

/// The last layer and what it is given.
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
            Kind::RightTransposed,
            size,
            whole(&self.x, self.width),
            whole(&self.parameters, self.width),
            Start::Row(self.outputs * self.width),
            whole(&result, self.outputs),
        );
        result
    }

    fn input_gradient(&self, slopes: &CubeTensor) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let gradient = gpu.empty([self.rows, self.width]);
        let size = Size {
            m: self.rows,
            n: self.width,
            k: self.outputs,
        };
        multiply(
            &gpu,
            Kind::Plain,
            size,
            whole(slopes, self.outputs),
            whole(&self.parameters, self.width),
            Start::Zero,
            whole(&gradient, self.width),
        );
        gradient
    }

    fn parameter_gradient(&self, slopes: &CubeTensor) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let gradient = gpu.empty([self.outputs * (self.width + 1)]);
        let size = Size {
            m: self.outputs,
            n: self.width,
            k: self.rows,
        };
        let slopes = whole(slopes, self.outputs);
        let x = whole(&self.x, self.width);
        multiply_long(&gpu, size, slopes, x, whole(&gradient, self.width));
        let bias = [self.outputs * self.width];
        sum_rows(&gpu, slopes, self.rows, self.outputs, &gradient, &bias);
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

/// How an activation is told to a kernel, which is built for it.
fn which(activation: Activation) -> u32 {
    match activation {
        Activation::Relu => 0,
        Activation::Tanh => 1,
        Activation::Sigmoid => 2,
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
            which(activation),
        );
    }
}

fn activation_slopes(
    output: &CubeTensor,
    slopes: &CubeTensor,
    activation: Activation,
) -> CubeTensor {
    let gpu = Gpu::of(output);
    let elements = output.meta.num_elements();
    let (count, units) = gpu.plan.flat(elements);
    let result = gpu.empty([output.meta.shape()[0], output.meta.shape()[1]]);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        slopes_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(output),
            arg(slopes),
            arg(&result),
            word(elements),
            which(activation),
        );
    }
    result
}

#[cube(launch_unchecked)]
fn activate_kernel(values: &mut [f32], elements: u32, #[comptime] which: u32) {
    let element = flat_position();
    if element < elements {
        let element = element as usize;
        let value = values[element];
        if comptime!(which == 0) {
            values[element] = select(value < 0.0f32, 0.0f32, value);
        } else if comptime!(which == 1) {
            values[element] = tanh(value);
        } else {
            values[element] = sigmoid(value);
        }
    }
}

#[cube(launch_unchecked)]
fn slopes_kernel(
    values: &[f32],
    slopes: &[f32],
    result: &mut [f32],
    elements: u32,
    #[comptime] which: u32,
) {
    let element = flat_position();
    if element < elements {
        let element = element as usize;
        let value = values[element];
        let slope = slopes[element];
        if comptime!(which == 0) {
            result[element] = select(value > 0.0f32, slope, 0.0f32);
        } else if comptime!(which == 1) {
            result[element] = slope * (1.0f32 - value * value);
        } else {
            result[element] = slope * value * (1.0f32 - value);
        }
    }
}
