//! The normalisation of rows on a GPU: a unit adds up a row, then each value has its own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use speech::model::NORM_EPSILON;

use crate::gpu::matmul::{Matrix, sum_rows};
use crate::gpu::{Gpu, arg, contiguous, flat_position, word};
use crate::ops::autodiff::{Saved, register};

/// [`super::apply`] on a wgpu device.
pub(crate) fn apply(x: Tensor<2>, parameters: Tensor<1>) -> Tensor<2> {
    let [_, width] = x.dims();
    assert_eq!(parameters.dims(), [2 * width], "parameters of the norm");
    Tensor::from_dispatch(<Dispatch as NormOperator>::norm(
        x.into_dispatch(),
        parameters.into_dispatch(),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait NormOperator: Backend {
    fn norm(x: FloatTensor<Self>, parameters: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl NormOperator for CubeBackend {
    fn norm(x: FloatTensor<Self>, parameters: FloatTensor<Self>) -> FloatTensor<Self> {
        Norm::new(x, parameters).forward()
    }
}

impl<C: CheckpointStrategy> NormOperator for Autodiff<CubeBackend, C> {
    fn norm(x: FloatTensor<Self>, parameters: FloatTensor<Self>) -> FloatTensor<Self> {
        let inputs = [x.node(), parameters.node()];
        let norm = Norm::new(x.into_primitive(), parameters.into_primitive());
        let output = norm.forward();
        register::<_, C, _, 2>(inputs, output, norm)
    }
}

impl Saved<CubeBackend, 2> for Norm {
    fn backward(self, output_grad: CubeTensor, _: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let (input, parameters) = self.gradients(&contiguous(output_grad));
        [Some(input), Some(parameters)]
    }
}

/// What is normalised and how.
#[derive(Clone, Debug)]
struct Norm {
    /// [rows, width]
    x: CubeTensor,
    parameters: CubeTensor,
    /// The mean of each row and one over the root of its variance, [rows, 2].
    moments: CubeTensor,
    rows: usize,
    width: usize,
}

impl Norm {
    fn new(x: CubeTensor, parameters: CubeTensor) -> Self {
        let x = contiguous(x);
        let gpu = Gpu::of(&x);
        let (rows, width) = (x.meta.shape()[0], x.meta.shape()[1]);
        let moments = gpu.empty([rows, 2]);
        let (count, units) = gpu.plan.flat(rows);
        // SAFETY: units beyond the last row end at once.
        unsafe {
            moments_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&x),
                arg(&moments),
                word(rows),
                word(width),
            );
        }
        Self {
            x,
            parameters: contiguous(parameters),
            moments,
            rows,
            width,
        }
    }

    fn forward(&self) -> CubeTensor {
        let gpu = Gpu::of(&self.x);
        let result = gpu.empty([self.rows, self.width]);
        let (count, units) = gpu.plan.flat(self.rows * self.width);
        // SAFETY: units beyond the last element end at once.
        unsafe {
            norm_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&self.x),
                arg(&self.moments),
                arg(&self.parameters),
                arg(&result),
                word(self.width),
                word(self.rows * self.width),
            );
        }
        result
    }

    fn gradients(&self, output_grad: &CubeTensor) -> (CubeTensor, CubeTensor) {
        let gpu = Gpu::of(&self.x);
        let tilts = gpu.empty([self.rows, 2]);
        let (count, units) = gpu.plan.flat(self.rows);
        // SAFETY: units beyond the last row end at once.
        unsafe {
            tilts_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&self.x),
                arg(&self.moments),
                arg(&self.parameters),
                arg(output_grad),
                arg(&tilts),
                word(self.rows),
                word(self.width),
            );
        }
        let input = gpu.empty([self.rows, self.width]);
        let weights = gpu.empty([self.rows, self.width]);
        let (count, units) = gpu.plan.flat(self.rows * self.width);
        // SAFETY: units beyond the last element end at once.
        unsafe {
            backward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&self.x),
                arg(&self.moments),
                arg(&self.parameters),
                arg(output_grad),
                arg(&tilts),
                arg(&input),
                arg(&weights),
                word(self.width),
                word(self.rows * self.width),
            );
        }
        let parameters = gpu.empty([2 * self.width]);
        for (buffer, offset) in [(&weights, 0), (output_grad, self.width)] {
            let matrix = Matrix {
                buffer,
                offset: 0,
                stride: self.width,
            };
            sum_rows(&gpu, matrix, self.rows, self.width, &parameters, &[offset]);
        }
        (input, parameters)
    }
}

#[cube(launch_unchecked)]
fn moments_kernel(x: &[f32], moments: &mut [f32], rows: u32, width: u32) {
    let row = flat_position();
    if row < rows {
        let first = row as usize * width as usize;
        let mut sum = 0.0f32;
        for k in 0..width {
            sum += x[first + k as usize];
        }
        let mean = sum / f32::cast_from(width);
        let mut squares = 0.0f32;
        for k in 0..width {
            let value = x[first + k as usize] - mean;
            squares += value * value;
        }
        let variance = squares / f32::cast_from(width);
        moments[row as usize * 2] = mean;
        moments[row as usize * 2 + 1] = 1.0f32 / f32::sqrt(variance + NORM_EPSILON);
    }
}

#[cube(launch_unchecked)]
fn norm_kernel(
    x: &[f32],
    moments: &[f32],
    parameters: &[f32],
    result: &mut [f32],
    width: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let width = width as usize;
        let row = element / width;
        let column = element % width;
        let normal = (x[element] - moments[row * 2]) * moments[row * 2 + 1];
        result[element] = normal * parameters[column] + parameters[width + column];
    }
}

/// The means of a row's output gradient at what was normalised, alone and with the latter.
#[cube(launch_unchecked)]
fn tilts_kernel(
    x: &[f32],
    moments: &[f32],
    parameters: &[f32],
    output_grad: &[f32],
    tilts: &mut [f32],
    rows: u32,
    width: u32,
) {
    let row = flat_position();
    if row < rows {
        let row = row as usize;
        let first = row * width as usize;
        let mean = moments[row * 2];
        let scale = moments[row * 2 + 1];
        let mut level = 0.0f32;
        let mut tilt = 0.0f32;
        for k in 0..width {
            let k = k as usize;
            let grad = output_grad[first + k] * parameters[k];
            level += grad;
            tilt += grad * ((x[first + k] - mean) * scale);
        }
        tilts[row * 2] = level / f32::cast_from(width);
        tilts[row * 2 + 1] = tilt / f32::cast_from(width);
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    x: &[f32],
    moments: &[f32],
    parameters: &[f32],
    output_grad: &[f32],
    tilts: &[f32],
    input: &mut [f32],
    weights: &mut [f32],
    width: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let width = width as usize;
        let row = element / width;
        let scale = moments[row * 2 + 1];
        let normal = (x[element] - moments[row * 2]) * scale;
        let grad = output_grad[element];
        weights[element] = grad * normal;
        let grad = grad * parameters[element % width];
        input[element] = scale * (grad - tilts[row * 2] - normal * tilts[row * 2 + 1]);
    }
}
