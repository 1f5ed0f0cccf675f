//! Which weights of a run become the final model: the `[select]` section of a job, and the figure that
//! epochs are compared by. It does not depend on what a run does with the comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::score::Score;

use crate::limits::{OutOfRange, require};

/// The `[select]` section of a job: model selection, checkpoint averaging and early stopping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectConfig {
    /// Which epochs' weights, as they are at the epoch's end, become the final model.
    pub keep: Keep,
    /// How many of those weights are averaged element by element (Izmailov et al. 2018); fewer where the run has
    /// fewer. Each checkpoint holds all of them.
    #[schemars(range(min = 1, max = MAX_AVERAGED), example = 5)]
    pub average: usize,
    /// The score by which epochs are compared: for `keep = "best"`, early stopping and plateaus.
    pub by: Measure,
    /// Early stopping: the run ends after so many epochs in a row without a better one. 0: never.
    #[schemars(example = 10)]
    pub patience: u32,
}

impl Default for SelectConfig {
    fn default() -> Self {
        Self {
            keep: Keep::Last,
            average: 1,
            by: Measure::Score,
            patience: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
/// Which epochs' weights a run holds for the final model.
pub enum Keep {
    /// The last epochs.
    Last,
    /// The epochs with the best scores on the validation set.
    Best,
}

/// A figure of the validation set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Accuracy of a keyword model, word error rate of a CTC model.
    Score,
    /// The character error rate.
    Cer,
    /// The mean loss.
    Loss,
}

impl Measure {
    /// As a job names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Cer => "cer",
            Self::Loss => "loss",
        }
    }
}

/// Most weights that are averaged: each is as large as the model, in memory and in every checkpoint.
const MAX_AVERAGED: usize = 64;

impl SelectConfig {
    /// # Errors
    /// The first key that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        require(
            (1..=MAX_AVERAGED).contains(&self.average),
            "select.average",
            self.average,
            "from 1 to 64",
        )
    }

    /// The first key that needs a validation set.
    pub fn needs_scores(&self) -> Option<&'static str> {
        match self {
            Self {
                keep: Keep::Best, ..
            } => Some("select.keep"),
            Self { patience: 1.., .. } => Some("select.patience"),
            _ => None,
        }
    }

    /// Weights of epochs that are held while a run goes on; none where the final model is simply the
    /// last one.
    pub fn held(&self) -> usize {
        match (self.keep, self.average) {
            (Keep::Last, 1) => 0,
            (_, average) => average,
        }
    }
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Never NaN or infinite.
    pub value: f64,
    /// Whether more is better.
    pub rises: bool,
}

impl Figure {
    /// `None` where the validation set does not give it, or not as a number.
    pub fn of(measure: Measure, score: &Score, loss: Option<f64>) -> Option<Self> {
        let falls = |value: Option<f64>| value.map(|value| (value, false));
        let (value, rises) = match (measure, score.accuracy) {
            (Measure::Score, Some(accuracy)) => Some((accuracy, true)),
            (Measure::Score, None) => falls(score.wer),
            (Measure::Cer, _) => falls(score.cer),
            (Measure::Loss, _) => falls(loss),
        }?;
        value.is_finite().then_some(Self { value, rises })
    }

    /// Whether this is better than `other`.
    pub fn beats(&self, other: &Self) -> bool {
        self.beats_by(0.0, other)
    }

    /// Whether this is better than `other` by more than the share `threshold` of it.
    pub(crate) fn beats_by(&self, threshold: f64, other: &Self) -> bool {
        if self.rises {
            self.value > other.value * (1.0 + threshold)
        } else {
            self.value < other.value * (1.0 - threshold)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_knows_its_better_direction() {
        let keyword = Score {
            accuracy: Some(0.5),
            ..Score::default()
        };
        let spoken = Score {
            wer: Some(0.25),
            cer: Some(0.125),
            ..Score::default()
        };
        let figure = |measure, score, loss| Figure::of(measure, score, loss);
        let found = |value, rises| Some(Figure { value, rises });
        assert_eq!(figure(Measure::Score, &keyword, None), found(0.5, true));
        assert_eq!(figure(Measure::Score, &spoken, None), found(0.25, false));
        assert_eq!(figure(Measure::Cer, &spoken, None), found(0.125, false));
        assert_eq!(figure(Measure::Loss, &spoken, Some(3.0)), found(3.0, false));
        assert_eq!(figure(Measure::Cer, &keyword, Some(3.0)), None);
        assert_eq!(figure(Measure::Loss, &spoken, Some(f64::NAN)), None);
    }

    #[test]
    fn of_equal_ones_none_is_better() {
        let figure = |value, rises| Figure { value, rises };
        assert!(figure(0.9, true).beats(&figure(0.8, true)));
        assert!(!figure(0.8, true).beats(&figure(0.8, true)));
        assert!(figure(0.1, false).beats(&figure(0.2, false)));
        assert!(!figure(0.199, false).beats_by(0.01, &figure(0.2, false)));
        assert!(!figure(0.0, false).beats(&figure(0.0, false)));
    }
}
