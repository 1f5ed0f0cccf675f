//! What the run's state machine is told, what it asks for, and what it goes by and remembers. It decides the words and
//! nothing else.

use serde::{Deserialize, Serialize};

use crate::{
    epochs::{EpochOutcome, EpochPolicy},
    leases::Millis,
    norm_bound::{GradNormMedian, NormBound},
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Figure, SelectConfig},
};

/// What the order of a run's passes, checkpoints and evaluations depends on: all that [`super::Run`] knows of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunSpec {
    /// Updates in an epoch, 1 or more.
    pub steps_per_epoch: u64,
    /// Updates of the whole run: a multiple of [`RunSpec::steps_per_epoch`].
    pub total_steps: u64,
    /// Steps between checkpoints; 0: at the ends of epochs only.
    pub checkpoint_every: u64,
    /// A moving average of the weights is kept, and is what is evaluated.
    pub keeps_average: bool,
    /// There is a validation set.
    pub validates: bool,
    /// Whose weights become the final model, and when training ends early.
    pub select: SelectConfig,
    /// How the learning rate moves; here it matters whether it falls on plateaus.
    pub schedule: ScheduleConfig,
    /// Micro-batches are left out whose gradient norm is more than this times the running median; `None`: unbounded.
    pub max_norm_ratio: Option<f64>,
    /// Micro-batches that may be left out of the whole run.
    pub max_left_out: u64,
    /// How long a pass may come to nothing because its leases are returned undone.
    pub returns_patience: Millis,
}

impl RunSpec {
    /// The epochs of the whole run.
    pub fn epochs(&self) -> u64 {
        self.total_steps / self.steps_per_epoch
    }

    /// Whether something is decided by the validation set's figures.
    pub fn goes_by_figures(&self) -> bool {
        self.select.needs_scores().is_some() || self.schedule.kind == ScheduleKind::Plateau
    }
}

/// What a run remembers beside the update rule's own state. A checkpoint keeps it under these names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMemory {
    /// What came of the epochs so far.
    #[serde(default, rename = "course")]
    pub policy: EpochPolicy,
    /// Micro-batches that were left out of sums.
    #[serde(rename = "quarantined")]
    pub left_out: u64,
    /// Norms of the latest micro-batches, where the job bounds them.
    #[serde(default)]
    pub norms: GradNormMedian,
    /// Updates that left the weights as they were.
    pub skipped_steps: u64,
}

/// Where a run begins, or goes on from its newest checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// What of the job decides the order of passes.
    pub spec: RunSpec,
    /// What the newest checkpoint kept; the default for a run that begins.
    pub memory: RunMemory,
    /// Updates that were made: the version of the weights, which are durable.
    pub step: u64,
    /// Elements of the weights.
    pub elements: usize,
    /// The score of the final model is known.
    pub chosen: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The preparation has ended.
    Begun(Box<Start>),
    /// The lease scheduler: every micro-batch of the open pass is in, and no answer is in doubt.
    PassComplete,
    /// The lease scheduler: two answers differ, and the pass is not complete before that is settled.
    PassDoubted,
    /// The lease scheduler: what came in for the pass is not to be trusted. The caller has thrown it away.
    PassRestarted,
    /// The lease scheduler has accepted a contribution to a sum, in which so many micro-batches are left out. The caller
    /// keeps it for the next [`Action::Add`].
    Accepted {
        /// Micro-batches that are not in its sum.
        left_out: u64,
    },
    /// The lease scheduler has accepted the results of an evaluation.
    ResultsAccepted,
    /// A worker has returned a lease of the open pass undone.
    Returned,
    /// [`Action::Add`] of this attempt is done.
    Added {
        /// The attempt at the pass's sum, as [`Action::Add`] had it.
        attempt: u32,
    },
    /// [`Action::Update`] is done.
    Updated(Updated),
    /// [`Action::Score`] is done.
    Scored {
        /// What epochs are compared by; `None` where the validation set does not give it as a number.
        figure: Option<Figure>,
        /// It may come as a number in another epoch.
        possible: bool,
    },
    /// [`Action::Checkpoint`] is done: the weights of `step`, and what was remembered with them, are durable.
    Checkpointed {
        /// The version of these weights.
        step: u64,
    },
    /// [`Action::Finish`] is done.
    Finished,
    /// Something went wrong that the run cannot survive. The caller knows what.
    Failed,
    /// The run is to come to rest at a step that can be taken up again.
    Stop(StopReason),
}

/// What an update came to. The weights have the next version, whether or not they moved, and may have another length.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    /// Elements of the weights from here on.
    pub elements: usize,
    /// Norms of the pass's micro-batches, in their order.
    pub norms: Vec<f64>,
    /// Whether the weights have moved.
    pub outcome: UpdateOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// Whether an update moved the weights.
pub enum UpdateOutcome {
    /// The update rule has used the sum.
    Applied,
    /// The weights are what they were. `left_out` micro-batches are lost in it that were not left out before: all of
    /// the pass where the sum of good gradients cannot be used.
    Skipped {
        /// Micro-batches.
        left_out: u64,
    },
}

/// Why a run comes to rest; of several reasons the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// It goes on later: the coordinator stops, or another job goes first.
    Requeue,
    /// The program that runs the coordinator has given it up.
    GiveUp,
    /// The job was cancelled: it is not taken up again.
    Cancel,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Plan the pass's micro-batches and open it with the lease scheduler.
    OpenPass(OpenPass),
    /// The pass is whole: close it with the lease scheduler, and keep what came in.
    ClosePass,
    /// The pass is given up: close it with the lease scheduler, and forget what came in.
    AbandonPass,
    /// Add the contributions that have come in to the pass's sum. Of an attempt that is not the present one: nothing.
    Add {
        /// The attempt at the sum, see [`OpenPass::attempt`].
        attempt: u32,
    },
    /// Give the pass's sum to the update rule, and publish the next version of the weights.
    Update,
    /// Score the pass's results.
    Score,
    /// An epoch has ended.
    EndEpoch(EpochEnd),
    /// Write the update rule's state and what the run remembers down.
    Checkpoint {
        /// What the run remembers at this step.
        memory: Box<RunMemory>,
    },
    /// Write the final model.
    Finish,
    /// A returned lease is worth telling, after `more` that were not told.
    TellReturn {
        /// Leases returned since the last one that was told.
        more: u64,
    },
    /// Give the preparation up; nobody waits for it.
    AbandonPreparation,
    /// The run is over. Nothing follows.
    End(End),
}

/// A pass that is to be opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenPass {
    /// Decides what is summed and what comes of it.
    pub purpose: Purpose,
    /// The version of the weights that it is computed from. No weights that an update pass is computed from ever have the version
    /// of a [`Purpose::Choose`] pass.
    pub version: u64,
    /// Counted from 1.
    pub epoch: u32,
    /// Elements of the vectors that an update pass sums.
    pub elements: usize,
    /// Names the pass's sum, as in [`Action::Add`]: no other pass of this life has it. Where the pass is begun again,
    /// its sum has the next one.
    pub attempt: u32,
    /// For an update pass of a job that bounds the norms of micro-batches.
    pub norm_bound: Option<NormBound>,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What it sums is given to the update rule: gradients, for gradient descent.
    Update,
    /// It ends an epoch: results on the validation set, of the moving average where one is kept.
    Evaluate {
        /// Whether the moving average is evaluated, not the weights themselves.
        average: bool,
    },
    /// Results on the validation set, of what the final model will be.
    Choose,
}

/// An epoch that has ended. The update rule is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// Counted from 1.
    pub epoch: u32,
    /// Whether its weights are held, the learning rate falls or training ends.
    pub outcome: EpochOutcome,
    /// How often the learning rate has fallen on a plateau, this time included.
    pub drops: u64,
    /// The best epoch so far, counted from 1.
    pub best_epoch: Option<u64>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The final model is written.
    Succeeded,
    /// The job was cancelled, and is not taken up again.
    Cancelled,
    /// It can be taken up from its checkpoint, and is to be.
    Requeued,
    /// The run cannot go on.
    Failed(Failure),
}

/// Why a run has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The caller reported the failure by [`Input::Failed`].
    Reported,
    /// The caller gave the run up by [`StopReason::GiveUp`].
    GivenUp,
    /// More micro-batches were left out by workers than may be.
    TooManyLeftOut {
        /// Micro-batches that were left out of the whole run.
        count: u64,
        /// The most that the job allows.
        limit: u64,
    },
    /// The same, and all of the last step's, because their sum cannot be used.
    Diverged {
        /// Micro-batches that were left out of the whole run, the last step's included.
        count: u64,
        /// The most that the job allows.
        limit: u64,
    },
    /// A decision goes by a figure that the validation set never gives.
    NoFigure,
    /// A decision goes by a figure that was a number in no epoch.
    NeverFinite,
    /// A pass came to nothing for `within`, in which its leases were returned `times` times.
    Returned {
        /// Leases returned in a row, with nothing accepted between them.
        times: u64,
        /// Milliseconds from the first to the last of them.
        within: Millis,
    },
}
