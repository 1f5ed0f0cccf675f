//! Mean and variance of features over a corpus: sums in `f64`, added in the order they are given in, so
//! that equal orders give equal bits. It does not depend on which utterances they come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FrontEndError, Scaling};
use crate::features::Features;

/// Mean and variance of each dimension over un-stacked, un-normalised frames, deltas included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalStats {
    /// The mean of each dimension.
    pub mean: Vec<f64>,
    /// The variance of each dimension.
    pub variance: Vec<f64>,
    /// The number of frames that were counted.
    pub frames: u64,
}

impl GlobalStats {
    /// What gives frames of `dims` values like these zero mean and unit variance.
    pub(super) fn scaling(&self, dims: usize) -> Result<Scaling, FrontEndError> {
        match self.check(dims) {
            Ok(()) => Ok(Scaling::new(&self.mean, &self.variance)),
            Err(reason) => Err(FrontEndError::Stats { reason }),
        }
    }

    /// Whether these can normalise frames of `dims` values; says why not.
    fn check(&self, dims: usize) -> Result<(), String> {
        if self.frames == 0 {
            return Err("they were taken over no frame".to_owned());
        }
        if self.mean.len() != dims || self.variance.len() != dims {
            return Err(format!(
                "they have {} means and {} variances, and the features {dims} dimensions",
                self.mean.len(),
                self.variance.len()
            ));
        }
        let finite = self.mean.iter().all(|mean| mean.is_finite())
            && self.variance.iter().all(|v| v.is_finite() && *v >= 0.0);
        if !finite {
            return Err("a mean is not finite, or a variance is not a positive number".to_owned());
        }
        Ok(())
    }
}

/// Collects [`GlobalStats`].
#[derive(Clone, Debug, Default)]
pub struct StatsAccumulator {
    sum: Vec<f64>,
    squares: Vec<f64>,
    frames: u64,
}

impl StatsAccumulator {
    /// Statistics of no frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the frames of one utterance, from [`raw_features`](super::FrontEnd::raw_features).
    ///
    /// # Panics
    /// When `features` have other dimensions than those added before: they are not of one front end.
    pub fn add(&mut self, features: &Features) {
        self.widen(features.dims);
        for row in features.rows() {
            let sums = self.sum.iter_mut().zip(&mut self.squares);
            for ((sum, squares), &x) in sums.zip(row) {
                let x = f64::from(x);
                *sum += x;
                *squares += x * x;
            }
        }
        self.frames += features.frames as u64;
    }

    /// Adds what `other` collected.
    ///
    /// # Panics
    /// When `other` collected features of other dimensions.
    pub fn merge(&mut self, other: &Self) {
        if other.frames == 0 {
            return;
        }
        self.widen(other.sum.len());
        for (sum, other) in self.sum.iter_mut().zip(&other.sum) {
            *sum += other;
        }
        for (squares, other) in self.squares.iter_mut().zip(&other.squares) {
            *squares += other;
        }
        self.frames += other.frames;
    }

    /// The statistics so far. Of no frame at all they are empty, and fit no front end.
    pub fn finish(&self) -> GlobalStats {
        let frames = self.frames as f64;
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / frames).collect();
        let variance = self.squares.iter().zip(&mean);
        GlobalStats {
            // Rounding can leave a constant dimension's difference just below zero.
            variance: variance
                .map(|(squares, mean)| (squares / frames - mean * mean).max(0.0))
                .collect(),
            mean,
            frames: self.frames,
        }
    }

    fn widen(&mut self, dims: usize) {
        if self.frames == 0 {
            self.sum = vec![0.0; dims];
            self.squares = vec![0.0; dims];
        }
        assert_eq!(
            self.sum.len(),
            dims,
            "statistics are of the features of one front end"
        );
    }
}

/// Collects statistics of each speaker by name.
#[derive(Clone, Debug, Default)]
pub struct SpeakerStats {
    speakers: BTreeMap<String, StatsAccumulator>,
}

impl SpeakerStats {
    /// Statistics of no speakers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the frames of one of `speaker`'s utterances; see [`StatsAccumulator::add`].
    pub fn add(&mut self, speaker: &str, features: &Features) {
        match self.speakers.get_mut(speaker) {
            Some(sums) => sums.add(features),
            None => {
                let mut sums = StatsAccumulator::new();
                sums.add(features);
                self.speakers.insert(speaker.to_owned(), sums);
            }
        }
    }

    /// The statistics so far, in the order of the speakers' names.
    pub fn finish(&self) -> BTreeMap<String, GlobalStats> {
        let speakers = self.speakers.iter();
        speakers
            .map(|(name, sums)| (name.clone(), sums.finish()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: &[[f32; 2]]) -> Features {
        Features {
            frames: rows.len(),
            dims: 2,
            data: rows.concat(),
        }
    }

    #[test]
    fn statistics_are_those_of_all_frames_however_they_are_cut() {
        let rows = [[1.0, -4.0], [2.0, 0.0], [6.0, 4.0]];
        let mut whole = StatsAccumulator::new();
        whole.add(&features(&rows));
        let stats = whole.finish();
        assert_eq!((stats.mean.as_slice(), stats.frames), (&[3.0, 0.0][..], 3));
        assert!((stats.variance[0] - 14.0 / 3.0).abs() < 1e-12);
        assert!((stats.variance[1] - 32.0 / 3.0).abs() < 1e-12);

        let mut parts = StatsAccumulator::new();
        parts.add(&features(&rows[..1]));
        let mut rest = StatsAccumulator::new();
        rest.add(&features(&rows[1..]));
        parts.merge(&rest);
        parts.merge(&StatsAccumulator::new());
        assert_eq!(parts.finish(), stats);
    }

    #[test]
    fn statistics_that_do_not_fit_say_why() {
        let stats = GlobalStats {
            mean: vec![0.0; 2],
            variance: vec![1.0; 2],
            frames: 5,
        };
        assert_eq!(stats.check(2), Ok(()));
        assert!(stats.check(3).expect_err("dims").contains("2 means"));
        let negative = GlobalStats {
            variance: vec![1.0, -1.0],
            ..stats.clone()
        };
        assert!(
            negative
                .check(2)
                .expect_err("negative")
                .contains("variance")
        );
        let none = StatsAccumulator::new().finish();
        assert!(none.check(0).expect_err("no frames").contains("no frame"));
    }
}
