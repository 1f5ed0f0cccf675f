//! Vectors on their way: a gradient as it is handed in, weights as they came. They are large, so that
//! their memory is shared and used again.

use std::{ops::Deref, sync::Arc};

use proto::{buffer_pool::BufferPool, wire::Wire};

/// A gradient. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub values: Arc<Vec<f32>>,
    /// How it travels; the values are rounded so already.
    pub wire: Wire,
}

impl Vector {
    pub(crate) fn new(values: Vec<f32>, wire: Wire) -> Self {
        Self {
            values: Arc::new(values),
            wire,
        }
    }

    /// As it travels.
    pub(crate) fn bytes(&self) -> u64 {
        (self.wire.bytes() * self.values.len()) as u64
    }
}

/// Weights as one vector, whose memory goes back to a pool.
#[derive(Debug)]
pub(crate) struct PulledWeights {
    values: Vec<f32>,
    pool: BufferPool,
}

impl PulledWeights {
    /// `values`, which go back to `pool` if they were taken from it.
    pub(super) fn new(values: Vec<f32>, pool: &BufferPool) -> Self {
        let pool = pool.clone();
        Self { values, pool }
    }
}

impl Deref for PulledWeights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl Drop for PulledWeights {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_weights_is_used_again_for_those_of_the_same_model() {
        let pool = BufferPool::default();
        let weights = PulledWeights::new(pool.take(5), &pool);
        let memory = weights.as_ptr();
        drop(weights);
        let again = pool.take(5);
        assert_eq!(again.as_ptr(), memory);
        drop(PulledWeights::new(again, &pool));
        assert_eq!(pool.take(6).len(), 6);
    }
}
