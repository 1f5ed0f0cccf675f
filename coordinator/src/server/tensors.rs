//! The service that moves gradients, weights and audio. It decides which weights and which files
//! there are to be had; how they move is its modules' to say.

mod receiving;
mod sending;

use proto::{
    contribution::Digest,
    v1::{self, tensors_server::Tensors},
};
use tonic::{Request, Response, Status, Streaming};

use super::{limits::Limits, messages, refusal::Refusal};
use crate::driver::{AudioFile, Handle, Refused};
use receiving::Receiver;
use sending::Chunks;

/// Audio files of one call.
const MOST_FILES: usize = 4096;

pub struct TensorsService {
    handle: Handle,
    receiver: Receiver,
    limits: Limits,
}

impl TensorsService {
    pub fn new(handle: Handle, limits: Limits) -> Self {
        Self {
            receiver: Receiver::new(handle.clone(), limits.stall),
            handle,
            limits,
        }
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

#[tonic::async_trait]
impl Tensors for TensorsService {
    type PullStream = Chunks<v1::TensorChunk>;
    type FetchAudioStream = Chunks<v1::AudioChunk>;

    async fn push(
        &self,
        request: Request<Streaming<v1::PushRequest>>,
    ) -> Result<Response<v1::Receipt>, Status> {
        // A task of its own: a call is dropped with its stream, and what broke off is to be counted.
        let received = tokio::spawn(self.receiver.clone().receive(request.into_inner()));
        let received = received.await;
        let outcome = received.unwrap_or_else(|broken| Err(Refusal::Broken(broken.to_string())))?;
        Ok(Response::new(messages::receipt(outcome)))
    }

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let encoded = self.weights(request.get_ref())?;
        Ok(Response::new(sending::weights(encoded, self.limits.stall)))
    }

    async fn fetch_audio(
        &self,
        request: Request<v1::FetchAudioRequest>,
    ) -> Result<Response<Self::FetchAudioStream>, Status> {
        let files = self.files(request.get_ref())?;
        Ok(Response::new(sending::audio(files, self.limits.stall)))
    }
}
