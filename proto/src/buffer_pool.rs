//! A buffer pool: reusable vectors, to avoid page faults. A page fault on memory that the system has just given
//! costs more than the addition that fills it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reusable `Vec<f32>`s of one length, lent and taken back. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct BufferPool(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    spare: Vec<Vec<f32>>,
    /// Vectors that were lent and did not come back.
    out: usize,
}

impl BufferPool {
    /// A vector of `elements`, whatever they are.
    pub fn take(&self, elements: usize) -> Vec<f32> {
        let mut state = self.lock();
        state.spare.retain(|vector| vector.len() == elements);
        state.out += 1;
        let spare = state.spare.pop();
        drop(state);
        spare.unwrap_or_else(|| vec![0.0; elements])
    }

    /// Takes a vector back; no more of them than were lent, so that others do not pile up here.
    pub fn give(&self, vector: Vec<f32>) {
        let mut state = self.lock();
        if let Some(left) = state.out.checked_sub(1) {
            state.out = left;
            state.spare.push(vector);
        }
    }

    /// Forgets them all: nobody needs that length any more.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and the list is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_comes_back_and_others_do_not_pile_up() {
        let buffers = BufferPool::default();
        let vector = buffers.take(10);
        let memory = vector.as_ptr();
        buffers.give(vector);
        buffers.give(vec![0.0; 10]);
        assert_eq!(buffers.lock().spare.len(), 1);
        let again = buffers.take(10);
        assert_eq!(again.as_ptr(), memory);
        buffers.give(vec![0.0; 10]);
        assert_eq!(buffers.take(11).len(), 11);
        assert!(buffers.lock().spare.is_empty());
    }
}
