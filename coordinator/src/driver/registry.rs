//! The worker registry: who the admitted workers say they are. It decides whether a program may join at all; it
//! does not depend on leases, deadlines and silence, which are [`crate::leases`]'.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    PROGRAM_VERSION,
    contribution::{Key, PassKind},
    shared_memory::{SharedMemory, SharedMemoryHandle},
};
use speech::escape::escape_within;

use super::error::Refused;
use crate::leases::WorkerId;

/// How a coordinator deals with its workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerPolicy {
    /// How often they are asked to say that they are there.
    pub heartbeat: Duration,
    /// Silence after which one is lost.
    pub silence: Duration,
    /// How long a pass may come to nothing because its leases are returned.
    pub returns: Duration,
    /// When it stops, they are to end. Otherwise they wait until it is there again.
    pub dismisses: bool,
    /// There will be no other job: a worker that may not compute for this one is sent away.
    pub one_job: bool,
}

/// What a worker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    pub name: String,
    pub program_version: String,
    pub compute_class: String,
    pub threads: u32,
}

impl Introduction {
    fn escaped(self) -> Self {
        const MAX_NAME_CHARS: usize = 128;
        const MAX_CLASS_CHARS: usize = 512;
        Self {
            name: escape_within(&self.name, MAX_NAME_CHARS),
            program_version: escape_within(&self.program_version, MAX_NAME_CHARS),
            compute_class: escape_within(&self.compute_class, MAX_CLASS_CHARS),
            threads: self.threads,
        }
    }
}

/// A worker, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    pub worker: u64,
    pub introduction: Introduction,
    /// What it works on, or "idle".
    pub doing: String,
    pub contributions: u64,
    pub seconds_since_heard: f64,
}

/// The numbers of the workers that are here, for services that do not wait for the driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members(Arc<Mutex<BTreeSet<WorkerId>>>);

impl Members {
    /// Whether a worker was admitted and neither left nor fell silent nor was sent away.
    pub(crate) fn contains(&self, worker: WorkerId) -> bool {
        self.lock().contains(&worker)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<WorkerId>> {
        // Nothing panics while it is held, and the set is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers that were admitted and neither left nor fell silent.
#[derive(Debug, Default)]
pub(super) struct WorkerRegistry {
    /// The keys of `members`.
    present: Members,
    members: BTreeMap<WorkerId, Introduction>,
    /// Members that were told goodbye, and not yet whether they heard it.
    dismissed: BTreeSet<WorkerId>,
    /// Members that may not compute for the running job.
    ineligible: BTreeSet<WorkerId>,
    /// Who gave wrong bits, by the number and name it had: neither comes back in this life.
    quarantined: BTreeMap<WorkerId, String>,
    last: u64,
    /// Shared memory with the workers on this host.
    lanes: BTreeMap<WorkerId, Arc<SharedMemory>>,
}

impl WorkerRegistry {
    /// Admits a worker of the same program version and gives it its number. What it says of itself is made
    /// fit to be printed: whoever reaches the port chooses it.
    pub(super) fn admit(&mut self, introduction: Introduction) -> Result<WorkerId, Refused> {
        let introduction = introduction.escaped();
        if introduction.program_version != PROGRAM_VERSION {
            return Err(Refused::Version {
                what: format!("worker {}", introduction.name),
                theirs: introduction.program_version,
                ours: PROGRAM_VERSION,
            });
        }
        if self
            .quarantined
            .values()
            .any(|name| *name == introduction.name)
        {
            return Err(Refused::Quarantined(introduction.name));
        }
        self.last += 1;
        self.members.insert(WorkerId(self.last), introduction);
        self.present.lock().insert(WorkerId(self.last));
        Ok(WorkerId(self.last))
    }

    /// The numbers of the members, at any time.
    pub(super) fn members(&self) -> Members {
        self.present.clone()
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Introduction> {
        self.members.get(&worker)
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Introduction> {
        self.dismissed.remove(&worker);
        self.ineligible.remove(&worker);
        self.lanes.remove(&worker);
        self.present.lock().remove(&worker);
        self.members.remove(&worker)
    }

    /// A lane of `bytes` for a worker's contributions, the one that it has if that will do.
    pub(super) fn open_lane(
        &mut self,
        worker: WorkerId,
        bytes: u64,
    ) -> io::Result<SharedMemoryHandle> {
        let lane = match self.lanes.remove(&worker) {
            Some(lane) if lane.handle().bytes == bytes => lane,
            _ => Arc::new(SharedMemory::create(bytes, true)?),
        };
        let place = lane.handle();
        self.lanes.insert(worker, lane);
        Ok(place)
    }

    pub(super) fn lane(&self, worker: WorkerId) -> Option<Arc<SharedMemory>> {
        self.lanes.get(&worker).cloned()
    }

    /// The job is over, and so are vectors of its size.
    pub(super) fn close_lanes(&mut self) {
        self.lanes.clear();
    }

    /// Removes a worker that gave wrong bits, for good. Gives its name.
    pub(super) fn quarantine(&mut self, worker: WorkerId) -> String {
        let name = self.name(worker);
        self.remove(worker);
        self.quarantined.insert(worker, name.clone());
        name
    }

    /// What a worker in quarantine is told.
    pub(super) fn check_quarantine(&self, worker: WorkerId) -> Result<(), Refused> {
        match self.quarantined.get(&worker) {
            Some(name) => Err(Refused::Quarantined(name.clone())),
            None => Ok(()),
        }
    }

    /// Remembers whether a member may compute for the running job. Says whether that is news.
    pub(super) fn set_eligible(&mut self, worker: WorkerId, eligible: bool) -> bool {
        if eligible {
            self.ineligible.remove(&worker)
        } else {
            self.members.contains_key(&worker) && self.ineligible.insert(worker)
        }
    }

    /// Whether somebody may compute for the running job.
    pub(super) fn has_eligible(&self) -> bool {
        self.ineligible.len() < self.members.len()
    }

    /// Remembers that `worker` was told goodbye.
    pub(super) fn dismiss(&mut self, worker: WorkerId) {
        if self.members.contains_key(&worker) {
            self.dismissed.insert(worker);
        }
    }

    /// Whether nobody is left who waits for a goodbye.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.len() == self.members.len()
    }

    pub(super) fn name(&self, worker: WorkerId) -> String {
        let member = self.members.get(&worker);
        member.map_or_else(|| "gone".to_owned(), |member| member.name.clone())
    }

    /// Names and numbers, for a message.
    pub(super) fn names(&self, workers: &[WorkerId]) -> String {
        let named = workers.iter().map(|&worker| {
            let name = self.name(worker);
            format!("worker {worker} ({name})")
        });
        named.collect::<Vec<_>>().join(" and ")
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Introduction)> {
        self.members
            .iter()
            .map(|(worker, member)| (*worker, member))
    }
}

/// What a worker does, in words.
pub(super) fn doing(key: Option<&Key>) -> String {
    let Some(key) = key else {
        return "idle".to_owned();
    };
    let what = match key.kind {
        PassKind::Gradient => "step",
        PassKind::Evaluation => "evaluation at step",
    };
    format!("{} {what} {} node {}", key.job, key.step, key.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_version_and_a_worker_in_quarantine_are_refused_by_name() {
        let mut registry = WorkerRegistry::default();
        let mut introduction = Introduction {
            name: "ada:1".to_owned(),
            program_version: "0.0.9".to_owned(),
            compute_class: "cpu".to_owned(),
            threads: 1,
        };
        let error = registry
            .admit(introduction.clone())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ada:1 runs unisono 0.0.9") && error.contains(PROGRAM_VERSION),
            "{error}"
        );
        introduction.program_version = PROGRAM_VERSION.to_owned();
        assert_eq!(registry.admit(introduction.clone()).unwrap(), WorkerId(1));
        registry.quarantine(WorkerId(1));
        let error = registry.admit(introduction).unwrap_err().to_string();
        assert!(error.contains("worker ada:1 gave other bits"), "{error}");
    }

    #[test]
    fn what_a_worker_calls_itself_cannot_reach_a_terminal_as_it_is() {
        let mut registry = WorkerRegistry::default();
        let worker = registry
            .admit(Introduction {
                name: format!("\x1b[2J\nworker 9 joined{}", "x".repeat(1000)),
                program_version: PROGRAM_VERSION.to_owned(),
                compute_class: "cpu\u{202e}".to_owned(),
                threads: 1,
            })
            .unwrap();
        let name = registry.name(worker);
        assert!(name.starts_with(r"\u{1b}[2J\nworker 9 joined"), "{name}");
        assert!(name.chars().count() < 200);
        assert_eq!(registry.get(worker).unwrap().compute_class, r"cpu\u{202e}");
    }

    #[test]
    fn who_does_not_fit_is_counted_until_it_fits_or_goes() {
        let mut registry = WorkerRegistry::default();
        let introduction = |name: &str| Introduction {
            name: name.to_owned(),
            program_version: PROGRAM_VERSION.to_owned(),
            compute_class: "cpu".to_owned(),
            threads: 1,
        };
        assert!(!registry.has_eligible());
        let one = registry.admit(introduction("one")).unwrap();
        let two = registry.admit(introduction("two")).unwrap();
        assert!(registry.set_eligible(one, false) && !registry.set_eligible(one, false));
        assert!(registry.has_eligible());
        assert!(registry.set_eligible(two, false));
        assert!(!registry.has_eligible());
        registry.remove(two);
        assert!(!registry.has_eligible());
        assert!(registry.set_eligible(one, true));
        assert!(registry.has_eligible());
        assert!(!registry.set_eligible(WorkerId(99), false));
    }
}
