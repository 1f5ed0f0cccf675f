//! `report.json`: what came of a run. It decides the names of the figures that scripts read, and
//! refuses to know how they were reached.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use speech::{left_out::LeftOut, score::Score, unknown_text::UnknownText};

use crate::{
    job::changes::Change,
    store::{Cause, EARLIER_REPORT, State, StoreError, replace},
    times::Times,
};

/// The file's name in the run's directory.
pub const REPORT: &str = "report.json";

/// What came of a run, written when it ends, however it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    pub name: String,
    pub status: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a failed job calls for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Steps done, and those of them that changed the weights.
    pub steps: u64,
    pub applied_steps: u64,
    /// Of the whole job.
    pub total_steps: u64,
    /// The epoch that was worked on last, counted from 1.
    pub epochs: u32,
    pub total_epochs: u32,
    /// SHA-256 of the final weights: the flat vector as little-endian `f32`. Absent when the run did
    /// not get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// Of the worker that was granted the first lease, and so of all of them unless the job says
    /// `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_class: Option<String>,
    /// Whether another cluster of the compute class gives the same `weights_sha256`.
    pub bit_identity: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_identity_reason: Option<String>,
    /// What was changed in the job while it went on, as far as that ended the promise of equal bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amendments: Vec<Amendment>,
    /// SHA-256 of the weights that it began with, where the job names a model (`train.init`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Whether the corpus was made by the project's own synthesiser: then every figure here is
    /// about synthetic speech.
    pub synthetic: bool,
    /// On the validation set, after the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// On the validation set, after the epoch that was best there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// What the final model is made of, and its score, where that is not simply the last weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// Mean loss of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Share of the applied steps whose gradient was clipped.
    pub clipped_share: f64,
    /// Mean share of the gradient's elements that were clamped in a step (`clip.policy = "value"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamped_share: Option<f64>,
    /// Micro-batches left out because their gradient was not finite.
    pub quarantined: u64,
    /// Utterances that took no part.
    #[serde(default)]
    pub left_out: LeftOutOf,
    /// Transcripts of the validation set that the model cannot say.
    #[serde(default, skip_serializing_if = "UnknownText::is_empty")]
    pub unknown_text: UnknownText,
    /// Counts of what workers and networks did, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Workers that were granted a lease.
    pub workers: u64,
    /// Coordinator starts that worked on it.
    pub lives: u64,
    /// Time spent on it, all lives together.
    pub seconds: f64,
    /// Where the time of its steps went.
    #[serde(default)]
    pub times: Times,
    /// Hours of audio trained on, every epoch counted.
    pub audio_hours: f64,
    pub parameters: usize,
    pub train_utterances: usize,
    pub valid_utterances: usize,
    pub program_version: String,
}

/// What a list of jobs shows of a report.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Figures {
    pub steps: u64,
    pub total_steps: u64,
    pub epochs: u32,
    pub total_epochs: u32,
    #[serde(default)]
    pub loss: Option<f64>,
    pub faults: BTreeMap<String, u64>,
    #[serde(default)]
    pub times: Times,
}

impl Figures {
    /// Of the report in `run_dir`; `None` when there is none, or none that can be read.
    pub fn read(run_dir: &Path) -> Option<Self> {
        let report = std::fs::read(run_dir.join(REPORT)).ok()?;
        serde_json::from_slice(&report).ok()
    }
}

/// Utterances that took no part, of each of a job's manifests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeftOutOf {
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub train: LeftOut,
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub valid: LeftOut,
}

/// A change of the job in the middle of its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// Steps that were made before it.
    pub step: u64,
    #[serde(flatten)]
    pub change: Change,
}

/// A score with the loss beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    #[serde(flatten)]
    pub score: Score,
}

/// What a final model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// At whose ends its weights were taken; of several, the mean.
    pub epochs: Vec<u64>,
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// The best score so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u32,
    pub step: u64,
    /// What was compared: `accuracy`, or else `wer`.
    pub metric: String,
    pub value: f64,
}

impl Best {
    /// The figure that epochs are compared by: accuracy, or else the word error rate.
    pub fn of(score: &Score, epoch: u32, step: u64) -> Option<Self> {
        let (metric, value) = match (score.accuracy, score.wer) {
            (Some(accuracy), _) => ("accuracy", accuracy),
            (None, Some(wer)) => ("wer", wer),
            (None, None) => return None,
        };
        Some(Self {
            epoch,
            step,
            metric: metric.to_owned(),
            value,
        })
    }

    /// Whether this is better than `other`; of equal ones the earlier stays.
    pub fn beats(&self, other: &Self) -> bool {
        match self.metric.as_str() {
            "accuracy" => self.value > other.value,
            _ => self.value < other.value,
        }
    }
}

impl Report {
    /// Says that the promise of equal bits is off, and why.
    pub fn withdraw_promise(&mut self, reason: String) {
        self.bit_identity = false;
        self.bit_identity_reason = Some(reason);
    }

    /// The report of the end before the run in `run_dir` went on, if it can be read.
    pub(crate) fn earlier(run_dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(run_dir.join(EARLIER_REPORT)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes `report.json` into `run_dir`.
    pub fn write(&self, run_dir: &Path) -> Result<(), StoreError> {
        replace(&run_dir.join(REPORT), self.to_json().as_bytes())
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("strings, numbers and maps keyed by strings are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_report_are_read_without_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Figures::read(dir.path()), None);
        let report = Report {
            steps: 7,
            total_epochs: 3,
            loss: Some(0.5),
            faults: BTreeMap::from([("lost".to_owned(), 2)]),
            ..Report::default()
        };
        report.write(dir.path()).unwrap();
        let figures = Figures::read(dir.path()).unwrap();
        assert_eq!((figures.steps, figures.total_epochs), (7, 3));
        assert_eq!((figures.loss, &figures.faults), (Some(0.5), &report.faults));
    }

    #[test]
    fn the_best_is_the_highest_accuracy_or_the_lowest_error_rate() {
        let best = |metric: &str, value| Best {
            epoch: 1,
            step: 1,
            metric: metric.to_owned(),
            value,
        };
        assert!(best("accuracy", 0.9).beats(&best("accuracy", 0.8)));
        assert!(!best("accuracy", 0.8).beats(&best("accuracy", 0.8)));
        assert!(best("wer", 0.1).beats(&best("wer", 0.2)));
        assert!(!best("wer", 0.2).beats(&best("wer", 0.1)));
    }
}
