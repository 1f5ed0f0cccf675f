//! Vectors on their way: a gradient as it is handed in, weights as they came. They are large, so that
//! their memory is shared and used again.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use proto::wire::Wire;

/// A gradient. Clones share it.
#[derive(Clone, Debug)]
pub struct Vector {
    pub values: Arc<Vec<f32>>,
    /// How it travels; the values are rounded so already.
    pub wire: Wire,
}

impl Vector {
    pub fn new(values: Vec<f32>, wire: Wire) -> Self {
        Self {
            values: Arc::new(values),
            wire,
        }
    }

    /// As it travels.
    pub fn bytes(&self) -> u64 {
        (self.wire.bytes() * self.values.len()) as u64
    }
}

/// Where memory for weights waits to be used again. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

impl Pool {
    /// Old weights, and the new ones beside them.
    const MOST: usize = 2;

    /// A vector of `elements`, whatever they are.
    pub fn take(&self, elements: usize) -> Vec<f32> {
        // Nothing panics while it is held.
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.retain(|vector| vector.len() == elements);
        let vector = spare.pop();
        drop(spare);
        vector.unwrap_or_else(|| vec![0.0; elements])
    }

    pub fn weights(&self, values: Vec<f32>) -> Weights {
        Weights {
            values,
            pool: self.clone(),
        }
    }
}

/// Weights as one vector.
#[derive(Debug)]
pub struct Weights {
    values: Vec<f32>,
    pool: Pool,
}

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        let locked = self.pool.0.lock();
        let mut spare = locked.unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Pool::MOST {
            spare.push(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_weights_is_used_again_for_those_of_the_same_model() {
        let pool = Pool::default();
        let weights = pool.weights(vec![1.0; 5]);
        let memory = weights.as_ptr();
        drop(weights);
        let again = pool.take(5);
        assert_eq!(again.as_ptr(), memory);
        drop(pool.weights(again));
        assert_eq!(pool.take(6).len(), 6);
        assert!(pool.0.lock().unwrap().is_empty());
    }
}
