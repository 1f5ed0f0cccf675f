//! From the utterances of a lease to features, ahead of the thread that computes. It decides where
//! audio comes from and what a fault in it means: bytes that were verified and cannot be decoded cannot be decoded
//! anywhere, so that the utterance is left out, by name; what the system refuses is tried again.

use std::sync::Arc;

use proto::contribution::{PassKind, Unusable};
use rayon::prelude::*;
use speech::{
    audio::{self, Audio, AudioError},
    augment::{AugmentInput, Occasion},
    decode::ctc_required_frames,
    features::Features,
    front_end::FrontEndError,
    left_out::Reason,
    model::Head,
};
use tokio::sync::mpsc;

use super::{
    contact::Contact,
    job::Job,
    lease::{Lease, MicroBatch, Utterance},
};
use crate::{
    blocking::blocking,
    cache::{
        AudioCache, CacheConfig, CacheError, FeatureCache, Prepared, Recordings, Sound, SoundCache,
        Wanted, mixed,
    },
    transfer::CallError,
};

/// Why a lease cannot be computed.
#[derive(Debug)]
pub(super) enum LoadError {
    /// Every worker would meet it: the job cannot go on.
    Data(String),
    /// The system failed: here or elsewhere it may work the next time.
    System(String),
    Call(CallError),
}

/// An utterance ready to be computed.
#[derive(Debug)]
pub(super) struct Example {
    pub utterance: Utterance,
    features: ExampleFeatures,
    /// The length of its audio, as it was recorded.
    pub seconds: f64,
    /// `None` where the model lacks a character or class of its transcript; only in an evaluation.
    pub labels: Option<Vec<u32>>,
}

/// What the model sees of an utterance.
#[derive(Debug)]
enum ExampleFeatures {
    /// As it is.
    Plain(Arc<Prepared>),
    /// In training, on one occasion.
    Augmented(Features),
}

impl Example {
    pub(super) fn features(&self) -> &Features {
        match &self.features {
            ExampleFeatures::Plain(prepared) => &prepared.features,
            ExampleFeatures::Augmented(features) => features,
        }
    }
}

/// What an utterance's features come from.
#[derive(Debug)]
enum Source {
    Prepared(Arc<Prepared>),
    /// And the epoch that makes features of it.
    Sound(Arc<Sound>, u32),
    /// There is none: what is wrong with the recording.
    Unusable(String),
}

impl Source {
    fn samples(&self) -> &[f32] {
        match self {
            Self::Prepared(_) | Self::Unusable(_) => &[],
            Self::Sound(sound, _) => &sound.samples,
        }
    }
}

/// Which of them is wanted.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Features as they are, or to be masked.
    Prepared,
    /// Samples, of which this epoch makes features of its own.
    Sound { epoch: u32 },
}

/// A micro-batch ready to be computed.
#[derive(Debug)]
pub(super) struct Loaded {
    pub index: u32,
    /// Without those that cannot be used.
    pub examples: Vec<Example>,
    pub unusable: Vec<Unusable>,
}

#[derive(Debug)]
pub(super) struct Loader {
    audio: AudioCache,
    recordings: Recordings,
    sound: SoundCache,
    features: FeatureCache,
}

impl Loader {
    /// # Errors
    /// When the cache folder cannot be used.
    pub(super) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        Ok(Self {
            audio: AudioCache::open(config)?,
            recordings: Recordings::open(config)?,
            sound: SoundCache::new(config),
            features: FeatureCache::open(config)?,
        })
    }

    /// Hands the micro-batches of `lease` to `ready`, in order, as far ahead as that takes them.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(super) async fn load(
        self: &Arc<Self>,
        contact: &Contact,
        job: &Arc<Job>,
        lease: &Lease,
        ready: mpsc::Sender<Loaded>,
    ) -> Result<(), LoadError> {
        let epoch = (lease.key.kind == PassKind::Gradient).then_some(lease.epoch);
        let need = match epoch {
            Some(epoch) if job.augmenter.changes_sound() => Need::Sound { epoch },
            _ => Need::Prepared,
        };
        for micro_batch in &lease.micro_batches {
            let sources = self.sources(contact, job, micro_batch, need).await?;
            let loaded = {
                let (job, micro_batch) = (Arc::clone(job), micro_batch.clone());
                blocking(move || assemble(&job, micro_batch, sources, epoch)).await?
            };
            if ready.send(loaded).await.is_err() {
                // Nobody computes any more; why is theirs to say.
                return Ok(());
            }
        }
        Ok(())
    }

    /// The source of every utterance: those at hand, then those that had to be fetched.
    async fn sources(
        self: &Arc<Self>,
        contact: &Contact,
        job: &Arc<Job>,
        micro_batch: &MicroBatch,
        need: Need,
    ) -> Result<Vec<Source>, LoadError> {
        let found = {
            let (loader, job) = (Arc::clone(self), Arc::clone(job));
            let utterances = micro_batch.utterances.clone();
            blocking(move || {
                let at_hand = |utterance| loader.at_hand(&job, utterance, need);
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
        // Once, however many of the utterances lie in it.
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut places = Vec::with_capacity(absent.len());
        for Utterance { audio, .. } in &absent {
            let place = wanted.iter().position(|one| one.digest == audio.digest);
            places.push(place.unwrap_or_else(|| {
                wanted.push(audio.clone());
                wanted.len() - 1
            }));
        }
        let files = contact
            .persist(|| contact.tensors.fetch_audio(&job.id, &wanted))
            .await
            .map_err(|error| unavailable(error, &absent))?;
        let fetched = {
            let (loader, job) = (Arc::clone(self), Arc::clone(job));
            let utterances: Vec<Utterance> = absent.into_iter().cloned().collect();
            blocking(move || {
                wanted
                    .par_iter()
                    .zip(&files)
                    .for_each(|(wanted, bytes)| loader.audio.keep(wanted, bytes));
                utterances
                    .par_iter()
                    .zip(&places)
                    .map(|(utterance, &place)| loader.decode(&job, utterance, &files[place], need))
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
        need: Need,
    ) -> Result<Option<Source>, LoadError> {
        let held = match need {
            Need::Prepared => {
                let key = job.feature_key(utterance);
                self.features.get(&key).map(Source::Prepared)
            }
            Need::Sound { epoch } => {
                let sound = self.sound.get(&job.sound_key(&utterance.segment_digest()));
                sound.map(|sound| Source::Sound(sound, epoch))
            }
        };
        if held.is_some() {
            return Ok(held);
        }
        let Some(part) = utterance.part() else {
            let bytes = self.audio.find(&utterance.audio);
            return bytes
                .map(|bytes| self.decode(job, utterance, &bytes, need))
                .transpose();
        };
        match self.recordings.find(&self.audio, &utterance.audio, &part) {
            Ok(None) => Ok(None),
            Ok(Some(audio)) => self
                .compute_features(job, utterance, &audio, need)
                .map(Some),
            Err(error) => undecodable(utterance, &error).map(Some),
        }
    }

    fn decode(
        &self,
        job: &Job,
        utterance: &Utterance,
        bytes: &[u8],
        need: Need,
    ) -> Result<Source, LoadError> {
        let path = utterance.audio.path.to_string_lossy();
        let audio = match utterance.part() {
            None => audio::decode_part(&path, bytes, None, utterance.channel)
                .map(|heard| mixed(heard, &utterance.audio.path)),
            Some(part) => self
                .recordings
                .decode(&self.audio, &utterance.audio, bytes, &part),
        };
        match audio {
            Ok(audio) => self.compute_features(job, utterance, &audio, need),
            Err(error) => undecodable(utterance, &error),
        }
    }

    /// Computes what is needed of `audio`, and puts it into its cache.
    fn compute_features(
        &self,
        job: &Job,
        utterance: &Utterance,
        audio: &Audio,
        need: Need,
    ) -> Result<Source, LoadError> {
        let seconds = audio.seconds();
        let source = match need {
            Need::Prepared => {
                let speaker = job.scaling(utterance);
                let speaker = speaker.map_err(|error| fault(utterance, &error))?;
                let features = match job.front_end.features_of(audio, speaker.as_ref()) {
                    Ok(features) => features,
                    Err(error) => return without_features(utterance, &error),
                };
                let prepared = Arc::new(Prepared { features, seconds });
                let key = job.feature_key(utterance);
                self.features.keep(key, Arc::clone(&prepared));
                Source::Prepared(prepared)
            }
            Need::Sound { epoch } => {
                let samples = match job.front_end.samples(audio) {
                    Ok(samples) => samples.into_owned(),
                    Err(error) => return without_features(utterance, &error),
                };
                let sound = Arc::new(Sound { samples, seconds });
                let key = job.sound_key(&utterance.segment_digest());
                self.sound.keep(key, Arc::clone(&sound));
                Source::Sound(sound, epoch)
            }
        };
        Ok(source)
    }
}

/// Everything but the audio of a micro-batch; in training (`epoch`) with what the epoch makes of it.
fn assemble(
    job: &Job,
    micro_batch: MicroBatch,
    sources: Vec<Source>,
    epoch: Option<u32>,
) -> Result<Loaded, LoadError> {
    let mut unusable = Vec::new();
    let (mut usable, mut usable_sources) = (Vec::new(), Vec::new());
    for (utterance, source) in micro_batch.utterances.into_iter().zip(sources) {
        if let Source::Unusable(reason) = source {
            unusable.push(left_out(&utterance, &reason));
            continue;
        }
        usable.push(utterance);
        usable_sources.push(source);
    }
    let sounds: Vec<&[f32]> = usable_sources.iter().map(Source::samples).collect();
    let made: Vec<Result<Example, Unusable>> = (usable, &usable_sources)
        .into_par_iter()
        .enumerate()
        .map(|(place, (utterance, source))| {
            let others = || [&sounds[..place], &sounds[place + 1..]].concat();
            example(job, utterance, source, epoch, others)
        })
        .collect::<Result<_, LoadError>>()?;
    let mut examples = Vec::with_capacity(made.len());
    for one in made {
        match one {
            Ok(example) => examples.push(example),
            Err(one) => unusable.push(one),
        }
    }
    Ok(Loaded {
        index: micro_batch.index,
        examples,
        unusable,
    })
}

fn example<'a>(
    job: &Job,
    utterance: Utterance,
    source: &Source,
    epoch: Option<u32>,
    others: impl Fn() -> Vec<&'a [f32]>,
) -> Result<Result<Example, Unusable>, LoadError> {
    let labels = match job.recipe.vocabulary.encode(&utterance.text) {
        Ok(labels) => Some(labels),
        // It is scored all the same.
        Err(_) if epoch.is_none() => None,
        Err(error) => return Err(fault(&utterance, &error)),
    };
    let on = |epoch| Occasion {
        epoch,
        utterance: utterance.index,
    };
    let (seconds, mut example_features) = match source {
        Source::Prepared(prepared) => (
            prepared.seconds,
            ExampleFeatures::Plain(Arc::clone(prepared)),
        ),
        Source::Sound(sound, epoch) => {
            let needed = match (job.recipe.model.head, &labels) {
                (Head::Ctc, Some(labels)) => {
                    job.recipe.model.input_frames(ctc_required_frames(labels))
                }
                _ => 1,
            };
            let speaker = job.scaling(&utterance);
            let speaker = speaker.map_err(|error| fault(&utterance, &error))?;
            let recording = AugmentInput {
                samples: &sound.samples,
                speaker: speaker.as_ref(),
                others: &others(),
            };
            let features = job
                .augmenter
                .features(&job.front_end, recording, on(*epoch), needed);
            match features {
                Ok(features) => (sound.seconds, ExampleFeatures::Augmented(features)),
                Err(error) => match Reason::of_front_end(&error) {
                    Some(_) => return Ok(Err(left_out(&utterance, &error.to_string()))),
                    None => return Err(fault(&utterance, &error)),
                },
            }
        }
        // They were put aside before.
        Source::Unusable(reason) => return Ok(Err(left_out(&utterance, reason))),
    };
    if let Some(epoch) = epoch.filter(|_| job.augmenter.masks()) {
        let mut features = match example_features {
            ExampleFeatures::Plain(prepared) => prepared.features.clone(),
            ExampleFeatures::Augmented(features) => features,
        };
        job.augmenter.mask(&mut features, on(epoch));
        example_features = ExampleFeatures::Augmented(features);
    }
    Ok(Ok(Example {
        utterance,
        features: example_features,
        seconds,
        labels,
    }))
}

/// With as much of the reason as travels: a lease may have many such utterances.
fn left_out(utterance: &Utterance, reason: &str) -> Unusable {
    const LONGEST: usize = 300;
    Unusable {
        utterance: utterance.index,
        reason: reason.chars().take(LONGEST).collect(),
    }
}

/// What it means that verified bytes give no audio.
fn undecodable(utterance: &Utterance, error: &AudioError) -> Result<Source, LoadError> {
    match Reason::of_audio(error) {
        // Its bytes were there a moment ago, and verified: what vanished or cannot be opened is no damage.
        Some(Reason::Missing | Reason::Unreadable) | None => Err(LoadError::System(format!(
            "utterance `{}`: {error}",
            utterance.id
        ))),
        Some(_) => Ok(Source::Unusable(error.to_string())),
    }
}

/// What it means that audio gives no features.
fn without_features(utterance: &Utterance, error: &FrontEndError) -> Result<Source, LoadError> {
    match Reason::of_front_end(error) {
        Some(_) => Ok(Source::Unusable(format!(
            "{}: {error}",
            utterance.audio.path.display()
        ))),
        None => Err(fault(utterance, error)),
    }
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
