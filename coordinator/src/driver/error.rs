//! What ends a run, and what is refused to those who ask: two kinds of error, one for the run's
//! report, one for an answer. It decides which are worth a retry.

use std::time::Duration;

use speech::{
    corpus_roots::CorpusRoots,
    error_class::{Class, Classify},
    front_end::FrontEndError,
    recipe::RecipeError,
};
use thiserror::Error;

use crate::{
    checkpoint::CheckpointError,
    contribution_check::Mismatch,
    corpus::CorpusError,
    fault_budget::Peer,
    initial_weights::InitialError,
    job::changes::ChangeError,
    job_memory::NoMemory,
    plan::PlanError,
    records::events::JournalError,
    select::Measure,
    store::{JobState, StoreError},
    trainer::{UpdateError, optimizer::RestoreError, reduce::ReduceError},
};

/// Why a run failed.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    FrontEnd(#[from] FrontEndError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Memory(#[from] NoMemory),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("the checkpoint does not fit the job: {0}")]
    Restore(#[from] RestoreError),
    #[error(
        "the utterances, recordings or transcripts are not those that the run was begun with (its checkpoint is of step {step}); restore them, or begin a new run"
    )]
    Changed { step: u64 },
    #[error("the checkpoint of step {step}: {source}")]
    JobChanged { step: u64, source: ChangeError },
    #[error("the checkpoint of step {step} cannot be compared with the job: {reason}")]
    Unreadable { step: u64, reason: String },
    #[error(
        "`train.init` names other weights than those that the run was begun with (its checkpoint is of step {step}); name the same, or begin a new run"
    )]
    InitChanged { step: u64 },
    #[error(
        "the run has made {step} steps already, and `train.epochs = {epochs}` is only {total}; ask for more epochs"
    )]
    TooFewEpochs { step: u64, epochs: u32, total: u64 },
    #[error(transparent)]
    Initial(#[from] InitialError),
    #[error(
        "{count} micro-batches were left out, more than `train.max_quarantined = {limit}` allows; the last one holds {utterances}: {reason}"
    )]
    TooManyQuarantined {
        count: u64,
        limit: u64,
        utterances: String,
        reason: String,
    },
    #[error(
        "{count} micro-batches were left out, more than `train.max_quarantined = {limit}` allows; all of the last step for this: {reason}"
    )]
    Diverges {
        count: u64,
        limit: u64,
        reason: String,
    },
    #[error(
        "`{field}` goes by `select.by = \"{}\"`, and the validation set does not give that figure (every reference is empty, or too long for its recording); choose another figure, or another validation set", by.name()
    )]
    NoFigure { field: &'static str, by: Measure },
    #[error(
        "`{field}` goes by `select.by = \"{}\"`, and in no epoch was that a finite number: training diverges; lower `optimizer.learning_rate`", by.name()
    )]
    NeverFinite { field: &'static str, by: Measure },
    #[error("worker {worker} ({name}) cannot go on with step {step}: {reason}")]
    Data {
        worker: u64,
        name: String,
        step: u64,
        reason: String,
    },
    #[error(
        "step {step} made no progress for {} s, in which it was returned undone {times} times, the last time by worker {worker} ({name}): {reason}",
        within.as_secs()
    )]
    Returned {
        worker: u64,
        name: String,
        step: u64,
        times: u64,
        within: Duration,
        reason: String,
    },
    #[error(
        "step {step}: {workers} gave different bits for node {node}, and no other worker came to settle who is wrong; start a third one, or stop the one that you trust less, and resume the job"
    )]
    Unsettled {
        step: u64,
        node: String,
        workers: String,
    },
    #[error(
        "step {step}: for {} minutes nobody came to confirm node {node}, and with `train.audit = 1.0` nothing counts that two workers do not agree on; start a second worker and resume the job, or submit it with a smaller share",
        waited.as_secs() / 60
    )]
    Unconfirmed {
        step: u64,
        node: String,
        waited: Duration,
    },
    /// The program that runs the coordinator and the workers gave the job up.
    #[error("{reason}")]
    GivenUp { reason: String, cause: Class },
    #[error("a contribution that was accepted cannot be added: {0}")]
    Reduce(#[from] ReduceError),
    #[error("the coordinator's own work broke off: {0}")]
    Broken(String),
}

impl RunError {
    /// The message as whoever submitted the job may have it. Where files were read that he may name (beneath
    /// `roots`), and perhaps not read, it does not quote them: it has the file and the line.
    pub(crate) fn told(&self, roots: &CorpusRoots) -> String {
        let told = match self {
            _ if roots.is_anywhere() => self.to_string(),
            Self::Corpus(error) => error.without_contents(),
            Self::Initial(error) => error.without_contents(),
            _ => self.to_string(),
        };
        if told == self.to_string() {
            told
        } else {
            format!("{told} (the coordinator's log says what was found)")
        }
    }

    /// Whether the job, as it is now, does not go with what the run has computed.
    pub(crate) const fn is_about_the_checkpoint(&self) -> bool {
        matches!(
            self,
            Self::Changed { .. }
                | Self::JobChanged { .. }
                | Self::InitChanged { .. }
                | Self::TooFewEpochs { .. }
        )
    }
}

impl Classify for RunError {
    fn class(&self) -> Class {
        match self {
            Self::Store(_)
            | Self::Journal(_)
            | Self::Returned { .. }
            | Self::Unsettled { .. }
            | Self::Unconfirmed { .. }
            | Self::Broken(_)
            | Self::Checkpoint(CheckpointError::Io { .. }) => Class::Infrastructure,
            Self::GivenUp { cause, .. } => *cause,
            Self::Corpus(error) => error.class(),
            Self::Recipe(_)
            | Self::FrontEnd(_)
            | Self::Plan(_)
            | Self::Memory(_)
            | Self::Checkpoint(_)
            | Self::Restore(_)
            | Self::Changed { .. }
            | Self::NoFigure { .. }
            | Self::JobChanged { .. }
            | Self::Unreadable { .. }
            | Self::InitChanged { .. }
            | Self::TooFewEpochs { .. }
            | Self::Initial(_)
            | Self::Data { .. } => Class::Data,
            Self::Update(_)
            | Self::TooManyQuarantined { .. }
            | Self::Diverges { .. }
            | Self::NeverFinite { .. }
            | Self::Reduce(_) => Class::Training,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum Refused {
    #[error("there is no job `{0}`; `unisono jobs` lists them")]
    UnknownJob(String),
    #[error("the coordinator has no jobs; submit one first")]
    NoJobs,
    #[error("job `{0}` is not being worked on")]
    NotRunning(String),
    #[error("job `{id}` has {} already", state_name(*state))]
    Ended { id: String, state: JobState },
    #[error("job `{id}` is {}; only a job that has ended can be resumed", state_name(*state))]
    NotResumable { id: String, state: JobState },
    #[error(
        "{what} runs unisono {theirs} and the coordinator unisono {ours}; run the same version"
    )]
    Version {
        what: String,
        theirs: String,
        ours: &'static str,
    },
    #[error(
        "job `{job}` is pinned to the compute class \"{pinned}\" and this worker is \"{class}\"; only equal classes give equal bits: run workers of one class, or set `compute_class = \"any\"` in the job; resumed with `--allow-change`, a run goes on with another class and promises equal bits no more"
    )]
    Class {
        job: String,
        pinned: String,
        class: String,
    },
    #[error(
        "worker {0} gave other bits than the workers that agree with each other: its processor or memory is faulty, or its build is another; it stays in quarantine until the coordinator is started again"
    )]
    Quarantined(String),
    #[error(
        "workers of {peer} handed in too much that cannot be the answer to a lease; they are turned away for another {} s", left.as_secs().max(1)
    )]
    TurnedAway { peer: Peer, left: Duration },
    #[error("the contribution cannot be the answer to its lease: {0}")]
    Contribution(Mismatch),
    #[error("the results are not those of the lease: {0}")]
    BadResults(String),
    #[error("the coordinator is shutting down")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for Refused {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Stopping | Self::TurnedAway { .. } => Class::Infrastructure,
            _ => Class::Data,
        }
    }
}

impl Refused {
    /// Whether a worker that is refused may be taken later as it is started: a program may be replaced
    /// on its host or on the coordinator's.
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Version { .. } | Self::TurnedAway { .. } | Self::Stopping
        )
    }
}

const fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "been cancelled",
    }
}
