//! Leases that workers return undone: files may be out of reach for a while, or for good. It decides when that
//! ends a run.

use std::time::{Duration, Instant};

use proto::{contribution::Key, text::printable};

use super::{Driver, REASON, RunError};
use crate::{
    events::Event,
    leases::{Input, WorkerId},
};

/// A run does not fail before so many leases were returned undone in a row, however long that took.
const RETURNS: u64 = 24;

/// Leases of a pass that were returned undone, one after the other.
#[derive(Debug)]
pub struct Returned {
    /// Of the first one.
    pub since: Instant,
    pub times: u64,
    /// When one was written down last, and how many there were by then.
    told: (Instant, u64),
}

impl Returned {
    /// So many are written down one by one, and then one in a while.
    const FEW: u64 = 3;
    const WHILE: Duration = Duration::from_secs(15);

    pub fn begin() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            times: 0,
            told: (now, 0),
        }
    }

    /// Counts one. Where it is to be written down, how many there were before it that are not.
    pub fn again(&mut self) -> Option<u64> {
        self.times += 1;
        let (at, times) = self.told;
        if self.times > Self::FEW && at.elapsed() < Self::WHILE {
            return None;
        }
        self.told = (Instant::now(), self.times);
        Some(self.times - times - 1)
    }
}

impl Driver {
    pub(super) fn given_back(&mut self, worker: WorkerId, key: Key, reason: String, fatal: bool) {
        let name = self.roster.name(worker);
        let reason = printable(&reason, REASON);
        let (step, node) = (key.step, key.node.to_string());
        let current = self.is_current(&key);
        self.tell(Input::GivenBack { worker, key });
        if !current {
            return;
        }
        if fatal {
            tracing::warn!(
                worker = worker.0,
                name,
                node,
                "a lease was returned: {reason}"
            );
            self.fail(RunError::Data {
                worker: worker.0,
                name,
                step,
                reason,
            });
            return;
        }
        let Some(pass) = self.pass_mut() else { return };
        let returned = pass.returned.get_or_insert_with(Returned::begin);
        let news = returned.again();
        let (times, within) = (returned.times, returned.since.elapsed());
        if let Some(more) = news {
            tracing::warn!(
                worker = worker.0,
                name,
                node,
                more,
                "a lease was returned: {reason}"
            );
            self.note(Event::GivenBack {
                worker: worker.0,
                node,
                reason: reason.clone(),
                more,
            });
        }
        // By time and not by number: many workers return many leases in a moment, and what ails them
        // may pass as well.
        if times >= RETURNS && within >= self.terms.returns {
            self.fail(RunError::Returned {
                worker: worker.0,
                name,
                step,
                times,
                within,
                reason,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_returns_are_written_down_and_the_rest_is_counted() {
        let mut returned = Returned::begin();
        let told: Vec<Option<u64>> = (0..50).map(|_| returned.again()).collect();
        assert_eq!(told[..4], [Some(0), Some(0), Some(0), None]);
        assert!(told[4..].iter().all(Option::is_none));
        returned.told.0 -= Returned::WHILE;
        assert_eq!(returned.again(), Some(47));
        assert_eq!((returned.again(), returned.times), (None, 52));
    }
}
