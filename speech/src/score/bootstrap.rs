//! How far an error rate can be trusted: bootstrap intervals over utterances (Bisani & Ney 2004), of one
//! rate and of the difference of two. Resamples are drawn from named streams, so that the same counts
//! give the same interval everywhere. It does not depend on what an error is.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// One utterance: its errors, and the words, characters or decisions that they are among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Substitutions, deletions and insertions, or wrong decisions.
    pub errors: u64,
    /// Words, characters or decisions of the reference.
    pub reference: u64,
}

/// Where a rate lies in 95 of 100 repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Sets of utterances that are drawn, with replacement, each as large as the whole.
pub const RESAMPLES: usize = 10_000;

/// What is left out at each end.
const TAIL_PROBABILITY: f64 = 0.025;

/// Seed and first tag of the streams that draw.
const SEED: u64 = 2004;

/// The errors over the references of a whole set; `None` without a reference.
pub fn rate(samples: &[Sample]) -> Option<f64> {
    let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
    let reference: u64 = samples.iter().map(|sample| sample.reference).sum();
    (reference > 0).then(|| errors as f64 / reference as f64)
}

/// The interval of the rate of `samples`: the percentiles of the rates of resampled sets. `None` for
/// fewer than two utterances, which say nothing of others.
pub fn interval(samples: &[Sample]) -> Option<Interval> {
    let rates = resampled(samples.len(), |drawn| {
        let mut sum = Sample::default();
        drawn.for_each(|place| {
            sum.errors += samples[place].errors;
            sum.reference += samples[place].reference;
        });
        (sum.reference > 0).then(|| sum.errors as f64 / sum.reference as f64)
    });
    between_tails(rates?)
}

/// How two systems on the same utterances differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The second's rate less the first's.
    pub value: f64,
    /// The 95 % confidence interval of the difference.
    #[serde(flatten)]
    pub interval: Interval,
    /// The share of resampled sets in which the second is better (Bisani & Ney's probability of
    /// improvement); sets in which both are alike count half.
    pub improves: f64,
}

/// The difference between two systems on the same utterances, in the same order. `None` where one of the
/// rates is none, or for fewer than two utterances.
///
/// # Panics
/// When they are not as many.
pub fn difference(first: &[Sample], second: &[Sample]) -> Option<Difference> {
    assert_eq!(first.len(), second.len(), "the same utterances");
    let value = rate(second)? - rate(first)?;
    let differences = resampled(first.len(), |drawn| {
        let (mut errors, mut reference) = (0i64, 0);
        drawn.for_each(|place| {
            errors += second[place].errors.cast_signed() - first[place].errors.cast_signed();
            reference += first[place].reference;
        });
        (reference > 0).then(|| errors as f64 / reference as f64)
    })?;
    let better = |difference: &f64| match difference.total_cmp(&0.0) {
        std::cmp::Ordering::Less => 1.0,
        _ if *difference == 0.0 => 0.5,
        _ => 0.0,
    };
    let improves = differences.iter().map(better).sum::<f64>() / differences.len() as f64;
    Some(Difference {
        value,
        interval: between_tails(differences)?,
        improves,
    })
}

/// The statistic of each resampled set that has one.
fn resampled(
    count: usize,
    statistic: impl Fn(&mut dyn Iterator<Item = usize>) -> Option<f64> + Sync,
) -> Option<Vec<f64>> {
    if count < 2 {
        return None;
    }
    let draw = |resample: usize| {
        let mut stream = Stream::new(SEED, &[resample as u64]);
        statistic(&mut (0..count).map(|_| stream.below(count as u64) as usize))
    };
    let found: Vec<Option<f64>> = (0..RESAMPLES).into_par_iter().map(draw).collect();
    Some(found.into_iter().flatten().collect())
}

/// The percentiles, with linear interpolation between neighbours.
fn between_tails(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |share: f64| {
        let place = share * last as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        values[below] + (place - place.floor()) * (values[above] - values[below])
    };
    Some(Interval {
        low: at(TAIL_PROBABILITY),
        high: at(1.0 - TAIL_PROBABILITY),
    })
}
