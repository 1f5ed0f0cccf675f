//! Vectors that were used and will be again. Memory that the system has just given costs more than what
//! is done with it: each page is cleared when it is first touched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Vectors of one length, lent and taken back. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Spares(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    spare: Vec<Vec<f32>>,
    /// Vectors that were lent and did not come back.
    out: usize,
}

impl Spares {
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
        let spares = Spares::default();
        let vector = spares.take(10);
        let memory = vector.as_ptr();
        spares.give(vector);
        spares.give(vec![0.0; 10]);
        assert_eq!(spares.lock().spare.len(), 1);
        let again = spares.take(10);
        assert_eq!(again.as_ptr(), memory);
        spares.give(vec![0.0; 10]);
        assert_eq!(spares.take(11).len(), 11);
        assert!(spares.lock().spare.is_empty());
    }
}
