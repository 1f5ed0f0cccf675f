//! Weighted gathers on a GPU: one kernel for both directions, which follows a table of sources.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::RowGather;
use crate::gpu::{Gpu, arg, contiguous, flat_position, word};
use crate::ops::autodiff::{Saved, register};

/// [`super::apply`] on a wgpu device.
pub(crate) fn apply(x: Tensor<2>, gather: RowGather) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GatherOperator>::gather(
        x.into_dispatch(),
        Arc::new(gather),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait GatherOperator: Backend {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self>;
}

impl GatherOperator for CubeBackend {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self> {
        gather_rows(&contiguous(x), &gather)
    }
}

impl<C: CheckpointStrategy> GatherOperator for Autodiff<CubeBackend, C> {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self> {
        let inputs = [x.node()];
        let output = gather_rows(&contiguous(x.into_primitive()), &gather);
        register::<_, C, _, 1>(inputs, output, SavedGather(gather))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedGather(Arc<RowGather>);

impl Saved<CubeBackend, 1> for SavedGather {
    fn backward(self, output_grad: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(gather_rows(
            &contiguous(output_grad),
            &self.0.transposed(),
        ))]
    }
}

fn gather_rows(x: &CubeTensor, gather: &RowGather) -> CubeTensor {
    let gpu = Gpu::of(x);
    let result = gpu.empty(gather.dims());
    let [rows, width] = gather.dims();
    let elements = rows * width;
    // An empty buffer cannot be bound.
    let (mut sources, mut weights) = (gather.sources.clone(), gather.weights.clone());
    sources.push(0);
    weights.push(0.0);
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once; the tables hold units of `x`.
    unsafe {
        gather_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(x),
            gpu.upload(&gather.begins).arg(),
            gpu.upload(&sources).arg(),
            gpu.upload(&weights).arg(),
            arg(&result),
            word(gather.unit),
            word(elements),
        );
    }
    result
}

#[cube(launch_unchecked)]
fn gather_kernel(
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
