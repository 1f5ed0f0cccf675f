//! Mixing on a GPU: one kernel for both directions, which follows a table of sources.

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

use super::Mix;
use crate::gpu::{Gpu, arg, contiguous, flat_position, word};

/// [`super::fused`] on a wgpu device.
pub fn mix(x: Tensor<2>, mix: Mix) -> Tensor<2> {
    assert_eq!(x.dims(), mix.source_dims(), "rows to mix");
    Tensor::from_dispatch(<Dispatch as CubeMixOperator>::cube_mix(
        x.into_dispatch(),
        Arc::new(mix),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait CubeMixOperator: Backend {
    fn cube_mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self>;
}

impl CubeMixOperator for CubeBackend {
    fn cube_mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        apply(&contiguous(x), &mix)
    }
}

impl<C: CheckpointStrategy> CubeMixOperator for Autodiff<CubeBackend, C> {
    fn cube_mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        let guards = [x.node()];
        let output = apply(&contiguous(x.into_primitive()), &mix);
        match burn_autodiff::ops::Backward::<CubeBackend, 1>::prepare::<C>(Step, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(mix, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Step;

impl burn_autodiff::ops::Backward<CubeBackend, 1> for Step {
    type State = Arc<Mix>;

    fn backward(self, ops: Ops<Arc<Mix>, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let gradient = apply(&slopes, &ops.state.transposed());
            gradients.register::<CubeBackend>(parent.id, gradient);
        }
    }
}

fn apply(x: &CubeTensor, mix: &Mix) -> CubeTensor {
    let gpu = Gpu::of(x);
    let result = gpu.empty(mix.dims());
    let [rows, width] = mix.dims();
    let elements = rows * width;
    // An empty buffer cannot be bound.
    let (mut sources, mut weights) = (mix.sources.clone(), mix.weights.clone());
    sources.push(0);
    weights.push(0.0);
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once; the tables hold units of `x`.
    unsafe {
        mix_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(x),
            gpu.upload(&mix.begins).arg(),
            gpu.upload(&sources).arg(),
            gpu.upload(&weights).arg(),
            arg(&result),
            word(mix.unit),
            word(elements),
        );
    }
    result
}

#[cube(launch_unchecked)]
fn mix_kernel(
    x: &[f32],
    begins: &[u32],
    sources: &[u32],
    weights: &[f32],
    result: &mut [f32],
    unit: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let unit = unit as usize;
        let taker = element / unit;
        let column = element % unit;
        let mut sum = 0.0f32;
        for i in begins[taker]..begins[taker + 1] {
            let i = i as usize;
            sum += weights[i] * x[sources[i] as usize * unit + column];
        }
        result[element] = sum;
    }
}
