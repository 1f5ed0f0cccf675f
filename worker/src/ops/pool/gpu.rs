//! Pooling on a GPU. It decides which tables its kernels read; what is pooled how is the parent's to
//! say.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::Pool;
use crate::gpu::{Gpu, arg, contiguous, flat_position, word};
use crate::ops::autodiff::{Saved, register};

/// [`super::apply`] on a wgpu device.
pub(crate) fn apply(frames: Tensor<2>, pool: Pool) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as PoolOperator>::pool(
        frames.into_dispatch(),
        Arc::new(pool),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub(crate) trait PoolOperator: Backend {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self>;
}

impl PoolOperator for CubeBackend {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        pool_forward(&contiguous(frames), &pool)
    }
}

impl<C: CheckpointStrategy> PoolOperator for Autodiff<CubeBackend, C> {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        let inputs = [frames.node()];
        let output = pool_forward(&contiguous(frames.into_primitive()), &pool);
        register::<_, C, _, 1>(inputs, output, SavedPool(pool))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedPool(Arc<Pool>);

impl Saved<CubeBackend, 1> for SavedPool {
    fn backward(self, output_grad: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(pool_backward(&contiguous(output_grad), &self.0))]
    }
}

/// No place takes this row.
const NOBODY: u32 = u32::MAX;

fn pool_forward(frames: &CubeTensor, pool: &Pool) -> CubeTensor {
    let gpu = Gpu::of(frames);
    let (mut begins, mut rows) = (vec![0], Vec::new());
    for (taken, _) in pool.sources.iter().flatten() {
        rows.extend(taken.iter().map(|&row| word(row)));
        begins.push(word(rows.len()));
    }
    // An empty buffer cannot be bound.
    rows.push(NOBODY);
    let result = gpu.empty([pool.places(), pool.width()]);
    let elements = pool.places() * pool.width();
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once; the tables hold rows of the frames.
    unsafe {
        pool_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(frames),
            gpu.upload(&begins).arg(),
            gpu.upload(&rows).arg(),
            gpu.upload(&weights(pool)).arg(),
            arg(&result),
            word(pool.places()),
            word(pool.hidden),
            word(elements),
        );
    }
    result
}

fn pool_backward(output_grad: &CubeTensor, pool: &Pool) -> CubeTensor {
    let gpu = Gpu::of(output_grad);
    let mut takers = vec![NOBODY; pool.sources.len() * pool.rows];
    for (takers, sources) in takers.chunks_exact_mut(pool.rows).zip(&pool.sources) {
        for (place, (rows, _)) in sources.iter().enumerate() {
            for &row in rows {
                takers[row] = word(place);
            }
        }
    }
    let gradient = gpu.empty([pool.rows, pool.width()]);
    let elements = pool.rows * pool.width();
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once; the table holds places of the pool.
    unsafe {
        unpool_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(output_grad),
            gpu.upload(&takers).arg(),
            gpu.upload(&weights(pool)).arg(),
            arg(&gradient),
            word(pool.places()),
            word(pool.rows),
            word(pool.hidden),
            word(elements),
        );
    }
    gradient
}

/// [directions, places].
fn weights(pool: &Pool) -> Vec<f32> {
    let sources = pool.sources.iter().flatten();
    sources.map(|(_, weight)| *weight).collect()
}

#[cube(launch_unchecked)]
fn pool_kernel(
    frames: &[f32],
    begins: &[u32],
    rows: &[u32],
    weights: &[f32],
    result: &mut [f32],
    places: u32,
    hidden: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let width = elements as usize / places as usize;
        let column = element % width;
        let source = column / hidden as usize * places as usize + element / width;
        let mut sum = 0.0f32;
        for i in begins[source]..begins[source + 1] {
            sum += weights[source] * frames[rows[i as usize] as usize * width + column];
        }
        result[element] = sum;
    }
}

#[cube(launch_unchecked)]
fn unpool_kernel(
    output_grad: &[f32],
    takers: &[u32],
    weights: &[f32],
    gradient: &mut [f32],
    places: u32,
    rows: u32,
    hidden: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let width = elements as usize / rows as usize;
        let column = element % width;
        let direction = column / hidden as usize;
        let place = takers[direction * rows as usize + element / width];
        let mut value = 0.0f32;
        if place < places {
            let place = place as usize;
            value =
                weights[direction * places as usize + place] * output_grad[place * width + column];
        }
        gradient[element] = value;
    }
}
