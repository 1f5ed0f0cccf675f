//! The leases of a worker, two at a time: while one is handed in or comes to its end, the next is asked
//! for and made ready. It decides when to ask and what becomes of a lease that cannot be done; it
//! does not depend on how anything is computed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proto::{
    contribution::Key,
    session::WorkerSession,
    v1::{self, lease_response::Answer, receipt},
};
use speech::escape::escape_within;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    PATIENCE, REASON, Session,
    account::{Before, Stretch},
    computing::{ComputingError, LeaseResult, LeaseTask},
    contact::{Contact, delays},
    error::SessionError,
    job::Job,
    lease::Lease,
    load::LoadError,
    member::{Ended, Member},
    parts,
};
use crate::{
    gradient::GradientError,
    network::outputs::NetworkError,
    transfer::{CallError, PulledWeights, Vector, answer},
};

/// How long a coordinator may sit on a request for a lease.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);
/// Micro-batches of a lease that are made ready ahead of the one that is computed.
const AHEAD: usize = 2;
/// Leases at once: one is handed in, or in its last micro-batch, while the next one begins.
const MOST: usize = 2;

/// Why a lease goes back.
enum Undone {
    /// The job's fault: every worker would meet it.
    Fatal(String),
    /// Another attempt, here or elsewhere, may do.
    Retry(String),
    /// The session cannot go on.
    Ends(SessionError),
}

/// The weights that the computing thread holds, or will when it comes to the next lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    job: String,
    generation: u64,
    step: u64,
    averaged: bool,
}

/// What leases are computed with.
#[derive(Default)]
struct Held {
    job: Option<Arc<Job>>,
    weights: Option<Version>,
}

pub(super) struct Leases<'a> {
    session: &'a Session,
    /// As the member that it is.
    contact: Contact,
    member: Member,
    /// The coordinator knew the worker at first.
    served: &'a AtomicBool,
    /// Locked until a lease is handed to the thread that computes: they reach it in order.
    held: Mutex<Held>,
    /// Locked while a result is handed in: one at a time.
    handing_in: Mutex<()>,
    /// When the last ones were, the newest at the end.
    handed_in: std::sync::Mutex<VecDeque<HandedIn>>,
}

struct HandedIn {
    began: Instant,
    /// Absent while it goes on.
    ended: Option<Instant>,
}

/// A lease on its way from being granted to being handed in.
struct UnderWay {
    number: u64,
    result: Result<(), Undone>,
}

impl<'a> Leases<'a> {
    pub(super) fn new(session: &'a Session, member: Member, served: &'a AtomicBool) -> Self {
        let mut contact = session.contact.clone();
        contact.tensors = contact.tensors.of(member.session.clone());
        Self {
            session,
            contact,
            member,
            served,
            held: Mutex::default(),
            handing_in: Mutex::default(),
            handed_in: std::sync::Mutex::default(),
        }
    }

    pub(super) async fn run(&self) -> Result<Ended, SessionError> {
        let mut pauses = delays();
        let mut pause: Option<BoxFuture<()>> = None;
        let mut asking: Option<BoxFuture<Result<Answer, SessionError>>> = None;
        let mut ending: Option<oneshot::Receiver<()>> = None;
        let mut under_way = FuturesUnordered::new();
        let mut keys: BTreeMap<u64, Option<v1::Key>> = BTreeMap::new();
        let mut number = 0;
        // Why there was nothing to do when it was asked last.
        let mut idle = String::new();
        loop {
            let free = under_way.len() < MOST && ending.is_none() && pause.is_none();
            if free && asking.is_none() {
                let holds = keys.values().flatten().cloned().collect();
                asking = Some(self.ask(holds).boxed());
            }
            tokio::select! {
                answer = ready(&mut asking) => match answer? {
                    Answer::Idle(v1::Idle { reason }) => {
                        self.served.store(true, Ordering::Relaxed);
                        if !reason.is_empty() && reason != idle {
                            tracing::info!("waiting: {}", escape_within(&reason, REASON));
                        }
                        idle = reason;
                    }
                    Answer::Goodbye(goodbye) => {
                        let parting = goodbye.parting();
                        let reason = escape_within(&goodbye.reason, REASON);
                        return Ok(Ended::Goodbye(reason, parting));
                    }
                    Answer::Unknown(v1::Unknown {}) => {
                        let served = self.served.load(Ordering::Relaxed);
                        return Ok(Ended::Unknown { served });
                    }
                    Answer::Lease(lease) => {
                        idle.clear();
                        self.served.store(true, Ordering::Relaxed);
                        number += 1;
                        keys.insert(number, lease.key.clone());
                        let (ends, last) = oneshot::channel();
                        ending = Some(last);
                        under_way.push(async move {
                            let result = self.take(lease, ends).await;
                            UnderWay { number, result }
                        });
                    }
                },
                Some(UnderWay { number, result }) = under_way.next() => {
                    let key = keys.remove(&number).flatten();
                    let Err(undone) = result else {
                        pauses = delays();
                        continue;
                    };
                    self.give_back(key, undone).await?;
                    // The same lease may come again at once.
                    let delay = pauses.next().unwrap_or(PATIENCE);
                    pause = Some(tokio::time::sleep(delay).boxed());
                }
                // Told, or the lease came to nothing: the next one may begin.
                _ = ready(&mut ending) => {}
                () = ready(&mut pause) => {}
            }
        }
    }

    async fn ask(&self, holds: Vec<v1::Key>) -> Result<Answer, SessionError> {
        let contact = &self.contact;
        let WorkerSession {
            worker,
            generation,
            secret,
        } = self.member.session.clone();
        let request = v1::LeaseRequest {
            worker,
            generation,
            patience_ms: LEASE_PATIENCE.as_millis() as u32,
            holds,
            session: secret,
        };
        // Asked again after silence, a coordinator may grant a second lease; the first expires.
        let response =
            contact
                .persist(|| {
                    let (mut control, request) = (contact.control.clone(), request.clone());
                    async move {
                        answer("Lease", LEASE_PATIENCE + PATIENCE, control.lease(request)).await
                    }
                })
                .await;
        let response = match response {
            Err(error) if error.is_without_session() => return Ok(Answer::Unknown(v1::Unknown {})),
            response => response.map_err(|error| contact.failed(error))?,
        };
        response.into_inner().answer.ok_or_else(|| {
            contact.failed(CallError::Nonsense {
                call: "Lease",
                reason: "it is empty".to_owned(),
            })
        })
    }

    /// Computes a lease and hands its result in.
    async fn take(&self, lease: v1::Lease, ending: oneshot::Sender<()>) -> Result<(), Undone> {
        let control = self.contact.control.clone();
        let lease = parts::whole_lease(control, self.member.session.clone(), lease).await;
        let lease = Lease::try_from(lease.map_err(|error| self.undone(error))?)
            .map_err(|error| Undone::Retry(format!("the lease makes no sense: {error}")))?;
        let key = lease.key.clone();
        let outcome = self.compute(lease, ending).await?;
        let _one_at_a_time = self.handing_in.lock().await;
        self.begin_handing_in();
        let handed_in = self.hand_in(key, outcome).await;
        self.end_handing_in();
        handed_in
    }

    async fn hand_in(&self, key: Key, outcome: LeaseResult) -> Result<(), Undone> {
        let contact = &self.contact;
        match outcome {
            LeaseResult::Gradient { header, vector } => {
                push(contact, &self.member, key, header, vector).await;
            }
            LeaseResult::Evaluation(report) => {
                let call = || {
                    let (control, report) = (contact.control.clone(), report.clone());
                    parts::report(control, report)
                };
                let receipt = contact.persist(call).await;
                let receipt = receipt.map_err(|error| self.undone(error))?;
                note(&key, receipt.outcome());
            }
        }
        Ok(())
    }

    async fn compute(
        &self,
        lease: Lease,
        ending: oneshot::Sender<()>,
    ) -> Result<LeaseResult, Undone> {
        let mut held = self.held.lock().await;
        let job = self.job(&mut held, &lease.key.job).await?;
        let (ready, micro_batches) = mpsc::channel(AHEAD);
        let session = self.session;
        // Audio and weights come at the same time.
        let load = async {
            let loaded = session
                .loader
                .load(&self.contact, &job, &lease, ready)
                .await;
            loaded.map_err(|error| match error {
                LoadError::Data(reason) => Undone::Fatal(reason),
                LoadError::System(reason) => Undone::Retry(reason),
                LoadError::Call(error) => self.undone(error),
            })
        };
        let compute = async {
            let began = Instant::now();
            let weights = self.pull(&mut held, &lease, &job).await?;
            let now = Instant::now();
            let before = Before {
                pulled: weights.is_some().then_some(Stretch { began, ended: now }),
                pushed: self.handed_in(now),
            };
            let (done, outcome) = oneshot::channel();
            session.computing.hand_over(LeaseTask {
                worker: self.member.session.clone(),
                job: Arc::clone(&job),
                lease: lease.clone(),
                weights,
                micro_batches,
                before,
                ending,
                done,
            });
            drop(held);
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
    async fn job(&self, held: &mut Held, id: &str) -> Result<Arc<Job>, Undone> {
        if let Some(job) = held.job.as_ref().filter(|job| job.id == id) {
            return Ok(Arc::clone(job));
        }
        let contact = &self.contact;
        let description = contact
            .persist(|| {
                parts::describe(
                    contact.control.clone(),
                    self.member.session.clone(),
                    id.to_owned(),
                )
            })
            .await
            .map_err(|error| self.undone(error))?;
        let job = Job::new(id.to_owned(), &description).map_err(Undone::Fatal)?;
        let job = Arc::new(job);
        held.weights = None;
        held.job = Some(Arc::clone(&job));
        Ok(job)
    }

    /// The weights that `lease` is about, unless the computing thread holds them.
    async fn pull(
        &self,
        held: &mut Held,
        lease: &Lease,
        job: &Job,
    ) -> Result<Option<PulledWeights>, Undone> {
        let Lease { key, averaged, .. } = lease;
        let version = Version {
            job: key.job.clone(),
            generation: key.generation,
            step: key.step,
            averaged: *averaged,
        };
        if held.weights.as_ref() == Some(&version) {
            return Ok(None);
        }
        let contact = &self.contact;
        let elements = job.spec.elements();
        let weights = contact
            .persist(|| contact.tensors.pull(key, *averaged, elements, job.wire))
            .await
            .map_err(|error| self.undone(error))?;
        held.weights = Some(version);
        Ok(Some(weights))
    }

    fn begin_handing_in(&self) {
        let mut last = self.handings();
        if last.len() == MOST {
            last.pop_front();
        }
        last.push_back(HandedIn {
            began: Instant::now(),
            ended: None,
        });
    }

    fn end_handing_in(&self) {
        if let Some(last) = self.handings().back_mut() {
            last.ended = Some(Instant::now());
        }
    }

    /// When results were handed in last; one that is under way has come so far by `now`.
    fn handed_in(&self, now: Instant) -> Vec<Stretch> {
        let last = self.handings();
        let stretch = |one: &HandedIn| Stretch {
            began: one.began,
            ended: one.ended.unwrap_or(now),
        };
        last.iter().map(stretch).collect()
    }

    fn handings(&self) -> MutexGuard<'_, VecDeque<HandedIn>> {
        // Nothing panics while it is held.
        let locked = self.handed_in.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    async fn give_back(&self, key: Option<v1::Key>, undone: Undone) -> Result<(), SessionError> {
        let (reason, fatal, ends) = match undone {
            Undone::Fatal(reason) => (reason, true, None),
            Undone::Retry(reason) => (reason, false, None),
            Undone::Ends(error) => (error.to_string(), false, Some(error)),
        };
        tracing::warn!(reason, fatal, "giving a lease back");
        let reason = parts::shown(reason);
        give_back(&self.contact, &self.member, key, reason, fatal).await;
        ends.map_or(Ok(()), Err)
    }

    /// What it means for a lease that a call failed.
    fn undone(&self, error: CallError) -> Undone {
        if error.is_lost() {
            Undone::Ends(self.contact.failed(error))
        } else {
            Undone::Retry(error.to_string())
        }
    }
}

/// What comes of `waited`, which is then over; never, when there is nothing to wait for.
async fn ready<F: Future + Unpin>(waited: &mut Option<F>) -> F::Output {
    let Some(future) = waited else {
        return std::future::pending().await;
    };
    let output = future.await;
    *waited = None;
    output
}

fn miscomputed(error: &ComputingError) -> Undone {
    let reason = error.to_string();
    match error {
        // A device that has failed once is not to be trusted with the next lease.
        ComputingError::Compute {
            source: GradientError::Network(NetworkError::Device(_)),
            ..
        } => Undone::Ends(SessionError::Computing { reason }),
        // A machine with more memory may do.
        ComputingError::Compute {
            source: GradientError::Memory { .. },
            ..
        } => Undone::Retry(reason),
        ComputingError::Compute { .. } => Undone::Fatal(reason),
        ComputingError::TooLarge { .. }
        | ComputingError::Weights(_)
        | ComputingError::Incomplete => Undone::Retry(reason),
    }
}

/// To the coordinator, a lease that is asked past is lost: what is handed in has to arrive.
async fn push(
    contact: &Contact,
    member: &Member,
    key: Key,
    header: v1::ContributionHeader,
    vector: Vector,
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
    member: &Member,
    key: Option<v1::Key>,
    reason: String,
    fatal: bool,
) {
    let request = v1::GiveBackRequest {
        worker: member.session.worker,
        session: member.session.secret.clone(),
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
