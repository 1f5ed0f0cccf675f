//! Who gets which node: such that all workers finish together, as far as their speeds are known, and
//! nobody waits for one that is late or slow. Times and shares are [`super::pace`]'s, nodes
//! [`super::pass`]'s.

use std::collections::BTreeSet;

use proto::{
    contribution::{Key, PassKind},
    tree::Node,
};

use super::{
    Current, Machine, Millis, Output, PassId, Waiting, Worker, WorkerId,
    pace::{self, Pace, Speed},
    pass::Pass,
};

impl Machine {
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
        self.pass = Some(Pass::new(id, micro_batches));
    }

    pub(super) fn queue(&mut self, worker: WorkerId, until: Millis) {
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
    pub(super) fn serve(&mut self) {
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
                let expected = match self.pace(worker, current.key.kind) {
                    Some(pace) => pace * current.cost,
                    None => pace::UNKNOWN * f64::from(current.size),
                };
                pace::remaining(expected, self.now.saturating_sub(current.granted))
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
            Some(each * self.cost * f64::from(pass.size(node)))
        };
        let elapsed = self.now.saturating_sub(granted) as f64;
        match (took(worker), took(holder)) {
            (Some(own), Some(its)) => own * pace::MARGIN < its - elapsed,
            _ => false,
        }
    }

    /// When and which node becomes due to be given to one of those who wait.
    pub(super) fn straggler(&self) -> Option<(Millis, Node)> {
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
            cost: self.cost * f64::from(pass.size(node)),
            granted: self.now,
        });
        self.outputs.push(Output::Granted {
            worker,
            key,
            expires,
        });
    }

    pub(super) fn take_back(&mut self, worker: WorkerId, key: &Key) {
        self.finish(worker, key);
        let Some(pass) = &mut self.pass else { return };
        if pass.names(self.generation, key) && pass.give_back(worker, key.node, key.attempt) {
            self.counters.given_back += 1;
        }
    }

    /// Milliseconds that a micro-batch of the pass takes `worker`.
    fn milliseconds(&self, worker: &Worker, kind: PassKind) -> f64 {
        let pace = self.pace(worker, kind);
        pace.map_or(pace::UNKNOWN, |pace| pace * self.cost)
    }

    /// Milliseconds a unit of cost: the worker's own measure, or the cluster's.
    fn pace(&self, worker: &Worker, kind: PassKind) -> Option<f64> {
        let own = worker.speeds.get(&kind).and_then(Speed::milliseconds);
        own.or_else(|| self.paces.get(&kind).and_then(Pace::median))
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
