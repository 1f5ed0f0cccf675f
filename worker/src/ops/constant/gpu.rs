//! Products with constants from the CPU on a GPU, as operators with their own backward passes: burn's own would be
//! built anew for small batches.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::{Gpu, Table, arg, contiguous, flat_position, word};
use crate::ops::autodiff::{Saved, register};

/// [`super::multiply`] on a wgpu device.
pub(crate) fn multiply(x: Tensor<2>, constants: Vec<f32>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as ConstantOperators>::multiply(
        x.into_dispatch(),
        Arc::new(constants),
    ))
}

/// A scalar, zero, whose gradient with respect to `x` [rows, columns] is `output_grad`, laid out likewise, on a wgpu
/// device.
pub(crate) fn seed_backward(x: Tensor<2>, output_grad: Vec<f32>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as ConstantOperators>::seed_backward(
        x.into_dispatch(),
        Arc::new(output_grad),
    ))
}

/// The operators as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait ConstantOperators: Backend {
    fn multiply(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self>;

    fn seed_backward(x: FloatTensor<Self>, output_grad: Arc<Vec<f32>>) -> FloatTensor<Self>;
}

impl ConstantOperators for CubeBackend {
    fn multiply(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let x = contiguous(x);
        let gpu = Gpu::of(&x);
        let result = gpu.empty([x.meta.shape()[0], x.meta.shape()[1]]);
        launch(&gpu, &gpu.upload(&constants), &x, &result, false);
        result
    }

    fn seed_backward(x: FloatTensor<Self>, _output_grad: Arc<Vec<f32>>) -> FloatTensor<Self> {
        Gpu::of(&x).tensor(&[0.0], [1])
    }
}

impl<C: CheckpointStrategy> ConstantOperators for Autodiff<CubeBackend, C> {
    fn multiply(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let inputs = [x.node()];
        let output = CubeBackend::multiply(x.into_primitive(), constants.clone());
        register::<_, C, _, 1>(inputs, output, SavedConstants(constants))
    }

    fn seed_backward(x: FloatTensor<Self>, output_grad: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let inputs = [x.node()];
        let x = x.into_primitive();
        let shape = [x.meta.shape()[0], x.meta.shape()[1]];
        let output = CubeBackend::seed_backward(x, output_grad.clone());
        register::<_, C, _, 1>(inputs, output, SavedSeed { output_grad, shape })
    }
}

/// The constants that something was multiplied with.
#[derive(Clone, Debug)]
struct SavedConstants(Arc<Vec<f32>>);

impl Saved<CubeBackend, 1> for SavedConstants {
    fn backward(self, output_grad: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(CubeBackend::multiply(output_grad, self.0))]
    }
}

/// The gradient that the backward pass begins with.
#[derive(Clone, Debug)]
struct SavedSeed {
    output_grad: Arc<Vec<f32>>,
    shape: [usize; 2],
}

impl Saved<CubeBackend, 1> for SavedSeed {
    fn backward(self, scale: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let scale = contiguous(scale);
        let gpu = Gpu::of(&scale);
        let gradient = gpu.empty(self.shape);
        launch(
            &gpu,
            &gpu.upload(&self.output_grad),
            &scale,
            &gradient,
            true,
        );
        [Some(gradient)]
    }
}

/// Writes the product of `constants` and `x`, or the one element of `x`, to `result`.
fn launch(gpu: &Gpu, constants: &Table, x: &CubeTensor, result: &CubeTensor, is_single: bool) {
    let elements = result.meta.num_elements();
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        multiply_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            constants.arg(),
            arg(x),
            arg(result),
            word(elements),
            is_single,
        );
    }
}

#[cube(launch_unchecked)]
fn multiply_kernel(
    constants: &[f32],
    x: &[f32],
    result: &mut [f32],
    elements: u32,
    #[comptime] is_single: bool,
) {
    let element = flat_position();
    if element < elements {
        let element = element as usize;
        let own = if is_single { 0usize.runtime() } else { element };
        result[element] = constants[element] * x[own];
    }
}
