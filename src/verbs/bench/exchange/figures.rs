//! What an exchange comes to: medians over its rounds, and memory beside what there must be.

use serde::Serialize;

use super::super::median;
use proto::wire::Wire;

/// Seconds of one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// From the word to hand in to the last worker's new weights.
    pub sync_s: f64,
    /// From the vector to its receipt, in the worker that took longest.
    pub push_s: f64,
    /// From the last receipt to the lease of the next step.
    pub reduce_update_s: f64,
    /// From that lease to the weights as a vector, in the worker that took longest.
    pub pull_s: f64,
}

/// Medians, in seconds.
#[derive(Debug, Serialize)]
pub(super) struct ExchangeTimes {
    /// From the last gradient to new weights in every worker.
    sync_s: f64,
    push_s: f64,
    reduce_update_s: f64,
    pull_s: f64,
    parameters: usize,
    workers: usize,
    wire: &'static str,
    /// The most memory that the coordinator has had.
    coordinator_peak_bytes: u64,
    /// What of it is shared with its workers: lanes.
    coordinator_shared_bytes: u64,
    /// Weights, both of Adam's vectors, and a gradient from each worker.
    coordinator_floor_bytes: u64,
}

/// What is exchanged between whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub parameters: usize,
    pub workers: usize,
    pub wire: Wire,
}

/// The coordinator's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryUse {
    pub peak: u64,
    pub shared: u64,
}

impl ExchangeTimes {
    pub(super) fn new(rounds: &[Round], setting: Setting, memory: MemoryUse) -> Self {
        let Setting {
            parameters,
            workers,
            wire,
        } = setting;
        let median = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        Self {
            sync_s: median(|round| round.sync_s),
            push_s: median(|round| round.push_s),
            reduce_update_s: median(|round| round.reduce_update_s),
            pull_s: median(|round| round.pull_s),
            parameters,
            workers,
            wire: wire.name(),
            coordinator_peak_bytes: memory.peak,
            coordinator_shared_bytes: memory.shared,
            coordinator_floor_bytes: 4 * parameters as u64 * (3 + workers as u64),
        }
    }

    pub(super) fn text(&self) -> String {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "exchange     {:.1} ms: push {:.1}, reduce and update {:.1}, pull {:.1} ({} parameters as {}, {} workers)\n\
             coordinator  {:.0} MB at most, of it {:.0} MB shared; {:.0} MB for weights, optimizer and gradients",
            1e3 * self.sync_s,
            1e3 * self.push_s,
            1e3 * self.reduce_update_s,
            1e3 * self.pull_s,
            self.parameters,
            self.wire,
            self.workers,
            mega(self.coordinator_peak_bytes),
            mega(self.coordinator_shared_bytes),
            mega(self.coordinator_floor_bytes),
        )
    }
}
