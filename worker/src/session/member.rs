//! From a welcome to a goodbye: heartbeats beside the loop of leases.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proto::{session::WorkerSession, v1};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{PATIENCE, Session, contact::Contact, error::SessionError, leases::Leases};
use crate::transfer::answer;

/// What the coordinator knows a worker by.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub session: WorkerSession,
    heartbeat: Duration,
}

impl From<v1::Welcome> for Member {
    fn from(welcome: v1::Welcome) -> Self {
        Self {
            session: WorkerSession::from(&welcome),
            heartbeat: Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(20, 60_000))),
        }
    }
}

/// How a membership ended.
pub(super) enum Ended {
    /// For this reason.
    Goodbye(String, v1::Parting),
    Unknown {
        /// The coordinator knew the worker at first.
        served: bool,
    },
}

/// Works until the coordinator says goodbye or does not know the worker any more.
pub(super) async fn serve(session: &Session, member: Member) -> Result<Ended, SessionError> {
    let mut heartbeats = JoinSet::new();
    // A task of its own: nothing that the loop of leases does can hold a heartbeat up.
    heartbeats.spawn(beat(session.contact.clone(), member.clone()));
    let served = AtomicBool::new(false);
    let leases = Leases::new(session, member, &served);
    let ended = tokio::select! {
        ended = leases.run() => Some(ended),
        _ = heartbeats.join_next() => None,
    };
    let served = served.load(Ordering::Relaxed);
    ended.unwrap_or(Ok(Ended::Unknown { served }))
}

/// Ends when the coordinator does not know the worker any more.
async fn beat(contact: Contact, member: Member) {
    let mut clock = tokio::time::interval(member.heartbeat);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heartbeats = contact.heartbeats;
    loop {
        clock.tick().await;
        let request = v1::HeartbeatRequest {
            worker: member.session.worker,
            generation: member.session.generation,
            session: member.session.secret.clone(),
        };
        match answer("Heartbeat", PATIENCE, heartbeats.heartbeat(request)).await {
            Ok(response) if !response.get_ref().known => return,
            Ok(_) => {}
            Err(error) if error.is_without_session() => return,
            // Those who need an answer notice as well, and know how long to wait for it.
            Err(error) => tracing::debug!(%error, "no answer to a heartbeat"),
        }
    }
}
