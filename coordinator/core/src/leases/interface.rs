//! What the lease scheduler is told, what it answers, and what it counts. It decides the words and nothing
//! else.

use std::fmt;

use proto::contribution::{Digest, Key, PassKind};
use serde::{Deserialize, Serialize};

use crate::fault_budget::{BudgetConfig, Peer};

pub use crate::time::Millis;

/// A worker's admission. One that joins again gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is computed at one version of the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassId {
    /// The job's id.
    pub job: String,
    /// Whether gradients or results are computed.
    pub kind: PassKind,
    /// The version of the weights.
    pub step: u64,
}

/// Times and margins. None of them reaches a number that is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Silence after which a worker is lost.
    pub heartbeat_timeout: Millis,
    /// The time that a lease gets before anything was measured, and a worker's first one always:
    /// compiling kernels and reading the corpus come on top.
    pub first_lease: Millis,
    /// Bounds of every other lease, which gets `lease_multiple` times what it is expected to take.
    pub lease_floor: Millis,
    /// The upper bound of these.
    pub lease_ceiling: Millis,
    /// The factor on the expected time, before the bounds.
    pub lease_multiple: f64,
    /// Age after which an idle worker gets a leased node too: `straggler_multiple` times what it is
    /// expected to take, and no less than the floor.
    pub straggler_floor: Millis,
    /// The factor on the expected time, before the floor.
    pub straggler_multiple: f64,
    /// How long a node waits for another opinion that nobody who is here can give.
    pub verification_patience: Millis,
    /// The same where somebody who is here could give it, and is busy or does not ask; and how long a pass
    /// of which everything is in waits for a second worker where nothing counts without one.
    pub verification_ceiling: Millis,
    /// What a peer is forgiven.
    pub budget: BudgetConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_timeout: 10_000,
            first_lease: 120_000,
            lease_floor: 5_000,
            lease_ceiling: 600_000,
            lease_multiple: 6.0,
            straggler_floor: 1_000,
            straggler_multiple: 2.0,
            verification_patience: 60_000,
            verification_ceiling: 600_000,
            budget: BudgetConfig::default(),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A worker was admitted.
    Joined {
        /// Its id, which no worker had before.
        worker: WorkerId,
        /// Who stands behind it.
        peer: Peer,
    },
    /// A worker said goodbye: its leases are free at once.
    Left {
        /// Who said it.
        worker: WorkerId,
    },
    /// A sign of life.
    Heartbeat {
        /// Who gave it.
        worker: WorkerId,
    },
    /// Whether a worker may compute for the running job. One that may not is here all the same: it waits,
    /// is neither given work nor counted on, and its answers to the open pass do not count. A worker that is
    /// admitted fits until something else is said.
    Eligibility {
        /// Whom it is said of.
        worker: WorkerId,
        /// Whether it may compute from here on.
        eligible: bool,
    },
    /// The compute class of the running job is decided: answers of workers that are gone do not count, because nobody
    /// can say any more whether they fit.
    ClassDecided,
    /// A worker waits for work until `until`, and still works on `holds`. Any other lease of its was lost
    /// on the way to it or back, and is free.
    LeaseWanted {
        /// Who asks.
        worker: WorkerId,
        /// When it is to be answered at the latest, with work or without.
        until: Millis,
        /// Leases of earlier grants that it has not handed in or given back.
        holds: Vec<Key>,
    },
    /// There is work: a pass of `micro_batches`. It ends the pass before, complete or not.
    PassOpened {
        /// What is computed, from which weights.
        pass: PassId,
        /// How many there are: the leaves of the reduction tree.
        micro_batches: u32,
        /// The most micro-batches in one lease, 1 or more: what names their utterances has to fit a message.
        max_micro_batches: u32,
        /// The mean cost of a micro-batch, in a unit that all passes of the job share: a pass of long
        /// utterances takes longer than one of short ones, and says nothing about the workers.
        cost: f64,
        /// Whether answers to one node are compared.
        audit_policy: AuditPolicy,
    },
    /// The pass is given up.
    PassClosed,
    /// A whole contribution has arrived.
    Contributed {
        /// Who sent it.
        worker: WorkerId,
        /// The lease that it answers.
        key: Key,
        /// By which the bits of two answers are compared.
        digest: Digest,
    },
    /// A worker returns a lease undone.
    GivenBack {
        /// Who held it.
        worker: WorkerId,
        /// The lease that is free again.
        key: Key,
        /// The worker says that the data is at fault, and every worker would meet it.
        fatal: bool,
    },
    /// A grant did not reach its worker.
    Undelivered {
        /// Who was to have it.
        worker: WorkerId,
        /// The lease that is free again.
        key: Key,
    },
    /// What a worker handed in cannot be the answer to its lease: that is a fault of the worker. The lease is free.
    Rejected {
        /// Who handed it in.
        worker: WorkerId,
        /// The lease.
        key: Key,
    },
    /// The sum that a worker handed in for several micro-batches is not finite, although each of their gradients may
    /// be. Whose fault that is shows when each is leased alone, which is so for the rest of the pass.
    Overflowed {
        /// Who handed it in.
        worker: WorkerId,
        /// The lease, which is free again.
        key: Key,
    },
    /// A contribution broke off on its way. Nothing of it is kept, its lease runs on, and the worker may
    /// send it again.
    Interrupted,
    /// Nothing; time has passed.
    Tick,
}

/// What is to be done about it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The worker is leased the node of `key`.
    Granted {
        /// Who asked for work.
        worker: WorkerId,
        /// The node, and the attempt that tells this lease from earlier ones of it.
        key: Key,
        /// When the node is free for others, if no answer has come.
        expires: Millis,
    },
    /// The worker's patience has ended without work.
    NothingYet {
        /// Who asked, and may ask again.
        worker: WorkerId,
    },
    /// Nobody of this id is here (any more): it must join again.
    Unknown {
        /// The id that it came with.
        worker: WorkerId,
    },
    /// What became of a contribution.
    Receipt {
        /// Who sent the contribution.
        worker: WorkerId,
        /// The lease that it answered.
        key: Key,
        /// Whether it counts.
        outcome: ContributionOutcome,
    },
    /// Every micro-batch of the pass is in accepted contributions, and no answer is in doubt.
    PassComplete {
        /// The open pass.
        pass: PassId,
    },
    /// What was accepted for the pass is not to be trusted: its sum begins again.
    PassRestarted {
        /// The open pass, which goes on under the same id.
        pass: PassId,
    },
    /// A lease ran out. Its node is free, unless somebody else has it too; an answer still counts if
    /// it is the first.
    LeaseExpired {
        /// Who holds it.
        worker: WorkerId,
        /// The lease.
        key: Key,
    },
    /// A worker was silent for too long. Its leases are free.
    WorkerLost {
        /// Who was silent.
        worker: WorkerId,
    },
    /// Two answers to one node have different bits: one of them is wrong.
    Differed {
        /// The node, by one of its leases.
        key: Key,
        /// Whose bits were accepted.
        first: WorkerId,
        /// Who gave other bits later.
        second: WorkerId,
        /// The pass is over: who is wrong will not be found out.
        late: bool,
    },
    /// The worker has used up the faults that its peer is forgiven. It is gone, and nobody of the peer joins for that time.
    TurnedAway {
        /// Who is turned away.
        worker: WorkerId,
        /// For so many milliseconds.
        lasts: Millis,
    },
    /// Enough workers say that the data is at fault, or nobody else is here who could tell.
    DataAtFault {
        /// Who said so last.
        worker: WorkerId,
        /// The lease that it returned.
        key: Key,
    },
    /// The worker gave other bits than those that are right. It is gone: it gets no lease, and its
    /// answers do not count.
    Quarantined {
        /// Who was wrong.
        worker: WorkerId,
        /// The node of a wrong answer, by one of its leases.
        key: Key,
    },
    /// `workers` gave different bits for the node of `key`, and nobody came to settle it.
    Unsettled {
        /// The node that they differ on.
        key: Key,
        /// All that answered; at least one of them is wrong.
        workers: Vec<WorkerId>,
    },
    /// Nothing counts without a second answer, and nobody came to give one to the node of `key`.
    Unconfirmed {
        /// The node, by one of its leases.
        key: Key,
    },
}

/// How far answers are trusted: whether several answers to one node are compared (result verification by redundant
/// computation).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AuditPolicy {
    /// Workers of different compute classes take part: different bits are no finding.
    #[default]
    None,
    /// Two answers to one node must have the same bits.
    Compare {
        /// The share of nodes that a second worker computes as well, where there is one. At 1 nothing
        /// counts without: a worker that is alone waits, for [`Config::verification_ceiling`].
        audit: f64,
    },
}

/// What became of a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContributionOutcome {
    /// It is the first for these micro-batches and belongs into the sum.
    Accepted,
    /// The same bits are there already.
    Duplicate,
    /// It is of no use: late, stale or foreign, as [`Counters`] has it.
    Stale,
    /// Other bits are there already.
    Differs,
}

/// What has happened in this life, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Workers that were admitted; one that joins again counts again.
    pub joins: u64,
    /// Graceful goodbyes.
    pub leaves: u64,
    /// Workers that fell silent.
    pub lost: u64,
    /// Leases that workers were given, retries and second ones included.
    pub granted: u64,
    /// Leases that ran out without an answer.
    pub expired: u64,
    /// Leases that were returned, or that their holders asked past.
    pub given_back: u64,
    /// Grants of micro-batches whose earlier lease was lost, expired or given back.
    pub retries: u64,
    /// Grants of a straggler's node to a second worker.
    pub recomputed: u64,
    /// Answers that were the first for their micro-batches, and count.
    pub accepted: u64,
    /// Answers whose bits were there already.
    pub duplicates: u64,
    /// Answers to a pass that is over, or whose micro-batches came by way of other nodes.
    pub late: u64,
    /// Answers to another life of the coordinator.
    pub stale: u64,
    /// Answers to leases that there never were, and of workers in quarantine.
    pub foreign: u64,
    /// Answers with other bits than the first had.
    pub differed: u64,
    /// Nodes that a second worker has confirmed.
    pub audited: u64,
    /// Nodes that were to be confirmed, and nobody could.
    pub unaudited: u64,
    /// Workers whose bits were found wrong.
    pub quarantined_workers: u64,
    /// Passes that were begun again, because an answer in them was not to be trusted.
    pub restarted: u64,
    /// Contributions that broke off on their way.
    pub interrupted: u64,
    /// Contributions that could not be the answer to their lease.
    #[serde(default)]
    pub rejected: u64,
    /// Workers whose peers used up the faults that they are forgiven.
    #[serde(default)]
    pub turned_away: u64,
}

impl Counters {
    /// What went otherwise than it does in a run that nothing happens to, by the names under which reports count it: all but
    /// leases that were granted and contributions that were accepted.
    pub fn faults(&self) -> [(&'static str, u64); 19] {
        let Self {
            joins,
            leaves,
            lost,
            granted: _,
            expired,
            given_back,
            retries,
            recomputed,
            accepted: _,
            duplicates,
            late,
            stale,
            foreign,
            differed,
            audited,
            unaudited,
            quarantined_workers,
            restarted,
            interrupted,
            rejected,
            turned_away,
        } = *self;
        [
            ("joins", joins),
            ("leaves", leaves),
            ("lost", lost),
            ("expired", expired),
            ("given_back", given_back),
            ("retries", retries),
            ("recomputed", recomputed),
            ("duplicates", duplicates),
            ("late", late),
            ("stale", stale),
            ("foreign", foreign),
            ("differed", differed),
            ("audited", audited),
            ("unaudited", unaudited),
            ("quarantined_workers", quarantined_workers),
            ("restarted", restarted),
            ("interrupted", interrupted),
            ("rejected", rejected),
            ("turned_away", turned_away),
        ]
    }
}

/// A worker as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its present id.
    pub worker: WorkerId,
    /// The lease that it works on, to the lease scheduler's knowledge.
    pub doing: Option<Key>,
    /// Its answers that were accepted.
    pub contributions: u64,
    /// When it gave its last sign of life.
    pub last_heard: Millis,
}
