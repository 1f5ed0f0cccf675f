//! A worker's session: the number and the secret of its admission, which its calls carry. It decides nothing;
//! whether a session is one that was given is the coordinator's to check.

use std::fmt;

use bytes::Bytes;

use crate::v1;

/// What a worker was admitted with. It outlives the connection: a worker whose network broke goes on with it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WorkerSession {
    /// The number of the admission.
    pub worker: u64,
    /// Counts the coordinator's starts.
    pub generation: u64,
    /// Known to this worker and the coordinator alone.
    pub secret: Bytes,
}

impl From<&v1::Welcome> for WorkerSession {
    fn from(welcome: &v1::Welcome) -> Self {
        Self {
            worker: welcome.worker,
            generation: welcome.generation,
            secret: welcome.session.clone(),
        }
    }
}

/// Without the secret: it is written to logs.
impl fmt::Debug for WorkerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worker, generation, ..
        } = self;
        f.debug_struct("WorkerSession")
            .field("worker", worker)
            .field("generation", generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_does_not_show_its_secret() {
        let session = WorkerSession::from(&v1::Welcome {
            worker: 4,
            session: Bytes::from_static(b"hidden"),
            ..v1::Welcome::default()
        });
        let shown = format!("{session:?}");
        let bytes = format!("{:?}", b"hidden");
        assert!(shown.contains("worker: 4"), "{shown}");
        assert!(
            !shown.contains("hidden") && !shown.contains(&bytes),
            "{shown}"
        );
    }
}
