//! The lines of a run's two journals: events and the metrics of a step. It decides the names that scripts read.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::{
    error_class::Class,
    left_out::LeftOut,
    score::{Score, details::Taken},
    unknown_text::UnknownText,
};

use crate::{job::changes::Change, records::times::Times};

/// An event of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run began, or goes on after a restart of the coordinator.
    Started {
        /// The number of this start of the coordinator.
        generation: u64,
        /// The file name of the checkpoint that it goes on from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed_from: Option<String>,
    },
    /// The run goes on with a changed job.
    JobChanged {
        /// The keys that changed.
        changes: Vec<Change>,
        /// Whether an undisturbed run of the changed job gives the same bits.
        bit_identity: bool,
    },
    /// A checkpoint is damaged and was set aside; the run goes on from an earlier one, or from the beginning.
    CheckpointDamaged {
        /// What is wrong with the file.
        reason: String,
    },
    /// The corpus was read.
    Prepared {
        /// The number of training utterances.
        train_utterances: usize,
        /// Their length in hours.
        train_hours: f64,
        /// The number of validation utterances.
        valid_utterances: usize,
        /// Their length in hours.
        valid_hours: f64,
        /// The number of the model's parameters.
        parameters: usize,
        /// The number of the model's classes or units.
        vocabulary: usize,
        /// The steps of the whole job.
        steps: u64,
        /// Whether the corpus was made by the built-in synthesiser.
        synthetic: bool,
    },
    /// An utterance was left out.
    UtteranceLeftOut {
        /// Its id.
        utterance: String,
        /// The manifest that it is in.
        set: Set,
        /// Why it cannot be used.
        reason: String,
    },
    /// The utterances of a manifest that were left out; the first of them were named before.
    LeftOut {
        /// The manifest.
        set: Set,
        /// Their number, by reason.
        left_out: LeftOut,
    },
    /// Transcripts of the validation set have characters or classes that the model lacks.
    UnknownText {
        /// Their number, and the first few.
        unknown: UnknownText,
    },
    /// A warning: a key of the job has no effect or a surprising one, or a manifest looks wrong.
    Warned {
        /// The warning.
        message: String,
    },
    /// The run's bits belong to a compute class from now on.
    Pinned {
        /// The compute class.
        compute_class: String,
    },
    /// A worker joined.
    WorkerJoined {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
        /// Its compute class.
        compute_class: String,
    },
    /// A worker left in order.
    WorkerLeft {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
    },
    /// A worker sent no heartbeat for too long.
    WorkerLost {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
    },
    /// A lease expired; the node may be leased to others.
    LeaseExpired {
        /// The worker's number.
        worker: u64,
        /// The node of the reduction tree.
        node: String,
    },
    /// A worker returned a node that it could not compute.
    GivenBack {
        /// The worker's number.
        worker: u64,
        /// The node of the reduction tree.
        node: String,
        /// Why it could not.
        reason: String,
        /// The returns before this one that have no line of their own.
        #[serde(default)]
        more: u64,
    },
    /// The run makes no progress, because something is missing.
    Waiting {
        /// What is missing.
        reason: String,
    },
    /// A node that was to be audited had no second worker; written once in each start of the coordinator, the
    /// report has the number.
    Unaudited,
    /// A micro-batch was skipped, because its gradient is not finite or beyond the outlier bound.
    Quarantined {
        /// The number of the worker that computed it.
        worker: u64,
        /// The micro-batch's place in the step.
        micro_batch: u32,
        /// The ids of its utterances.
        utterances: Vec<String>,
        /// Why it was skipped.
        reason: String,
    },
    /// A step left the weights as they are.
    StepSkipped {
        /// Why.
        reason: String,
    },
    /// Two answers to the same node have different bits.
    Differed {
        /// The node of the reduction tree.
        node: String,
        /// The number of the worker whose answer was there.
        first: u64,
        /// The number of the worker whose answer differs.
        second: u64,
        /// Whether the step is over, so that it cannot be found out which answer is wrong.
        late: bool,
    },
    /// A worker's answer was proved wrong, and it gets no more work.
    WorkerQuarantined {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
        /// The node whose answer was wrong.
        node: String,
    },
    /// What a worker handed in could not be the answer to its lease (its weight is not that of the utterances, for
    /// instance), and does not count.
    ContributionRejected {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
        /// The node of the reduction tree.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A worker handed in too much that could not be the answer to its lease; workers of its certificate, or else of
    /// its address, are not admitted for a time.
    WorkerTurnedAway {
        /// The worker's number.
        worker: u64,
        /// Its name.
        name: String,
        /// For so long.
        seconds: u64,
    },
    /// A wrong answer is in the step's sum; the step begins again.
    StepRestarted,
    /// The score on the validation set after an epoch.
    Evaluated {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The mean loss over the utterances that have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
        /// Whether no epoch before was better.
        best: bool,
        /// The score, without its confusion matrix, which only the report has.
        score: Score,
        /// The most frequent confusions.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        confusions: Vec<Taken>,
    },
    /// The score has not improved for long enough, and the learning rate is lowered (`schedule.kind = "plateau"`).
    RateLowered {
        /// The factor of the learning rate from here on, all reductions together.
        factor: f64,
    },
    /// Early stopping: the run ends before its last epoch.
    StoppedEarly {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The epoch with the best score.
        best_epoch: u64,
    },
    /// The score of the final model, unless that is the last weights.
    Chosen {
        /// The epochs whose weights are averaged.
        epochs: Vec<u64>,
        /// The mean loss over the utterances that have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
        /// The score, without its confusion matrix, which only the report has.
        score: Score,
    },
    /// A checkpoint was written.
    Checkpointed {
        /// Its file name.
        file: String,
    },
    /// The run was cancelled.
    Cancelled,
    /// The run failed.
    Failed {
        /// The error.
        error: String,
        /// The class of the failure.
        cause: Class,
    },
    /// The run reached its end.
    Succeeded {
        /// SHA-256 of the final weights.
        weights_sha256: String,
    },
}

/// A manifest of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// The training manifest.
    Train,
    /// The validation manifest.
    Valid,
}

/// A line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened.
    #[serde(with = "crate::records::timestamp")]
    pub time: Timestamp,
    /// Steps done when it happened.
    pub step: u64,
    /// What happened, under `event`, with its own fields beside it.
    #[serde(flatten)]
    pub event: Event,
}

/// A line of `metrics.jsonl`: one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepMetrics {
    /// The step, counted from 1: the version of the weights that it made.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u32,
    /// The mean loss over the step's weight; `null` when every micro-batch was skipped.
    pub loss: Option<f64>,
    /// The L2 norm of the mean gradient over all parameters, before clipping.
    pub grad_norm: Option<f64>,
    /// The clip coefficient: the gradient's norm after clipping over that before. It is the factor of the whole
    /// gradient, unless parts have norms of their own.
    pub clip_coef: Option<f64>,
    /// What the norm was compared with; absent where parts have norms of their own, or nothing was too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_threshold: Option<f64>,
    /// Whether clipping changed the gradient.
    pub clipped: bool,
    /// The share of the gradient's elements that clipping changed; absent where it changes all of them or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_clamped: Option<f64>,
    /// The learning rate.
    pub lr: Option<f64>,
    /// The step's weight, in the unit of `train.normalize`.
    pub weight: f64,
    /// Seconds from the step's opening to its new weights.
    pub seconds: f64,
    /// The number of utterances.
    pub utterances: u64,
    /// The number of frames.
    pub frames: u64,
    /// The seconds of audio.
    pub audio_seconds: f64,
    /// The seconds of audio trained on in a second of time.
    pub audio_seconds_per_second: f64,
    /// Where the step's time went.
    #[serde(flatten)]
    pub times: Times,
    /// The number of skipped micro-batches.
    pub quarantined: u64,
    /// The parameter whose gradient had the largest norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dominated_by: Option<String>,
}
