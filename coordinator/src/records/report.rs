//! `report.json`: what came of a run. It decides the names of the figures that scripts read, and
//! does not depend on how they were reached.

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::{error_class::Class, left_out::LeftOut, score::Score, unknown_text::UnknownText};

use crate::{
    durable,
    job::changes::Change,
    records::times::Times,
    store::{EARLIER_REPORT, JobState, StoreError},
};

/// The file's name in the run's directory.
pub const REPORT: &str = "report.json";

/// The outcome of a run, written when it ends, however it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The job's id.
    pub id: String,
    /// The job's name.
    pub name: String,
    /// How the run ended.
    pub status: JobState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The class of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Class>,
    /// The steps that were made.
    pub steps: u64,
    /// The steps that changed the weights.
    pub applied_steps: u64,
    /// The steps of the whole job.
    pub total_steps: u64,
    /// The epoch that was worked on last, counted from 1.
    pub epochs: u32,
    /// The epochs of the whole job.
    pub total_epochs: u32,
    /// SHA-256 of the final weights: the flat vector as little-endian `f32`. Absent when the run did
    /// not get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// The compute class of the worker that was granted the first lease, and so of all workers unless the job
    /// says `compute_class = "any"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_class: Option<String>,
    /// Whether another cluster of the compute class gives the same `weights_sha256`.
    pub bit_identity: bool,
    /// Why `bit_identity` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_identity_reason: Option<String>,
    /// The changes of the job during its run that ended the promise of equal bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amendments: Vec<Amendment>,
    /// SHA-256 of the weights that training began with, where the job names a model (`train.init`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Whether the corpus is synthetic: then every figure here is about synthetic speech.
    pub synthetic: bool,
    /// The score on the validation set after the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The best epoch's score on the validation set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The epochs whose weights the final model is made of, and its score, unless the final model is the last weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// The mean loss of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The share of the applied steps whose gradient was clipped.
    pub clipped_share: f64,
    /// The mean share of the gradient's elements that clipping changed in a step; absent where it changes all of them
    /// or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamped_share: Option<f64>,
    /// The micro-batches that were skipped because their gradient was not finite, or beyond the outlier bound.
    pub quarantined: u64,
    /// The utterances that were left out.
    #[serde(default)]
    pub left_out: LeftOutOf,
    /// Transcripts of the validation set with characters or classes that the model lacks.
    #[serde(default, skip_serializing_if = "UnknownText::is_empty")]
    pub unknown_text: UnknownText,
    /// Counts of faults and of what was done about them, by kind (see Faults).
    pub faults: BTreeMap<String, u64>,
    /// The number of workers that were granted a lease.
    pub workers: u64,
    /// The number of coordinator starts that worked on the run.
    pub lives: u64,
    /// The time that was spent on the run in seconds, all starts together.
    pub seconds: f64,
    /// How the time of the steps was spent.
    #[serde(default)]
    pub times: Times,
    /// The hours of audio trained on, every epoch counted.
    pub audio_hours: f64,
    /// The number of the model's parameters.
    pub parameters: usize,
    /// The number of training utterances.
    pub train_utterances: usize,
    /// The number of validation utterances.
    pub valid_utterances: usize,
    /// The version of unisono.
    pub program_version: String,
}

/// What a list of jobs shows of a report.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ReportSummary {
    /// Steps done.
    pub steps: u64,
    /// Steps of the whole job.
    pub total_steps: u64,
    /// The epoch that was worked on last, counted from 1.
    pub epochs: u32,
    /// Epochs of the whole job.
    pub total_epochs: u32,
    /// The mean loss of the last step; `None` where there was none.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Counts of faults and of what was done about them, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Where the run's time went.
    #[serde(default)]
    pub times: Times,
}

impl ReportSummary {
    /// The figures of the report in `run_dir`; `None` when there is none, or none that can be read.
    pub fn read(run_dir: &Path) -> Option<Self> {
        let report = std::fs::read(run_dir.join(REPORT)).ok()?;
        serde_json::from_slice(&report).ok()
    }
}

/// The utterances that were left out, of each of a job's manifests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutOf {
    /// What was left out of the training manifest.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub train: LeftOut,
    /// What was left out of the validation manifest.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub valid: LeftOut,
}

/// A change of the job in the middle of its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amendment {
    /// The steps that were made before it.
    pub step: u64,
    /// The key, and its values before and after.
    #[serde(flatten)]
    pub change: Change,
}

/// A score with the loss beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// The mean loss over the utterances that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The error rates or the accuracy.
    #[serde(flatten)]
    pub score: Score,
}

/// The epochs that a final model is made of, and its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The epochs at whose ends the weights were taken; of several, the mean is the final model.
    pub epochs: Vec<u64>,
    /// The score of the final model on the validation set.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// The best score so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Best {
    /// The best epoch, counted from 1.
    pub epoch: u32,
    /// The last step of that epoch.
    pub step: u64,
    /// The name of the score: `accuracy`, or else `wer`.
    pub metric: String,
    /// The score.
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
        Ok(durable::replace(
            &run_dir.join(REPORT),
            self.to_json().as_bytes(),
        )?)
    }

    /// The content of the report's file.
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
        assert_eq!(ReportSummary::read(dir.path()), None);
        let report = Report {
            steps: 7,
            total_epochs: 3,
            loss: Some(0.5),
            faults: BTreeMap::from([("lost".to_owned(), 2)]),
            ..Report::default()
        };
        report.write(dir.path()).unwrap();
        let figures = ReportSummary::read(dir.path()).unwrap();
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
