//! Leases that workers return undone: files may be out of reach for a while, or for good. When that ends a run is
//! [`crate::run`]'s to decide, and [`crate::leases`]' where workers say that the data is at fault.

use proto::contribution::Key;
use speech::escape::escape_within;

use super::{Driver, MAX_REASON_CHARS, RunError};
use crate::{
    leases::{Input, WorkerId},
    records::events::Event,
    run,
};

/// A lease that was returned undone.
#[derive(Clone, Debug)]
pub(super) struct Returned {
    pub worker: WorkerId,
    pub name: String,
    pub step: u64,
    pub node: String,
    pub reason: String,
}

impl Driver {
    pub(super) fn given_back(&mut self, worker: WorkerId, key: Key, reason: String, fatal: bool) {
        let returned = Returned {
            worker,
            name: self.registry.name(worker),
            step: key.step,
            node: key.node.to_string(),
            reason: escape_within(&reason, MAX_REASON_CHARS),
        };
        // Only who was leased the node can return it.
        let current = self.is_current(&key) && self.scheduler.expects(worker, &key);
        if current && let Some(run) = &mut self.run {
            run.last.returned = Some(returned);
        }
        let before = self.scheduler.counters().given_back;
        self.tell(Input::GivenBack { worker, key, fatal });
        let returned = self.scheduler.counters().given_back > before;
        if current && returned {
            self.advance(run::Input::Returned);
        }
    }

    /// The data is at fault, as the lease that was returned last says.
    pub(super) fn fail_over_data(&mut self) {
        let Some(returned) = self.run.as_ref().and_then(|run| run.last.returned.clone()) else {
            return;
        };
        let Returned {
            worker,
            name,
            step,
            node,
            reason,
        } = returned;
        tracing::warn!(
            worker = worker.0,
            name,
            node,
            "a lease was returned: {reason}"
        );
        self.fail(RunError::Data {
            worker: worker.0,
            name,
            step,
            reason,
        });
    }

    /// Tells of the lease that was returned last, after `more` that were not told.
    pub(super) fn tell_return(&mut self, more: u64) {
        let Some(returned) = self.run.as_ref().and_then(|run| run.last.returned.clone()) else {
            return;
        };
        let Returned {
            worker,
            name,
            node,
            reason,
            ..
        } = returned;
        tracing::warn!(
            worker = worker.0,
            name,
            node,
            more,
            "a lease was returned: {reason}"
        );
        self.note(Event::GivenBack {
            worker: worker.0,
            node,
            reason,
            more,
        });
    }
}
