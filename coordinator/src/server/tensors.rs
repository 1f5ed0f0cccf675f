//! The service that moves gradients, weights and audio. It decides what a push may make the
//! coordinator hold: one vector a worker, of the model's size, and only while the step is open.

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use proto::{
    CHUNK_BYTES,
    contribution::{Contribution, Digest, Key},
    convert::ConvertError,
    crash::{self, Place},
    tensor::{self, Assembler},
    v1::{self, push_request::Part, tensors_server::Tensors},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{messages, refusal::Refusal};
use crate::{
    driver::{Announced, AudioFile, Command, Handle, Refused},
    machine::Outcome,
};

/// Silence after which a push is given up.
const STALLED: Duration = Duration::from_secs(30);

/// Audio files of one call.
const MOST_FILES: usize = 4096;

/// Vectors above this many bytes are digested on a thread of their own.
const LARGE: usize = 1 << 20;

pub struct TensorsService {
    handle: Handle,
    pushes: Arc<Pushes>,
}

impl TensorsService {
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            pushes: Arc::default(),
        }
    }
}

/// The pushes that are under way, one a worker: a newer one ends the older, whose connection the
/// worker has given up.
#[derive(Default)]
struct Pushes {
    by_worker: Mutex<BTreeMap<u64, (u64, oneshot::Sender<()>)>>,
}

struct Pushing {
    pushes: Arc<Pushes>,
    worker: u64,
    number: u64,
    superseded: oneshot::Receiver<()>,
}

impl Pushes {
    fn begin(self: Arc<Self>, worker: u64) -> Pushing {
        let (end, superseded) = oneshot::channel();
        let mut by_worker = self.lock();
        let number = by_worker.get(&worker).map_or(0, |(number, _)| number + 1);
        by_worker.insert(worker, (number, end));
        drop(by_worker);
        Pushing {
            pushes: self,
            worker,
            number,
            superseded,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (u64, oneshot::Sender<()>)>> {
        // Nothing panics while it is held, and the map is whole in any case.
        self.by_worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let mut by_worker = self.pushes.lock();
        if by_worker.get(&self.worker).map(|(number, _)| *number) == Some(self.number) {
            by_worker.remove(&self.worker);
        }
    }
}

impl TensorsService {
    async fn receive(&self, mut parts: Streaming<v1::PushRequest>) -> Result<Outcome, Refusal> {
        let Some(Part::Header(mut header)) = next(&mut parts).await? else {
            return Err(Refusal::NoHeader);
        };
        let worker = header.worker;
        let key: Key = header
            .key
            .take()
            .ok_or(ConvertError::Missing("key"))?
            .try_into()?;
        let digest = Digest::try_from(header.digest.as_ref());
        let digest = digest.map_err(|_| ConvertError::OutOfRange {
            field: "digest",
            value: format!("{} bytes", header.digest.len()),
        })?;
        let mut pushing = Arc::clone(&self.pushes).begin(worker);
        let announced = self.announce(worker, key.clone(), digest).await?;
        let Announced::Expected { elements } = announced else {
            drain(parts).await;
            return Ok(Outcome::Stale);
        };
        let seconds = header.seconds;
        let sum = match header.elements {
            0 => None,
            announced => {
                let assembled = assemble(&mut parts, Assembler::new(announced, elements)?);
                let vector = tokio::select! {
                    vector = assembled => vector?,
                    _ = &mut pushing.superseded => return Err(Refusal::Superseded),
                };
                Some(vector)
            }
        };
        let contribution = header.into_contribution(sum)?;
        let contribution = verify(contribution, digest).await?;
        let contributed = self.handle.ask(|reply| Command::Contribute {
            worker,
            key,
            contribution: Box::new(contribution),
            digest,
            seconds: if seconds.is_finite() {
                seconds.max(0.0)
            } else {
                0.0
            },
            reply,
        });
        Ok(contributed.await?)
    }

    async fn announce(&self, worker: u64, key: Key, digest: Digest) -> Result<Announced, Refusal> {
        let announced = self.handle.ask(|reply| Command::Announce {
            worker,
            key,
            digest,
            reply,
        });
        Ok(announced.await?)
    }

    fn weights(&self, wanted: &v1::PullRequest) -> Result<bytes::Bytes, Refusal> {
        let weights = self.handle.weights().ok_or(Refusal::NoWeights)?;
        if weights.job != wanted.job || weights.generation != wanted.generation {
            return Err(Refused::NotRunning(wanted.job.clone()).into());
        }
        if weights.version != wanted.version {
            return Err(Refusal::WeightsGone {
                wanted: wanted.version,
                newest: weights.version,
            });
        }
        Ok(weights.encoded)
    }

    /// The files of `wanted`: only digests that the running job knows name any.
    fn files(&self, wanted: &v1::FetchAudioRequest) -> Result<Vec<AudioFile>, Refusal> {
        let posted = self
            .handle
            .posted()
            .filter(|posted| posted.job == wanted.job);
        let posted = posted.ok_or_else(|| Refused::NotRunning(wanted.job.clone()))?;
        if wanted.digests.len() > MOST_FILES {
            return Err(Refusal::TooManyFiles {
                count: wanted.digests.len(),
                most: MOST_FILES,
            });
        }
        let find = |digest: &bytes::Bytes| {
            let known = Digest::try_from(digest.as_ref()).ok();
            let file = known.and_then(|digest| posted.audio.get(&digest));
            file.cloned().ok_or_else(|| Refusal::NoAudio(hex(digest)))
        };
        wanted.digests.iter().map(find).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(32);
    shown.map(|byte| format!("{byte:02x}")).collect()
}

async fn next(parts: &mut Streaming<v1::PushRequest>) -> Result<Option<Part>, Refusal> {
    match tokio::time::timeout(STALLED, parts.message()).await {
        Ok(Ok(part)) => Ok(part.and_then(|part| part.part)),
        Ok(Err(status)) => Err(Refusal::Broken(status.message().to_owned())),
        Err(_) => Err(Refusal::Stalled {
            seconds: STALLED.as_secs(),
        }),
    }
}

async fn assemble(
    parts: &mut Streaming<v1::PushRequest>,
    mut assembler: Assembler,
) -> Result<Vec<f32>, Refusal> {
    while let Some(part) = next(parts).await? {
        match part {
            Part::Chunk(chunk) => {
                assembler.push(&chunk)?;
                crash::pass(Place::CoordinatorReceive);
            }
            Part::Header(_) => return Err(Refusal::NoHeader),
        }
    }
    Ok(assembler.finish()?)
}

/// Reads what still comes, so that the sender finds its answer instead of a reset; not for ever.
async fn drain(mut parts: Streaming<v1::PushRequest>) {
    let drained = async { while let Ok(Some(_)) = next(&mut parts).await {} };
    let _ = tokio::time::timeout(STALLED, drained).await;
}

async fn verify(contribution: Contribution, digest: Digest) -> Result<Contribution, Refusal> {
    let bytes = 4 * contribution.sum.as_ref().map_or(0, Vec::len);
    let check = move || (contribution.digest() == digest).then_some(contribution);
    let verified = match bytes > LARGE {
        false => check(),
        true => tokio::task::spawn_blocking(check)
            .await
            .expect("digesting does not panic"),
    };
    verified.ok_or(Refusal::Digest)
}

/// Reads files one after the other on a thread that may wait for the disk; `send` says whether
/// somebody still wants them.
fn read_files(files: Vec<AudioFile>, send: impl Fn(Result<v1::AudioChunk, Refusal>) -> bool) {
    for (place, file) in (0..).zip(files) {
        match read_file(place, &file, &send) {
            Ok(true) => {}
            Ok(false) => return,
            Err(refusal) => {
                send(Err(refusal));
                return;
            }
        }
    }
}

fn read_file(
    place: u32,
    file: &AudioFile,
    send: impl Fn(Result<v1::AudioChunk, Refusal>) -> bool,
) -> Result<bool, Refusal> {
    let unreadable = |source| Refusal::Audio {
        path: file.path.clone(),
        source,
    };
    let mut reader = std::fs::File::open(&file.path).map_err(unreadable)?;
    let mut left = file.bytes;
    loop {
        let size = left.min(CHUNK_BYTES as u64);
        let mut data = Vec::with_capacity(size as usize);
        let read = reader.by_ref().take(size).read_to_end(&mut data);
        left -= size;
        if read.map_err(unreadable)? as u64 != size {
            return Err(Refusal::AudioChanged {
                path: file.path.clone(),
            });
        }
        let chunk = v1::AudioChunk {
            file: place,
            data: data.into(),
            last: left == 0,
        };
        if !send(Ok(chunk)) {
            return Ok(false);
        }
        if left == 0 {
            return Ok(true);
        }
    }
}

type Chunks<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Tensors for TensorsService {
    type PullStream = Chunks<v1::TensorChunk>;
    type FetchAudioStream = Chunks<v1::AudioChunk>;

    async fn push(
        &self,
        request: Request<Streaming<v1::PushRequest>>,
    ) -> Result<Response<v1::Receipt>, Status> {
        let outcome = self.receive(request.into_inner()).await?;
        Ok(Response::new(messages::receipt(outcome)))
    }

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let encoded = self.weights(request.get_ref())?;
        let chunks = tensor::chunks(encoded).inspect(|_| crash::pass(Place::CoordinatorBroadcast));
        let chunks = stream::iter(chunks.map(Ok));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn fetch_audio(
        &self,
        request: Request<v1::FetchAudioRequest>,
    ) -> Result<Response<Self::FetchAudioStream>, Status> {
        /// Chunks read ahead of the network.
        const AHEAD: usize = 4;
        let files = self.files(request.get_ref())?;
        let (send, receive) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            read_files(files, |chunk| send.blocking_send(chunk).is_ok());
        });
        let chunks = ReceiverStream::new(receive).map(|chunk| chunk.map_err(Status::from));
        Ok(Response::new(Box::pin(chunks)))
    }
}
