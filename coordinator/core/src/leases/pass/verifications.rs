//! The verifications of a pass: nodes that more than one worker has to answer, and the pass that begins again when an
//! accepted answer turns out wrong.
//! It decides which node is to be answered once more; who should do it is the lease scheduler's to say.

use std::collections::BTreeSet;

use proto::{contribution::Digest, tree::Node};

use super::{
    super::vote::{Answer, Verdict},
    LeasedPass, Millis, Verification, WorkerId,
};

impl LeasedPass {
    /// Asks for a second answer to `node`, which is answered.
    pub(in crate::leases) fn request_verification(&mut self, node: Node, now: Millis) {
        if let Some(first) = self.done_at(node).map(|done| done.answer) {
            let check = || Verification::new(first, now);
            self.verifications.entry(node).or_insert_with(check);
        }
    }

    pub(in crate::leases) fn has_verifications(&self) -> bool {
        !self.verifications.is_empty()
    }

    /// When an answer came last that brought the pass further.
    pub(in crate::leases) const fn last_progress(&self) -> Millis {
        self.last_progress
    }

    pub(in crate::leases) fn has_disputes(&self) -> bool {
        self.verifications.values().any(Verification::is_disputed)
    }

    /// Whether everything is in and beyond doubt; true once.
    pub(in crate::leases) fn becomes_complete(&mut self) -> bool {
        let ends = self.missing == 0 && self.verifications.is_empty() && !self.announced;
        self.announced |= ends;
        ends
    }

    /// The node that `worker` should answer, so that a verification comes to its end: a dispute before an
    /// audit, the oldest first.
    pub(in crate::leases) fn next_to_verify(
        &self,
        worker: WorkerId,
        present: &BTreeSet<WorkerId>,
    ) -> Option<Node> {
        let wanted = self
            .verifications
            .iter()
            .filter(|&(&node, check)| check.could_use(worker, present) && !self.is_leased(node));
        let first = wanted.min_by_key(|(node, check)| (!check.is_disputed(), check.since, **node));
        first.map(|(node, _)| *node)
    }

    /// Whether an answer of `worker` to `node` would be of use: the first one, or one more in a vote.
    pub(in crate::leases) fn needs(
        &self,
        node: Node,
        worker: WorkerId,
        present: &BTreeSet<WorkerId>,
    ) -> bool {
        match self.verifications.get(&node) {
            Some(check) => check.could_use(worker, present),
            None => true,
        }
    }

    /// What is known of a check by now; one that has come to its end is removed.
    pub(in crate::leases) fn conclude(&mut self, node: Node) -> Verdict {
        let verdict = self
            .verifications
            .get(&node)
            .map_or(Verdict::Open, Verification::verdict);
        if verdict != Verdict::Open {
            self.end_verification(node);
        }
        verdict
    }

    /// Checks that nobody works on: node, since when, whether it is a dispute.
    pub(in crate::leases) fn idle_verifications(
        &self,
    ) -> impl Iterator<Item = (Node, Millis, bool)> {
        let idle = self
            .verifications
            .iter()
            .filter(|(node, _)| !self.is_leased(**node));
        idle.map(|(node, check)| (*node, check.since, check.is_disputed()))
    }

    /// Whether one of `present` could bring the check of `node` further.
    pub(in crate::leases) fn can_be_verified(
        &self,
        node: Node,
        present: &BTreeSet<WorkerId>,
    ) -> bool {
        self.verifications.get(&node).is_some_and(|check| {
            let mut present_workers = present.iter();
            present_workers.any(|worker| check.could_use(*worker, present))
        })
    }

    /// Who has answered a node that is checked.
    pub(in crate::leases) fn answered_by(&self, node: Node) -> BTreeSet<WorkerId> {
        self.verifications
            .get(&node)
            .map(Verification::workers)
            .unwrap_or_default()
    }

    /// Ends a check; leases for its sake are not waited for.
    pub(in crate::leases) fn end_verification(&mut self, node: Node) {
        self.verifications.remove(&node);
        self.leases.retain(|(leased, _), _| *leased != node);
    }

    /// The answer that was accepted for `node`.
    pub(in crate::leases) fn first_answer(&self, node: Node) -> Option<Answer> {
        let done = self.done_at(node).filter(|done| done.node == node)?;
        Some(done.answer)
    }

    /// The digest that was accepted for `node`.
    pub(in crate::leases) fn accepted(&self, node: Node) -> Option<Digest> {
        self.first_answer(node).map(|first| first.digest)
    }

    /// Whether an answer of `worker` is in the sum.
    pub(in crate::leases) fn has_answers_of(&self, worker: WorkerId) -> bool {
        self.done.values().any(|done| done.answer.worker == worker)
    }

    /// Takes every answer back. Leases go on, and attempts are counted on, so that what is under way
    /// is of use.
    pub(in crate::leases) fn restart(&mut self) {
        self.done.clear();
        self.verifications.clear();
        self.free.clear();
        self.missing = self.micro_batches;
        self.announced = false;
        let mut open = vec![Node::root(self.micro_batches)];
        let leased: BTreeSet<Node> = self.leases.keys().map(|(node, _)| *node).collect();
        for (node, attempts) in &mut self.attempts {
            for (number, attempt) in (0..).zip(attempts) {
                attempt.void |= !self.leases.contains_key(&(*node, number));
            }
        }
        while let Some(node) = open.pop() {
            if leased.iter().any(|leased| leased.contains(node)) {
                continue;
            }
            match node.children() {
                Some((left, right)) if leased.iter().any(|leased| node.contains(*leased)) => {
                    open.extend([left, right]);
                }
                _ => self.insert_free(node, true),
            }
        }
    }
}
