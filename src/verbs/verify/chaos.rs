//! Fault injection: which faults a run meets and when, a function of a seed, the number of workers and the steps of
//! the job. Faults come with progress, not with time, so that each kind happens on any machine. It does not depend
//! on how a fault is brought about.

use std::fmt;

use proto::failpoint::{Failpoint, Order};
use serde::Serialize;
use speech::random::Stream;

/// Something that is done to a process from outside. Workers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultAction {
    /// The worker that was not there from the start joins.
    Join(usize),
    KillWorker(usize),
    KillCoordinator,
    /// Stops a worker; it goes on a while later.
    Stop(usize),
    /// Asks a worker to leave.
    Leave(usize),
}

/// What happens to one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Where the coordinator's first life ends.
    pub coordinator_crash: Order,
    /// Which worker's first life ends where.
    pub worker_crash: (usize, Order),
    /// Each with the step from which on it is due, in their order.
    pub actions: Vec<(u64, FaultAction)>,
}

/// Shares of the job before which nothing is done from outside, and between two actions. The rest is
/// left for what has to wait for a process that is not up.
const FIRST_FAULT: f64 = 0.2;
const MIN_FAULT_DISTANCE: f64 = 0.15;

impl Schedule {
    /// For a job of `steps` on `workers`, of which there is at least one.
    pub(super) fn new(seed: u64, workers: usize, steps: u64) -> Self {
        let mut stream = Stream::new(seed, &[workers as u64]);
        let late = workers - 1;
        // Who is there from the start, if anybody is.
        let early = late.max(1);
        let coordinator_crash = coordinator_crash(&mut stream, steps);
        let worker_crash = worker_crash(&mut stream, early, steps);
        let stopped = stream.below(workers as u64) as usize;
        // Nothing can be asked of a worker that is stopped, and a short job does not wait for it.
        let others: Vec<usize> = match workers {
            1 => vec![0],
            _ => (0..workers).filter(|&worker| worker != stopped).collect(),
        };
        let mut other = || others[stream.below(others.len() as u64) as usize];
        let mut actions = [
            FaultAction::KillWorker(other()),
            FaultAction::KillCoordinator,
            FaultAction::Stop(stopped),
            FaultAction::Leave(other()),
        ];
        stream.shuffle(&mut actions);
        // A worker that is alone has no steps of others to wait for.
        let joins_at = match workers {
            1 => 0,
            _ => at(steps, stream.between(0.05, FIRST_FAULT)),
        };
        let mut schedule = vec![(joins_at, FaultAction::Join(late))];
        for (place, action) in actions.into_iter().enumerate() {
            let from = FIRST_FAULT + MIN_FAULT_DISTANCE * place as f64;
            let due = at(steps, stream.between(from, from + MIN_FAULT_DISTANCE));
            schedule.push((due, action));
        }
        Self {
            coordinator_crash,
            worker_crash,
            actions: schedule,
        }
    }
}

fn at(steps: u64, share: f64) -> u64 {
    (steps as f64 * share) as u64
}

/// A place that the coordinator passes so often in its first life whatever the job.
fn coordinator_crash(stream: &mut Stream, steps: u64) -> Order {
    const PLACES: [Failpoint; 5] = [
        Failpoint::CoordinatorReceive,
        Failpoint::CoordinatorReduce,
        Failpoint::CoordinatorCheckpoint,
        Failpoint::CoordinatorRename,
        Failpoint::CoordinatorBroadcast,
    ];
    let place = PLACES[stream.below(PLACES.len() as u64) as usize];
    let most = match place {
        Failpoint::CoordinatorRename => 1,
        // Tensors of a checkpoint: the smallest model has more.
        Failpoint::CoordinatorCheckpoint => 4,
        // Once a step, or more often.
        _ => (steps / 4).max(1),
    };
    let nth = u32::try_from(1 + stream.below(most)).unwrap_or(u32::MAX);
    Order { place, nth }
}

/// A place that one of `workers` passes soon, even if others take most of the work.
fn worker_crash(stream: &mut Stream, workers: usize, steps: u64) -> (usize, Order) {
    const PLACES: [Failpoint; 3] = [
        Failpoint::WorkerCompute,
        Failpoint::WorkerPush,
        Failpoint::WorkerPull,
    ];
    let worker = stream.below(workers as u64) as usize;
    let place = PLACES[stream.below(PLACES.len() as u64) as usize];
    let most = (steps / (4 * workers as u64)).clamp(1, 4);
    let nth = u32::try_from(1 + stream.below(most)).unwrap_or(u32::MAX);
    (worker, Order { place, nth })
}

/// Faults that happened, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Injected {
    pub worker_kills: u32,
    pub worker_crashes: u32,
    pub coordinator_kills: u32,
    pub coordinator_crashes: u32,
    pub stops: u32,
    pub late_joins: u32,
    pub leaves: u32,
}

impl Injected {
    /// Counts something that was done.
    pub(super) fn count(&mut self, action: FaultAction) {
        *match action {
            FaultAction::Join(_) => &mut self.late_joins,
            FaultAction::KillWorker(_) => &mut self.worker_kills,
            FaultAction::KillCoordinator => &mut self.coordinator_kills,
            FaultAction::Stop(_) => &mut self.stops,
            FaultAction::Leave(_) => &mut self.leaves,
        } += 1;
    }

    fn by_kind(&self) -> [(&'static str, u32); 7] {
        [
            ("worker kills", self.worker_kills),
            ("worker crashes", self.worker_crashes),
            ("coordinator kills", self.coordinator_kills),
            ("coordinator crashes", self.coordinator_crashes),
            ("stops", self.stops),
            ("late joins", self.late_joins),
            ("leaves", self.leaves),
        ]
    }

    pub(super) fn total(&self) -> u32 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    /// Kinds that did not happen.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let missing = self.by_kind().into_iter().filter(|(_, count)| *count == 0);
        missing.map(|(kind, _)| kind).collect()
    }
}

/// For people, each kind with its count, 0 included.
impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.by_kind().map(|(kind, count)| {
            let kind = if count == 1 { singular(kind) } else { kind };
            format!("{count} {kind}")
        });
        f.write_str(&kinds.join(", "))
    }
}

fn singular(kind: &str) -> &str {
    match kind.strip_suffix("hes") {
        Some(_) => &kind[..kind.len() - 2],
        None => kind.strip_suffix('s').unwrap_or(kind),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> impl Iterator<Item = (usize, u64, Schedule)> {
        let cases = (0..200).flat_map(|seed| [(seed, 1, 40), (seed, 2, 500), (seed, 5, 160)]);
        cases.map(|(seed, workers, steps)| (workers, steps, Schedule::new(seed, workers, steps)))
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        assert_eq!(Schedule::new(1, 3, 100), Schedule::new(1, 3, 100));
        assert_ne!(Schedule::new(1, 3, 100), Schedule::new(2, 3, 100));
        assert_ne!(Schedule::new(1, 3, 100), Schedule::new(1, 2, 100));
    }

    #[test]
    fn every_kind_is_due_once_with_a_part_of_the_job_left() {
        for (workers, steps, schedule) in all() {
            let mut injected = Injected {
                worker_crashes: 1,
                coordinator_crashes: 1,
                ..Injected::default()
            };
            let mut before = 0;
            for (due, action) in schedule.actions {
                assert!(before <= due && due <= steps * 4 / 5, "{due} of {steps}");
                before = due;
                injected.count(action);
                match action {
                    FaultAction::Join(worker) => assert_eq!(worker, workers - 1),
                    FaultAction::KillWorker(worker)
                    | FaultAction::Stop(worker)
                    | FaultAction::Leave(worker) => {
                        assert!(worker < workers);
                    }
                    FaultAction::KillCoordinator => {}
                }
            }
            assert_eq!((injected.missing().len(), injected.total()), (0, 7));
        }
    }

    #[test]
    fn a_stopped_worker_is_left_alone_where_there_are_others() {
        for (workers, _, schedule) in all().filter(|(workers, ..)| *workers > 1) {
            let happens = |wanted| schedule.actions.iter().any(|(_, action)| *action == wanted);
            for victim in (0..workers).filter(|&worker| happens(FaultAction::Stop(worker))) {
                assert!(!happens(FaultAction::KillWorker(victim)), "{schedule:?}");
                assert!(!happens(FaultAction::Leave(victim)), "{schedule:?}");
            }
        }
    }

    #[test]
    fn a_worker_that_is_alone_joins_before_the_first_step() {
        for seed in 0..20 {
            let schedule = Schedule::new(seed, 1, 1000);
            assert_eq!(schedule.actions[0], (0, FaultAction::Join(0)));
            assert_eq!(schedule.worker_crash.0, 0);
        }
    }

    #[test]
    fn every_place_is_reached_by_some_seed_within_the_steps() {
        let mut seen = BTreeSet::new();
        for (workers, steps, schedule) in all() {
            let (worker, order) = schedule.worker_crash;
            assert!(worker < workers && order.nth <= 4, "{schedule:?}");
            assert!(u64::from(schedule.coordinator_crash.nth) <= (steps / 4).max(4));
            seen.extend([order.place, schedule.coordinator_crash.place]);
        }
        assert_eq!(seen, Failpoint::ALL.into());
    }

    #[test]
    fn counts_read_as_people_say_them() {
        let injected = Injected {
            worker_kills: 1,
            worker_crashes: 1,
            stops: 2,
            ..Injected::default()
        };
        assert_eq!(
            injected.to_string(),
            "1 worker kill, 1 worker crash, 0 coordinator kills, 0 coordinator crashes, 2 stops, \
             0 late joins, 0 leaves"
        );
        assert_eq!(
            injected.missing(),
            [
                "coordinator kills",
                "coordinator crashes",
                "late joins",
                "leaves"
            ]
        );
    }
}
