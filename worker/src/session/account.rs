//! Where a worker's time went while it did not compute. It decides to what a moment counts in which
//! several things went on, and does not depend on what they were for.

use std::time::Instant;

use proto::v1;

/// From when to when something went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub began: Instant,
    pub ended: Instant,
}

impl Stretch {
    /// What of it lies in `other`.
    fn within(&self, other: &Self) -> Self {
        let began = self.began.max(other.began);
        let ended = self.ended.min(other.ended).max(began);
        Self { began, ended }
    }

    fn seconds(&self) -> f64 {
        self.ended
            .saturating_duration_since(self.began)
            .as_secs_f64()
    }
}

/// What went on before a lease was handed to the thread that computes.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The weights came.
    pub pulled: Option<Stretch>,
    /// Earlier leases were handed in, one after the other.
    pub pushed: Vec<Stretch>,
}

impl Before {
    /// What a thread that had nothing to do from `idle_since` to `now` waited for: first of all for what
    /// was handed in. What went on while it computed cost nothing, and nothing counts before its first
    /// lease.
    pub(super) fn account(&self, idle_since: Option<Instant>, now: Instant) -> v1::Spent {
        let Some(began) = idle_since else {
            return v1::Spent::default();
        };
        let idle = Stretch { began, ended: now };
        let pushing = |during: Stretch| -> f64 {
            let parts = self.pushed.iter();
            parts.map(|push| push.within(&during).seconds()).sum()
        };
        let pulling = self.pulled.map(|pulled| pulled.within(&idle));
        let push = pushing(idle);
        let pull = pulling.map_or(0.0, |pull| pull.seconds() - pushing(pull));
        v1::Spent {
            pull,
            push,
            wait: (idle.seconds() - pull - push).max(0.0),
            ..v1::Spent::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_went_on_while_the_thread_computed_costs_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let stretch = |began, ended| Stretch {
            began: at(began),
            ended: at(ended),
        };
        let before = Before {
            pushed: vec![stretch(5, 12), stretch(13, 14)],
            pulled: Some(stretch(13, 16)),
        };
        let spent = before.account(Some(at(10)), at(20));
        assert_eq!((spent.push, spent.pull, spent.wait), (3.0, 2.0, 5.0));
        let spent = before.account(Some(at(19)), at(20));
        assert_eq!((spent.push, spent.pull, spent.wait), (0.0, 0.0, 1.0));
        assert_eq!(before.account(None, at(20)), v1::Spent::default());
    }
}
