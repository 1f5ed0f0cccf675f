//! What the calls of one address, and of all of them, may hold at once: bytes, and calls of a kind in a time. It
//! counts; it does not depend on what is held.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::methods::Counted;

/// Bytes that may be held at once.
#[derive(Debug)]
struct Pool(AtomicUsize);

impl Pool {
    const fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }

    /// Takes `bytes` if as many as `spared` are left then.
    fn take(&self, bytes: usize, spared: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes).filter(|left| *left >= spared);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The bytes of all addresses together.
#[derive(Debug)]
pub(super) struct Total {
    left: Pool,
    /// What only this host's own addresses may take: an operator is to be answered when others have taken the
    /// rest.
    reserved: usize,
}

impl Total {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: Pool::new(bytes),
            reserved: bytes / 16,
        })
    }
}

/// What one address has.
#[derive(Debug)]
pub(super) struct Allowance {
    left: Pool,
    most: usize,
    total: Arc<Total>,
    /// Whether it is of this host.
    local: bool,
    paces: Mutex<[Pace; Counted::ALL.len()]>,
}

impl Allowance {
    pub(super) fn new(bytes: usize, total: &Arc<Total>, local: bool) -> Arc<Self> {
        Arc::new(Self {
            left: Pool::new(bytes),
            most: bytes,
            total: Arc::clone(total),
            local,
            paces: Mutex::default(),
        })
    }

    fn take(&self, bytes: usize) -> bool {
        if !self.left.take(bytes, 0) {
            return false;
        }
        let spared = if self.local { 0 } else { self.total.reserved };
        let taken = self.total.left.take(bytes, spared);
        if !taken {
            self.left.give_back(bytes);
        }
        taken
    }

    fn give_back(&self, bytes: usize) {
        self.left.give_back(bytes);
        self.total.left.give_back(bytes);
    }

    /// Counts a call, and gives how long it has to wait for its turn; `None` where that is longer than `patience`,
    /// and the call does not count.
    pub(super) fn turn(&self, counted: Counted, patience: Duration) -> Option<Duration> {
        self.turn_at(counted, patience, Instant::now())
    }

    fn turn_at(&self, counted: Counted, patience: Duration, now: Instant) -> Option<Duration> {
        let rate = counted.rate();
        // Nothing panics while it is held.
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = &mut paces[counted as usize];
        let due = pace.due.map_or(now, |due| due.max(now));
        // Calls as many as the burst may be ahead of their time.
        let wait = due.saturating_duration_since(now + rate.interval * (rate.burst - 1));
        if wait > patience {
            return None;
        }
        pace.due = Some(due + rate.interval);
        Some(wait)
    }

    /// Whether it has nothing under way, and calls of any kind may come in a burst: another allowance would do as
    /// well.
    pub(super) fn is_fresh(&self) -> bool {
        let now = Instant::now();
        let paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let past = |pace: &Pace| pace.due.is_none_or(|due| due <= now);
        self.left.0.load(Ordering::Relaxed) == self.most && paces.iter().all(past)
    }
}

/// When the next call would be due, had each waited for its own time.
#[derive(Debug, Default)]
struct Pace {
    due: Option<Instant>,
}

/// Bytes that are taken from an allowance until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    allowance: Arc<Allowance>,
    bytes: usize,
}

impl Held {
    pub(super) const fn nothing(allowance: Arc<Allowance>) -> Self {
        Self {
            allowance,
            bytes: 0,
        }
    }

    /// Takes more; gives whether there was as much.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let taken = self.allowance.take(bytes);
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    /// Gives `bytes` of it back.
    pub(super) fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.allowance.give_back(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.allowance.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_all_together_hold_so_much_and_a_part_is_kept_for_this_host() {
        let total = Total::new(160);
        let [one, two] = [(); 2].map(|()| Allowance::new(100, &total, false));
        let local = Allowance::new(100, &total, true);
        let [mut first, mut second, mut own] =
            [&one, &two, &local].map(|one| Held::nothing(Arc::clone(one)));
        assert!(first.add(100) && !first.add(1));
        assert!(second.add(50) && !second.add(1), "10 of 160 are kept");
        assert!(own.add(10) && !own.add(1));
        first.release(40);
        assert!(own.add(40) && !second.add(1));
        drop(first);
        assert!(second.add(50) && one.is_fresh() && !two.is_fresh());
        drop((second, own));
        assert!(two.is_fresh() && local.is_fresh());
        assert_eq!(total.left.0.load(Ordering::Relaxed), 160);
    }

    #[test]
    fn calls_beyond_a_burst_wait_for_their_turn_and_soon_are_refused() {
        let total = Total::new(1);
        let allowance = Allowance::new(1, &total, false);
        let (counted, patience) = (Counted::QueueChanges, Duration::from_secs(1));
        let rate = counted.rate();
        let began = Instant::now();
        let turn = |at| allowance.turn_at(counted, patience, at);
        for _ in 0..rate.burst {
            assert_eq!(turn(began), Some(Duration::ZERO));
        }
        assert!(!allowance.is_fresh());
        for waits in 1..=5 {
            assert_eq!(turn(began), Some(waits * rate.interval));
        }
        assert_eq!(turn(began), None);
        assert_eq!(turn(began + rate.interval), Some(patience));
        let other = allowance.turn_at(Counted::Joins, patience, began);
        assert_eq!(other, Some(Duration::ZERO));
        let later = began + Duration::from_secs(3600);
        for _ in 0..rate.burst {
            assert_eq!(turn(later), Some(Duration::ZERO));
        }
        assert_eq!(turn(later), Some(rate.interval));
    }
}
