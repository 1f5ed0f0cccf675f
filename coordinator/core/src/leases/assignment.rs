//! Who gets which node: such that all workers finish together, as far as their speeds are known, and
//! nobody waits for a straggler, whose node an idle worker gets as well (speculative re-execution). Times and shares are [`super::pace`]'s, nodes
//! [`super::pass`]'s.

use std::collections::BTreeSet;

use proto::{
    contribution::{Key, PassKind},
    tree::Node,
};

use super::{
    HeldLease, LeaseScheduler, Millis, Output, PassId, WaitingWorker, Worker, WorkerId,
    pace::{self, ClusterPace, WorkerPace},
    pass::LeasedPass,
};

/// Leases that a worker may have at once: one that it computes or hands in, and the next.
const MAX_HELD_LEASES: usize = 2;

impl LeaseScheduler {
    pub(super) fn close(&mut self) {
        self.last = self.pass.take().or(self.last.take());
    }

    pub(super) fn open(&mut self, id: PassId, micro_batches: u32) {
        let before = self.last.as_ref().map(|pass| &pass.id);
        if before.is_none_or(|before| before.job != id.job) {
            // Another job's micro-batches take another time.
            self.paces.clear();
            for worker in self.workers.values_mut() {
                worker.speeds.clear();
            }
        }
        self.blaming.clear();
        self.pass = Some(LeasedPass::new(id, micro_batches));
    }

    pub(super) fn queue(&mut self, worker: WorkerId, until: Millis, holds: &[Key]) {
        self.waiting.retain(|waiting| waiting.worker != worker);
        self.renew(worker);
        if let Some(state) = self.workers.get_mut(&worker) {
            state.held.retain(|held| holds.contains(&held.key));
            state.asked = true;
            self.waiting.push(WaitingWorker { worker, until });
            if let Some(pass) = &mut self.pass {
                let named = holds.iter();
                let named = named.filter(|key| pass.names(self.generation, key));
                let places: Vec<_> = named.map(|key| (key.node, key.attempt)).collect();
                let passed_over = pass.free_leases_of(worker, &places);
                self.counters.given_back += passed_over;
                for _ in 0..passed_over {
                    self.charge_return(worker);
                }
            }
        }
    }

    /// Gives work to those who wait, in the order in which they asked, and lets those go whose
    /// patience has ended. Who still has work gets free nodes only: what others have as well is for
    /// those who can begin it at once.
    pub(super) fn serve(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let worker = waiting.worker;
            let node = match self.holds(worker) {
                _ if !self.is_eligible(worker) => None,
                0 => self
                    .disputed_node(worker)
                    .or_else(|| self.free_node(worker))
                    .or_else(|| self.unverified_node(worker))
                    .or_else(|| self.straggler_node(worker)),
                held if held < MAX_HELD_LEASES => self.free_node(worker),
                _ => None,
            };
            if let Some(node) = node {
                self.grant(worker, node);
            } else if waiting.until <= self.now {
                self.outputs.push(Output::NothingYet { worker });
                if let Some(state) = self.workers.get_mut(&worker) {
                    state.asked = false;
                    if state.held.is_empty() {
                        state.idle = self.now;
                    }
                }
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    fn is_eligible(&self, worker: WorkerId) -> bool {
        let state = self.workers.get(&worker);
        state.is_some_and(|state| self.may_work(state))
    }

    /// Leases that `worker` works on, the next one included.
    fn holds(&self, worker: WorkerId) -> usize {
        self.workers
            .get(&worker)
            .map_or(0, |state| state.held.len())
    }

    /// A node whose verification `worker` could bring further: a dispute, which may make work done so far
    /// worthless.
    fn disputed_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref().filter(|pass| pass.has_disputes())?;
        pass.next_to_verify(worker, &self.present())
    }

    fn unverified_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref().filter(|pass| pass.has_verifications())?;
        pass.next_to_verify(worker, &self.present())
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
        let others = self.workers.iter();
        let others = others.filter(|&(&id, state)| id != worker && self.may_work(state));
        let others = others.map(|(_, state)| (self.milliseconds(state, kind), self.busy(state)));
        let state = self.workers.get(&worker)?;
        let own = (self.milliseconds(state, kind), self.busy(state));
        let share = pace::share(free, own, others.collect());
        self.pass
            .as_ref()?
            .largest(share.min(self.max_micro_batches))
    }

    /// Milliseconds until `worker` will have done what it has.
    fn busy(&self, worker: &Worker) -> f64 {
        let Some(first) = worker.held.first() else {
            let idle = self.now.saturating_sub(worker.idle);
            return match worker.asked {
                true => 0.0,
                // It should ask at once; the longer it does not, the less it is counted on.
                false => pace::remaining(0.0, idle),
            };
        };
        let expected = worker
            .held
            .iter()
            .map(|held| match self.pace(worker, held.key.kind) {
                Some(pace) => pace * held.cost,
                None => pace::UNMEASURED_MS * f64::from(held.size),
            });
        pace::remaining(expected.sum(), self.now.saturating_sub(first.begun))
    }

    /// The workers that may take part in a verification; empty while there is none.
    fn possible_verifiers(&self) -> BTreeSet<WorkerId> {
        match self
            .pass
            .as_ref()
            .is_some_and(LeasedPass::has_verifications)
        {
            true => self.present(),
            false => BTreeSet::new(),
        }
    }

    /// A straggler's node: somebody else should have answered it by now, or `worker` would answer it sooner.
    fn straggler_node(&self, worker: WorkerId) -> Option<Node> {
        let pass = self.pass.as_ref()?;
        let present = self.possible_verifiers();
        let overdue = pass.lone_leases().filter(|&(node, holder, begins)| {
            holder != worker
                && (self.overdue_at(holder, node, begins) <= self.now
                    || self.is_quicker(worker, holder, node, begins))
                && pass.needs(node, worker, &present)
        });
        let oldest = overdue.min_by_key(|&(node, _, begins)| (begins, node));
        oldest.map(|(node, ..)| node)
    }

    /// Whether `worker`, which has nothing else to do, would answer `node` before `holder` does, by a
    /// margin: of a slow worker's last node the others need not wait for the end.
    fn is_quicker(&self, worker: WorkerId, holder: WorkerId, node: Node, begins: Millis) -> bool {
        let Some(pass) = &self.pass else { return false };
        let took = |worker| {
            let speeds = &self.workers.get(&worker)?.speeds;
            let each = speeds.get(&pass.id.kind)?.milliseconds()?;
            Some(each * self.cost * f64::from(pass.size(node)))
        };
        let elapsed = self.now.saturating_sub(begins) as f64;
        match (took(worker), took(holder)) {
            (Some(own), Some(its)) => own * pace::SPEEDUP_MARGIN < its - elapsed,
            _ => false,
        }
    }

    /// When and which node becomes due to be given to one of those who wait.
    pub(super) fn straggler(&self) -> Option<(Millis, Node)> {
        let pass = self.pass.as_ref()?;
        let present = self.possible_verifiers();
        let helps = |node, worker| pass.needs(node, worker, &present);
        pass.lone_leases()
            .filter(|&(node, holder, _)| {
                self.waiting
                    .iter()
                    .filter(|it| it.worker != holder && self.holds(it.worker) == 0)
                    .filter(|it| self.is_eligible(it.worker))
                    .any(|it| helps(node, it.worker))
            })
            .map(|(node, holder, begins)| (self.overdue_at(holder, node, begins), node))
            .min()
    }

    fn overdue_at(&self, holder: WorkerId, node: Node, begins: Millis) -> Millis {
        let after = match self.expected(holder, node) {
            Some(expected) => (expected * self.config.straggler_multiple) as Millis,
            None => self.config.first_lease,
        };
        begins.saturating_add(after.max(self.config.straggler_floor))
    }

    fn grant(&mut self, worker: WorkerId, node: Node) {
        let first = |speed: Option<&WorkerPace>| speed.is_none_or(|speed| speed.samples() == 0);
        let expected = self.expected(worker, node);
        let busy = match self.holds(worker) {
            0 => 0.0,
            _ => self
                .workers
                .get(&worker)
                .map_or(0.0, |state| self.busy(state)),
        };
        let (Some(pass), Some(state)) = (&mut self.pass, self.workers.get_mut(&worker)) else {
            unreachable!("work is given to workers that are here, from the open pass");
        };
        let config = &self.config;
        let time = match expected {
            Some(expected) if !first(state.speeds.get(&pass.id.kind)) => {
                let time = ((busy + expected) * config.lease_multiple) as Millis;
                time.clamp(config.lease_floor, config.lease_ceiling)
            }
            _ => config.first_lease,
        };
        let expires = self.now.saturating_add(time.max(1));
        let begins = self.now.saturating_add(busy as Millis);
        let granted = pass.lease(node, worker, begins, expires);
        let key = pass.key(self.generation, node, granted.attempt);
        self.counters.granted += 1;
        self.counters.retries += u64::from(granted.retry);
        self.counters.recomputed += u64::from(granted.copy);
        state.asked = false;
        state.held.push(HeldLease {
            key: key.clone(),
            size: pass.size(node),
            cost: self.cost * f64::from(pass.size(node)),
            begun: self.now,
        });
        self.outputs.push(Output::Granted {
            worker,
            key,
            expires,
        });
    }

    /// Frees a lease; whether there was such a lease.
    pub(super) fn take_back(&mut self, worker: WorkerId, key: &Key) -> bool {
        self.finish(worker, key);
        let Some(pass) = &mut self.pass else {
            return false;
        };
        let freed =
            pass.names(self.generation, key) && pass.give_back(worker, key.node, key.attempt);
        self.counters.given_back += u64::from(freed);
        freed
    }

    /// Milliseconds that a micro-batch of the pass takes `worker`.
    fn milliseconds(&self, worker: &Worker, kind: PassKind) -> f64 {
        let pace = self.pace(worker, kind);
        pace.map_or(pace::UNMEASURED_MS, |pace| pace * self.cost)
    }

    /// Milliseconds a unit of cost: the worker's own measure, or the cluster's.
    fn pace(&self, worker: &Worker, kind: PassKind) -> Option<f64> {
        let own = worker.speeds.get(&kind).and_then(WorkerPace::milliseconds);
        own.or_else(|| self.paces.get(&kind).and_then(ClusterPace::median))
    }

    /// Milliseconds that `node` should take `worker`, by the slower of its own pace and the
    /// cluster's; `None` before anything was measured.
    fn expected(&self, worker: WorkerId, node: Node) -> Option<f64> {
        let pass = self.pass.as_ref()?;
        let kind = pass.id.kind;
        let speeds = self.workers.get(&worker).map(|state| &state.speeds);
        let own = speeds.and_then(|speeds| speeds.get(&kind)?.milliseconds());
        let cluster = self.paces.get(&kind)?.median()?;
        let pace = own.map_or(cluster, |own| own.max(cluster));
        Some(pace * self.cost * f64::from(pass.size(node)))
    }
}
