//! Failpoints: named places at which a process can be told to kill itself. `UNISONO_CRASH=worker-push:3` kills the
//! process, as `kill -9` does, when it passes that place for the third time: how `unisono verify --chaos` reaches
//! moments that no clock finds. It decides where a process can be told to die; unset, a place costs one comparison.

use std::{
    fmt,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use thiserror::Error;

/// The environment variable that is read.
pub const VARIABLE: &str = "UNISONO_CRASH";

/// Where a process can be told to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failpoint {
    /// A worker has computed a micro-batch of a lease.
    WorkerCompute,
    /// A worker sends a part of a contribution.
    WorkerPush,
    /// A worker has received a part of new weights.
    WorkerPull,
    /// The coordinator has received a part of a contribution.
    CoordinatorReceive,
    /// The coordinator is about to add an accepted contribution.
    CoordinatorReduce,
    /// The coordinator has written a tensor of a checkpoint (or of the final model).
    CoordinatorCheckpoint,
    /// The coordinator has written and synced a checkpoint that is not in its place yet.
    CoordinatorRename,
    /// The coordinator sends a part of new weights to a worker.
    CoordinatorBroadcast,
}

impl Failpoint {
    /// Every failpoint.
    pub const ALL: [Self; 8] = [
        Self::WorkerCompute,
        Self::WorkerPush,
        Self::WorkerPull,
        Self::CoordinatorReceive,
        Self::CoordinatorReduce,
        Self::CoordinatorCheckpoint,
        Self::CoordinatorRename,
        Self::CoordinatorBroadcast,
    ];

    /// The name by which the environment variable orders it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WorkerCompute => "worker-compute",
            Self::WorkerPush => "worker-push",
            Self::WorkerPull => "worker-pull",
            Self::CoordinatorReceive => "coordinator-receive",
            Self::CoordinatorReduce => "coordinator-reduce",
            Self::CoordinatorCheckpoint => "coordinator-checkpoint",
            Self::CoordinatorRename => "coordinator-rename",
            Self::CoordinatorBroadcast => "coordinator-broadcast",
        }
    }
}

/// A death that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where the process dies.
    pub place: Failpoint,
    /// Dies when it passes for the `nth` time, counted from 1.
    pub nth: u32,
}

/// What the environment variable says names no failpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{VARIABLE}={0} is no place to die at; write PLACE or PLACE:N with one of {places}",
    places = Failpoint::ALL.map(Failpoint::name).join(", ")
)]
pub struct UnknownFailpoint(String);

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place.name(), self.nth)
    }
}

impl FromStr for Order {
    type Err = UnknownFailpoint;

    fn from_str(text: &str) -> Result<Self, UnknownFailpoint> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let place = Failpoint::ALL
            .into_iter()
            .find(|place| place.name() == name);
        match (place, nth.parse()) {
            (Some(place), Ok(nth)) if nth > 0 => Ok(Self { place, nth }),
            _ => Err(UnknownFailpoint(text.to_owned())),
        }
    }
}

/// The order of this process's environment.
///
/// # Errors
/// When it names no place.
pub fn ordered() -> Result<Option<Order>, UnknownFailpoint> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    (!text.is_empty()).then(|| text.parse()).transpose()
}

/// Kills this process if it has reached `failpoint` as often as was ordered.
pub fn reach(failpoint: Failpoint) {
    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Some(order) = ORDER.get_or_init(|| ordered().ok().flatten()) else {
        return;
    };
    if order.place == failpoint && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == order.nth {
        die();
    }
}

fn die() -> ! {
    let own = rustix::process::getpid();
    // Nothing is flushed, dropped or said.
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for place in Failpoint::ALL {
            let order = Order { place, nth: 3 };
            assert_eq!(order.to_string().parse(), Ok(order));
            let first = Order { place, nth: 1 };
            assert_eq!(place.name().parse(), Ok(first));
        }
    }

    #[test]
    fn places_have_names_of_their_own() {
        let names: BTreeSet<&str> = Failpoint::ALL.map(Failpoint::name).into();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }

    #[test]
    fn what_is_no_place_is_named_with_those_that_are() {
        for text in ["worker-sleep", "worker-push:0", "worker-push:x", ":1"] {
            let error = text.parse::<Order>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("worker-push"),
                "{error}"
            );
        }
    }
}
