//! Result verification by redundant computation, for one node: several workers compute it, and a vote of their
//! digests decides who is right. A node is verified because it is audited, or because two answers to it differ. The
//! vote goes by the answers alone, and not by who answered first, who is here, or what follows.

use std::collections::{BTreeMap, BTreeSet};

use proto::contribution::Digest;

use super::{Millis, WorkerId};

/// A node that more than one worker has to answer.
#[derive(Debug)]
pub(super) struct Verification {
    answers: Vec<Answer>,
    /// When an audit began, or when the newest answer came in a dispute.
    pub(super) since: Millis,
}

/// What a worker computed in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) worker: WorkerId,
    pub(super) attempt: u32,
    pub(super) digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another answer is needed.
    Open,
    /// Two workers agree, and nobody differs.
    Confirmed,
    Settled {
        /// `None` when nobody is left who can be believed.
        right: Option<Digest>,
        /// The workers that gave another digest.
        odd: BTreeSet<WorkerId>,
    },
}

impl Verification {
    pub(super) fn new(first: Answer, since: Millis) -> Self {
        Self {
            answers: vec![first],
            since,
        }
    }

    /// An answer that is sent again counts once. A dispute's time counts from the newest answer: an audit
    /// may have waited for long when it becomes a dispute.
    pub(super) fn record(&mut self, answer: Answer, now: Millis) {
        if self.answers.contains(&answer) {
            return;
        }
        self.answers.push(answer);
        if self.is_disputed() {
            self.since = now;
        }
    }

    pub(super) fn is_disputed(&self) -> bool {
        let mut digests = self.answers.iter().map(|answer| answer.digest);
        let first = digests.next();
        digests.any(|digest| Some(digest) != first)
    }

    /// The workers that have answered.
    pub(super) fn workers(&self) -> BTreeSet<WorkerId> {
        self.answers.iter().map(|answer| answer.worker).collect()
    }

    /// Whether another answer of `worker` would help, while `present` could be asked as well. Where
    /// everybody has differed, each is asked once more: an error that passes is found out so.
    pub(super) fn could_use(&self, worker: WorkerId, present: &BTreeSet<WorkerId>) -> bool {
        let said = self.answers.iter();
        match said.filter(|answer| answer.worker == worker).count() {
            0 => true,
            1 => self.is_disputed() && present.is_subset(&self.workers()),
            _ => false,
        }
    }

    /// What two workers agree on is right; failing that, what is left without the workers that
    /// contradict themselves.
    pub(super) fn verdict(&self) -> Verdict {
        let mut votes: BTreeMap<Digest, BTreeSet<WorkerId>> = BTreeMap::new();
        for answer in &self.answers {
            let workers = votes.entry(answer.digest).or_default();
            workers.insert(answer.worker);
        }
        if let Some((_, workers)) = votes.first_key_value().filter(|_| votes.len() == 1) {
            return match workers.len() {
                1 => Verdict::Open,
                _ => Verdict::Confirmed,
            };
        }
        if let Some(right) = majority(&votes) {
            return settled(&votes, Some(right));
        }
        let of = |worker: &WorkerId| votes.values().filter(|it| it.contains(worker)).count();
        let mut left = votes.clone();
        for workers in left.values_mut() {
            workers.retain(|worker| of(worker) == 1);
        }
        left.retain(|_, workers| !workers.is_empty());
        match left.len() {
            // Everybody contradicts themselves.
            0 => settled(&votes, None),
            1 => settled(&votes, left.into_keys().next()),
            _ => Verdict::Open,
        }
    }
}

/// What at least two workers agree on, and more of them than on anything else.
fn majority(votes: &BTreeMap<Digest, BTreeSet<WorkerId>>) -> Option<Digest> {
    let most = votes.values().map(BTreeSet::len).max()?;
    let mut leading = votes.iter().filter(|(_, workers)| workers.len() == most);
    let (digest, _) = leading.next()?;
    (most > 1 && leading.next().is_none()).then_some(*digest)
}

fn settled(votes: &BTreeMap<Digest, BTreeSet<WorkerId>>, right: Option<Digest>) -> Verdict {
    let wrong = votes.iter().filter(|(digest, _)| Some(**digest) != right);
    Verdict::Settled {
        right,
        odd: wrong
            .flat_map(|(_, workers)| workers.iter().copied())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answers: &[(u64, u8)]) -> Verification {
        let answer = |attempt: usize, (worker, bits): (u64, u8)| Answer {
            worker: WorkerId(worker),
            attempt: attempt as u32,
            digest: [bits; 32],
        };
        let mut check = Verification::new(answer(0, answers[0]), 5);
        for (attempt, said) in answers.iter().enumerate().skip(1) {
            check.record(answer(attempt, *said), 10 + attempt as Millis);
        }
        check
    }

    fn right(bits: u8, odd: &[u64]) -> Verdict {
        Verdict::Settled {
            right: Some([bits; 32]),
            odd: odd.iter().copied().map(WorkerId).collect(),
        }
    }

    fn workers(ids: &[u64]) -> BTreeSet<WorkerId> {
        ids.iter().copied().map(WorkerId).collect()
    }

    #[test]
    fn two_that_agree_confirm_and_one_alone_does_not() {
        assert_eq!(check(&[(1, 7)]).verdict(), Verdict::Open);
        assert_eq!(check(&[(1, 7), (1, 7)]).verdict(), Verdict::Open);
        assert_eq!(check(&[(1, 7), (2, 7)]).verdict(), Verdict::Confirmed);
    }

    #[test]
    fn a_third_opinion_settles_who_is_the_odd_one_out() {
        assert_eq!(check(&[(1, 7), (2, 8)]).verdict(), Verdict::Open);
        assert_eq!(check(&[(1, 7), (2, 8), (3, 7)]).verdict(), right(7, &[2]));
        assert_eq!(check(&[(1, 7), (2, 8), (3, 8)]).verdict(), right(8, &[1]));
        assert_eq!(check(&[(1, 7), (2, 8), (3, 9)]).verdict(), Verdict::Open);
    }

    #[test]
    fn who_contradicts_itself_is_not_believed() {
        let nobody = Verdict::Settled {
            right: None,
            odd: workers(&[1]),
        };
        assert_eq!(check(&[(1, 7), (1, 8)]).verdict(), nobody);
        // An error that passed: the second try agrees with the other worker.
        assert_eq!(check(&[(1, 7), (2, 8), (1, 8)]).verdict(), right(8, &[1]));
        // Wrong in another way each time.
        assert_eq!(check(&[(1, 7), (2, 8), (1, 9)]).verdict(), right(8, &[1]));
        // Both insist.
        assert_eq!(
            check(&[(1, 7), (2, 8), (1, 7), (2, 8)]).verdict(),
            Verdict::Open
        );
    }

    #[test]
    fn an_equal_number_on_both_sides_settles_nothing() {
        let tied = [(1, 7), (2, 8), (3, 7), (4, 8)];
        assert_eq!(check(&tied).verdict(), Verdict::Open);
    }

    #[test]
    fn the_time_of_a_dispute_counts_from_the_newest_opinion_and_not_from_the_audit() {
        assert_eq!(check(&[(1, 7)]).since, 5);
        assert_eq!(check(&[(1, 7), (2, 7)]).since, 5);
        assert_eq!(check(&[(1, 7), (2, 8)]).since, 11);
        assert_eq!(check(&[(1, 7), (2, 8), (3, 9)]).since, 12);
        let mut repeated = check(&[(1, 7), (2, 8)]);
        let again = repeated.answers[1];
        repeated.record(again, 99);
        assert_eq!(repeated.since, 11);
    }

    #[test]
    fn those_who_have_said_nothing_are_asked_first_and_nobody_a_third_time() {
        let audited = check(&[(1, 7)]);
        assert!(audited.could_use(WorkerId(2), &workers(&[1, 2])));
        assert!(!audited.could_use(WorkerId(1), &workers(&[1])));
        let disputed = check(&[(1, 7), (2, 8)]);
        assert!(disputed.could_use(WorkerId(3), &workers(&[1, 2, 3])));
        assert!(!disputed.could_use(WorkerId(1), &workers(&[1, 2, 3])));
        assert!(disputed.could_use(WorkerId(1), &workers(&[1, 2])));
        let insisted = check(&[(1, 7), (2, 8), (1, 7)]);
        assert!(!insisted.could_use(WorkerId(1), &workers(&[1, 2])));
        assert!(insisted.could_use(WorkerId(2), &workers(&[1, 2])));
    }
}
