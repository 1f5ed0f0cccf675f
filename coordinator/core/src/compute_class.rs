//! Which workers may compute for a job: those of one compute class (backend, adapter and driver or CPU feature level, and
//! program version), because workers of one class give equal bits. A job is pinned to the class of the worker whose
//! contribution is the first that is accepted: one that asks for work and does none decides nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which workers may compute for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeClassPolicy {
    /// Workers of the compute class of the first one that contributes, so that the bits are the same on any number of
    /// them.
    #[default]
    Pinned,
    /// Any worker: mixed hardware, without bit-identity.
    Any,
}

/// What a run knows of its compute class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin<'a> {
    /// The job's policy.
    pub policy: ComputeClassPolicy,
    /// The class of the workers so far; `None` before the first contribution.
    pub pinned: Option<&'a str>,
    /// The job was resumed with leave to go on with another class: the next worker that contributes decides.
    pub may_change: bool,
}

/// What follows for the run's class when a worker's contribution is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// The class stays what it is.
    Unchanged,
    /// The class stays what it is, and may not change any more: workers of other classes may not compute from here on.
    Confirmed,
    /// The worker's class is the run's from here on.
    Pinned {
        /// Bits may differ from those of the steps before: the job is pinned, and had another class.
        breaks_promise: bool,
    },
}

impl<'a> Pin<'a> {
    /// The class that a worker has to be of; `None` where any worker may compute.
    pub fn required(&self) -> Option<&'a str> {
        match self.policy {
            ComputeClassPolicy::Pinned if !self.may_change => self.pinned,
            ComputeClassPolicy::Pinned | ComputeClassPolicy::Any => None,
        }
    }

    /// Whether the next contribution that is accepted decides the class.
    pub fn is_open(&self) -> bool {
        self.pinned.is_none() || self.may_change
    }

    /// What follows when a contribution of a worker of `class`, which may compute, is accepted.
    pub fn accepted_from(&self, class: &str) -> Pinning {
        match self.pinned {
            None => Pinning::Pinned {
                breaks_promise: false,
            },
            Some(pinned) if self.may_change && pinned != class => Pinning::Pinned {
                breaks_promise: self.policy == ComputeClassPolicy::Pinned,
            },
            Some(_) if self.may_change => Pinning::Confirmed,
            Some(_) => Pinning::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_pinned_to_the_class_of_the_first_worker_that_contributes() {
        use ComputeClassPolicy::{Any, Pinned};
        let first = Pinning::Pinned {
            breaks_promise: false,
        };
        let changed = Pinning::Pinned {
            breaks_promise: true,
        };
        for (policy, pinned, may_change, required, same, other) in [
            // (policy, class so far, may it change) leads to (class required, contribution of the same class, of another one)
            (Pinned, None, false, None, first, first),
            (Pinned, None, true, None, first, first),
            (
                Pinned,
                Some("avx2"),
                false,
                Some("avx2"),
                Pinning::Unchanged,
                Pinning::Unchanged,
            ),
            (
                Pinned,
                Some("avx2"),
                true,
                None,
                Pinning::Confirmed,
                changed,
            ),
            (Any, None, false, None, first, first),
            (
                Any,
                Some("avx2"),
                false,
                None,
                Pinning::Unchanged,
                Pinning::Unchanged,
            ),
            (Any, Some("avx2"), true, None, Pinning::Confirmed, first),
        ] {
            let pin = Pin {
                policy,
                pinned,
                may_change,
            };
            assert_eq!(pin.required(), required, "{pin:?}");
            assert_eq!(pin.is_open(), pinned.is_none() || may_change, "{pin:?}");
            assert_eq!(pin.accepted_from("avx2"), same, "{pin:?}");
            assert_eq!(pin.accepted_from("wgpu"), other, "{pin:?}");
        }
    }
}
