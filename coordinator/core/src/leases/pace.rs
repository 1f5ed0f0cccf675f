//! How long micro-batches take, and how many a worker should get. It decides from measured times
//! alone and does not depend on nodes, leases and names.

use std::collections::VecDeque;

use super::Millis;

/// Milliseconds of a micro-batch before anything was measured. Only ratios of it matter.
pub(super) const UNMEASURED_MS: f64 = 1000.0;

/// Measured times that the cluster's pace is the median of.
const MEDIAN_WINDOW: usize = 64;

/// Weight of the newest measure in a worker's own pace.
const NEWEST_WEIGHT: f64 = 0.3;

/// A measure moves a worker's pace as if it were at most this many times slower or faster: a pause of
/// a minute is no minute a micro-batch.
const OUTLIER_FACTOR: f64 = 4.0;

/// What a share may be exceeded by for a whole node: workers of nearly one speed get nodes of one
/// size, at the cost of at most an eighth of a pass.
const SHARE_SLACK: f64 = 1.125;

/// A worker that takes this many times as long as the quickest gets its share in pieces: what it is
/// given too much of, everybody waits for, and what it is given too little of, it asks for.
const SLOW_FACTOR: f64 = 2.0;

/// How much sooner an idle worker must be done with what another one is at, to begin it as well:
/// measured times are not exact.
pub(super) const SPEEDUP_MARGIN: f64 = 1.25;

/// Milliseconds a unit of cost, over all workers.
#[derive(Debug, Default)]
pub(super) struct ClusterPace {
    recent: VecDeque<f64>,
    /// The median of the recent times. It is asked for far more often than it changes.
    median: Option<f64>,
}

impl ClusterPace {
    pub(super) fn record(&mut self, milliseconds: f64) {
        if self.recent.len() == MEDIAN_WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(milliseconds);
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.median = sorted.get(sorted.len() / 2).copied();
    }

    pub(super) fn median(&self) -> Option<f64> {
        self.median
    }
}

/// Milliseconds a unit of cost, of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerPace {
    samples: u32,
    milliseconds: f64,
}

impl WorkerPace {
    pub(super) fn record(&mut self, milliseconds: f64) {
        self.milliseconds = match self.samples {
            // The first one has compiled kernels and filled caches; it stands until the second.
            0 | 1 => milliseconds,
            _ => {
                let (low, high) = (
                    self.milliseconds / OUTLIER_FACTOR,
                    self.milliseconds * OUTLIER_FACTOR,
                );
                let newest = milliseconds.clamp(low, high);
                self.milliseconds + NEWEST_WEIGHT * (newest - self.milliseconds)
            }
        };
        self.samples = self.samples.saturating_add(1);
    }

    pub(super) fn samples(&self) -> u32 {
        self.samples
    }

    pub(super) fn milliseconds(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.milliseconds)
    }
}

/// Milliseconds to go of what should take `expected` and was begun `elapsed` ago. Who is late is
/// expected to take as long again as it is late.
pub(super) fn remaining(expected: f64, elapsed: Millis) -> f64 {
    (expected - elapsed as f64).abs()
}

/// How many of `free` micro-batches a worker should get, for all to finish together; it and the `others`
/// are (milliseconds for one, milliseconds until they are free). None at all, if the others are done
/// with everything before it is done with one.
///
/// All finish at the time `T` for which `Σ max(0, T − busy) / milliseconds = free`.
pub(super) fn share(free: u32, own: (f64, f64), mut others: Vec<(f64, f64)>) -> u32 {
    let (milliseconds, busy) = own;
    let quickest = others.iter().map(|(each, busy)| each + busy);
    let quickest = quickest.fold(f64::INFINITY, f64::min);
    let least = others.iter().map(|(each, _)| *each);
    let least = least.fold(f64::INFINITY, f64::min);
    others.sort_by(|one, other| one.1.total_cmp(&other.1));
    let without = finish(free, &others).max(quickest);
    if busy + milliseconds > SHARE_SLACK * without {
        return 0;
    }
    let place = others.partition_point(|other| other.1 <= busy);
    others.insert(place, own);
    let share = (finish(free, &others) - busy) / milliseconds;
    let share = if milliseconds > SLOW_FACTOR * least {
        (share / 2.0).ceil()
    } else {
        share * SHARE_SLACK
    };
    (share as u32).max(1)
}

/// `T` for workers in the order in which they are free; never, for none.
fn finish(free: u32, workers: &[(f64, f64)]) -> f64 {
    let mut speed = 0.0;
    // Micro-batches that those who help so far could have done while they were busy elsewhere.
    let mut missed = 0.0;
    let mut finish = f64::INFINITY;
    for &(milliseconds, busy) in workers {
        if busy >= finish {
            break;
        }
        speed += 1.0 / milliseconds;
        missed += busy / milliseconds;
        finish = (f64::from(free) + missed) / speed;
    }
    finish
}
