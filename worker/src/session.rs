//! A worker's session: it joins, asks for leases, computes, hands in, and leaves. It decides when to try again,
//! when to join anew and when to give up; it holds nothing that cannot be lost.

mod account;
mod computing;
mod contact;
mod error;
mod job;
mod lease;
mod leases;
mod load;
mod member;
mod memory;
mod parts;

use std::{sync::Arc, time::Duration};

use proto::{
    endpoint::Credentials,
    session::WorkerSession,
    v1::{self, Parting},
};
use speech::escape::escape_within;
use tokio::sync::watch;

pub use error::SessionError;

use crate::{
    cache::CacheConfig,
    compute::Compute,
    transfer::{CallError, answer},
};
use computing::Computing;
use contact::{Contact, delays};
use load::Loader;
use member::{Ended, Member};

/// How long an answer to a small question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a goodbye may take: the coordinator notices the silence of those who say none.
const GOODBYE: Duration = Duration::from_secs(1);

/// Characters of a reason that a coordinator gives.
const REASON: usize = 2000;

/// What a worker is told by the command line.
pub struct Config {
    /// `http://host:port` or `host:port`.
    pub coordinator: String,
    /// What the worker shows it.
    pub credentials: Credentials,
    /// The device that computes, with its compute class.
    pub compute: Compute,
    /// Threads that it computes with, for people to see.
    pub threads: usize,
    /// For people: host and process, for instance "ada:4711".
    pub name: String,
    /// Where audio and features are kept, and how much of them.
    pub cache: CacheConfig,
    /// How long to look for a coordinator that cannot be reached; `None` for ever.
    pub give_up_after: Option<Duration>,
    /// Turns true when the worker is to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// How a session came to its end without a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The coordinator has no more work, for this reason.
    Dismissed(String),
    /// It was told to stop.
    Stopped,
}

/// A worker at work.
pub struct Session {
    contact: Contact,
    introduction: v1::JoinRequest,
    loader: Arc<Loader>,
    computing: Computing,
}

impl Session {
    /// Works for the coordinator until it says goodbye for good or `shutdown` turns true. One that stops and
    /// is expected back is waited for.
    ///
    /// Once told to stop, it returns within two seconds; what is being computed then is left to a
    /// thread that nobody waits for. Must run on a tokio runtime with more than one thread.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn run(config: Config) -> Result<Farewell, SessionError> {
        let mut shutdown = config.shutdown.clone();
        let session = Self::open(config)?;
        let admitted = watch::Sender::new(None);
        let stop = async {
            if shutdown.wait_for(|stop| *stop).await.is_err() {
                // Nobody is left who could stop it.
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            biased;
            () = stop => None,
            ended = session.work(&admitted) => Some(ended),
        };
        let farewell = match ended {
            Some(Ok(reason)) => return Ok(Farewell::Dismissed(reason)),
            Some(Err(error)) => Err(error),
            None => Ok(Farewell::Stopped),
        };
        let member = admitted.borrow().clone();
        if let Some(member) = member {
            session.leave(member).await;
        }
        farewell
    }

    fn open(config: Config) -> Result<Self, SessionError> {
        Ok(Self {
            contact: Contact::new(
                &config.coordinator,
                &config.credentials,
                config.give_up_after,
            )?,
            introduction: v1::JoinRequest {
                name: config.name,
                program_version: proto::PROGRAM_VERSION.to_owned(),
                compute_class: config.compute.class.clone(),
                threads: u32::try_from(config.threads).unwrap_or(u32::MAX),
            },
            loader: Arc::new(Loader::open(&config.cache)?),
            computing: Computing::start(
                config.compute.device,
                // Hardware has memory of its own.
                memory::limit().filter(|_| !config.compute.hardware),
            )?,
        })
    }

    /// The reason of the coordinator's goodbye.
    async fn work(&self, admitted: &watch::Sender<Option<Member>>) -> Result<String, SessionError> {
        let mut pauses = delays();
        loop {
            let member = self.join().await?;
            admitted.send_replace(Some(member.clone()));
            match member::serve(self, member).await? {
                Ended::Goodbye(reason, Parting::Returns) => {
                    tracing::info!("the coordinator stops ({reason}): waiting for it to come back");
                    admitted.send_replace(None);
                    pauses = delays();
                    tokio::time::sleep(pauses.next().unwrap_or(PATIENCE)).await;
                }
                Ended::Goodbye(reason, Parting::Refused) => {
                    return Err(SessionError::Refused {
                        url: self.contact.url.clone(),
                        reason,
                        may_pass: false,
                    });
                }
                Ended::Goodbye(reason, Parting::Dismissed | Parting::Unspecified) => {
                    return Ok(reason);
                }
                Ended::Unknown { served } => {
                    tracing::info!(
                        "the coordinator does not know this worker any more: joining again"
                    );
                    if served {
                        pauses = delays();
                    }
                    // However often a coordinator forgets, it is not to be flooded.
                    tokio::time::sleep(pauses.next().unwrap_or(PATIENCE)).await;
                }
            }
        }
    }

    async fn join(&self) -> Result<Member, SessionError> {
        let url = &self.contact.url;
        let response = self
            .contact
            .persist(|| {
                let mut control = self.contact.control.clone();
                let introduction = self.introduction.clone();
                async move { answer("Join", PATIENCE, control.join(introduction)).await }
            })
            .await
            .map_err(|error| self.contact.failed(error))?;
        match response.into_inner().outcome {
            Some(v1::join_response::Outcome::Welcome(welcome)) => {
                let member = Member::from(welcome);
                let WorkerSession {
                    worker, generation, ..
                } = member.session;
                tracing::info!(worker, generation, %url, "joined");
                Ok(member)
            }
            Some(v1::join_response::Outcome::Refusal(refusal)) => Err(SessionError::Refused {
                url: url.clone(),
                reason: escape_within(&refusal.reason, REASON),
                may_pass: refusal.may_pass,
            }),
            None => Err(self.contact.failed(CallError::Nonsense {
                call: "Join",
                reason: "neither welcome nor refusal".to_owned(),
            })),
        }
    }

    async fn leave(&self, member: Member) {
        let mut control = self.contact.control.clone();
        let request = v1::LeaveRequest {
            worker: member.session.worker,
            generation: member.session.generation,
            session: member.session.secret,
        };
        if let Err(error) = answer("Leave", GOODBYE, control.leave(request)).await {
            tracing::debug!(%error, "left without the coordinator hearing of it");
        }
    }
}

/// Ids for a message to people: the first few, and how many more.
fn listed<T: AsRef<str>>(ids: &[T]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = ids
        .iter()
        .take(SHOWN)
        .map(|id| format!("`{}`", id.as_ref()))
        .collect();
    if ids.len() > SHOWN {
        shown.push(format!("{} more", ids.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
pub(crate) mod tests;
