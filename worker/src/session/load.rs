//! From the utterances of a lease to features, ahead of the thread that computes. It decides where
//! audio comes from and what a fault in it means; it refuses to know what is computed.

use std::sync::Arc;

use bytes::Bytes;
use proto::contribution::PassKind;
use rayon::prelude::*;
use speech::{audio, features::Features};
use tokio::sync::mpsc;

use super::{
    contact::Contact,
    job::Job,
    lease::{Lease, MicroBatch, Utterance},
};
use crate::{
    cache::{AudioCache, CacheConfig, CacheError, FeatureCache, Prepared, Wanted},
    transfer::CallError,
};

/// Why a lease cannot be computed.
#[derive(Debug)]
pub(super) enum LoadError {
    /// Every worker would meet it: the job cannot go on.
    Data(String),
    Call(CallError),
}

/// An utterance ready to be computed.
#[derive(Debug)]
pub(super) struct Example {
    pub utterance: Utterance,
    pub prepared: Arc<Prepared>,
    /// Instead of the prepared features, in training.
    augmented: Option<Features>,
    /// Of the transcript; `None` where it has characters or words that the model cannot say.
    pub labels: Vec<u32>,
}

impl Example {
    pub fn features(&self) -> &Features {
        self.augmented.as_ref().unwrap_or(&self.prepared.features)
    }
}

/// A micro-batch ready to be computed.
#[derive(Debug)]
pub(super) struct Loaded {
    pub index: u32,
    pub examples: Vec<Example>,
}

#[derive(Debug)]
pub(super) struct Loader {
    audio: AudioCache,
    features: FeatureCache,
}

impl Loader {
    /// # Errors
    /// When the cache folder cannot be used.
    pub fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        Ok(Self {
            audio: AudioCache::open(config)?,
            features: FeatureCache::open(config)?,
        })
    }

    /// Hands the micro-batches of `lease` to `ready`, in order, as far ahead as that takes them.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(
        self: &Arc<Self>,
        contact: &Contact,
        job: &Arc<Job>,
        lease: &Lease,
        ready: mpsc::Sender<Loaded>,
    ) -> Result<(), LoadError> {
        for micro_batch in &lease.micro_batches {
            let prepared = self.prepare(contact, job, micro_batch).await?;
            let epoch = (lease.key.kind == PassKind::Gradient).then_some(lease.epoch);
            let loaded = {
                let (job, micro_batch) = (Arc::clone(job), micro_batch.clone());
                blocking(move || finish(&job, micro_batch, prepared, epoch)).await?
            };
            if ready.send(loaded).await.is_err() {
                // Nobody computes any more; why is theirs to say.
                return Ok(());
            }
        }
        Ok(())
    }

    /// The features of every utterance: those at hand, then those that had to be fetched.
    async fn prepare(
        self: &Arc<Self>,
        contact: &Contact,
        job: &Arc<Job>,
        micro_batch: &MicroBatch,
    ) -> Result<Vec<Arc<Prepared>>, LoadError> {
        let found = {
            let (loader, job) = (Arc::clone(self), Arc::clone(job));
            let utterances = micro_batch.utterances.clone();
            blocking(move || {
                let at_hand = |utterance| loader.at_hand(&job, utterance);
                utterances
                    .par_iter()
                    .map(at_hand)
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?
        };
        let absent: Vec<&Utterance> = micro_batch
            .utterances
            .iter()
            .zip(&found)
            .filter_map(|(utterance, found)| found.is_none().then_some(utterance))
            .collect();
        if absent.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let wanted: Vec<Wanted> = absent.iter().map(|one| one.audio.clone()).collect();
        let files = contact
            .persist(|| contact.tensors.fetch_audio(&job.id, &wanted))
            .await
            .map_err(|error| unavailable(error, &absent))?;
        let fetched = {
            let (loader, job) = (Arc::clone(self), Arc::clone(job));
            let utterances: Vec<Utterance> = absent.into_iter().cloned().collect();
            blocking(move || {
                let keep = |(utterance, bytes): (&Utterance, &Bytes)| {
                    loader.audio.keep(&utterance.audio, bytes);
                    loader.hear(&job, utterance, bytes)
                };
                utterances
                    .par_iter()
                    .zip(&files)
                    .map(keep)
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?
        };
        let mut fetched = fetched.into_iter();
        let complete = found
            .into_iter()
            .map(|found| found.or_else(|| fetched.next()));
        Ok(complete.flatten().collect())
    }

    /// From the caches and the shared files; `None` when the audio must be fetched.
    fn at_hand(
        &self,
        job: &Job,
        utterance: &Utterance,
    ) -> Result<Option<Arc<Prepared>>, LoadError> {
        let key = job.feature_key(&utterance.audio.digest);
        if let Some(prepared) = self.features.get(&key) {
            return Ok(Some(prepared));
        }
        let bytes = self.audio.find(&utterance.audio);
        bytes
            .map(|bytes| self.hear(job, utterance, &bytes))
            .transpose()
    }

    fn hear(
        &self,
        job: &Job,
        utterance: &Utterance,
        bytes: &[u8],
    ) -> Result<Arc<Prepared>, LoadError> {
        let path = utterance.audio.path.to_string_lossy();
        let audio = audio::decode(&path, bytes).map_err(|error| fault(utterance, &error))?;
        let features = job
            .front_end
            .features(&audio)
            .map_err(|error| fault(utterance, &error))?;
        let seconds = audio.samples.len() as f64 / f64::from(audio.sample_rate);
        let prepared = Arc::new(Prepared { features, seconds });
        let key = job.feature_key(&utterance.audio.digest);
        self.features.keep(key, Arc::clone(&prepared));
        Ok(prepared)
    }
}

fn finish(
    job: &Job,
    micro_batch: MicroBatch,
    prepared: Vec<Arc<Prepared>>,
    epoch: Option<u32>,
) -> Result<Loaded, LoadError> {
    let examples = micro_batch
        .utterances
        .into_iter()
        .zip(prepared)
        .map(|(utterance, prepared)| {
            let labels = job
                .recipe
                .vocabulary
                .encode(&utterance.text)
                .map_err(|error| fault(&utterance, &error))?;
            let augmented =
                epoch.and_then(|epoch| job.augmented(&prepared.features, epoch, utterance.index));
            Ok(Example {
                utterance,
                prepared,
                augmented,
                labels,
            })
        })
        .collect::<Result<_, LoadError>>()?;
    Ok(Loaded {
        index: micro_batch.index,
        examples,
    })
}

fn fault(utterance: &Utterance, error: &dyn std::error::Error) -> LoadError {
    LoadError::Data(format!("utterance `{}`: {error}", utterance.id))
}

/// What it means that audio cannot be fetched. Bytes other than those that the job was planned with
/// are a fault in the data; what else stands in the way may pass.
fn unavailable(error: CallError, absent: &[&Utterance]) -> LoadError {
    match error {
        CallError::Nonsense { reason, .. } => {
            let ids: Vec<&str> = absent.iter().map(|one| one.id.as_str()).collect();
            LoadError::Data(format!(
                "the audio of {} has changed since the job began: {reason}",
                super::listed(&ids)
            ))
        }
        other => LoadError::Call(other),
    }
}

/// Runs `work` where it may take its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
