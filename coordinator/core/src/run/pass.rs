//! The open pass as the run sees it: how far its sum is taken, and when what comes of it can be computed. Who works on
//! it is the lease scheduler's.

use super::interface::{OpenPass, Purpose};
use crate::leases::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Collecting,
    /// Every micro-batch is in.
    Complete,
    /// What comes of it is being computed.
    Settling,
}

#[derive(Clone, Debug)]
pub(super) struct PassProgress {
    pub opened: OpenPass,
    /// Micro-batches that are left out of what has come in.
    pub left_out: u64,
    /// Leases returned undone since something came in last, if there were any.
    pub returns: Option<ReturnStreak>,
    phase: Phase,
    /// The attempt of its sum, see [`OpenPass::attempt`].
    attempt: u32,
    /// Contributions have come in that nobody adds yet.
    pending: bool,
    /// Contributions are being added.
    adding: bool,
}

impl PassProgress {
    pub(super) fn new(opened: OpenPass) -> Self {
        Self {
            opened,
            left_out: 0,
            returns: None,
            phase: Phase::Collecting,
            attempt: opened.attempt,
            pending: false,
            adding: false,
        }
    }

    pub(super) fn is_update(&self) -> bool {
        self.opened.purpose == Purpose::Update
    }

    /// A contribution has come in.
    pub(super) fn accept(&mut self, left_out: u64) {
        self.returns = None;
        self.left_out += left_out;
        self.pending = true;
    }

    /// The attempt at the sum to which contributions are to be added now, if any: one addition at a time.
    pub(super) fn begin_adding(&mut self) -> Option<u32> {
        let due = self.pending && !self.adding && self.phase != Phase::Settling;
        due.then(|| {
            (self.pending, self.adding) = (false, true);
            self.attempt
        })
    }

    /// An addition has ended. One to a sum that was begun again meanwhile is not waited for.
    pub(super) fn added(&mut self, attempt: u32) {
        self.adding &= attempt != self.attempt;
    }

    /// Every micro-batch is in.
    pub(super) fn complete(&mut self) {
        if self.phase == Phase::Collecting {
            self.phase = Phase::Complete;
        }
    }

    /// An answer is in doubt.
    pub(super) fn doubt(&mut self) {
        if self.phase == Phase::Complete {
            self.phase = Phase::Collecting;
        }
    }

    /// What came in was thrown away. Gives how many micro-batches were left out of it.
    pub(super) fn restart(&mut self) -> u64 {
        self.phase = Phase::Collecting;
        self.attempt += 1;
        (self.pending, self.adding) = (false, false);
        std::mem::take(&mut self.left_out)
    }

    /// Whether what comes of it can be computed now.
    pub(super) fn is_whole(&self) -> bool {
        self.phase == Phase::Complete && !self.pending && !self.adding
    }

    pub(super) fn settle(&mut self) {
        self.phase = Phase::Settling;
    }

    /// Whether what comes of it is being computed.
    pub(super) fn is_settling(&self) -> bool {
        self.phase == Phase::Settling
    }
}

/// A run does not fail before so many leases were returned undone in a row, however long that took.
pub(super) const MIN_RETURNS: u64 = 24;

/// Leases of a pass that were returned undone, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReturnStreak {
    /// When the first one was.
    since: Millis,
    pub times: u64,
    /// When one was told last, and how many there were by then.
    told: (Millis, u64),
}

impl ReturnStreak {
    /// So many are told one by one, and then one in [`Self::TELL_EVERY`].
    const TOLD_SINGLY: u64 = 3;
    const TELL_EVERY: Millis = 15_000;

    pub(super) fn begin(now: Millis) -> Self {
        Self {
            since: now,
            times: 0,
            told: (now, 0),
        }
    }

    /// Counts one. Where it is to be told, how many there were before it that were not.
    pub(super) fn count(&mut self, now: Millis) -> Option<u64> {
        self.times += 1;
        let (at, times) = self.told;
        if self.times > Self::TOLD_SINGLY && now < at + Self::TELL_EVERY {
            return None;
        }
        self.told = (now, self.times);
        Some(self.times - times - 1)
    }

    /// Milliseconds since the first one.
    pub(super) fn within(&self, now: Millis) -> Millis {
        now - self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_returns_are_told_and_the_rest_is_counted() {
        let mut returns = ReturnStreak::begin(1000);
        let told: Vec<Option<u64>> = (0..50).map(|_| returns.count(1001)).collect();
        assert_eq!(told[..4], [Some(0), Some(0), Some(0), None]);
        assert!(told[4..].iter().all(Option::is_none));
        assert_eq!(returns.count(1001 + ReturnStreak::TELL_EVERY), Some(47));
        assert_eq!((returns.count(1002), returns.times), (None, 52));
        assert_eq!(returns.within(1500), 500);
    }
}
