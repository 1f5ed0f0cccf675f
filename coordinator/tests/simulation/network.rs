//! The simulated network: it loses, repeats, delays and reorders, by one seeded stream.

use std::collections::BTreeMap;

use coordinator::{
    leases::{ContributionOutcome, Millis, WorkerId},
    norm_bound::NormBound,
};
use proto::contribution::{Contribution, Key};
use speech::random::Stream;

use crate::faults::{Fault, Faults};

/// What a worker says.
#[derive(Clone, Debug)]
pub enum Request {
    Join {
        process: usize,
    },
    Heard(Admission),
    Lease {
        admission: Admission,
        /// What the worker still works on.
        holds: Vec<Key>,
    },
    Push {
        admission: Admission,
        key: Key,
        contribution: Contribution,
        /// It was never leased: it must not be accepted.
        forged: bool,
    },
    GiveBack {
        admission: Admission,
        key: Key,
        /// The data is at fault.
        fatal: bool,
    },
    Leave(Admission),
}

/// What the coordinator answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Welcome(Admission),
    Grant {
        key: Key,
        weights: Vec<f32>,
        bound: Option<NormBound>,
    },
    NothingYet,
    Unknown,
    /// For good.
    Goodbye,
    Receipt {
        key: Key,
        outcome: ContributionOutcome,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub worker: WorkerId,
    pub generation: u64,
    /// Known to this worker and the coordinator alone.
    pub secret: u64,
}

impl Request {
    /// In whose name it is made; a worker that joins has none.
    pub fn admission(&self) -> Option<Admission> {
        match self {
            Self::Join { .. } => None,
            Self::Heard(admission) | Self::Leave(admission) => Some(*admission),
            Self::Lease { admission, .. }
            | Self::Push { admission, .. }
            | Self::GiveBack { admission, .. } => Some(*admission),
        }
    }
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Event {
    ToCoordinator {
        process: usize,
        request: Request,
    },
    /// For one incarnation of a process; its successor does not get it.
    ToWorker {
        process: usize,
        incarnation: u32,
        reply: Reply,
    },
    /// A worker's own timer, as of its `turn`.
    Timer {
        process: usize,
        incarnation: u32,
        turn: u64,
    },
    Heartbeat {
        process: usize,
        incarnation: u32,
    },
    WorkerStarts(usize),
    /// The lease scheduler's deadline, in a life of the coordinator.
    Deadline {
        generation: u64,
    },
    /// Work of a life of the coordinator that took long is done.
    WorkDone {
        generation: u64,
        number: u64,
    },
    CoordinatorStarts,
    Inject(Fault),
}

/// Events in the order of time; of equals, in the order in which they were scheduled.
#[derive(Debug, Default)]
pub struct Queue {
    events: BTreeMap<(Millis, u64), Event>,
    scheduled: u64,
}

impl Queue {
    pub fn at(&mut self, time: Millis, event: Event) {
        self.scheduled += 1;
        self.events.insert((time, self.scheduled), event);
    }

    pub fn pop(&mut self) -> Option<(Millis, Event)> {
        let ((time, _), event) = self.events.pop_first()?;
        Some((time, event))
    }
}

/// The links between the coordinator and the processes.
#[derive(Debug)]
pub struct Network {
    stream: Stream,
    /// Until when nothing passes to or from each process.
    partitions: BTreeMap<usize, Millis>,
    /// The latest arrival on each link, to count what overtakes it.
    latest: BTreeMap<(usize, bool), Millis>,
}

impl Network {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            partitions: BTreeMap::new(),
            latest: BTreeMap::new(),
        }
    }

    pub fn partition(&mut self, process: usize, until: Millis) {
        self.partitions.insert(process, until);
    }

    /// Sends `event` to or from `process`.
    pub fn send(
        &mut self,
        now: Millis,
        process: usize,
        event: Event,
        queue: &mut Queue,
        faults: &mut Faults,
    ) {
        if self
            .partitions
            .get(&process)
            .is_some_and(|until| now < *until)
        {
            return faults.count("partitioned");
        }
        if self.stream.below(40) == 0 {
            return faults.count("lost");
        }
        let copies = 1 + u64::from(self.stream.below(30) == 0);
        for copy in 0..copies {
            let delay = match self.stream.below(40) {
                0 => {
                    faults.count("delayed");
                    200 + self.stream.below(4000)
                }
                _ => 1 + self.stream.below(15),
            };
            if copy > 0 {
                faults.count("repeated");
            }
            let arrival = now + delay;
            let link = (process, matches!(event, Event::ToCoordinator { .. }));
            let latest = self.latest.entry(link).or_default();
            if arrival < *latest {
                faults.count("reordered");
            }
            *latest = arrival.max(*latest);
            queue.at(arrival, event.clone());
        }
    }
}
