//! From a welcome to a goodbye: heartbeats beside the loop of leases. It holds one lease at a time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{
    contribution::Key,
    v1::{self, lease_response::Answer, receipt},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::MissedTickBehavior,
};

use super::{
    PATIENCE, Session,
    computing::{ComputingError, Outcome, Task},
    contact::{Contact, delays},
    error::SessionError,
    job::Job,
    lease::Lease,
    load::LoadError,
};
use crate::{
    gradient::GradientError,
    transfer::{CallError, answer},
};

/// How long a coordinator may sit on a request for a lease.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);
/// Micro-batches that are made ready ahead of the one that is computed.
const AHEAD: usize = 2;

/// What the coordinator knows a worker by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub worker: u64,
    pub generation: u64,
    heartbeat: Duration,
}

impl From<v1::Welcome> for Member {
    fn from(welcome: v1::Welcome) -> Self {
        Self {
            worker: welcome.worker,
            generation: welcome.generation,
            heartbeat: Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(20, 60_000))),
        }
    }
}

/// How a membership ended.
pub(super) enum Ended {
    Goodbye(String),
    Unknown {
        /// The coordinator knew the worker at first.
        served: bool,
    },
}

/// Why a lease goes back.
enum Undone {
    /// The job's fault: every worker would meet it.
    Fatal(String),
    /// Another attempt, here or elsewhere, may do.
    Retry(String),
    /// The session cannot go on.
    Ends(SessionError),
}

/// Works until the coordinator says goodbye or does not know the worker any more.
pub(super) async fn serve(session: &Session, member: Member) -> Result<Ended, SessionError> {
    let mut heartbeats = JoinSet::new();
    // A task of its own: nothing that the loop of leases does can hold a heartbeat up.
    heartbeats.spawn(beat(session.contact.clone(), member));
    let mut leases = Leases {
        session,
        member,
        job: None,
        weights: None,
        served: false,
    };
    let ended = tokio::select! {
        ended = leases.run() => Some(ended),
        _ = heartbeats.join_next() => None,
    };
    let served = leases.served;
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
            worker: member.worker,
            generation: member.generation,
        };
        match answer("Heartbeat", PATIENCE, heartbeats.heartbeat(request)).await {
            Ok(response) if !response.get_ref().known => return,
            Ok(_) => {}
            // Those who need an answer notice as well, and know how long to wait for it.
            Err(error) => tracing::debug!(%error, "no answer to a heartbeat"),
        }
    }
}

/// The weights that the computing thread holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    job: String,
    generation: u64,
    step: u64,
}

struct Leases<'a> {
    session: &'a Session,
    member: Member,
    job: Option<Arc<Job>>,
    weights: Option<Version>,
    served: bool,
}

impl Leases<'_> {
    async fn run(&mut self) -> Result<Ended, SessionError> {
        let mut pauses = delays();
        loop {
            let lease = match self.ask().await? {
                Answer::Idle(v1::Idle {}) => {
                    self.served = true;
                    continue;
                }
                Answer::Goodbye(v1::Goodbye { reason }) => {
                    return Ok(Ended::Goodbye(reason));
                }
                Answer::Unknown(v1::Unknown {}) => {
                    let served = self.served;
                    return Ok(Ended::Unknown { served });
                }
                Answer::Lease(lease) => lease,
            };
            self.served = true;
            let key = lease.key.clone();
            let (reason, fatal, ends) = match self.take(lease).await {
                Ok(()) => {
                    pauses = delays();
                    continue;
                }
                Err(Undone::Fatal(reason)) => (reason, true, None),
                Err(Undone::Retry(reason)) => (reason, false, None),
                Err(Undone::Ends(error)) => (error.to_string(), false, Some(error)),
            };
            tracing::warn!(reason, fatal, "giving a lease back");
            give_back(&self.session.contact, self.member, key, reason, fatal).await;
            if let Some(error) = ends {
                return Err(error);
            }
            // The same lease may come again at once.
            tokio::time::sleep(pauses.next().unwrap_or(PATIENCE)).await;
        }
    }

    async fn ask(&self) -> Result<Answer, SessionError> {
        let contact = &self.session.contact;
        let request = v1::LeaseRequest {
            worker: self.member.worker,
            generation: self.member.generation,
            patience_ms: LEASE_PATIENCE.as_millis() as u32,
        };
        // Asked again after silence, a coordinator may grant a second lease; the first expires.
        let response =
            contact
                .persist(|| {
                    let mut control = contact.control.clone();
                    async move {
                        answer("Lease", LEASE_PATIENCE + PATIENCE, control.lease(request)).await
                    }
                })
                .await
                .map_err(|error| contact.failed(error))?;
        response.into_inner().answer.ok_or_else(|| {
            contact.failed(CallError::Nonsense {
                call: "Lease",
                reason: "it is empty".to_owned(),
            })
        })
    }

    /// Computes a lease and hands its result in.
    async fn take(&mut self, lease: v1::Lease) -> Result<(), Undone> {
        let lease = Lease::try_from(lease)
            .map_err(|error| Undone::Retry(format!("the lease makes no sense: {error}")))?;
        let key = lease.key.clone();
        let contact = self.session.contact.clone();
        let outcome = self.compute(lease).await?;
        match outcome {
            Outcome::Gradient { header, vector } => {
                // To the coordinator, whoever asks for work holds no lease any more: what is on its
                // way has to arrive first.
                push(&contact, self.member, key, header, vector).await;
            }
            Outcome::Evaluation(report) => {
                let call = || {
                    let mut control = contact.control.clone();
                    let report = report.clone();
                    async move { answer("Report", PATIENCE, control.report(report)).await }
                };
                let receipt = contact.persist(call).await;
                let receipt = receipt.map_err(|error| self.undone(error))?;
                note(&key, receipt.get_ref().outcome());
            }
        }
        Ok(())
    }

    async fn compute(&mut self, lease: Lease) -> Result<Outcome, Undone> {
        let job = self.job(&lease.key.job).await?;
        let (ready, micro_batches) = mpsc::channel(AHEAD);
        let session = self.session;
        // Audio and weights come at the same time.
        let load = async {
            let loaded = session
                .loader
                .load(&session.contact, &job, &lease, ready)
                .await;
            loaded.map_err(|error| match error {
                LoadError::Data(reason) => Undone::Fatal(reason),
                LoadError::Call(error) => undone(session, error),
            })
        };
        let compute = async {
            let weights = self.pull(&lease.key, job.spec.elements()).await?;
            let (done, outcome) = oneshot::channel();
            session.computing.hand_over(Task {
                worker: self.member.worker,
                job: Arc::clone(&job),
                lease: lease.clone(),
                weights,
                micro_batches,
                done,
            });
            match outcome.await {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(error)) => Err(miscomputed(&error)),
                Err(_) => Err(Undone::Ends(SessionError::Computing {
                    reason: "the thread that computes has ended; what it said last is above"
                        .to_owned(),
                })),
            }
        };
        let ((), outcome) = tokio::try_join!(load, compute)?;
        Ok(outcome)
    }

    /// What is known of a job, asked for once.
    async fn job(&mut self, id: &str) -> Result<Arc<Job>, Undone> {
        if let Some(job) = self.job.as_ref().filter(|job| job.id == id) {
            return Ok(Arc::clone(job));
        }
        let contact = &self.session.contact;
        let description = contact
            .persist(|| {
                let mut control = contact.control.clone();
                let job = id.to_owned();
                let request = v1::DescribeJobRequest { job };
                async move { answer("DescribeJob", PATIENCE, control.describe_job(request)).await }
            })
            .await
            .map_err(|error| self.undone(error))?;
        let json = description.into_inner().recipe_json;
        let job = Arc::new(Job::new(id.to_owned(), &json).map_err(Undone::Fatal)?);
        self.weights = None;
        self.job = Some(Arc::clone(&job));
        Ok(job)
    }

    /// The weights of `key`'s step, unless the computing thread holds them.
    async fn pull(&mut self, key: &Key, elements: usize) -> Result<Option<Vec<f32>>, Undone> {
        let version = Version {
            job: key.job.clone(),
            generation: key.generation,
            step: key.step,
        };
        if self.weights.as_ref() == Some(&version) {
            return Ok(None);
        }
        let contact = &self.session.contact;
        let weights = contact
            .persist(|| contact.tensors.pull(key, elements))
            .await
            .map_err(|error| undone(self.session, error))?;
        self.weights = Some(version);
        Ok(Some(weights))
    }

    fn undone(&self, error: CallError) -> Undone {
        undone(self.session, error)
    }
}

fn undone(session: &Session, error: CallError) -> Undone {
    if error.is_lost() {
        Undone::Ends(session.contact.failed(error))
    } else {
        Undone::Retry(error.to_string())
    }
}

fn miscomputed(error: &ComputingError) -> Undone {
    let reason = error.to_string();
    match error {
        // A device that has failed once is not to be trusted with the next lease.
        ComputingError::Compute {
            source: GradientError::Device(_),
            ..
        } => Undone::Ends(SessionError::Computing { reason }),
        ComputingError::Compute { .. } => Undone::Fatal(reason),
        ComputingError::Weights(_) | ComputingError::Incomplete => Undone::Retry(reason),
    }
}

async fn push(
    contact: &Contact,
    member: Member,
    key: Key,
    header: v1::ContributionHeader,
    vector: Bytes,
) {
    let call = || contact.tensors.push(header.clone(), vector.clone());
    match contact.persist(call).await {
        Ok(outcome) => note(&key, outcome),
        Err(error) => {
            tracing::warn!(%error, node = %key.node, step = key.step, "a contribution was not taken");
            let reason = error.to_string();
            give_back(contact, member, Some(key.into()), reason, false).await;
        }
    }
}

/// Tried once: a lease that does not come back expires.
async fn give_back(
    contact: &Contact,
    member: Member,
    key: Option<v1::Key>,
    reason: String,
    fatal: bool,
) {
    let request = v1::GiveBackRequest {
        worker: member.worker,
        key,
        reason,
        fatal,
    };
    let mut control = contact.control.clone();
    if let Err(error) = answer("GiveBack", PATIENCE, control.give_back(request)).await {
        tracing::debug!(%error, "a lease could not be given back");
    }
}

fn note(key: &Key, outcome: receipt::Outcome) {
    match outcome {
        receipt::Outcome::Differs => tracing::warn!(
            step = key.step, node = %key.node,
            "another worker computed other bits for this node: see the coordinator's events"
        ),
        other => tracing::debug!(step = key.step, node = %key.node, outcome = ?other, "handed in"),
    }
}
