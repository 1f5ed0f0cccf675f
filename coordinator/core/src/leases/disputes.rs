//! What an answer is worth, and what follows when two of them differ. It decides who goes into
//! quarantine and when a pass begins again; who is right is [`super::vote`]'s to say.

use std::collections::BTreeSet;

use proto::{
    contribution::{Digest, Key},
    tree::Node,
};
use speech::random::Stream;

use super::{
    AuditPolicy, ContributionOutcome, HeldLease, LeaseScheduler, Millis, Output, WorkerId,
    pass::{Assessment, LeasedPass},
    vote::{Answer, Verdict},
};

/// Answers.
impl LeaseScheduler {
    pub(super) fn assess(&mut self, worker: WorkerId, key: Key, digest: Digest) {
        if let Some(finished) = self.finish(worker, &key) {
            self.measure(worker, &finished);
        }
        let answer = Answer {
            worker,
            attempt: key.attempt,
            digest,
        };
        let outcome = match &mut self.pass {
            _ if self.quarantined.contains(&worker) => self.discard(Discarded::Foreign),
            Some(pass) if pass.names(self.generation, &key) => {
                let compare = self.audit_policy != AuditPolicy::None;
                let answer = pass.answer(key.node, answer, compare, self.now);
                self.record_assessment(&key, worker, answer)
            }
            _ => self.assess_late(&key, answer),
        };
        let node = key.node;
        self.outputs.push(Output::Receipt {
            worker,
            key,
            outcome,
        });
        if outcome != ContributionOutcome::Stale {
            self.conclude(node);
        }
    }

    fn record_assessment(
        &mut self,
        key: &Key,
        worker: WorkerId,
        answer: Assessment,
    ) -> ContributionOutcome {
        match answer {
            Assessment::Accepted => {
                self.counters.accepted += 1;
                if let Some(state) = self.workers.get_mut(&worker) {
                    state.contributions += 1;
                }
                self.credit(worker);
                if self.audits(key)
                    && let Some(pass) = &mut self.pass
                {
                    pass.request_verification(key.node, self.now);
                }
                ContributionOutcome::Accepted
            }
            Assessment::Duplicate => {
                self.counters.duplicates += 1;
                ContributionOutcome::Duplicate
            }
            Assessment::Late => self.discard(Discarded::Late),
            Assessment::Foreign => self.discard(Discarded::Foreign),
            Assessment::Differs { first } => {
                self.differed(key, first, worker, false);
                ContributionOutcome::Differs
            }
        }
    }

    /// An answer to what is not open.
    fn assess_late(&mut self, key: &Key, answer: Answer) -> ContributionOutcome {
        if key.generation != self.generation {
            return self.discard(Discarded::Stale);
        }
        let passes = self.pass.iter().chain(&self.last);
        if !passes.clone().any(|pass| pass.id.job == key.job) {
            return self.discard(Discarded::Foreign);
        }
        let last = self.last.as_ref();
        if let Some(last) = last.filter(|last| last.names(self.generation, key)) {
            if !last.was_granted(answer.worker, key.node, key.attempt) {
                return self.discard(Discarded::Foreign);
            }
            let first = last.first_answer(key.node);
            if let Some(first) = first.filter(|first| first.digest != answer.digest) {
                self.differed(key, first.worker, answer.worker, true);
            }
        }
        self.discard(Discarded::Late)
    }

    fn differed(&mut self, key: &Key, first: WorkerId, second: WorkerId, late: bool) {
        self.counters.differed += 1;
        if self.audit_policy != AuditPolicy::None {
            self.outputs.push(Output::Differed {
                key: key.clone(),
                first,
                second,
                late,
            });
        }
    }

    fn discard(&mut self, why: Discarded) -> ContributionOutcome {
        let count = match why {
            Discarded::Late => &mut self.counters.late,
            Discarded::Stale => &mut self.counters.stale,
            Discarded::Foreign => &mut self.counters.foreign,
        };
        *count += 1;
        ContributionOutcome::Stale
    }

    /// The worker shows that it is alive and is done with `key`; gives what is known of it.
    pub(super) fn finish(&mut self, worker: WorkerId, key: &Key) -> Option<HeldLease> {
        let state = self.workers.get_mut(&worker)?;
        state.last_heard = self.now;
        let place = state.held.iter().position(|held| held.key == *key)?;
        let finished = state.held.remove(place);
        match state.held.first_mut() {
            Some(next) if place == 0 => next.begun = self.now,
            Some(_) => {}
            None => state.idle = self.now,
        }
        Some(finished)
    }

    /// Learns from an answer how long micro-batches take. An answer that comes too late to count, or
    /// to a pass that is over, teaches as well: a slow worker has no others.
    fn measure(&mut self, worker: WorkerId, finished: &HeldLease) {
        let HeldLease {
            key, cost, begun, ..
        } = finished;
        if self.pass().is_none_or(|pass| pass.job != key.job) {
            return;
        }
        let took = self.now.saturating_sub(*begun).max(1) as f64;
        let pace = took / cost;
        self.paces.entry(key.kind).or_default().record(pace);
        if let Some(state) = self.workers.get_mut(&worker) {
            state.speeds.entry(key.kind).or_default().record(pace);
        }
    }
}

/// Why an answer is of no use: see [`super::Counters`].
#[derive(Clone, Copy)]
enum Discarded {
    Late,
    Stale,
    Foreign,
}

/// Verification of answers, and quarantine.
impl LeaseScheduler {
    /// The workers that may compute for the running job.
    pub(super) fn present(&self) -> BTreeSet<WorkerId> {
        let fitting = self.workers.iter().filter(|(_, state)| state.eligible);
        fitting.map(|(&worker, _)| worker).collect()
    }

    /// Whether the answer to `key` is one of those that a second worker computes as well. Which ones
    /// are, reaches no number.
    fn audits(&self, key: &Key) -> bool {
        let AuditPolicy::Compare { audit } = self.audit_policy else {
            return false;
        };
        let (level, index) = (key.node.level().into(), key.node.index().into());
        let tags = [key.kind as u64, key.step, level, index];
        Stream::new(self.generation, &tags).uniform() < audit
    }

    /// Whether nothing counts that was not confirmed.
    fn requires_confirmation(&self) -> bool {
        matches!(self.audit_policy, AuditPolicy::Compare { audit } if audit >= 1.0)
    }

    /// Ends the verification of `node` if enough is known.
    fn conclude(&mut self, node: Node) {
        let Some(pass) = &mut self.pass else { return };
        match pass.conclude(node) {
            Verdict::Open => {}
            Verdict::Confirmed => self.counters.audited += 1,
            Verdict::Settled { right, odd } => {
                let spoiled = right.is_none() || right != pass.accepted(node);
                // What else they answered is not to be trusted either.
                let spoiled = spoiled || odd.iter().any(|&worker| pass.has_answers_of(worker));
                for worker in odd {
                    self.quarantine(worker, node);
                }
                if spoiled {
                    self.restart();
                }
            }
        }
    }

    fn quarantine(&mut self, worker: WorkerId, node: Node) {
        let Some(pass) = &self.pass else { return };
        let key = pass.key(self.generation, node, 0);
        if let Some(state) = self.workers.get(&worker) {
            self.budgets.fault(self.now, &state.peer);
        }
        self.forget(worker);
        if self.quarantined.insert(worker) {
            self.counters.quarantined_workers += 1;
            self.outputs.push(Output::Quarantined { worker, key });
        }
    }

    fn restart(&mut self) {
        let Some(pass) = &mut self.pass else { return };
        pass.restart();
        self.counters.restarted += 1;
        let pass = pass.id.clone();
        self.outputs.push(Output::PassRestarted { pass });
    }

    /// Ends verifications that nobody will bring further: an audit is left undone, a dispute ends the pass, and so
    /// does an audit that the job insists on.
    pub(super) fn give_up_verifications(&mut self) {
        self.watch_confirmation();
        let Some(pass) = self.pass.as_ref().filter(|pass| pass.has_verifications()) else {
            return;
        };
        let present = self.present();
        let mut undone = Vec::new();
        let mut unsettled = None;
        for (node, since, disputed) in pass.idle_verifications() {
            let end = self.give_up_at(pass, node, (since, disputed), &present);
            if end.is_none_or(|end| end > self.now) {
                continue;
            }
            if disputed {
                unsettled = unsettled.or(Some(node))
            } else {
                undone.push(node)
            }
        }
        if let Some(node) = unsettled {
            let key = pass.key(self.generation, node, 0);
            let workers = pass.answered_by(node).into_iter().collect();
            self.outputs.push(Output::Unsettled { key, workers });
            self.close();
            return;
        }
        let overdue = self
            .confirmation_deadline()
            .is_some_and(|end| end <= self.now);
        let unconfirmed = pass.idle_verifications().next().filter(|_| overdue);
        if let Some((node, ..)) = unconfirmed {
            let key = pass.key(self.generation, node, 0);
            self.outputs.push(Output::Unconfirmed { key });
            self.close();
            self.unconfirmed = None;
            return;
        }
        self.counters.unaudited += undone.len() as u64;
        if let Some(pass) = &mut self.pass {
            for node in undone {
                pass.end_verification(node);
            }
        }
    }

    /// When the verification of `node`, which nobody works on, is given up. `None`: not as things stand.
    ///
    /// A dispute waits longer where somebody who is here has not been asked: nodes may take minutes, and
    /// who has one asks when it is done. An audit may wait as long as other micro-batches are missing,
    /// because it holds nothing up.
    fn give_up_at(
        &self,
        pass: &LeasedPass,
        node: Node,
        (since, disputed): (Millis, bool),
        present: &BTreeSet<WorkerId>,
    ) -> Option<Millis> {
        let config = &self.config;
        match (disputed, pass.can_be_verified(node, present)) {
            (true, true) => Some(since.saturating_add(config.verification_ceiling)),
            (true, false) => Some(since.saturating_add(config.verification_patience)),
            (false, _) if self.requires_confirmation() => None,
            (false, false) => Some(self.now),
            (false, true) if pass.missing() > 0 => None,
            (false, true) => {
                let since = since.max(pass.last_progress());
                Some(since.saturating_add(config.verification_patience))
            }
        }
    }

    /// When verifications that nobody works on are given up.
    pub(super) fn verification_deadline(&self) -> Option<Millis> {
        let pass = self.pass.as_ref().filter(|pass| pass.has_verifications())?;
        let present = self.present();
        let ends = pass
            .idle_verifications()
            .filter_map(|(node, since, disputed)| {
                self.give_up_at(pass, node, (since, disputed), &present)
            });
        ends.chain(self.confirmation_deadline()).min()
    }

    /// Takes note of when a pass came to wait for nothing but second answers that the job insists on.
    fn watch_confirmation(&mut self) {
        let waits = self.requires_confirmation()
            && !self.present().is_empty()
            && self.pass.as_ref().is_some_and(|pass| {
                let idle = pass.missing() == 0 && !pass.has_leases();
                idle && pass.has_verifications() && !pass.has_disputes()
            });
        self.unconfirmed = if waits {
            self.unconfirmed.or(Some(self.now))
        } else {
            None
        };
    }

    fn confirmation_deadline(&self) -> Option<Millis> {
        let since = self.unconfirmed?;
        Some(since.saturating_add(self.config.verification_ceiling))
    }

    /// Says so, once, when the pass has come to its end.
    pub(super) fn complete(&mut self) {
        if let Some(pass) = &mut self.pass
            && pass.becomes_complete()
        {
            let pass = pass.id.clone();
            self.outputs.push(Output::PassComplete { pass });
        }
    }
}
