//! What follows when a worker does not do what it was leased: it returns the lease, or hands in what cannot be the
//! answer. It decides when a worker rests, when it is turned away and when the data is believed to be at fault; what is
//! forgiven is [`crate::fault_budget`]'s to say.

use std::collections::BTreeSet;

use proto::contribution::Key;

use super::{LeaseScheduler, Millis, Output, Worker, WorkerId};
use crate::fault_budget::Peer;

impl LeaseScheduler {
    /// A lease comes back undone.
    pub(super) fn give_back(&mut self, worker: WorkerId, key: Key, fatal: bool) {
        if !self.take_back(worker, &key) {
            return;
        }
        self.charge_return(worker);
        if fatal {
            self.blame(worker, key);
        }
    }

    /// Counts a return, after which the worker may have to rest.
    pub(super) fn charge_return(&mut self, worker: WorkerId) {
        let now = self.now;
        let Some(state) = self.workers.get_mut(&worker) else {
            return;
        };
        if let Some(rest) = self.budgets.returned(now, &state.peer) {
            state.rests_until = now.saturating_add(rest);
        }
    }

    /// An answer of the worker was accepted.
    pub(super) fn credit(&mut self, worker: WorkerId) {
        if let Some(state) = self.workers.get(&worker) {
            self.budgets.accepted(&state.peer);
        }
    }

    /// Whether a worker may be given work now: it fits the running job, and does not rest.
    pub(super) fn may_work(&self, state: &Worker) -> bool {
        state.eligible && state.rests_until <= self.now
    }

    /// When workers that wait have rested.
    pub(super) fn rests(&self) -> impl Iterator<Item = Millis> {
        let waiting = self.waiting.iter();
        let rests = waiting.filter_map(|one| Some(self.workers.get(&one.worker)?.rests_until));
        rests.filter(|&until| until > self.now)
    }

    /// One worker may be wrong about the data, or lie: it is believed when a second one says the same, of another peer
    /// if there is one, or when there is no second one.
    fn blame(&mut self, worker: WorkerId, key: Key) {
        let Some(state) = self.workers.get(&worker) else {
            return;
        };
        self.blaming.insert(worker, state.peer.clone());
        let peers: BTreeSet<&Peer> = self.blaming.values().collect();
        let others = self
            .workers
            .iter()
            .filter(|(other, state)| state.eligible && !self.blaming.contains_key(other));
        let others: Vec<&Peer> = others.map(|(_, state)| &state.peer).collect();
        let others_agree = others.iter().all(|other| peers.contains(other));
        let is_second = self.blaming.len() >= 2 || others.is_empty();
        if peers.len() >= 2 || (others_agree && is_second) {
            self.outputs.push(Output::DataAtFault { worker, key });
        }
    }

    /// What was handed in cannot be the answer to the lease.
    pub(super) fn reject(&mut self, worker: WorkerId, key: &Key) {
        self.take_back(worker, key);
        self.counters.rejected += 1;
        self.charge_fault(worker);
    }

    /// Counts a fault, after which the worker may be gone.
    pub(super) fn charge_fault(&mut self, worker: WorkerId) {
        let Some(state) = self.workers.get(&worker) else {
            return;
        };
        let peer = state.peer.clone();
        if let Some(lasts) = self.budgets.fault(self.now, &peer) {
            self.forget(worker);
            if let Some(pass) = &mut self.pass {
                pass.void(|one| one == worker);
            }
            self.counters.turned_away += 1;
            self.outputs.push(Output::TurnedAway { worker, lasts });
        }
    }

    /// The rest of the pass is leased one micro-batch at a time.
    pub(super) fn split(&mut self, worker: WorkerId, key: Key) {
        if self.take_back(worker, &key) {
            self.max_micro_batches = 1;
            self.charge_return(worker);
        }
    }
}
