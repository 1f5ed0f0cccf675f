//! Transfers gradients, weights and audio as streams of chunks, one attempt at a time. It decides how long silence
//! may last and how much memory an answer may take; whether to try again is decided in [`crate::session`].

mod shared_memory;
mod vectors;

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use proto::{
    buffer_pool::BufferPool,
    contribution::Key,
    endpoint::Connection,
    failpoint::{self, Failpoint},
    session::WorkerSession,
    shared_memory::SharedMemory,
    tensor::{self, AssembleError, Assembler},
    v1::{
        self, AudioChunk, FetchAudioRequest, PullRequest, PushRequest, TensorChunk, push_request,
        receipt::Outcome, tensors_client::TensorsClient,
    },
    wire::Wire,
};
use thiserror::Error;
use tonic::{Code, Status};

use crate::{blocking::blocking, cache::Wanted};
use shared_memory::SharedMemoryTransport;
pub use shared_memory::{VARIABLE as SHARED_MEMORY, is_wanted as wants_shared_memory};
pub(crate) use vectors::{PulledWeights, Vector};

/// How long a stream may say nothing before it is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Audio of one request: what a worker holds in memory before the first file is of use.
const FETCH_BYTES: u64 = 64 << 20;

/// A call that failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum CallError {
    /// The coordinator cannot be reached, or the connection broke: the call may be made again.
    #[error("the coordinator cannot be reached: {0}")]
    Lost(String),
    /// The coordinator answered, and the answer is no.
    #[error("the coordinator refused {call}: {message} ({code:?})")]
    Refused {
        call: &'static str,
        code: Code,
        message: String,
    },
    #[error("the coordinator's answer to {call} makes no sense: {reason}")]
    Nonsense { call: &'static str, reason: String },
}

impl CallError {
    /// What a status means. One that this side made up because the connection broke has a source;
    /// one that came over the wire has none.
    pub fn from_status(call: &'static str, status: &Status) -> Self {
        use std::error::Error as _;

        let Some(source) = status.source() else {
            let message = status.message().to_owned();
            return match status.code() {
                Code::Unavailable | Code::DeadlineExceeded => Self::Lost(message),
                code => Self::Refused {
                    call,
                    code,
                    message,
                },
            };
        };
        if let Some(message) = proto::tls::explained(source) {
            let code = Code::Unauthenticated;
            return Self::Refused {
                call,
                code,
                message,
            };
        }
        // The innermost cause says most: "connection refused", not "transport error".
        let mut cause: &dyn std::error::Error = source;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::Lost(cause.to_string())
    }

    /// Whether the coordinator knows no such session: the worker has to join again.
    pub(crate) const fn is_without_session(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unauthenticated,
                ..
            }
        )
    }

    /// Whether the connection was lost, so that the call may be made again.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    pub(crate) fn nonsense(call: &'static str, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self::Nonsense { call, reason }
    }
}

/// Waits for an answer, but not for ever.
///
/// # Errors
/// [`CallError::Lost`] after `patience`; what the status means otherwise.
pub(crate) async fn answer<T>(
    call: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(result) => result.map_err(|status| CallError::from_status(call, &status)),
        Err(_) => Err(CallError::Lost(format!(
            "no answer to {call} in {} s",
            patience.as_secs_f64()
        ))),
    }
}

/// The tensor side of a coordinator. Clones share one connection, and the way through memory beside it.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    client: TensorsClient<Connection>,
    /// Whose calls they are.
    session: WorkerSession,
    shared_memory: Arc<SharedMemoryTransport>,
    pool: BufferPool,
}

impl Transfer {
    pub(crate) fn new(channel: Connection) -> Self {
        let client = TensorsClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Self {
            client,
            session: WorkerSession::default(),
            shared_memory: Arc::new(SharedMemoryTransport::new()),
            pool: BufferPool::default(),
        }
    }

    /// The same connection, for the calls of a worker that was admitted.
    #[must_use]
    pub(crate) fn of(&self, session: WorkerSession) -> Self {
        Self {
            session,
            ..self.clone()
        }
    }

    /// Hands a contribution in: its header, unsealed, and its vector.
    ///
    /// # Errors
    /// See [`CallError`]. A push may be repeated: the coordinator knows equal bits again.
    pub(crate) async fn push(
        &self,
        header: v1::ContributionHeader,
        vector: Vector,
    ) -> Result<Outcome, CallError> {
        if let Some(outcome) = self.push_by_shared_memory(&header, &vector).await? {
            return Ok(outcome);
        }
        let (unsealed, digested) = (header.clone(), vector.clone());
        let digest = blocking(move || unsealed.digest_with(&digested.values, digested.wire)).await;
        let header = header.sealed(digest);
        let chunks = tensor::encoded_chunks(vector.values, vector.wire);
        self.send(
            header,
            chunks.inspect(|_| failpoint::reach(Failpoint::WorkerPush)),
        )
        .await
    }

    /// [`Transfer::push`] by shared memory; `None` where that is not possible.
    async fn push_by_shared_memory(
        &self,
        header: &v1::ContributionHeader,
        vector: &Vector,
    ) -> Result<Option<Outcome>, CallError> {
        if vector.values.is_empty() {
            return Ok(None);
        }
        let memory = self
            .shared_memory
            .own(&self.client, header, vector.bytes())
            .await;
        let Some(memory) = memory else {
            return Ok(None);
        };
        let written = vector.clone();
        let in_lane = match blocking(move || shared_memory::write(&memory, &written)).await {
            Ok(number) => number,
            Err(error) => {
                self.shared_memory.close(&error);
                return Ok(None);
            }
        };
        let header = v1::ContributionHeader {
            in_lane,
            ..header.clone()
        };
        match self.send(header, std::iter::empty()).await {
            // It was closed: the job is another one, or the coordinator has started again.
            Err(CallError::Refused {
                code: Code::FailedPrecondition,
                ..
            }) => {
                self.shared_memory.forget().await;
                Ok(None)
            }
            sent => sent.map(Some),
        }
    }

    async fn send(
        &self,
        header: v1::ContributionHeader,
        chunks: impl Iterator<Item = TensorChunk> + Send + 'static,
    ) -> Result<Outcome, CallError> {
        const CALL: &str = "Push";
        let message = |part| PushRequest { part: Some(part) };
        let header = message(push_request::Part::Header(header));
        let chunks = chunks.map(push_request::Part::Chunk);
        let (sent, mut progress) = tokio::sync::watch::channel(());
        let messages = std::iter::once(header)
            .chain(chunks.map(message))
            .inspect(move |_| sent.send_modify(|()| {}));
        let mut client = self.client.clone();
        let receipt = client.push(futures::stream::iter(messages));
        tokio::pin!(receipt);
        // Silence is a stretch in which neither a chunk was taken nor an answer came.
        let receipt = loop {
            tokio::select! {
                result = answer(CALL, SILENCE, &mut receipt) => break result?,
                Ok(()) = progress.changed() => {}
            }
        };
        Ok(receipt.into_inner().outcome())
    }

    /// The weights that `key`'s step is computed from, or an evaluation of `averaged` ones: `elements` of
    /// them.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn pull(
        &self,
        key: &Key,
        averaged: bool,
        elements: usize,
        wire: Wire,
    ) -> Result<PulledWeights, CallError> {
        loop {
            let boot_id = self.shared_memory.boot_id().unwrap_or_default().to_owned();
            let request = PullRequest {
                job: key.job.clone(),
                generation: key.generation,
                version: key.step,
                boot_id,
                averaged,
                worker: self.session.worker,
                session: self.session.secret.clone(),
            };
            let mut client = self.client.clone();
            let mut chunks = answer(PULL, SILENCE, client.pull(request))
                .await?
                .into_inner();
            let mut chunk = next::<TensorChunk>(PULL, &mut chunks).await?;
            if let Some(place) = chunk.as_mut().and_then(|chunk| chunk.in_lane.take()) {
                match self.pull_by_shared_memory(place, elements, wire).await? {
                    Some(weights) => return Ok(weights),
                    // Asked again, without a word of this host.
                    None => continue,
                }
            }
            let nonsense = |error: AssembleError| CallError::nonsense(PULL, error);
            let assembler = Assembler::new(elements as u64, elements).map_err(nonsense)?;
            let mut assembler = assembler.of(wire);
            while let Some(next_one) = chunk {
                assembler.push(&next_one).map_err(nonsense)?;
                failpoint::reach(Failpoint::WorkerPull);
                chunk = next::<TensorChunk>(PULL, &mut chunks).await?;
            }
            let values = assembler.finish().map_err(nonsense)?;
            return Ok(PulledWeights::new(values, &self.pool));
        }
    }

    /// Weights that lie in memory; `None` where that cannot be reached, and is not to be tried again.
    async fn pull_by_shared_memory(
        &self,
        in_lane: v1::InLane,
        elements: usize,
        wire: Wire,
    ) -> Result<Option<PulledWeights>, CallError> {
        let nonsense = |reason: &dyn ToString| CallError::nonsense(PULL, reason.to_string());
        let (place, number) = (in_lane.lane, in_lane.number);
        let place = place.ok_or_else(|| nonsense(&"shared memory without a handle"))?;
        let place = proto::shared_memory::SharedMemoryHandle::try_from(place)
            .map_err(|error| nonsense(&error))?;
        if place.bytes != (wire.bytes() * elements) as u64 {
            return Err(nonsense(&format!("{} bytes of weights", place.bytes)));
        }
        let mut values = self.pool.take(elements);
        let opened = self.shared_memory.open_weights(place);
        let read = match opened {
            Ok(memory) => blocking(move || read(&memory, number, wire, values)).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(Some(read)) => values = read,
            Ok(None) => {
                return Err(CallError::Refused {
                    call: PULL,
                    code: Code::FailedPrecondition,
                    message: "the version of the weights is over".to_owned(),
                });
            }
            Err(error) => {
                self.shared_memory.close(&error);
                return Ok(None);
            }
        }
        Ok(Some(PulledWeights::new(values, &self.pool)))
    }

    /// The bytes of `wanted`, in order and verified.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn fetch_audio(
        &self,
        job: &str,
        wanted: &[Wanted],
    ) -> Result<Vec<Bytes>, CallError> {
        let mut files = Vec::with_capacity(wanted.len());
        for part in parts(wanted) {
            files.extend(self.fetch_part(job, part).await?);
        }
        Ok(files)
    }

    async fn fetch_part(&self, job: &str, wanted: &[Wanted]) -> Result<Vec<Bytes>, CallError> {
        const CALL: &str = "FetchAudio";
        let request = FetchAudioRequest {
            job: job.to_owned(),
            digests: wanted
                .iter()
                .map(|wanted| Bytes::copy_from_slice(&wanted.digest))
                .collect(),
            worker: self.session.worker,
            session: self.session.secret.clone(),
        };
        let mut client = self.client.clone();
        let mut chunks = answer(CALL, SILENCE, client.fetch_audio(request))
            .await?
            .into_inner();
        let mut files: Vec<(BytesMut, bool)> = vec![(BytesMut::new(), false); wanted.len()];
        while let Some(AudioChunk { file, data, last }) = next(CALL, &mut chunks).await? {
            let place = file as usize;
            let (Some((bytes, done)), Some(wanted)) = (files.get_mut(place), wanted.get(place))
            else {
                let reason = format!("file {file} was not asked for");
                return Err(CallError::nonsense(CALL, reason));
            };
            if *done || (bytes.len() + data.len()) as u64 > wanted.bytes {
                let reason = format!(
                    "{} has more than its {} bytes",
                    wanted.path.display(),
                    wanted.bytes
                );
                return Err(CallError::nonsense(CALL, reason));
            }
            bytes.extend_from_slice(&data);
            *done = last;
        }
        let verified = files
            .into_iter()
            .zip(wanted)
            .map(|((bytes, done), wanted)| {
                if done && wanted.is(&bytes) {
                    return Ok(bytes.freeze());
                }
                let reason = format!(
                    "{} came as {} bytes with another digest than the lease has",
                    wanted.path.display(),
                    bytes.len()
                );
                Err(CallError::nonsense(CALL, reason))
            });
        verified.collect()
    }
}

const PULL: &str = "Pull";

/// Reads weights into `values`; `None` when they are not those of `number`.
fn read(
    memory: &SharedMemory,
    number: u64,
    wire: Wire,
    mut values: Vec<f32>,
) -> io::Result<Option<Vec<f32>>> {
    let whole = shared_memory::read(memory, number, wire, &mut values)?;
    Ok(whole.then_some(values))
}

/// Files of one request: the coordinator takes four times as many.
const FETCH_FILES: usize = 1024;

/// Cuts what is wanted into requests of bounded size; a file larger than that goes alone.
fn parts(wanted: &[Wanted]) -> impl Iterator<Item = &[Wanted]> {
    let mut rest = wanted;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(FETCH_FILES).take_while(|wanted| {
            bytes += wanted.bytes;
            bytes <= FETCH_BYTES
        });
        let count = fits.count().max(1);
        let (part, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(part)
    })
}

async fn next<T>(
    call: &'static str,
    messages: &mut tonic::Streaming<T>,
) -> Result<Option<T>, CallError> {
    let message = answer(call, SILENCE, async { messages.next().await.transpose() });
    message.await
}

#[cfg(test)]
mod tests;
