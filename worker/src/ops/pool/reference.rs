//! Pooling in plain tensor operations.

use burn::tensor::{Tensor, TensorData};

use super::Pool;

/// [`super::apply`] on any device: a product with a constant matrix a direction.
pub(crate) fn apply(frames: Tensor<2>, pool: Pool) -> Tensor<2> {
    let parts = pool
        .sources
        .iter()
        .enumerate()
        .map(|(direction, sources)| {
            let mut weights = vec![0.0; sources.len() * pool.rows];
            for (place, (rows, weight)) in sources.iter().enumerate() {
                for row in rows {
                    weights[place * pool.rows + row] = *weight;
                }
            }
            let weights = TensorData::new(weights, [sources.len(), pool.rows]);
            let weights: Tensor<2> = Tensor::from_data(weights, &frames.device());
            weights.matmul(
                frames
                    .clone()
                    .narrow(1, direction * pool.hidden, pool.hidden),
            )
        })
        .collect();
    Tensor::cat(parts, 1)
}
