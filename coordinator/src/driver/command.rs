//! What the driver is asked, and what it answers, in the domain's own types. The services and the
//! program's own thread ask through the same [`Handle`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use proto::{
    buffer_pool::BufferPool,
    contribution::{Contribution, Digest, Key},
    shared_memory::{SharedMemory, SharedMemoryHandle},
    wire::Wire,
};
use speech::error_class::Class;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    active_job::ActiveJob,
    error::Refused,
    registry::{Introduction, Members, WorkerView},
    results::Hypothesis,
};
use crate::{
    broadcast::{Encoded, WeightPublisher},
    fault_budget::Peer,
    job::Job,
    leases::ContributionOutcome,
    norm_bound::NormBound,
    records::{events::Published, times::Times},
    store::{JobEntry, Resumption},
};

pub(crate) type Reply<T> = oneshot::Sender<T>;

#[derive(Debug)]
pub(crate) enum Command {
    Join {
        introduction: Introduction,
        /// Who stands behind it.
        peer: Peer,
        reply: Reply<Result<Welcome, Refused>>,
    },
    Lease {
        worker: u64,
        generation: u64,
        patience: Duration,
        /// Leases that it still works on.
        holds: Vec<Key>,
        reply: Reply<LeaseAnswer>,
    },
    /// A worker wants to know once more what it was leased.
    LeasedNode {
        worker: u64,
        key: Key,
        reply: Reply<Option<LeasedNode>>,
    },
    Heartbeat {
        worker: u64,
        generation: u64,
        reply: Reply<bool>,
    },
    GiveBack {
        worker: u64,
        key: Key,
        reason: String,
        fatal: bool,
        reply: Reply<()>,
    },
    Leave {
        worker: u64,
        generation: u64,
        reply: Reply<()>,
    },
    /// A worker on this host wants a lane for its contributions.
    OpenLane {
        worker: u64,
        generation: u64,
        job: String,
        reply: Reply<Option<SharedMemoryHandle>>,
    },
    /// A contribution is about to be sent.
    Announce {
        worker: u64,
        key: Key,
        /// Absent where it is ours to find.
        digest: Option<Digest>,
        reply: Reply<Announced>,
    },
    /// What was announced broke off, or was given up.
    Interrupted {
        worker: u64,
        key: Key,
    },
    Contribute {
        worker: u64,
        key: Key,
        contribution: Box<Contribution>,
        digest: Digest,
        times: Times,
        /// No element of the vector is infinite or not a number.
        finite: bool,
        reply: Reply<Result<ContributionOutcome, Refused>>,
    },
    /// What a worker sent cannot be a contribution.
    Reject {
        worker: u64,
        key: Key,
        reason: String,
    },
    Report {
        worker: u64,
        key: Key,
        results: Vec<Hypothesis>,
        reply: Reply<Result<ContributionOutcome, Refused>>,
    },
    Submit {
        job: Box<Job>,
        reply: Reply<Result<String, Refused>>,
    },
    /// At most `most` jobs that were submitted after the job `after`, or from the first if that is empty.
    List {
        after: String,
        most: usize,
        reply: Reply<Vec<JobView>>,
    },
    Status {
        /// Empty for the running job, or else the newest.
        id: String,
        reply: Reply<Result<JobView, Refused>>,
    },
    /// Where a job's lines lie, and how many of them may be read.
    Follow {
        id: String,
        reply: Reply<Result<(PathBuf, watch::Receiver<Published>), Refused>>,
    },
    Cancel {
        id: String,
        reply: Reply<Result<JobView, Refused>>,
    },
    Resume {
        id: String,
        resumption: Resumption,
        reply: Reply<Result<JobView, Refused>>,
    },
    /// Takes ended jobs off the list that were submitted longer ago than `age`; how many there were, and where
    /// their folders stay.
    Prune {
        age: Duration,
        reply: Reply<Result<(u64, PathBuf), Refused>>,
    },
    Workers {
        reply: Reply<Vec<WorkerView>>,
    },
    /// Grants nothing more and answers when the running job can be taken up again.
    Stop {
        reply: Reply<()>,
    },
    /// The running job is given up, for a reason that the program which runs this coordinator knows.
    /// Answers when it has ended, at a checkpoint; at once, when there is none.
    GiveUp {
        reason: String,
        cause: Class,
        reply: Reply<()>,
    },
    /// Answers when every worker has been told goodbye; after [`Command::Stop`].
    Farewell {
        reply: Reply<()>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub worker: u64,
    pub generation: u64,
    pub heartbeat: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum LeaseAnswer {
    /// And why, where that is worth telling.
    Idle(Option<String>),
    Lease(LeasedNode),
    Goodbye(String, Parting),
    Unknown,
}

/// What a goodbye asks of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The coordinator is expected back: join it again.
    Returns,
    /// There is no more work.
    Dismissed,
    /// As it is, the worker may not work here: its bits were found wrong, for instance.
    Refused,
}

/// A node that was leased.
#[derive(Clone, Debug)]
pub(crate) struct LeasedNode {
    pub key: Key,
    pub epoch: u32,
    /// Places in the pass, with the utterances' places in their set.
    pub micro_batches: Vec<(u32, Vec<u32>)>,
    pub active_job: Arc<ActiveJob>,
    pub norm_bound: Option<NormBound>,
    /// It is to be computed from [`PublishedWeights::averaged`].
    pub averaged: bool,
}

/// What is to be done with a contribution that is announced.
#[derive(Clone, Debug)]
pub(crate) enum Announced {
    /// Receive its vector, if it has one.
    Expected(Expected),
    /// Nobody waits for it, but its digest is worth knowing.
    Unasked(Expected),
    /// It comes too late to be of use, or nobody asked this worker for it.
    Stale,
}

/// What a vector must be like.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub elements: usize,
    pub wire: Wire,
    /// The worker's, if it has one.
    pub lane: Option<Arc<SharedMemory>>,
}

/// The newest weights, encoded once for all who pull them.
#[derive(Clone, Debug)]
pub(crate) struct PublishedWeights {
    pub job: String,
    pub generation: u64,
    pub version: u64,
    pub encoded: Arc<Encoded>,
    /// What an evaluation is about where it is not about these, and the version that it has.
    pub averaged: Option<(u64, Arc<Encoded>)>,
    /// Where the next ones will be.
    pub publisher: Arc<WeightPublisher>,
}

impl PublishedWeights {
    /// Those of a version, or what there is in its place.
    pub(crate) fn of(&self, version: u64, averaged: bool) -> Result<&Arc<Encoded>, u64> {
        let found = match &self.averaged {
            Some((version, encoded)) if averaged => (*version, encoded),
            _ if averaged => return Err(self.version),
            _ => (self.version, &self.encoded),
        };
        match found {
            (newest, encoded) if newest == version => Ok(encoded),
            (newest, _) => Err(newest),
        }
    }
}

/// A job, for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobView {
    pub id: String,
    pub entry: JobEntry,
    /// How far training is, while the job is being worked on.
    pub progress: Option<Progress>,
    pub run_dir: PathBuf,
    pub workers: u32,
    /// What it needs to go on, where it does not go on.
    pub waiting_for: Option<String>,
    /// What workers and networks did while it was worked on, by kind.
    pub faults: BTreeMap<String, u64>,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Steps done, of `steps`.
    pub step: u64,
    pub steps: u64,
    /// The epoch that is worked on, counted from 1, of `epochs`.
    pub epoch: u32,
    pub epochs: u32,
    /// The mean loss of the last step that moved the weights.
    pub loss: Option<f64>,
    pub grad_norm: Option<f64>,
    pub clip_coef: Option<f64>,
    pub lr: Option<f64>,
    pub audio_seconds_per_second: f64,
    /// Until the last step, at the pace of the last ones.
    pub eta_seconds: Option<f64>,
    /// Where the time of all steps so far went.
    pub times: Times,
}

/// Asks the driver.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) active_job: watch::Receiver<Option<Arc<ActiveJob>>>,
    pub(super) weights: watch::Receiver<Option<PublishedWeights>>,
    pub(super) buffers: BufferPool,
    pub(super) members: Members,
}

impl Handle {
    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`Refused::Stopping`] when the driver is gone.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        sent.map_err(|_| Refused::Stopping)?;
        answer.await.map_err(|_| Refused::Stopping)
    }

    /// Sends a command that has no answer.
    pub(crate) async fn tell(&self, command: Command) {
        // A driver that is gone has nothing to hear.
        let _ = self.commands.send(command).await;
    }

    /// Whether the driver has ended: it does not come back.
    pub(crate) fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }

    /// The running job.
    pub(crate) fn active_job(&self) -> Option<Arc<ActiveJob>> {
        self.active_job.borrow().clone()
    }

    /// The workers that are here.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Memory for vectors that come in.
    pub(crate) fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// The newest weights.
    pub(crate) fn weights(&self) -> Option<PublishedWeights> {
        self.weights.borrow().clone()
    }
}
