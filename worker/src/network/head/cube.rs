//! The end of a network on a GPU. It decides which tables its kernels read; what is pooled how is the
//! parent's to say.

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

use super::Pool;
use crate::gpu::product::{Kind, Matrix, Size, Start, multiply, multiply_long, sum_rows};
use crate::gpu::{Gpu, arg, contiguous, flat_position, word};

/// [`Pool::fused`] on a wgpu device.
pub fn pool(frames: Tensor<2>, pool: Pool) -> Tensor<2> {
    assert_eq!(frames.dims(), [pool.rows, pool.width()], "frames to pool");
    Tensor::from_dispatch(<Dispatch as CubeHeadOperators>::cube_pool(
        frames.into_dispatch(),
        Arc::new(pool),
    ))
}

/// [`super::linear_fused`] on a wgpu device.
pub fn linear(x: Tensor<2>, parameters: Tensor<1>, outputs: usize) -> Tensor<2> {
    let [_, width] = x.dims();
    assert_eq!(
        parameters.dims(),
        [outputs * (width + 1)],
        "parameters of the head"
    );
    Tensor::from_dispatch(<Dispatch as CubeHeadOperators>::cube_linear(
        x.into_dispatch(),
        parameters.into_dispatch(),
        outputs,
        width,
    ))
}

/// The operators as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait CubeHeadOperators: Backend {
    fn cube_pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self>;

    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self>;
}

impl CubeHeadOperators for CubeBackend {
    fn cube_pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        pool_forward(&contiguous(frames), &pool)
    }

    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        Linear::new(x, parameters, outputs, width).forward()
    }
}

impl<C: CheckpointStrategy> CubeHeadOperators for Autodiff<CubeBackend, C> {
    fn cube_pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        let guards = [frames.node()];
        let output = pool_forward(&contiguous(frames.into_primitive()), &pool);
        match burn_autodiff::ops::Backward::<CubeBackend, 1>::prepare::<C>(PoolStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(pool, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn cube_linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let (x, parameters) = (x.into_primitive(), parameters.into_primitive());
        let linear = Linear::new(x, parameters, outputs, width);
        let output = linear.forward();
        match burn_autodiff::ops::Backward::<CubeBackend, 2>::prepare::<C>(LinearStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(linear, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct PoolStep;

impl burn_autodiff::ops::Backward<CubeBackend, 1> for PoolStep {
    type State = Arc<Pool>;

    fn backward(self, ops: Ops<Arc<Pool>, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<CubeBackend>(parent.id, pool_backward(&slopes, &ops.state));
        }
    }
}

#[derive(Debug)]
struct LinearStep;

impl burn_autodiff::ops::Backward<CubeBackend, 2> for LinearStep {
    type State = Linear;

    fn backward(self, ops: Ops<Linear, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        let linear = ops.state;
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

fn pool_backward(slopes: &CubeTensor, pool: &Pool) -> CubeTensor {
    let gpu = Gpu::of(slopes);
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
            arg(slopes),
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
    slopes: &[f32],
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
            value = weights[direction * places as usize + place] * slopes[place * width + column];
        }
        gradient[element] = value;
    }
}
