//! A coordinator that says what a test wants it to say, over real connections, and tells what it was
//! asked.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::{
    contribution::Digest,
    tensor::{self, Assembler},
    v1::{self, lease_response::Answer, push_request::Part, tensors_server, workers_server},
    wire::Wire,
};
use speech::audio::{Audio, write_wav};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{PATIENCE, SOON};

/// How long a worker that has something to do waits for the answer that there is no more.
const BUSY: Duration = Duration::from_millis(10);

/// What a worker asked.
#[derive(Debug)]
pub(crate) enum Call {
    Join(v1::JoinRequest),
    Describe,
    Lease(v1::LeaseRequest),
    Report(v1::EvaluationReport),
    GiveBack(v1::GiveBackRequest),
    Leave(u64),
    Push(v1::ContributionHeader, Vec<f32>),
    Pull(u64),
    Fetch(usize),
}

/// What the coordinator says.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// It refuses every worker.
    pub refusal: Option<v1::Refusal>,
    pub recipe_json: String,
    /// The recipe is told in pieces of so many bytes, if this is not 0.
    pub piece: usize,
    /// The parts of leases that come in parts.
    pub parts: Vec<v1::LeasePart>,
    /// In order; afterwards it has nothing to say.
    pub leases: VecDeque<Answer>,
    /// Heartbeats that are answered "unknown", from the first request for a lease on.
    pub forgotten: usize,
    pub weights: Vec<f32>,
    /// Statuses before pulls are answered; `None` answers.
    pub pulls: VecDeque<Option<Status>>,
    /// Before a push is answered.
    pub push_takes: Duration,
    /// Pulls are never answered.
    pub silent_pulls: bool,
    pub audio: BTreeMap<Digest, Vec<u8>>,
}

#[derive(Clone)]
struct Fake {
    script: Arc<Mutex<Script>>,
    joined: Arc<AtomicU64>,
    /// A lease was asked for.
    was_asked: Arc<AtomicBool>,
    calls: mpsc::UnboundedSender<Call>,
}

/// A running coordinator.
pub(crate) struct Coordinator {
    pub address: SocketAddr,
    pub calls: mpsc::UnboundedReceiver<Call>,
    /// A runtime of its own, so that it can die with all its connections.
    runtime: Option<Runtime>,
}

impl Coordinator {
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn start_at(address: SocketAddr, script: Script) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.spawn(TcpListener::bind(address)).await;
        let listener = listener.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, received) = mpsc::unbounded_channel();
        let fake = Fake {
            script: Arc::new(Mutex::new(script)),
            joined: Arc::default(),
            was_asked: Arc::default(),
            calls,
        };
        let server = Server::builder()
            .add_service(workers_server::WorkersServer::new(fake.clone()))
            .add_service(tensors_server::TensorsServer::new(fake))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Self {
            address,
            calls: received,
            runtime: Some(runtime),
        }
    }

    /// The next call that `wanted` knows; others are passed over.
    pub(crate) async fn next<T>(&mut self, wanted: impl Fn(Call) -> Option<T>) -> T {
        loop {
            let call = timeout(SOON, self.calls.recv()).await;
            let call = call.expect("the call comes in time");
            let call = call.expect("the coordinator runs");
            if let Some(found) = wanted(call) {
                return found;
            }
        }
    }

    /// Dies without a word; the port is free afterwards.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let killed = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
        killed.await.unwrap();
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fake {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn note(&self, call: Call) {
        // The test may have seen enough.
        let _ = self.calls.send(call);
    }
}

fn accepted() -> Result<Response<v1::Receipt>, Status> {
    let outcome = v1::receipt::Outcome::Accepted.into();
    Ok(Response::new(v1::Receipt { outcome }))
}

#[tonic::async_trait]
impl workers_server::Workers for Fake {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        self.note(Call::Join(request.into_inner()));
        let worker = self.joined.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = match self.script().refusal.clone() {
            Some(refusal) => v1::join_response::Outcome::Refusal(refusal),
            None => v1::join_response::Outcome::Welcome(v1::Welcome {
                worker,
                generation: 1,
                heartbeat_ms: 20,
                session: Bytes::from_static(b"the secret of a session"),
            }),
        };
        let outcome = Some(outcome);
        Ok(Response::new(v1::JoinResponse { outcome }))
    }

    async fn describe_job(
        &self,
        request: Request<v1::DescribeJobRequest>,
    ) -> Result<Response<v1::JobDescription>, Status> {
        let job = request.into_inner().job;
        self.note(Call::Describe);
        let script = self.script();
        let recipe_json = match script.piece {
            0 => script.recipe_json.clone(),
            _ => String::new(),
        };
        Ok(Response::new(v1::JobDescription {
            job,
            recipe_json,
            wire: v1::Wire::F32.into(),
        }))
    }

    type RecipeStream = Chunks<v1::Piece>;

    async fn recipe(
        &self,
        _: Request<v1::DescribeJobRequest>,
    ) -> Result<Response<Self::RecipeStream>, Status> {
        let script = self.script();
        let recipe = Bytes::from(script.recipe_json.clone());
        let pieces: Vec<_> = recipe
            .chunks(script.piece.max(1))
            .map(|data| {
                Ok(v1::Piece {
                    data: recipe.slice_ref(data),
                })
            })
            .collect();
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }

    type LeaseInPartsStream = Chunks<v1::LeasePart>;

    async fn lease_in_parts(
        &self,
        _: Request<v1::LeaseInPartsRequest>,
    ) -> Result<Response<Self::LeaseInPartsStream>, Status> {
        let parts = self.script().parts.clone();
        let parts = futures::stream::iter(parts.into_iter().map(Ok));
        Ok(Response::new(parts.boxed()))
    }

    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        // Who has something to do is told nothing but what else there is.
        let busy = !request.holds.is_empty();
        self.note(Call::Lease(request));
        self.was_asked.store(true, Ordering::Relaxed);
        // A worker may ask the one that took the place of the coordinator that it joined.
        if self.joined.load(Ordering::Relaxed) == 0 {
            let answer = Some(Answer::Unknown(v1::Unknown {}));
            return Ok(Response::new(v1::LeaseResponse { answer }));
        }
        let is_lease = |answer: &Answer| matches!(answer, Answer::Lease(_));
        let answer = self
            .script()
            .leases
            .pop_front_if(|next| !busy || is_lease(next));
        match answer {
            None if busy => {
                tokio::time::sleep(BUSY).await;
                let answer = Some(Answer::Idle(v1::Idle::default()));
                Ok(Response::new(v1::LeaseResponse { answer }))
            }
            None => std::future::pending().await,
            answer => Ok(Response::new(v1::LeaseResponse { answer })),
        }
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let mut script = self.script();
        let known = script.forgotten == 0 || !self.was_asked.load(Ordering::Relaxed);
        if !known {
            script.forgotten -= 1;
        }
        Ok(Response::new(v1::HeartbeatResponse { known }))
    }

    async fn report(
        &self,
        request: Request<v1::EvaluationReport>,
    ) -> Result<Response<v1::Receipt>, Status> {
        self.note(Call::Report(request.into_inner()));
        accepted()
    }

    async fn report_in_parts(
        &self,
        request: Request<Streaming<v1::EvaluationReport>>,
    ) -> Result<Response<v1::Receipt>, Status> {
        let mut parts = request.into_inner();
        while let Some(part) = parts.message().await? {
            self.note(Call::Report(part));
        }
        accepted()
    }

    async fn give_back(
        &self,
        request: Request<v1::GiveBackRequest>,
    ) -> Result<Response<v1::GiveBackResponse>, Status> {
        self.note(Call::GiveBack(request.into_inner()));
        Ok(Response::new(v1::GiveBackResponse {}))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        self.note(Call::Leave(request.get_ref().worker));
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl tensors_server::Tensors for Fake {
    async fn push(
        &self,
        request: Request<Streaming<v1::PushRequest>>,
    ) -> Result<Response<v1::Receipt>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut vector = Assembler::new(header.elements, header.elements as usize).unwrap();
        while let Some(v1::PushRequest { part }) = parts.message().await? {
            match part {
                Some(Part::Chunk(chunk)) => vector.push(&chunk).unwrap(),
                other => return Err(Status::invalid_argument(format!("{other:?}"))),
            }
        }
        let takes = self.script().push_takes;
        tokio::time::sleep(takes).await;
        self.note(Call::Push(header, vector.finish().unwrap()));
        accepted()
    }

    type PullStream = Chunks<v1::TensorChunk>;

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        self.note(Call::Pull(request.get_ref().version));
        let (silent, status, weights) = {
            let mut script = self.script();
            let status = script.pulls.pop_front().flatten();
            (script.silent_pulls, status, script.weights.clone())
        };
        if silent {
            return std::future::pending().await;
        }
        if let Some(status) = status {
            return Err(status);
        }
        let chunks = futures::stream::iter(
            tensor::chunks(tensor::encode(&weights, Wire::F32), Wire::F32).map(Ok),
        );
        Ok(Response::new(chunks.boxed()))
    }

    async fn open_lane(
        &self,
        _: Request<v1::OpenLaneRequest>,
    ) -> Result<Response<v1::OpenLaneResponse>, Status> {
        Ok(Response::new(v1::OpenLaneResponse::default()))
    }

    type FetchAudioStream = Chunks<v1::AudioChunk>;

    async fn fetch_audio(
        &self,
        request: Request<v1::FetchAudioRequest>,
    ) -> Result<Response<Self::FetchAudioStream>, Status> {
        let digests = request.into_inner().digests;
        self.note(Call::Fetch(digests.len()));
        let mut chunks = Vec::new();
        for (file, digest) in (0..).zip(&digests) {
            let script = self.script();
            let audio = script
                .audio
                .get(digest.as_ref())
                .ok_or_else(|| Status::not_found("no such audio"))?;
            let mut parts = audio.chunks(1000).peekable();
            while let Some(part) = parts.next() {
                chunks.push(Ok(v1::AudioChunk {
                    file,
                    data: Bytes::copy_from_slice(part),
                    last: parts.peek().is_none(),
                }));
            }
        }
        Ok(Response::new(futures::stream::iter(chunks).boxed()))
    }
}

/// The bytes of a WAV file with a tone of `hertz`, half a second at 8 kHz.
pub(crate) fn tone(folder: &Path, hertz: f32) -> Vec<u8> {
    let path = folder.join(format!("tone-{hertz}.wav"));
    let sample = |at: u32| 0.3 * (at as f32 * hertz * std::f32::consts::TAU / 8000.0).sin();
    let audio = Audio {
        sample_rate: 8000,
        samples: (0..4000).map(sample).collect(),
    };
    write_wav(&path, &audio).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}
