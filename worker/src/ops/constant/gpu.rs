//! Products with constants from the CPU, as operators with their own backward pass on a GPU: dropout's
//! mask, and the slopes that a differentiation begins with. burn's own would be built anew for small
//! batches.

use std::sync::Arc;

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

use crate::gpu::{Gpu, Table, arg, contiguous, flat_position, word};

/// `x` times as many constants, element by element, on a wgpu device.
pub fn weigh(x: Tensor<2>, constants: Vec<f32>) -> Tensor<2> {
    assert_eq!(x.dims().iter().product::<usize>(), constants.len());
    Tensor::from_dispatch(<Dispatch as ConstantOperators>::weigh(
        x.into_dispatch(),
        Arc::new(constants),
    ))
}

/// How far a sum with these slopes has moved from where `x` is: nowhere, so that it is zero, and its
/// gradient is the slopes. On a wgpu device.
pub fn moved(x: Tensor<2>, slopes: Vec<f32>) -> Tensor<1> {
    assert_eq!(x.dims().iter().product::<usize>(), slopes.len());
    Tensor::from_dispatch(<Dispatch as ConstantOperators>::moved(
        x.into_dispatch(),
        Arc::new(slopes),
    ))
}

/// The operators as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait ConstantOperators: Backend {
    fn weigh(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self>;

    fn moved(x: FloatTensor<Self>, slopes: Arc<Vec<f32>>) -> FloatTensor<Self>;
}

impl ConstantOperators for CubeBackend {
    fn weigh(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let x = contiguous(x);
        let gpu = Gpu::of(&x);
        let result = gpu.empty([x.meta.shape()[0], x.meta.shape()[1]]);
        launch(&gpu, &gpu.upload(&constants), &x, &result, false);
        result
    }

    fn moved(x: FloatTensor<Self>, _slopes: Arc<Vec<f32>>) -> FloatTensor<Self> {
        Gpu::of(&x).tensor(&[0.0], [1])
    }
}

impl<C: CheckpointStrategy> ConstantOperators for Autodiff<CubeBackend, C> {
    fn weigh(x: FloatTensor<Self>, constants: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let guards = [x.node()];
        let output = CubeBackend::weigh(x.into_primitive(), constants.clone());
        match burn_autodiff::ops::Backward::<CubeBackend, 1>::prepare::<C>(Weigh, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(constants, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn moved(x: FloatTensor<Self>, slopes: Arc<Vec<f32>>) -> FloatTensor<Self> {
        let guards = [x.node()];
        let x = x.into_primitive();
        let shape = [x.meta.shape()[0], x.meta.shape()[1]];
        let output = CubeBackend::moved(x, slopes.clone());
        match burn_autodiff::ops::Backward::<CubeBackend, 1>::prepare::<C>(Moved, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((slopes, shape), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Weigh;

impl burn_autodiff::ops::Backward<CubeBackend, 1> for Weigh {
    type State = Arc<Vec<f32>>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = gradients.consume::<CubeBackend>(&ops.node);
        if let [Some(parent)] = ops.parents {
            let gradient = CubeBackend::weigh(slopes, ops.state);
            gradients.register::<CubeBackend>(parent.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Moved;

impl burn_autodiff::ops::Backward<CubeBackend, 1> for Moved {
    type State = (Arc<Vec<f32>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let scale = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        if let [Some(parent)] = ops.parents {
            let (slopes, shape) = ops.state;
            let gpu = Gpu::of(&scale);
            let gradient = gpu.empty(shape);
            launch(&gpu, &gpu.upload(&slopes), &scale, &gradient, true);
            gradients.register::<CubeBackend>(parent.id, gradient);
        }
    }
}

/// Writes the product of `constants` and `x`, or the one element of `x`, to `result`.
fn launch(gpu: &Gpu, constants: &Table, x: &CubeTensor, result: &CubeTensor, is_single: bool) {
    let elements = result.meta.num_elements();
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        weigh_kernel::launch_unchecked(
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
fn weigh_kernel(
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
