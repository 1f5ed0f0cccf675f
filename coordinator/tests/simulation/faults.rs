//! What goes wrong, and how often it did.

use std::collections::BTreeMap;

use coordinator::{
    leases::{Counters, Millis},
    run,
};
use speech::random::Stream;

/// A fault that is injected at a time, as against those that the network and the workers have all
/// along.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The worker's process dies with all it has, and is started again later.
    KillWorker(usize),
    /// It says goodbye and comes back later.
    Leave(usize),
    /// SIGSTOP: silent for a while, then it goes on as if nothing had happened.
    Stop(usize),
    /// Computes many times slower from here on.
    Slow(usize),
    /// Nothing passes between it and the coordinator for a while.
    Partition(usize),
    /// The coordinator dies; what was not synced is lost.
    KillCoordinator,
    ClockForward,
    ClockBack,
    /// The coordinator stops, or the run is given up or cancelled; somebody resumes it later.
    Stopped(run::StopReason),
}

impl Fault {
    pub fn draw(stream: &mut Stream, processes: usize) -> Self {
        let process = stream.below(processes as u64) as usize;
        match stream.below(13) {
            0 | 1 => Self::KillWorker(process),
            2 => Self::Leave(process),
            3 | 4 => Self::Stop(process),
            5 => Self::Slow(process),
            6 => Self::Partition(process),
            7 => Self::ClockForward,
            8 => Self::ClockBack,
            9 => Self::Stopped(run::StopReason::Requeue),
            10 => Self::Stopped(run::StopReason::GiveUp),
            11 => Self::Stopped(run::StopReason::Cancel),
            _ => Self::KillCoordinator,
        }
    }

    /// How long it lasts.
    pub fn duration(stream: &mut Stream) -> Millis {
        let magnitude = 6 + stream.below(8);
        50 + stream.below(1 << magnitude)
    }
}

/// Counts of everything that must have happened for a simulation to mean anything.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<String, u64>);

impl Faults {
    /// What a test asks to have seen.
    pub const KINDS: [&str; 71] = [
        // the network's
        "lost",
        "repeated",
        "delayed",
        "reordered",
        "partitioned",
        // the workers'
        "worker killed",
        "worker left",
        "worker stopped",
        "worker slowed",
        "lie",
        "forgery",
        "wrong bits",
        "lease given back",
        "in another's name",
        "impossible answer",
        "lease given back at once",
        "lease ahead",
        // the coordinator's
        "coordinator killed",
        "unsynced checkpoint lost",
        "unsynced checkpoint torn",
        "checkpoint bit flipped",
        "damaged checkpoint passed over",
        "run failed over a dispute",
        "run failed unconfirmed",
        "clock forward",
        "clock back",
        // and what the lease scheduler saw of it
        "leases: joins",
        "leases: leaves",
        "leases: lost",
        "leases: expired",
        "leases: given_back",
        "leases: retries",
        "leases: recomputed",
        "leases: duplicates",
        "leases: late",
        "leases: stale",
        "leases: foreign",
        "leases: differed",
        "leases: audited",
        "leases: unaudited",
        "leases: quarantined_workers",
        "leases: restarted",
        "leases: rejected",
        "leases: turned_away",
        // a call in another worker's name was refused
        "without session",
        // a contribution of an earlier life arrived
        "other generation",
        // what the run went through
        "stage: update pass",
        "stage: evaluation",
        "stage: evaluation of the average",
        "stage: choice",
        "stage: checkpoint",
        "stage: checkpoint during an update pass",
        "stage: checkpoint during an evaluation",
        "stage: skipped step",
        "stage: weights grew",
        "stage: update pass with a bound of norms",
        "stage: addition to a sum thrown away",
        "stage: epoch without a score",
        "stage: weights held",
        "stage: weights held for others",
        "stage: rate lowered",
        "stage: stopped early",
        "stage: final model",
        "stage: rest in a pass",
        "stage: rest in an update",
        "stage: rest in a checkpoint",
        // and how it ended
        "end: succeeded",
        "end: cancelled",
        "end: requeued",
        "end: given up",
        "end: failed",
    ];

    pub fn count(&mut self, kind: &'static str) {
        self.add(kind, 1);
    }

    fn add(&mut self, kind: &str, count: u64) {
        assert!(Self::KINDS.contains(&kind), "{kind}");
        *self.0.entry(kind.to_owned()).or_default() += count;
    }

    /// Adds what the lease scheduler of a life has counted.
    pub fn add_counters(&mut self, counters: &Counters) {
        for (kind, count) in counters.faults() {
            // Nothing breaks off halfway in the simulated network.
            if kind != "interrupted" {
                self.add(&format!("leases: {kind}"), count);
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            self.add(kind, *count);
        }
    }

    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}
