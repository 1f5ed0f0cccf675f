//! A worker that speaks the wire and computes next to nothing: the gradient of the distance between
//! the weights and a point that each utterance has. Like a real one it depends on weights and
//! utterances alone, and rounds.

#[path = "toy/long.rs"]
mod long;
#[path = "toy/transfer.rs"]
mod transfer;

use std::{convert::Infallible, error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{
    PROGRAM_VERSION,
    contribution::{Contribution, Key, PassKind, Quarantined, Unusable},
    session::WorkerSession,
    tensor, tree,
    v1::{
        self, lease_response::Answer, receipt::Outcome, tensors_client::TensorsClient,
        workers_client::WorkersClient,
    },
    wire::Wire,
};
use speech::{random::Stream, recipe::Recipe};
use tonic::{Code, Status, transport::Channel};

use transfer::{pull, push};

pub const CLASS: &str = "toy cpu";
/// What is said of [`Toy::damaged`].
const DAMAGE: &str = "it ends in the middle";

#[derive(Clone)]
pub struct Toy {
    pub workers: WorkersClient<Channel>,
    pub tensors: TensorsClient<Channel>,
    pub worker: u64,
    pub generation: u64,
    pub session: WorkerSession,
    /// Micro-batches with one of these utterances have gradients that are not finite.
    pub poison: Vec<String>,
    /// Utterances that cannot be decoded.
    pub damaged: Vec<String>,
    /// Micro-batches with one of these have gradients that are finite, and absurd.
    pub absurd: Vec<String>,
    /// Computes other bits than it should.
    pub faulty: bool,
    /// Bytes of what it hears wrong.
    pub wordy: usize,
    /// What is lost on the way is said again, as a real worker does.
    pub patient: bool,
    _heart: Arc<Heart>,
    recipe: Option<(String, Recipe)>,
    /// The transport precision of the job that is worked on.
    wire: Wire,
    /// Their version, and whether they are averaged.
    weights: Option<((u64, bool), Vec<f32>)>,
}

/// Says that the toy is there for as long as somebody has it, however slow the machine.
struct Heart(tokio::task::AbortHandle);

impl Heart {
    fn new(
        mut workers: WorkersClient<Channel>,
        beat: v1::HeartbeatRequest,
        every: Duration,
    ) -> Arc<Self> {
        let beating = tokio::spawn(async move {
            let mut due = tokio::time::interval(every);
            loop {
                due.tick().await;
                // The next one may arrive.
                let _ = workers.heartbeat(beat.clone()).await;
            }
        });
        Arc::new(Self(beating.abort_handle()))
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a lease led to.
#[derive(Debug, PartialEq)]
pub enum Did {
    Gradient(Outcome),
    Evaluation(Outcome),
    Nothing,
    Goodbye(String),
    Unknown,
}

pub async fn channel(url: &str) -> Channel {
    let endpoint = Channel::from_shared(url.to_owned()).unwrap();
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(proto::STREAM_WINDOW)
        .initial_connection_window_size(proto::CONNECTION_WINDOW);
    endpoint.connect().await.unwrap()
}

/// Makes a call, and again while it is lost if one is patient.
async fn persist<T, F>(patient: bool, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    const PAUSE: Duration = Duration::from_millis(20);
    loop {
        match call().await {
            Err(status) if patient && is_lost(&status) => tokio::time::sleep(PAUSE).await,
            answered => return answered,
        }
    }
}

/// Whether a call did not arrive, or its answer did not.
fn is_lost(status: &Status) -> bool {
    let code = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
    code || status.source().is_some()
}

impl Toy {
    pub async fn join(url: &str, name: &str) -> Self {
        Self::try_join(url, name, CLASS).await.unwrap()
    }

    /// The reason when it is refused.
    pub async fn try_join(url: &str, name: &str, class: &str) -> Result<Self, String> {
        let mut workers = WorkersClient::new(channel(url).await);
        let request = v1::JoinRequest {
            name: name.to_owned(),
            program_version: PROGRAM_VERSION.to_owned(),
            compute_class: class.to_owned(),
            threads: 1,
        };
        let joined = workers.join(request).await.unwrap().into_inner();
        match joined.outcome.unwrap() {
            v1::join_response::Outcome::Welcome(welcome) => Ok(Self {
                _heart: Heart::new(
                    workers.clone(),
                    v1::HeartbeatRequest {
                        worker: welcome.worker,
                        generation: welcome.generation,
                        session: welcome.session.clone(),
                    },
                    Duration::from_millis(welcome.heartbeat_ms.into()),
                ),
                workers,
                tensors: TensorsClient::new(channel(url).await),
                worker: welcome.worker,
                generation: welcome.generation,
                session: WorkerSession::from(&welcome),
                poison: Vec::new(),
                damaged: Vec::new(),
                absurd: Vec::new(),
                faulty: false,
                wordy: 0,
                patient: false,
                recipe: None,
                wire: Wire::F32,
                weights: None,
            }),
            v1::join_response::Outcome::Refusal(refusal) => Err(refusal.reason),
        }
    }

    /// Works until it is told goodbye or the coordinator is gone.
    pub async fn work(mut self) -> String {
        loop {
            match self.step().await {
                Ok(Did::Goodbye(reason)) => return reason,
                Ok(Did::Unknown) => return "unknown".to_owned(),
                Ok(_) => {}
                Err(status) => return status.to_string(),
            }
        }
    }

    pub async fn ask(&mut self, patience_ms: u32) -> Result<Answer, Status> {
        let request = v1::LeaseRequest {
            worker: self.worker,
            generation: self.generation,
            session: self.session.secret.clone(),
            patience_ms,
            holds: Vec::new(),
        };
        let ask = || {
            let (mut workers, request) = (self.workers.clone(), request.clone());
            async move { workers.lease(request).await }
        };
        let answer = persist(self.patient, ask).await?.into_inner();
        Ok(answer.answer.unwrap())
    }

    /// A lease of the kind that is wanted, once there is one.
    pub async fn lease(&mut self) -> v1::Lease {
        loop {
            match self.ask(5_000).await.unwrap() {
                Answer::Lease(lease) => return lease,
                Answer::Idle(_) => {}
                other => panic!("a lease was due: {other:?}"),
            }
        }
    }

    /// Asks once and does what it is told.
    pub async fn step(&mut self) -> Result<Did, Status> {
        match self.ask(5_000).await? {
            Answer::Lease(lease) => self.fulfil(&lease).await,
            Answer::Idle(_) => Ok(Did::Nothing),
            Answer::Goodbye(goodbye) => Ok(Did::Goodbye(goodbye.reason)),
            Answer::Unknown(_) => Ok(Did::Unknown),
        }
    }

    pub async fn fulfil(&mut self, lease: &v1::Lease) -> Result<Did, Status> {
        let lease = &self.whole(lease).await?;
        let key = Key::try_from(lease.key.clone().unwrap()).unwrap();
        match key.kind {
            PassKind::Gradient => {
                let contribution = match self.compute(lease).await {
                    // Another worker was faster, and the step is over.
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        return Ok(Did::Gradient(Outcome::Stale));
                    }
                    computed => computed?,
                };
                Ok(Did::Gradient(self.push(key, &contribution).await?))
            }
            PassKind::Evaluation => {
                let results = match self.recognise(lease).await {
                    // Another worker was faster, and the step is over.
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        return Ok(Did::Evaluation(Outcome::Stale));
                    }
                    recognised => recognised?,
                };
                let report = v1::EvaluationReport {
                    worker: self.worker,
                    session: self.session.secret.clone(),
                    key: lease.key.clone(),
                    results,
                };
                let say = || {
                    let (workers, report) = (self.workers.clone(), report.clone());
                    long::report(workers, report)
                };
                let receipt = persist(self.patient, say).await?.into_inner();
                Ok(Did::Evaluation(receipt.outcome()))
            }
        }
    }

    async fn recognise(&mut self, lease: &v1::Lease) -> Result<Vec<v1::UtteranceResult>, Status> {
        let key = Key::try_from(lease.key.clone().unwrap()).unwrap();
        let units = self.recipe(&key.job).await?.vocabulary.units.clone();
        let weights = self.weights(&key, lease.averaged).await?;
        let distance: f64 = weights
            .iter()
            .map(|&weight| f64::from(weight * weight))
            .sum();
        let utterances = lease.micro_batches.iter().flat_map(|it| &it.utterances);
        let result = |utterance: &v1::Utterance| v1::UtteranceResult {
            index: utterance.index,
            unusable: self.is_damaged(utterance).then(|| DAMAGE.to_owned()),
            // Wrong for one utterance of three.
            hypothesis: match utterance.index % 3 {
                0 => units[1].clone() + &"x".repeat(self.wordy),
                _ => utterance.text.clone(),
            },
            loss: Some(distance + f64::from(utterance.index) * 0.25),
        };
        Ok(utterances.map(result).collect())
    }

    fn is_damaged(&self, utterance: &v1::Utterance) -> bool {
        self.damaged.contains(&utterance.id)
    }

    /// The question for what is known of a job.
    pub fn describe(&self, job: &str) -> v1::DescribeJobRequest {
        v1::DescribeJobRequest {
            job: job.to_owned(),
            worker: self.worker,
            session: self.session.secret.clone(),
        }
    }

    /// The question for audio files of a job.
    pub fn fetch(&self, job: &str, digests: Vec<Bytes>) -> v1::FetchAudioRequest {
        v1::FetchAudioRequest {
            job: job.to_owned(),
            digests,
            worker: self.worker,
            session: self.session.secret.clone(),
        }
    }

    pub async fn recipe(&mut self, job: &str) -> Result<&Recipe, Status> {
        if self.recipe.as_ref().is_none_or(|(known, _)| known != job) {
            let job = job.to_owned();
            let request = self.describe(&job);
            let ask = || {
                let (mut workers, request) = (self.workers.clone(), request.clone());
                async move { workers.describe_job(request).await }
            };
            let described = persist(self.patient, ask).await?.into_inner();
            self.wire = described.wire().try_into().unwrap();
            let recipe_json = self.recipe_json(described).await?;
            let recipe = Recipe::from_json(&recipe_json).unwrap();
            self.recipe = Some((job, recipe));
            self.weights = None;
        }
        Ok(&self.recipe.as_ref().unwrap().1)
    }

    pub async fn compute(&mut self, lease: &v1::Lease) -> Result<Contribution, Status> {
        let key = Key::try_from(lease.key.clone().unwrap()).unwrap();
        self.weights(&key, lease.averaged).await?;
        let weights = &self.weights.as_ref().unwrap().1;
        let batches = &lease.micro_batches;
        let first = batches[0].index;
        let mut leaf = |index: u32| {
            let micro_batch = &batches[(index - first) as usize];
            let gradient = self.gradient(micro_batch, weights);
            let mut gradient = bounded(gradient, micro_batch, lease.norm_bound);
            gradient.wire = self.wire;
            gradient.sum.iter_mut().for_each(|sum| self.wire.round(sum));
            Ok::<_, Infallible>(Some(gradient))
        };
        let last = batches.last().unwrap().index;
        let folded = tree::fold(key.node, last + 1, &mut leaf, &mut Contribution::merge);
        Ok(folded.unwrap().unwrap())
    }

    async fn weights(&mut self, key: &Key, averaged: bool) -> Result<&[f32], Status> {
        let spec = self.recipe(&key.job).await?.model_spec().unwrap();
        let version = (key.step, averaged);
        if self.weights.as_ref().map(|(held, _)| *held) != Some(version) {
            let pulled = self.pull(key, averaged, spec.elements()).await?;
            self.weights = Some((version, pulled));
        }
        Ok(&self.weights.as_ref().unwrap().1)
    }

    fn gradient(&self, micro_batch: &v1::MicroBatch, weights: &[f32]) -> Contribution {
        let ids = || micro_batch.utterances.iter().map(|it| it.id.clone());
        if ids().any(|id| self.poison.contains(&id)) {
            return Contribution {
                quarantined: vec![Quarantined {
                    micro_batch: micro_batch.index,
                    utterances: ids().collect(),
                    reason: "the loss is NaN".to_owned(),
                }],
                ..Contribution::default()
            };
        }
        let all = micro_batch.utterances.iter();
        let (damaged, whole): (Vec<_>, Vec<_>) = all.partition(|it| self.is_damaged(it));
        let unusable = damaged.iter().map(|it| Unusable {
            utterance: it.index,
            reason: DAMAGE.to_owned(),
        });
        let unusable = unusable.collect();
        if whole.is_empty() {
            return Contribution {
                unusable,
                ..Contribution::default()
            };
        }
        let mut sum = vec![0.0f32; weights.len()];
        let mut loss = 0.0;
        for utterance in &whole {
            let mut point = Stream::new(9, &[u64::from(utterance.index)]);
            for (sum, weight) in sum.iter_mut().zip(weights) {
                let difference = weight - point.between(-1.0, 1.0) as f32;
                *sum += difference;
                loss += 0.5 * f64::from(difference * difference);
            }
        }
        if ids().any(|id| self.absurd.contains(&id)) {
            sum.iter_mut().for_each(|value| *value *= 1e6);
        }
        if self.faulty {
            sum[0] += 1e-3;
        }
        let utterances = whole.len();
        Contribution {
            unusable,
            sum: Some(sum),
            weight: utterances as f64,
            loss,
            utterances: utterances as u64,
            frames: 10 * utterances as u64,
            audio_seconds: 0.1 * utterances as f64,
            ..Contribution::default()
        }
    }

    pub async fn leave(&mut self) {
        let request = v1::LeaveRequest {
            worker: self.worker,
            generation: self.generation,
            session: self.session.secret.clone(),
        };
        self.workers.leave(request).await.unwrap();
    }

    pub async fn pull(
        &self,
        key: &Key,
        averaged: bool,
        elements: usize,
    ) -> Result<Vec<f32>, Status> {
        let request = v1::PullRequest {
            job: key.job.clone(),
            generation: key.generation,
            version: key.step,
            boot_id: String::new(),
            averaged,
            worker: self.worker,
            session: self.session.secret.clone(),
        };
        let pull = || pull(self.tensors.clone(), request.clone(), elements, self.wire);
        persist(self.patient, pull).await
    }

    pub async fn push(&mut self, key: Key, contribution: &Contribution) -> Result<Outcome, Status> {
        let (header, vector) = self.wrap(key, contribution);
        self.send(header, vector).await
    }

    /// A contribution as it is sent.
    pub fn wrap(&self, key: Key, contribution: &Contribution) -> (v1::ContributionHeader, Bytes) {
        let header = v1::ContributionHeader::new(&self.session, key, contribution, spent());
        let sum = contribution.sum.as_deref().unwrap_or_default();
        let vector = tensor::encode(sum, self.wire);
        (header, vector)
    }

    pub async fn send(
        &self,
        header: v1::ContributionHeader,
        vector: Bytes,
    ) -> Result<Outcome, Status> {
        let push = || {
            push(
                self.tensors.clone(),
                header.clone(),
                vector.clone(),
                self.wire,
            )
        };
        persist(self.patient, push).await
    }

    pub async fn push_parts(
        &self,
        header: v1::ContributionHeader,
        sum: &[f32],
    ) -> Result<Outcome, Status> {
        let vector = tensor::encode(sum, self.wire);
        push(self.tensors.clone(), header, vector, self.wire).await
    }
}

/// Measures a micro-batch's norm where that is asked for, and leaves it out when it is too large.
fn bounded(
    mut gradient: Contribution,
    micro_batch: &v1::MicroBatch,
    bound: Option<v1::NormBound>,
) -> Contribution {
    let (Some(bound), Some(sum)) = (bound, &gradient.sum) else {
        return gradient;
    };
    let squares: f64 = sum.iter().map(|&value| f64::from(value).powi(2)).sum();
    let norm = squares.sqrt() / gradient.weight;
    if bound.most.is_some_and(|most| norm > most) {
        gradient = Contribution {
            quarantined: vec![Quarantined {
                micro_batch: micro_batch.index,
                utterances: micro_batch
                    .utterances
                    .iter()
                    .map(|it| it.id.clone())
                    .collect(),
                reason: format!("its norm is {norm}"),
            }],
            ..Contribution::default()
        };
    }
    gradient.norms = vec![norm];
    gradient
}

/// The hash of a run of the site's job that nobody disturbs.
/// The node that is leased.
pub fn key(lease: &v1::Lease) -> Key {
    Key::try_from(lease.key.clone().unwrap()).unwrap()
}

/// What a toy says that it spent on a contribution.
pub fn spent() -> v1::Spent {
    v1::Spent {
        compute: 0.1,
        ..v1::Spent::default()
    }
}
