//! Pooling on the CPU (flex).

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;

use super::Pool;
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};

/// [`super::apply`] on a flex device.
pub(crate) fn apply(frames: Tensor<2>, pool: Pool) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as PoolOperator>::pool(
        frames.into_dispatch(),
        Arc::new(pool),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait PoolOperator: Backend {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self>;
}

impl PoolOperator for Flex {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        tensor(
            forward(&pool, values(&contiguous(frames))),
            [pool.places(), pool.width()],
        )
    }
}

impl<C: CheckpointStrategy> PoolOperator for Autodiff<Flex, C> {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        let inputs = [frames.node()];
        let output = <Flex as PoolOperator>::pool(frames.into_primitive(), pool.clone());
        register::<_, C, _, 1>(inputs, output, SavedPool(pool))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedPool(Arc<Pool>);

impl Saved<Flex, 1> for SavedPool {
    fn backward(self, output_grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let pool = self.0;
        let gradient = backward(&pool, values(&contiguous(output_grad)));
        [Some(tensor(gradient, [pool.rows, pool.width()]))]
    }
}

fn forward(pool: &Pool, frames: &[f32]) -> Vec<f32> {
    let (width, hidden) = (pool.width(), pool.hidden);
    let mut pooled = vec![0.0; pool.places() * width];
    pool.each(|place, row, columns, weight| {
        let target = &mut pooled[place * width + columns..][..hidden];
        for (sum, value) in target.iter_mut().zip(&frames[row * width + columns..]) {
            *sum += weight * value;
        }
    });
    pooled
}

fn backward(pool: &Pool, pooled_gradient: &[f32]) -> Vec<f32> {
    let (width, hidden) = (pool.width(), pool.hidden);
    let mut gradient = vec![0.0; pool.rows * width];
    pool.each(|place, row, columns, weight| {
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
