//! The exponential moving average of the weights (Polyak & Juditsky 1992). It decides how an average
//! follows; it does not depend on what it is used for.

use rayon::prelude::*;

/// As torch's `AveragedModel` with `get_ema_multi_avg_fn` has it.
#[derive(Clone, Debug)]
pub(super) struct MovingAverage {
    decay: f64,
    weights: Vec<f32>,
}

impl MovingAverage {
    /// Goes on from `weights`.
    pub(super) fn new(decay: f64, weights: Vec<f32>) -> Self {
        Self { decay, weights }
    }

    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Moves towards `weights`; the first ones are taken as they are. Each element is worked out by
    /// itself, so that no cut reaches a number.
    pub(super) fn follow(&mut self, weights: &[f32], first: bool) {
        const ELEMENTS_PER_TASK: usize = 1 << 14;
        let share = (1.0 - self.decay) as f32;
        let runs = self.weights.par_chunks_mut(ELEMENTS_PER_TASK);
        runs.zip(weights.par_chunks(ELEMENTS_PER_TASK))
            .for_each(|(average, weights)| {
                if first {
                    return average.copy_from_slice(weights);
                }
                for (average, weight) in average.iter_mut().zip(weights) {
                    *average += share * (weight - *average);
                }
            });
    }
}
