//! The lease scheduler, a state machine: which workers are here, who computes which node of a pass's reduction
//! tree, and which answers count. It decides and never waits: equal inputs in equal order give equal outputs. It
//! does not depend on clocks, sockets, threads and tensors; time is an argument, and a contribution is a [`Key`]
//! and a digest.
//!
//! A driver owns it. It passes on what happens, carries out what [`LeaseScheduler::handle`] returns, and
//! calls again with [`Input::Tick`] at [`LeaseScheduler::next_deadline`] at the latest. What the driver owes:
//! - worker ids are given out once in a life, and leftovers of other generations are refused before
//!   they get here (a [`Key`] carries its generation and is checked here as well);
//! - [`Input::Contributed`] is said of whole, verified contributions, and what is answered
//!   `Accepted`, and nothing else, goes into the reducer;
//! - a grant that cannot be delivered is given back.

mod assignment;
mod conduct;
mod disputes;
mod interface;
mod pace;
mod pass;
#[cfg(test)]
mod tests;
mod vote;

use std::collections::{BTreeMap, BTreeSet};

use proto::contribution::{Key, PassKind};

pub use interface::{
    AuditPolicy, Config, ContributionOutcome, Counters, Input, Millis, Output, PassId, WorkerId,
    WorkerView,
};
use pace::{ClusterPace, WorkerPace};
use pass::LeasedPass;

use crate::fault_budget::{FaultBudgets, Peer};

#[derive(Debug)]
struct Worker {
    last_heard: Millis,
    contributions: u64,
    /// What it was given and has not handed in, in that order: it works on the first.
    held: Vec<HeldLease>,
    /// Since when it has nothing to do, when it has nothing.
    idle: Millis,
    /// It waits for work.
    asked: bool,
    /// It may compute for the running job.
    eligible: bool,
    peer: Peer,
    /// It gets no lease before then.
    rests_until: Millis,
    speeds: BTreeMap<PassKind, WorkerPace>,
}

/// What a worker was given. It outlives the lease: who computes something that is not needed any more
/// is busy all the same.
#[derive(Debug)]
struct HeldLease {
    key: Key,
    /// In micro-batches.
    size: u32,
    /// The cost of all its micro-batches.
    cost: f64,
    /// When the worker could begin with it: at the grant, or at the end of its previous lease.
    begun: Millis,
}

#[derive(Debug)]
struct WaitingWorker {
    worker: WorkerId,
    until: Millis,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LeaseScheduler {
    generation: u64,
    config: Config,
    now: Millis,
    workers: BTreeMap<WorkerId, Worker>,
    /// In the order in which they asked.
    waiting: Vec<WaitingWorker>,
    pass: Option<LeasedPass>,
    audit_policy: AuditPolicy,
    /// Micro-batches of the pass in one lease.
    max_micro_batches: u32,
    /// The mean cost of a micro-batch of the pass.
    cost: f64,
    /// The pass before, for answers that come late.
    last: Option<LeasedPass>,
    /// Workers in quarantine.
    quarantined: BTreeSet<WorkerId>,
    /// Since when the pass waits for nothing but second answers that nobody gives.
    unconfirmed: Option<Millis>,
    /// How long micro-batches of the running job take, by kind of pass.
    paces: BTreeMap<PassKind, ClusterPace>,
    /// What peers are forgiven.
    budgets: FaultBudgets,
    /// Who says that the data of the pass is at fault.
    blaming: BTreeMap<WorkerId, Peer>,
    counters: Counters,
    outputs: Vec<Output>,
}

impl LeaseScheduler {
    /// A coordinator's life begins; `generation` is greater than that of every life before.
    pub fn new(generation: u64, config: Config) -> Self {
        Self {
            generation,
            config,
            now: 0,
            workers: BTreeMap::new(),
            waiting: Vec::new(),
            pass: None,
            audit_policy: AuditPolicy::None,
            max_micro_batches: u32::MAX,
            cost: 1.0,
            last: None,
            quarantined: BTreeSet::new(),
            unconfirmed: None,
            paces: BTreeMap::new(),
            budgets: FaultBudgets::new(config.budget),
            blaming: BTreeMap::new(),
            counters: Counters::default(),
            outputs: Vec::new(),
        }
    }

    /// Takes note of `input` at `now`, does everything that is due by then, and says what follows. A
    /// clock that jumps back counts as one that stands still.
    pub fn handle(&mut self, now: Millis, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Joined { worker, peer } => self.admit(worker, peer),
            Input::Left { worker } => self.dismiss(worker),
            Input::Heartbeat { worker } => self.renew(worker),
            Input::Eligibility { worker, eligible } => self.set_eligible(worker, eligible),
            Input::ClassDecided => self.discount_the_gone(),
            Input::LeaseWanted {
                worker,
                until,
                holds,
            } => self.queue(worker, until, &holds),
            Input::PassOpened {
                pass,
                micro_batches,
                max_micro_batches,
                cost,
                audit_policy,
            } => {
                self.close();
                self.max_micro_batches = max_micro_batches.max(1);
                self.cost = cost.max(f64::MIN_POSITIVE);
                self.audit_policy = audit_policy;
                self.open(pass, micro_batches);
            }
            Input::PassClosed => self.close(),
            Input::Contributed {
                worker,
                key,
                digest,
            } => self.assess(worker, key, digest),
            Input::GivenBack { worker, key, fatal } => self.give_back(worker, key, fatal),
            Input::Undelivered { worker, key } => {
                self.take_back(worker, &key);
            }
            Input::Rejected { worker, key } => self.reject(worker, &key),
            Input::Overflowed { worker, key } => self.split(worker, key),
            Input::Interrupted => self.counters.interrupted += 1,
            Input::Tick => {}
        }
        self.expire();
        self.serve();
        self.give_up_verifications();
        self.complete();
        std::mem::take(&mut self.outputs)
    }

    /// When something is due next, if nothing happens before. Always later than the last `now`.
    pub fn next_deadline(&self) -> Option<Millis> {
        let silence = self.workers.values().map(|worker| self.lost_at(worker));
        let patience = self.waiting.iter().map(|waiting| waiting.until);
        let leases = self.pass.iter().flat_map(LeasedPass::expiries);
        silence
            .chain(patience)
            .chain(leases)
            .chain(self.rests())
            .chain(self.straggler().map(|(overdue, _)| overdue))
            .chain(self.verification_deadline())
            .min()
    }

    /// The latest time that the lease scheduler was told.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The number of this life of the coordinator, which the keys of its leases carry.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What has happened since this life began.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The pass that was opened last, complete or not.
    pub fn pass(&self) -> Option<&PassId> {
        self.pass.as_ref().map(|pass| &pass.id)
    }

    /// Micro-batches of the pass that are in no accepted contribution.
    pub fn missing(&self) -> u32 {
        self.pass.as_ref().map_or(0, LeasedPass::missing)
    }

    /// Entries that the pass keeps: free nodes, leases, attempts and answers. Bounded by twice its
    /// micro-batches and the number of leases that were granted.
    pub fn pass_entries(&self) -> usize {
        self.pass.as_ref().map_or(0, LeasedPass::entries)
    }

    /// Whether `key` is a lease of the open pass that `worker` was granted, be it over or not, and its
    /// answers count.
    pub fn expects(&self, worker: WorkerId, key: &Key) -> bool {
        !self.quarantined.contains(&worker)
            && self.pass.as_ref().is_some_and(|pass| {
                pass.names(self.generation, key) && pass.was_granted(worker, key.node, key.attempt)
            })
    }

    /// For how many milliseconds workers of a peer are turned away, if they are.
    pub fn turned_away(&self, now: Millis, peer: &Peer) -> Option<Millis> {
        self.budgets.turned_away(self.now.max(now), peer)
    }

    /// Whether everything is in but second answers, without which nothing counts and which nobody gives.
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// Whether the worker is here: admitted, and neither gone, lost nor in quarantine.
    pub fn knows(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The workers that are here, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.workers.iter().map(|(&worker, state)| WorkerView {
            worker,
            doing: state.held.first().map(|held| held.key.clone()),
            contributions: state.contributions,
            last_heard: state.last_heard,
        })
    }
}

/// Workers come and go.
impl LeaseScheduler {
    fn admit(&mut self, id: WorkerId, peer: Peer) {
        let now = self.now;
        let rest = self.budgets.rest_at_join(now, &peer);
        self.counters.joins += 1;
        self.workers.entry(id).or_insert_with(|| Worker {
            last_heard: now,
            contributions: 0,
            held: Vec::new(),
            idle: now,
            asked: false,
            eligible: true,
            peer,
            rests_until: now.saturating_add(rest),
            speeds: BTreeMap::new(),
        });
    }

    fn dismiss(&mut self, worker: WorkerId) {
        if self.forget(worker) {
            self.counters.leaves += 1;
        }
    }

    /// Whether the worker was here.
    fn forget(&mut self, worker: WorkerId) -> bool {
        self.waiting.retain(|waiting| waiting.worker != worker);
        if let Some(pass) = &mut self.pass {
            pass.free_leases_of(worker, &[]);
        }
        self.workers.remove(&worker).is_some()
    }

    fn renew(&mut self, worker: WorkerId) {
        match self.workers.get_mut(&worker) {
            Some(state) => state.last_heard = self.now,
            None => self.outputs.push(Output::Unknown { worker }),
        }
    }

    /// Its leases are free when it does not fit any more, and answers to them do not count.
    fn set_eligible(&mut self, worker: WorkerId, eligible: bool) {
        let Some(state) = self.workers.get_mut(&worker) else {
            return;
        };
        state.eligible = eligible;
        if eligible {
            return;
        }
        state.held.clear();
        state.idle = self.now;
        if let Some(pass) = &mut self.pass {
            pass.free_leases_of(worker, &[]);
            pass.void(|one| one == worker);
        }
    }

    fn discount_the_gone(&mut self) {
        let workers = &self.workers;
        if let Some(pass) = &mut self.pass {
            pass.void(|worker| !workers.contains_key(&worker));
        }
    }

    fn lost_at(&self, worker: &Worker) -> Millis {
        worker
            .last_heard
            .saturating_add(self.config.heartbeat_timeout)
    }

    /// Workers that are silent and leases that have run out.
    fn expire(&mut self) {
        let now = self.now;
        let silent = self.workers.iter();
        let silent: Vec<WorkerId> = silent
            .filter(|(_, state)| self.lost_at(state) <= now)
            .map(|(&worker, _)| worker)
            .collect();
        for worker in silent {
            self.forget(worker);
            self.counters.lost += 1;
            self.outputs.push(Output::WorkerLost { worker });
        }
        let Some(pass) = &mut self.pass else { return };
        for (node, attempt, worker) in pass.expire(now) {
            let key = pass.key(self.generation, node, attempt);
            self.counters.expired += 1;
            self.outputs.push(Output::LeaseExpired { worker, key });
        }
    }
}
