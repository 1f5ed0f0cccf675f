//! The running median of micro-batches' gradient norms, and the bound that follows from it. It
//! decides from the norms of earlier steps alone, in the order of their micro-batches, so that the
//! bound is the same on any number of workers; it does not depend on what is left out for it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Norms of the latest micro-batches, also of those that were left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GradNormMedian(VecDeque<f64>);

impl GradNormMedian {
    /// Norms that the median is taken of.
    const WINDOW: usize = 256;
    /// Fewer than this say nothing.
    const MIN_SAMPLES: usize = 32;

    /// Takes note of a step's norms, in the order of its micro-batches.
    pub fn record(&mut self, norms: &[f64]) {
        self.0.extend(norms);
        let old = self.0.len().saturating_sub(Self::WINDOW);
        self.0.drain(..old);
    }

    /// `ratio` times the median (the upper one of an even number); `None` until there is enough to
    /// tell.
    pub fn bound(&self, ratio: f64) -> Option<f64> {
        if self.0.len() < Self::MIN_SAMPLES {
            return None;
        }
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Some(ratio * sorted[sorted.len() / 2])
    }
}

/// How large the norm of a micro-batch's mean gradient may be in a pass of a job that bounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormBound {
    /// `None` until enough norms were seen.
    pub most: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_bound_before_there_is_enough_to_tell() {
        let mut norms = GradNormMedian::default();
        norms.record(&[1.0; 31]);
        assert_eq!(norms.bound(10.0), None);
        norms.record(&[1.0]);
        assert_eq!(norms.bound(10.0), Some(10.0));
    }

    #[test]
    fn outliers_hardly_move_it_and_the_oldest_are_forgotten() {
        let mut norms = GradNormMedian::default();
        norms.record(&[2.0; 100]);
        norms.record(&[1e9; 40]);
        assert_eq!(norms.bound(3.0), Some(6.0));
        norms.record(&[8.0; 256]);
        assert_eq!(norms.bound(3.0), Some(24.0));
    }

    #[test]
    fn it_survives_a_checkpoint_bit_for_bit() {
        let mut norms = GradNormMedian::default();
        norms.record(
            &(1..50)
                .map(|n| (0.1 * f64::from(n)).sqrt())
                .collect::<Vec<_>>(),
        );
        let json = serde_json::to_string(&norms).unwrap();
        assert_eq!(
            serde_json::from_str::<GradNormMedian>(&json).unwrap(),
            norms
        );
    }
}
