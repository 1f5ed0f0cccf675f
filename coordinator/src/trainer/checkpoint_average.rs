//! Checkpoint averaging: the weights that a run holds from the ends of its epochs, and their mean, which becomes the
//! final model. Which epochs' weights are held is [`coordinator_core::epochs`]'s to decide.

use std::sync::Arc;

use coordinator_core::epochs::Hold;

/// Weights that are held, one vector for each of [`coordinator_core::epochs::EpochPolicy::held`].
pub type HeldWeights = Vec<Arc<Vec<f32>>>;

/// Takes up the weights of an epoch's end, as the epoch policy has decided.
pub fn take_up(held: &mut HeldWeights, hold: Hold, weights: &[f32]) {
    if let Some(place) = hold.replaces {
        held.remove(place);
    }
    held.push(Arc::new(weights.to_vec()));
}

/// The mean of `held`, element by element: added in f64 in the order of epochs, divided once and
/// rounded once. `None` of nothing; one vector is its own mean.
pub fn mean(held: &HeldWeights) -> Option<Arc<Vec<f32>>> {
    use rayon::prelude::*;
    const ELEMENTS_PER_TASK: usize = 1 << 14;
    let first = match held.as_slice() {
        [] => return None,
        [only] => return Some(Arc::clone(only)),
        [first, ..] => first,
    };
    let count = held.len() as f64;
    let mut mean = vec![0.0f32; first.len()];
    mean.par_chunks_mut(ELEMENTS_PER_TASK)
        .enumerate()
        .for_each(|(run, mean)| {
            for (place, mean) in (run * ELEMENTS_PER_TASK..).zip(mean) {
                let sum: f64 = held.iter().map(|weights| f64::from(weights[place])).sum();
                *mean = (sum / count) as f32;
            }
        });
    Some(Arc::new(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_rounded_once() {
        assert_eq!(mean(&HeldWeights::new()), None);
        let held: HeldWeights = [[1.0f32, 1e8], [2.0, 1.0], [4.0, -1e8]]
            .map(|weights| Arc::new(weights.to_vec()))
            .to_vec();
        let expected = [(7.0f64 / 3.0) as f32, (1.0f64 / 3.0) as f32];
        assert_eq!(mean(&held).unwrap().as_slice(), expected);
        assert!(Arc::ptr_eq(&mean(&held[..1].to_vec()).unwrap(), &held[0]));
    }

    #[test]
    fn new_weights_lie_behind_those_that_stay() {
        let mut held = HeldWeights::new();
        for (replaces, value) in [(None, 1.0), (None, 2.0), (Some(0), 3.0)] {
            take_up(&mut held, Hold { replaces }, &[value]);
        }
        let values: Vec<f32> = held.iter().map(|weights| weights[0]).collect();
        assert_eq!(values, [2.0, 3.0]);
    }
}
