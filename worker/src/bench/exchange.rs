//! A worker that computes nothing: it takes leases, hands made-up gradients in and pulls weights, by
//! the transfer that every worker uses. It decides what its gradient is; when it is handed in, and
//! what is timed, is its caller's.

use std::time::{Duration, Instant};

use proto::{
    PROGRAM_VERSION,
    contribution::{Contribution, Key, PassKind},
    endpoint::{Connection, Credentials},
    session::WorkerSession,
    v1::{self, join_response, lease_response::Answer, receipt, workers_client::WorkersClient},
    wire::Wire,
};
use speech::{
    error_class::{Class, Classify},
    random::Stream,
};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::transfer::{CallError, PulledWeights, Transfer, Vector, answer};

const PATIENCE: Duration = Duration::from_secs(15);
/// Before the next question, where the answer was of no use.
const PAUSE: Duration = Duration::from_millis(20);

/// Why an exchange cannot be measured.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ExchangeError {
    #[error("`{url}` is no address of a coordinator: {reason}")]
    Url { url: String, reason: String },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    #[error("the coordinator sends what makes no sense: {0}")]
    Nonsense(String),
    #[error("a contribution came to {0:?}")]
    NotTaken(receipt::Outcome),
}

impl Classify for ExchangeError {
    fn class(&self) -> Class {
        match self {
            Self::Url { .. } | Self::Refused(_) => Class::Data,
            Self::Call(_) | Self::Nonsense(_) | Self::NotTaken(_) => Class::Infrastructure,
        }
    }
}

/// A node to hand a gradient in for.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The step of the job: the version of the weights.
    pub step: u64,
    /// Micro-batches of the node.
    pub micro_batches: usize,
    /// Seconds from the question to the lease.
    pub wait_s: f64,
    /// Seconds from the lease to the weights as one vector.
    pub pull_s: f64,
}

/// A worker of a measurement.
pub struct Exchange {
    control: WorkersClient<Connection>,
    tensors: Transfer,
    session: WorkerSession,
    heart: JoinHandle<()>,
    lease: Option<Key>,
    weights: Option<PulledWeights>,
    numbers: Contribution,
    vector: Vector,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

impl Exchange {
    /// Joins the coordinator at `url` as `name`, for a job whose vectors have `elements` that travel by
    /// `wire`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn join(
        url: &str,
        credentials: &Credentials,
        name: String,
        elements: usize,
        wire: Wire,
    ) -> Result<Self, ExchangeError> {
        // Before anything is leased: it takes longer than all the rest.
        let vector = made_up(elements, wire);
        let endpoint = proto::endpoint::coordinator(url, credentials);
        let endpoint = endpoint.map_err(|error| ExchangeError::Url {
            url: url.to_owned(),
            reason: error.to_string(),
        })?;
        let connect = || endpoint.connect_lazy();
        let request = v1::JoinRequest {
            name,
            program_version: PROGRAM_VERSION.to_owned(),
            compute_class: "made up".to_owned(),
            threads: 1,
        };
        let mut control = WorkersClient::new(connect());
        let joined = answer("Join", PATIENCE, control.join(request)).await?;
        let welcome = match joined.into_inner().outcome {
            Some(join_response::Outcome::Welcome(welcome)) => welcome,
            Some(join_response::Outcome::Refusal(refusal)) => {
                return Err(ExchangeError::Refused(refusal.reason));
            }
            None => return Err(ExchangeError::Nonsense("an empty welcome".to_owned())),
        };
        let beat = v1::HeartbeatRequest {
            worker: welcome.worker,
            generation: welcome.generation,
            session: welcome.session.clone(),
        };
        let session = WorkerSession::from(&welcome);
        let mut heartbeats = WorkersClient::new(connect());
        let every = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(20)));
        let heart = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // The next one may arrive.
                let _ = heartbeats.heartbeat(beat.clone()).await;
            }
        });
        Ok(Self {
            control,
            tensors: Transfer::new(connect()).of(session.clone()),
            session,
            heart,
            lease: None,
            weights: None,
            numbers: Contribution {
                weight: 1.0,
                loss: 1.0,
                utterances: 1,
                wire,
                ..Contribution::default()
            },
            vector,
        })
    }

    /// Waits for a lease and pulls the weights that it is computed from. `None` once there is no more
    /// to do.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn next(&mut self) -> Result<Option<Leased>, ExchangeError> {
        let asked = Instant::now();
        let (key, micro_batches) = loop {
            let Some(lease) = self.ask().await? else {
                return Ok(None);
            };
            let key = lease.key.clone().and_then(|key| Key::try_from(key).ok());
            let key = key.filter(|key| key.kind == PassKind::Gradient);
            let Some(key) = key else {
                return Err(ExchangeError::Nonsense("a lease of nothing".to_owned()));
            };
            // The coordinator checks them against what it has leased; each utterance has at least one frame.
            let utterances = lease.micro_batches.iter().map(|one| one.utterances.len());
            let utterances: usize = utterances.sum();
            self.numbers.utterances = utterances as u64;
            self.numbers.frames = utterances as u64;
            self.numbers.weight = utterances as f64;
            if self.lease.as_ref().is_none_or(|held| held.step != key.step) {
                break (key, lease.micro_batches.len());
            }
            // Another worker is late, in the coordinator's eyes, with a node of the step that this one
            // has done its part of. Who asks again without holding it has let go of it.
            tokio::time::sleep(PAUSE).await;
        };
        let wait_s = asked.elapsed().as_secs_f64();
        let (elements, wire) = (self.vector.values.len(), self.vector.wire);
        let leased = Instant::now();
        self.weights = Some(self.tensors.pull(&key, false, elements, wire).await?);
        let pull_s = leased.elapsed().as_secs_f64();
        let leased = Leased {
            step: key.step,
            micro_batches,
            wait_s,
            pull_s,
        };
        self.lease = Some(key);
        Ok(Some(leased))
    }

    /// Hands the gradient in, and gives the seconds from the vector to its receipt.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn hand_in(&mut self) -> Result<f64, ExchangeError> {
        let Some(key) = self.lease.clone() else {
            return Err(ExchangeError::Nonsense("there is no lease".to_owned()));
        };
        let ready = Instant::now();
        let spent = v1::Spent::default();
        let (numbers, vector) = (&self.numbers, &self.vector);
        let elements = vector.values.len();
        let header = v1::ContributionHeader::unsealed(&self.session, key, numbers, elements, spent);
        match self.tensors.push(header, vector.clone()).await? {
            receipt::Outcome::Accepted => Ok(ready.elapsed().as_secs_f64()),
            other => Err(ExchangeError::NotTaken(other)),
        }
    }

    async fn ask(&self) -> Result<Option<v1::Lease>, ExchangeError> {
        let request = v1::LeaseRequest {
            worker: self.session.worker,
            generation: self.session.generation,
            session: self.session.secret.clone(),
            patience_ms: 10_000,
            holds: Vec::new(),
        };
        let mut control = self.control.clone();
        loop {
            let answered = answer("Lease", 2 * PATIENCE, control.lease(request.clone())).await?;
            match answered.into_inner().answer {
                Some(Answer::Lease(lease)) => return Ok(Some(lease)),
                Some(Answer::Idle(_)) => {}
                Some(Answer::Goodbye(_) | Answer::Unknown(_)) | None => return Ok(None),
            }
        }
    }
}

/// The same gradient for every step and every worker: a node that two of them hand in has the same bits.
fn made_up(elements: usize, wire: Wire) -> Vector {
    let mut stream = Stream::new(1, &[]);
    let mut values: Vec<f32> = (0..elements)
        .map(|_| stream.between(-1.0, 1.0) as f32)
        .collect();
    wire.round(&mut values);
    Vector::new(values, wire)
}
