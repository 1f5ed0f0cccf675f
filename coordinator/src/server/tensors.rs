//! The service that moves gradients, weights and audio. It decides which weights and which files
//! there are to be had; how they move is its modules' to say.

mod copying;
mod receiving;
mod sending;

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    contribution::Digest,
    shared_memory,
    v1::{self, tensors_server::Tensors},
};
use speech::corpus_roots::CorpusRoots;
use tonic::{Request, Response, Status, Streaming};

use super::{
    limits::Limits,
    messages,
    refusal::Refusal,
    session::{self, Sessions},
};
use crate::{
    broadcast::Encoded,
    corpus::Recording,
    driver::{Command, Handle, Refused},
    leases::WorkerId,
};
use receiving::Receiver;
use sending::Chunks;

/// Audio files of one call.
const MAX_AUDIO_FILES: usize = 4096;

pub(super) struct TensorsService {
    handle: Handle,
    receiver: Receiver,
    limits: Limits,
    sessions: Arc<Sessions>,
    /// Who says the same is on this host.
    boot_id: Option<String>,
}

impl TensorsService {
    pub(super) fn new(handle: Handle, limits: Limits, sessions: Arc<Sessions>) -> Self {
        Self {
            receiver: Receiver::new(handle.clone(), limits.stall, Arc::clone(&sessions)),
            handle,
            limits,
            sessions,
            boot_id: shared_memory::boot_id(),
        }
    }

    /// Whether a peer that says so is on this host. It may lie: it will not find a lane then.
    fn is_here(&self, boot_id: &str) -> bool {
        self.boot_id.as_deref() == Some(boot_id)
    }

    fn weights(&self, wanted: &v1::PullRequest) -> Result<Arc<Encoded>, Refusal> {
        let weights = self.handle.weights().ok_or(Refusal::NoWeights)?;
        if weights.job != wanted.job || weights.generation != wanted.generation {
            return Err(Refused::NotRunning(wanted.job.clone()).into());
        }
        let found = weights.of(wanted.version, wanted.averaged);
        let encoded = found.map_err(|newest| Refusal::WeightsGone {
            wanted: wanted.version,
            newest,
        })?;
        if self.is_here(&wanted.boot_id) {
            weights.publisher.share();
        }
        Ok(Arc::clone(encoded))
    }

    /// The files of `wanted`, and the roots that they lie beneath: only digests of recordings that `worker` was leased
    /// name any.
    fn files(
        &self,
        worker: WorkerId,
        wanted: &v1::FetchAudioRequest,
    ) -> Result<(Vec<Arc<Recording>>, CorpusRoots), Refusal> {
        let active_job = self
            .handle
            .active_job()
            .filter(|active_job| active_job.job == wanted.job);
        let active_job = active_job.ok_or_else(|| Refused::NotRunning(wanted.job.clone()))?;
        if wanted.digests.len() > MAX_AUDIO_FILES {
            return Err(Refusal::TooManyFiles {
                count: wanted.digests.len(),
                most: MAX_AUDIO_FILES,
            });
        }
        let find = |digest: &bytes::Bytes| {
            let known = Digest::try_from(digest.as_ref()).ok();
            let file = known.and_then(|digest| active_job.audio(worker, &digest));
            file.cloned().ok_or_else(|| Refusal::NoAudio(hex(digest)))
        };
        // Small requests are not to fill the network: nobody needs a file twice.
        let mut digests = BTreeSet::new();
        if let Some(twice) = wanted.digests.iter().find(|&one| !digests.insert(one)) {
            return Err(Refusal::FileTwice(hex(twice)));
        }
        let files: Result<_, Refusal> = wanted.digests.iter().map(find).collect();
        Ok((files?, active_job.prepared.roots.clone()))
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
        let identity = session::identity(&request);
        // A task of its own: a call is dropped with its stream, and what broke off is to be counted.
        let received = self
            .receiver
            .clone()
            .receive(request.into_inner(), identity);
        let received = tokio::spawn(received);
        let received = received.await;
        let outcome = received.unwrap_or_else(|broken| Err(Refusal::Broken(broken.to_string())))?;
        Ok(Response::new(messages::receipt(outcome)))
    }

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let wanted = self.sessions.message_of_member(request)?;
        let encoded = self.weights(&wanted)?;
        if self.is_here(&wanted.boot_id)
            && let Some((lane, number)) = encoded.in_shared_memory()
        {
            return Ok(Response::new(sending::in_shared_memory(
                lane.handle(),
                number,
            )));
        }
        let wire = encoded.wire();
        let read = tokio::task::spawn_blocking(move || encoded.bytes()).await;
        let bytes = read.map_err(|broken| Refusal::Broken(broken.to_string()))?;
        let gone = || Refusal::WeightsGone {
            wanted: wanted.version,
            newest: self.handle.weights().map_or(0, |weights| weights.version),
        };
        let bytes = bytes.ok_or_else(gone)?;
        Ok(Response::new(sending::weights(
            bytes,
            wire,
            self.limits.stall,
        )))
    }

    async fn open_lane(
        &self,
        request: Request<v1::OpenLaneRequest>,
    ) -> Result<Response<v1::OpenLaneResponse>, Status> {
        let v1::OpenLaneRequest {
            worker,
            generation,
            job,
            boot_id,
            ..
        } = self.sessions.message_of_member(request)?;
        let mut lane = None;
        if self.is_here(&boot_id) {
            let opened = self.handle.ask(|reply| Command::OpenLane {
                worker,
                generation,
                job,
                reply,
            });
            lane = opened.await.map_err(Refusal::from)?;
        }
        Ok(Response::new(v1::OpenLaneResponse {
            lane: lane.map(Into::into),
        }))
    }

    async fn fetch_audio(
        &self,
        request: Request<v1::FetchAudioRequest>,
    ) -> Result<Response<Self::FetchAudioStream>, Status> {
        let wanted = self.sessions.message_of_member(request)?;
        let (files, roots) = self.files(WorkerId(wanted.worker), &wanted)?;
        Ok(Response::new(sending::audio(
            files,
            roots,
            self.limits.stall,
        )))
    }
}
