//! The state machine of one coordinator life: who is here, who computes which node of the pass's
//! reduction tree, and what an answer is worth. It decides and never waits: equal inputs in equal
//! order give equal outputs. It refuses to know clocks, sockets, threads and tensors; time is an
//! argument, and a contribution is a [`Key`] and a digest.
//!
//! A driver owns it. It passes on what happens, carries out what [`Machine::handle`] returns, and
//! calls again with [`Input::Tick`] at [`Machine::next_deadline`] at the latest. What the driver owes:
//! - worker ids are given out once in a life, and leftovers of other generations are refused before
//!   they get here (a [`Key`] carries its generation and is checked here as well);
//! - [`Input::Contributed`] is said of whole, verified contributions, and what is answered
//!   `Accepted`, and nothing else, goes into the reducer;
//! - a grant that cannot be delivered is given back.

mod check;
mod judge;
mod pace;
mod pass;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    contribution::{Key, PassKind},
    tree::Node,
};

use pace::{Pace, Speed};
use pass::Pass;
pub use terms::{
    Config, Counters, Input, Millis, Outcome, Output, PassId, Scrutiny, WorkerId, WorkerView,
};

#[derive(Debug)]
struct Worker {
    heard: Millis,
    contributions: u64,
    current: Option<Current>,
    /// Since when it has nothing to do, when it has nothing.
    idle: Millis,
    /// It waits for work.
    asked: bool,
    speeds: BTreeMap<PassKind, Speed>,
}

/// What a worker was last given. It outlives the lease: who computes something that is not needed
/// any more is busy all the same.
#[derive(Debug)]
struct Current {
    key: Key,
    /// In micro-batches.
    size: u32,
    granted: Millis,
}

#[derive(Debug)]
struct Waiting {
    worker: WorkerId,
    until: Millis,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Machine {
    generation: u64,
    config: Config,
    now: Millis,
    workers: BTreeMap<WorkerId, Worker>,
    /// In the order in which they asked.
    waiting: Vec<Waiting>,
    pass: Option<Pass>,
    scrutiny: Scrutiny,
    /// The pass before, for answers that come late.
    last: Option<Pass>,
    /// Workers in quarantine.
    barred: BTreeSet<WorkerId>,
    /// Of the running job, by kind of pass.
    paces: BTreeMap<PassKind, Pace>,
    counters: Counters,
    outputs: Vec<Output>,
}

impl Machine {
    /// A coordinator's life begins; `generation` is greater than that of every life before.
    pub fn new(generation: u64, config: Config) -> Self {
        Self {
            generation,
            config,
            now: 0,
            workers: BTreeMap::new(),
            waiting: Vec::new(),
            pass: None,
            scrutiny: Scrutiny::None,
            last: None,
            barred: BTreeSet::new(),
            paces: BTreeMap::new(),
            counters: Counters::default(),
            outputs: Vec::new(),
        }
    }

    /// Takes note of `input` at `now`, does everything that is due by then, and says what follows. A
    /// clock that jumps back counts as one that stands still.
    pub fn handle(&mut self, now: Millis, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Joined { worker } => self.admit(worker),
            Input::Left { worker } => self.dismiss(worker),
            Input::Heard { worker } => self.renew(worker),
            Input::LeaseWanted { worker, until } => self.queue(worker, until),
            Input::PassOpened {
                pass,
                micro_batches,
                scrutiny,
            } => {
                self.close();
                self.scrutiny = scrutiny;
                self.open(pass, micro_batches);
            }
            Input::PassClosed => self.close(),
            Input::Contributed {
                worker,
                key,
                digest,
            } => self.judge(worker, key, digest),
            Input::GivenBack { worker, key } => self.take_back(worker, &key),
            Input::Interrupted => self.counters.interrupted += 1,
            Input::Tick => {}
        }
        self.expire();
        self.serve();
        self.give_checks_up();
        self.complete();
        std::mem::take(&mut self.outputs)
    }

    /// When something is due next, if nothing happens before. Always later than the last `now`.
    pub fn next_deadline(&self) -> Option<Millis> {
        let silence = self.workers.values().map(|worker| self.lost_at(worker));
        let patience = self.waiting.iter().map(|waiting| waiting.until);
        let leases = self.pass.iter().flat_map(Pass::expiries);
        silence
            .chain(patience)
            .chain(leases)
            .chain(self.straggler().map(|(overdue, _)| overdue))
            .chain(self.checks_end())
            .min()
    }

    /// The latest time that the machine was told.
    pub fn now(&self) -> Millis {
        self.now
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The pass that was opened last, complete or not.
    pub fn pass(&self) -> Option<&PassId> {
        self.pass.as_ref().map(|pass| &pass.id)
    }

    /// Micro-batches of the pass that are in no accepted contribution.
    pub fn missing(&self) -> u32 {
        self.pass.as_ref().map_or(0, Pass::missing)
    }

    /// Entries that the pass keeps: free nodes, leases, attempts and answers. Bounded by twice its
    /// micro-batches and the number of leases that were granted.
    pub fn pass_entries(&self) -> usize {
        self.pass.as_ref().map_or(0, Pass::entries)
    }

    /// Whether `key` is a lease of the open pass that `worker` was granted, be it over or not, and its
    /// answers count.
    pub fn expects(&self, worker: WorkerId, key: &Key) -> bool {
        !self.barred.contains(&worker)
            && self.pass.as_ref().is_some_and(|pass| {
                pass.names(self.generation, key)
                    && pass.granted_at(worker, key.node, key.attempt).is_some()
            })
    }

    pub fn knows(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The workers that are here, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.workers.iter().map(|(&worker, state)| WorkerView {
            worker,
            doing: state.current.as_ref().map(|current| current.key.clone()),
            contributions: state.contributions,
            last_heard: state.heard,
        })
    }
}

/// Workers come and go.
impl Machine {
    fn admit(&mut self, id: WorkerId) {
        let heard = self.now;
        self.counters.joins += 1;
        self.workers.entry(id).or_insert_with(|| Worker {
            heard,
            contributions: 0,
            current: None,
            idle: heard,
            asked: false,
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
            pass.free_leases_of(worker);
        }
        self.workers.remove(&worker).is_some()
    }

    fn renew(&mut self, worker: WorkerId) {
        match self.workers.get_mut(&worker) {
            Some(state) => state.heard = self.now,
            None => self.outputs.push(Output::Unknown { worker }),
        }
    }

    fn lost_at(&self, worker: &Worker) -> Millis {
        worker.heard.saturating_add(self.config.heartbeat_timeout)
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

/// Work is given out.
impl Machine {
    fn close(&mut self) {
        self.last = self.pass.take().or(self.last.take());
    }

    fn open(&mut self, id: PassId, micro_batches: u32) {
        let before = self.last.as_ref().map(|pass| &pass.id);
        if before.is_none_or(|before| before.job != id.job) {
            // Another job's micro-batches take another time.
            self.paces.clear();
            for worker in self.workers.values_mut() {
                worker.speeds.clear();
            }
        }
        self.pass = Some(Pass::new(id, micro_batches));
    }

    fn queue(&mut self, worker: WorkerId, until: Millis) {
        self.waiting.retain(|waiting| waiting.worker != worker);
        self.renew(worker);
        if let Some(state) = self.workers.get_mut(&worker) {
            state.current = None;
            state.asked = true;
            self.waiting.push(Waiting { worker, until });
            if let Some(pass) = &mut self.pass {
                self.counters.given_back += pass.free_leases_of(worker);
            }
        }
    }

    /// Gives work to those who wait, in the order in which they asked, and lets those go whose
    /// patience has ended.
    fn serve(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let worker = waiting.worker;
            let node = self
                .disputed_node(worker)
                .or_else(|| self.free_node(worker))
                .or_else(|| self.questionable_node(worker))
                .or_else(|| self.overdue_node(worker));
            if let Some(node) = node {
                self.grant(worker, node);
            } else if waiting.until <= self.now {
                self.outputs.push(Output::NothingYet { worker });
                if let Some(state) = self.workers.get_mut(&worker) {
                    state.asked = false;
                    state.idle = self.now;
                }
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    /// A node whose check `worker` could bring further: a dispute, which may make work done so far
    /// worthless.
    fn disputed_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref().filter(|pass| pass.has_disputes())?;
        pass.questionable(worker, &self.present())
    }

    fn questionable_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref().filter(|pass| pass.has_checks())?;
        pass.questionable(worker, &self.present())
    }

    /// The free node that `worker` should take: such that all workers finish together, as far as
    /// their speeds are known; none, if that is better left to the others.
    fn free_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref()?;
        let free = pass.free();
        if free == 0 {
            return None;
        }
        let kind = pass.id.kind;
        let others = self.workers.iter().filter(|&(&id, _)| id != worker);
        let others = others.map(|(_, state)| (self.milliseconds(state, kind), self.busy(state)));
        let own = self.milliseconds(self.workers.get(&worker)?, kind);
        let share = pace::share(free, own, others.collect());
        self.pass.as_ref()?.largest(share)
    }

    /// Milliseconds until `worker` will ask for work.
    fn busy(&self, worker: &Worker) -> f64 {
        match &worker.current {
            Some(current) => {
                let each = self.milliseconds(worker, current.key.kind);
                let elapsed = self.now.saturating_sub(current.granted);
                pace::remaining(each * f64::from(current.size), elapsed)
            }
            None if worker.asked => 0.0,
            // It should ask at once; the longer it does not, the less it is counted on.
            None => pace::remaining(0.0, self.now.saturating_sub(worker.idle)),
        }
    }

    /// Who may be wanted for a check; nobody is looked for while there is none.
    fn checkers(&self) -> BTreeSet<WorkerId> {
        match self.pass.as_ref().is_some_and(Pass::has_checks) {
            true => self.present(),
            false => BTreeSet::new(),
        }
    }

    /// A node that somebody else should have answered by now, or that `worker` will sooner.
    fn overdue_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref()?;
        let present = self.checkers();
        let overdue = pass.lone_leases().filter(|&(node, holder, granted)| {
            holder != worker
                && (self.overdue_at(holder, node, granted) <= self.now
                    || self.is_quicker(worker, holder, node, granted))
                && pass.needs(node, worker, &present)
        });
        let oldest = overdue.min_by_key(|&(node, _, granted)| (granted, node));
        oldest.map(|(node, ..)| node)
    }

    /// Whether `worker`, which has nothing else to do, would answer `node` before `holder` does, by a
    /// margin: of a slow worker's last node the others need not wait for the end.
    fn is_quicker(&self, worker: WorkerId, holder: WorkerId, node: Node, granted: Millis) -> bool {
        let Some(pass) = &self.pass else { return false };
        let took = |worker| {
            let speeds = &self.workers.get(&worker)?.speeds;
            let each = speeds.get(&pass.id.kind)?.milliseconds()?;
            Some(each * f64::from(pass.size(node)))
        };
        let elapsed = self.now.saturating_sub(granted) as f64;
        match (took(worker), took(holder)) {
            (Some(own), Some(its)) => own * pace::MARGIN < its - elapsed,
            _ => false,
        }
    }

    /// When and which node becomes due to be given to one of those who wait.
    fn straggler(&self) -> Option<(Millis, Node)> {
        let pass = self.pass.as_ref()?;
        let present = self.checkers();
        let helps = |node, worker| pass.needs(node, worker, &present);
        pass.lone_leases()
            .filter(|&(node, holder, _)| {
                self.waiting
                    .iter()
                    .any(|it| it.worker != holder && helps(node, it.worker))
            })
            .map(|(node, holder, granted)| (self.overdue_at(holder, node, granted), node))
            .min()
    }

    fn overdue_at(&self, holder: WorkerId, node: Node, granted: Millis) -> Millis {
        let after = match self.expected(holder, node) {
            Some(expected) => (expected * self.config.straggler_multiple) as Millis,
            None => self.config.first_lease,
        };
        granted.saturating_add(after.max(self.config.straggler_floor))
    }

    fn grant(&mut self, worker: WorkerId, node: Node) {
        let first = |speed: Option<&Speed>| speed.is_none_or(|speed| speed.samples() == 0);
        let expected = self.expected(worker, node);
        let (Some(pass), Some(state)) = (&mut self.pass, self.workers.get_mut(&worker)) else {
            unreachable!("work is given to workers that are here, from the open pass");
        };
        let config = &self.config;
        let time = match expected {
            Some(expected) if !first(state.speeds.get(&pass.id.kind)) => {
                let time = (expected * config.lease_multiple) as Millis;
                time.clamp(config.lease_floor, config.lease_ceiling)
            }
            _ => config.first_lease,
        };
        let expires = self.now.saturating_add(time.max(1));
        let granted = pass.lease(node, worker, self.now, expires);
        let key = pass.key(self.generation, node, granted.attempt);
        self.counters.granted += 1;
        self.counters.retries += u64::from(granted.retry);
        self.counters.recomputed += u64::from(granted.copy);
        state.asked = false;
        state.current = Some(Current {
            key: key.clone(),
            size: pass.size(node),
            granted: self.now,
        });
        self.outputs.push(Output::Granted {
            worker,
            key,
            expires,
        });
    }

    fn take_back(&mut self, worker: WorkerId, key: &Key) {
        self.finish(worker, key);
        let Some(pass) = &mut self.pass else { return };
        if pass.names(self.generation, key) && pass.give_back(worker, key.node, key.attempt) {
            self.counters.given_back += 1;
        }
    }

    /// Milliseconds that a micro-batch takes `worker`: its own measure, or the cluster's.
    fn milliseconds(&self, worker: &Worker, kind: PassKind) -> f64 {
        let own = worker.speeds.get(&kind).and_then(Speed::milliseconds);
        own.or_else(|| self.paces.get(&kind).and_then(Pace::median))
            .unwrap_or(pace::UNKNOWN)
    }

    /// Milliseconds that `node` should take `worker`, by the slower of its own pace and the
    /// cluster's; `None` before anything was measured.
    fn expected(&self, worker: WorkerId, node: Node) -> Option<f64> {
        let pass = self.pass.as_ref()?;
        let kind = pass.id.kind;
        let speeds = self.workers.get(&worker).map(|state| &state.speeds);
        let own = speeds.and_then(|speeds| speeds.get(&kind)?.milliseconds());
        let cluster = self.paces.get(&kind)?.median()?;
        Some(own.map_or(cluster, |own| own.max(cluster)) * f64::from(pass.size(node)))
    }
}
