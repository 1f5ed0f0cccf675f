//! What of the frames a keyword head sees: one operator with its own backward pass on the CPU (flex)
//! and on a GPU, and plain tensor operations elsewhere.

#[cfg(feature = "wgpu")]
pub mod gpu;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use speech::model::Pooling;

use crate::ops::packing::Packing;
use crate::ops::recurrent::cpu::{contiguous, tensor, values};

/// A row for each sequence as a weighted sum of the rows of its frames, each direction's columns
/// with rows of their own.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `sources[direction][place]`: rows and their common weight.
    sources: Vec<Vec<(Vec<usize>, f32)>>,
    rows: usize,
    /// Columns of a direction.
    hidden: usize,
}

impl Pool {
    /// How `pooling` sees frames whose `directions`, of `hidden` values each, lie side by side.
    pub fn new(pooling: Pooling, hidden: usize, directions: usize, packing: &Packing) -> Self {
        let sources = (0..directions)
            .map(|direction| {
                (0..packing.sequences())
                    .map(|place| match (pooling, packing.length(place)) {
                        (_, 0) => (Vec::new(), 0.0),
                        (Pooling::Last, length) => {
                            let step = if direction == 0 { length - 1 } else { 0 };
                            (vec![packing.row(step, place)], 1.0)
                        }
                        (Pooling::Mean, length) => {
                            let rows = (0..length).map(|step| packing.row(step, place)).collect();
                            (rows, 1.0 / length as f32)
                        }
                    })
                    .collect()
            })
            .collect();
        Self {
            sources,
            rows: packing.rows(),
            hidden,
        }
    }

    fn places(&self) -> usize {
        self.sources[0].len()
    }

    fn width(&self) -> usize {
        self.hidden * self.sources.len()
    }

    /// Rows [rows, width] to [sequences, width], on a flex device.
    pub fn fused(self, frames: Tensor<2>) -> Tensor<2> {
        assert_eq!(frames.dims(), [self.rows, self.width()], "frames to pool");
        let pool = Arc::new(self);
        Tensor::from_dispatch(<Dispatch as PoolOperator>::pool(
            frames.into_dispatch(),
            pool,
        ))
    }

    /// [`Pool::fused`] on any device: a product with a constant matrix a direction.
    pub fn reference(self, frames: Tensor<2>) -> Tensor<2> {
        let parts = self
            .sources
            .iter()
            .enumerate()
            .map(|(direction, sources)| {
                let mut weights = vec![0.0; sources.len() * self.rows];
                for (place, (rows, weight)) in sources.iter().enumerate() {
                    for row in rows {
                        weights[place * self.rows + row] = *weight;
                    }
                }
                let weights = TensorData::new(weights, [sources.len(), self.rows]);
                let weights: Tensor<2> = Tensor::from_data(weights, &frames.device());
                weights.matmul(
                    frames
                        .clone()
                        .narrow(1, direction * self.hidden, self.hidden),
                )
            })
            .collect();
        Tensor::cat(parts, 1)
    }

    fn forward(&self, frames: &[f32]) -> Vec<f32> {
        let (width, hidden) = (self.width(), self.hidden);
        let mut pooled = vec![0.0; self.places() * width];
        self.each(|place, row, columns, weight| {
            let target = &mut pooled[place * width + columns..][..hidden];
            for (sum, value) in target.iter_mut().zip(&frames[row * width + columns..]) {
                *sum += weight * value;
            }
        });
        pooled
    }

    fn backward(&self, pooled_gradient: &[f32]) -> Vec<f32> {
        let (width, hidden) = (self.width(), self.hidden);
        let mut gradient = vec![0.0; self.rows * width];
        self.each(|place, row, columns, weight| {
            let target = &mut gradient[row * width + columns..][..hidden];
            for (result, value) in target
                .iter_mut()
                .zip(&pooled_gradient[place * width + columns..])
            {
                *result = weight * value;
            }
        });
        gradient
    }

    /// Calls `f` with each place, row, first column and weight.
    fn each(&self, mut f: impl FnMut(usize, usize, usize, f32)) {
        for (direction, sources) in self.sources.iter().enumerate() {
            for (place, (rows, weight)) in sources.iter().enumerate() {
                for &row in rows {
                    f(place, row, direction * self.hidden, *weight);
                }
            }
        }
    }
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait PoolOperator: Backend {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self>;
}

impl PoolOperator for Flex {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        tensor(
            pool.forward(values(&contiguous(frames))),
            [pool.places(), pool.width()],
        )
    }
}

impl<C: CheckpointStrategy> PoolOperator for Autodiff<Flex, C> {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        let guards = [frames.node()];
        let output = <Flex as PoolOperator>::pool(frames.into_primitive(), pool.clone());
        match burn_autodiff::ops::Backward::<Flex, 1>::prepare::<C>(PoolStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(pool, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct PoolStep;

impl burn_autodiff::ops::Backward<Flex, 1> for PoolStep {
    type State = Arc<Pool>;

    fn backward(self, ops: Ops<Arc<Pool>, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let pool = ops.state;
            let gradient = pool.backward(values(&gradient));
            gradients.register::<Flex>(parent.id, tensor(gradient, [pool.rows, pool.width()]));
        }
    }
}
