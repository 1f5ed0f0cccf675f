//! Prepares a job's corpus: manifests read or speech synthesised, every audio file inspected and named by its
//! digest, the vocabulary, what cannot be trained on left out by name, and the recipe that workers compute by. It
//! decides what takes part; in what order and who computes it is decided elsewhere.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rayon::prelude::*;
use speech::{
    audio::AudioError,
    corpus_roots::CorpusRoots,
    decode::{BundleError, DecoderBundle, Given, ctc_required_frames},
    error_class::{Class, Classify},
    features::Normalization,
    front_end::{FrontEnd, FrontEndError, GlobalStats},
    left_out::{Reason, TooManyLeftOut},
    manifest::{ManifestError, Utterance},
    model::{Head, ModelSpec},
    objective,
    recipe::{Recipe, RecipeError},
    synth::{self, SynthError, SyntheticConfig},
    text::{TextError, Units, Vocabulary},
    unknown_text::UnknownText,
};
use thiserror::Error;

use crate::{
    job::{ClassBalance, Job},
    records::events::Set,
};

mod cache;
mod index;
mod left_out;
mod manifests;
mod overlap;
mod recordings;
mod statistics;

use index::Index;
pub use left_out::{Excluded, NamedUtterance};
use manifests::read;
pub use overlap::SharedRecordings;
use recordings::{Unusable, inspect_all};
use statistics::FeatureSource;

/// An utterance that takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// From the manifest; names the utterance in events and errors.
    pub id: String,
    /// Shared by all utterances in it.
    pub recording: Arc<Recording>,
    /// The samples of it that are meant, where it is not all of them.
    pub segment: Option<Range<u64>>,
    /// The channel of it that is meant, counted from 0, where it has several and not their mean is.
    pub channel: Option<u16>,
    /// What is said: the transcript, or the class for a keyword model.
    pub text: String,
    /// Who speaks, where the manifest says so.
    pub speaker: Option<String>,
    /// The place of the speaker's statistics among the run's, where features are normalised with them.
    pub voice: Option<u32>,
    /// That the model sees.
    pub frames: u64,
    /// The length of its audio.
    pub seconds: f64,
}

/// An audio file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Where the coordinator has read it.
    pub path: PathBuf,
    /// The size of the file.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub digest: [u8; 32],
}

impl Item {
    /// Bytes that it takes, at most, to name it to a worker: id, path and text, the statistics of its speaker
    /// among `voices`, and the numbers beside them.
    pub fn named_bytes(&self, voices: &[GlobalStats]) -> usize {
        /// Digest, size, segment and places, with what says which is which.
        const FIXED_BYTES: usize = 128;
        let voice = self.voice.and_then(|place| voices.get(place as usize));
        let statistics = voice.map_or(0, |stats| {
            FIXED_BYTES + 8 * (stats.mean.len() + stats.variance.len())
        });
        let path = self.recording.path.as_os_str().len();
        FIXED_BYTES + self.id.len() + path + self.text.len() + statistics
    }
}

/// A job made ready.
#[derive(Debug)]
pub struct Prepared {
    /// What workers need to compute features and build the model.
    pub recipe: Recipe,
    /// The model's shape: its parameters and their sizes.
    pub spec: ModelSpec,
    /// The training set, in the manifest's order.
    pub train: Vec<Item>,
    /// The validation set, in the manifest's order; empty where the job has none.
    pub valid: Vec<Item>,
    /// What was left out of the training manifest, and of the validation manifest.
    pub left_out: [Excluded; 2],
    /// Transcripts of the validation set that the model cannot say.
    pub unknown: UnknownText,
    /// What the model is to be decoded with.
    pub decoding: Option<DecoderBundle>,
    /// What of the job has no effect, a sentence each.
    pub warnings: Vec<String>,
    /// Statistics of speakers, those of the training set before those of the validation set.
    pub voices: Vec<GlobalStats>,
    /// Whether the corpus was made by the project's own synthesiser.
    pub synthetic: bool,
    /// Where its recordings may be read.
    pub roots: CorpusRoots,
    /// The digest of all data that the run's bits depend on, in hexadecimal.
    pub digest: String,
}

/// Why a corpus cannot be made ready for a job.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum CorpusError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// The system failed, and not the recording.
    #[error("utterance {utterance:?}: {source}")]
    Audio {
        utterance: String,
        source: Arc<AudioError>,
    },
    #[error("{}: {source}", path.display())]
    TooManyLeftOut {
        path: PathBuf,
        source: TooManyLeftOut,
    },
    #[error("{}: {source}", path.display())]
    Vocabulary { path: PathBuf, source: TextError },
    #[error(
        "{}: the keyword head needs two classes or more, and every transcript is {only:?}", path.display()
    )]
    OneClass { path: PathBuf, only: String },
    #[error(
        "{}: none of the {of} utterances can be {purpose}; the first, {utterance:?}: {reason}", path.display()
    )]
    NothingLeft {
        path: PathBuf,
        of: u64,
        purpose: &'static str,
        utterance: String,
        reason: String,
    },
    #[error("utterance {utterance:?}: {source}")]
    Features {
        utterance: String,
        source: FrontEndError,
    },
    #[error(transparent)]
    FrontEnd(#[from] FrontEndError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("[decode]: {0}")]
    Decode(#[from] BundleError),
    #[error(
        "{}: the synthetic corpus takes about {needed} MiB, and {free} MiB are free; ask for less, or make room", dir.display()
    )]
    NoRoom {
        dir: PathBuf,
        needed: u64,
        free: u64,
    },
    #[error("the preparation was given up")]
    Abandoned,
}

impl CorpusError {
    /// The message without the words of a language model or a lexicon: for somebody who may name such a file, and
    /// might not read it.
    pub(crate) fn without_contents(&self) -> String {
        match self {
            Self::Decode(error) => format!("[decode]: {}", error.without_contents()),
            _ => self.to_string(),
        }
    }
}

impl Classify for CorpusError {
    fn class(&self) -> Class {
        match self {
            Self::Abandoned | Self::NoRoom { .. } | Self::Audio { .. } => Class::Infrastructure,
            // Data does not mend itself; a disk or a network may.
            _ => Class::Data,
        }
    }
}

/// Makes `job` ready, of files beneath `roots` and no others. Synthetic speech is kept below `synthetic_dir`, for other jobs as well. What was found out
/// about recordings is kept in `cache_dir`, if there is one, and not found out again while they stay as they are.
/// Gives up soon after `abandoned` is set.
///
/// What cannot be used is left out by name.
///
/// # Errors
/// When more is left out than `corpus.max_bad` allows or nothing is left, when a recording cannot be read for a
/// failure of the system, or when the job cannot be made of what its manifests hold.
pub fn prepare(
    job: &Job,
    roots: &CorpusRoots,
    synthetic_dir: &Path,
    cache_dir: Option<&Path>,
    abandoned: &AtomicBool,
) -> Result<Prepared, CorpusError> {
    let go_on = || match abandoned.load(Ordering::Relaxed) {
        true => Err(CorpusError::Abandoned),
        false => Ok(()),
    };
    let paths = manifests(job, synthetic_dir, abandoned)?;
    let roots = &match job.corpus.synthetic {
        Some(_) => roots.and(synthetic_dir),
        None => roots.clone(),
    };
    let (train, mut train_left_out) = read(job, roots, Set::Train, &paths.train)?;
    let valid_path = paths.valid.unwrap_or_default();
    let (valid, mut valid_left_out) = if valid_path.as_os_str().is_empty() {
        (
            Vec::new(),
            Excluded::none(Set::Valid, &valid_path, job.corpus.max_bad, 0),
        )
    } else {
        read(job, roots, Set::Valid, &valid_path)?
    };

    go_on()?;
    let vocabulary = vocabulary_of(job, &paths.train, &train)?;
    go_on()?;
    if let (Head::Keyword, [only]) = (job.model.head, vocabulary.units.as_slice()) {
        return Err(CorpusError::OneClass {
            path: paths.train,
            only: only.clone(),
        });
    }
    let transcripts = valid.iter().map(|it| (it.id.as_str(), it.text.as_str()));
    let unknown = UnknownText::of(&vocabulary, transcripts);

    // Without statistics, which it is to compute.
    let front_end = FrontEnd::new(&job.features, None)?;
    let mut warnings = Vec::new();
    let mut inspect = |utterances, manifest: &Path| {
        let index = Index::load(cache_dir, manifest);
        let (items, cut) = inspect_all(job, roots, utterances, &front_end, index, abandoned)?;
        warnings.extend(cut.map(|cut| format!("{}: {cut}", manifest.display())));
        Ok::<_, CorpusError>(items)
    };
    let train = inspect(train, &paths.train)?;
    let valid = if valid.is_empty() {
        Vec::new()
    } else {
        inspect(valid, &valid_path)?
    };
    let mut train = keep(job, train, &mut train_left_out, |item| {
        let labels = vocabulary.encode(&item.text).unwrap_or_default();
        match job.model.head {
            Head::Ctc => {
                let outputs = ctc_required_frames(&labels).max(1);
                job.model.input_frames(outputs) as u64
            }
            Head::Keyword => 1,
        }
    });
    // A transcript too long for CTC has no loss but is decoded and scored all the same.
    let mut valid = keep(job, valid, &mut valid_left_out, |_| 1);
    train_left_out.check(train.len())?;
    valid_left_out.check(valid.len())?;
    warnings.extend(overlap::find(&train, &valid).map(|shared| shared.to_string()));

    let features = FeatureSource {
        front_end: &front_end,
        features: &job.features,
        roots,
        cache_dir,
        abandoned,
    };
    let (mut stats, mut voices) = (None, Vec::new());
    match job.features.normalization {
        Normalization::None | Normalization::Utterance => {}
        Normalization::Global => {
            let computed = statistics::global(&train, &features)?;
            stats = Some(computed.stats);
            exclude(&mut train, &mut train_left_out, computed.unusable)?;
        }
        Normalization::Speaker => {
            for (items, left_out) in [
                (&mut train, &mut train_left_out),
                (&mut valid, &mut valid_left_out),
            ] {
                let unusable = statistics::of_speakers(items, &features, &mut voices)?;
                exclude(items, left_out, unusable)?;
            }
        }
    }
    let class_weights = class_weights(job.train.class_balance, &train, &vocabulary);
    let recipe = Recipe {
        features: job.features.clone(),
        augment: job.augment.clone(),
        model: job.model.clone(),
        text: job.text.clone(),
        vocabulary,
        stats,
        normalize: job.train.normalize,
        label_smoothing: job.train.label_smoothing,
        class_weights,
        seed: job.train.seed,
    };
    let spec = recipe.model_spec()?;
    go_on()?;
    let (decoding, without_effect) = decoding(job, roots, &recipe.vocabulary, &train)?;
    warnings.extend(without_effect);
    let digest = digest(&recipe, &voices, [&train, &valid]);
    Ok(Prepared {
        recipe,
        spec,
        train,
        valid,
        left_out: [train_left_out, valid_left_out],
        unknown,
        decoding,
        warnings,
        voices,
        synthetic: job.corpus.synthetic.is_some(),
        roots: roots.clone(),
        digest,
    })
}

/// The vocabulary that `job` takes from the training manifest at `path`.
///
/// # Errors
/// When the manifest cannot be read, or its transcripts give none.
pub fn vocabulary(job: &Job, path: &Path) -> Result<Vocabulary, CorpusError> {
    let (utterances, _) = read(job, &CorpusRoots::anywhere(), Set::Train, path)?;
    vocabulary_of(job, path, &utterances)
}

fn vocabulary_of(job: &Job, path: &Path, train: &[Utterance]) -> Result<Vocabulary, CorpusError> {
    let texts = train.iter().map(|utterance| &utterance.text);
    match (job.model.head, job.text.units) {
        (Head::Keyword, _) => Vocabulary::classes(texts),
        (Head::Ctc, Units::Characters) => Vocabulary::characters(texts),
        (Head::Ctc, Units::Bytepair) => Vocabulary::bytepair(texts, job.text.size),
        (Head::Ctc, Units::Words) => Vocabulary::words(texts, job.text.size),
    }
    .map_err(|source| CorpusError::Vocabulary {
        path: path.to_owned(),
        source,
    })
}

/// Made before anything is trained, so that what is wrong with it is not found at the end; and what of it
/// has no effect.
fn decoding(
    job: &Job,
    roots: &CorpusRoots,
    vocabulary: &Vocabulary,
    train: &[Item],
) -> Result<(Option<DecoderBundle>, Vec<String>), CorpusError> {
    let Some(config) = &job.decode else {
        return Ok((None, Vec::new()));
    };
    let transcripts: Vec<&str> = train.iter().map(|item| item.text.as_str()).collect();
    let mut kept = DecoderBundle::prepare(config, &transcripts, roots)?;
    let given = Given::of_job(config);
    let mut warnings = kept.fit(given, &job.text, vocabulary, job.corpus.max_bad)?;
    // They name words of the files.
    let from_files = given.language_model || given.lexicon;
    if from_files && !roots.is_anywhere() && !warnings.is_empty() {
        for warning in &warnings {
            tracing::warn!(job = job.name, "{warning}");
        }
        warnings = vec![format!(
            "of the language model or the lexicon {} things are to be said, which the coordinator's log says",
            warnings.len()
        )];
    }
    kept.decoder(vocabulary).map_err(BundleError::from)?;
    Ok((Some(kept), warnings))
}

struct Paths {
    train: PathBuf,
    valid: Option<PathBuf>,
}

fn manifests(
    job: &Job,
    synthetic_dir: &Path,
    abandoned: &AtomicBool,
) -> Result<Paths, CorpusError> {
    let Some(config) = &job.corpus.synthetic else {
        return Ok(Paths {
            train: job.corpus.train.clone().unwrap_or_default(),
            valid: job.corpus.valid.clone(),
        });
    };
    let settings = serde_json::to_vec(config).expect("numbers and names are JSON");
    let name = blake3::hash(&settings).to_hex();
    let dir = synthetic_dir.join(&name[..16]);
    check_room(config, &dir)?;
    let made = synth::generate_unless(abandoned, config, &dir).map_err(|error| match error {
        SynthError::Abandoned => CorpusError::Abandoned,
        other => other.into(),
    })?;
    Ok(Paths {
        train: made.train,
        valid: (config.valid > 0).then_some(made.valid),
    })
}

/// Refuses a corpus that would fill the disk below `dir`, unless it was begun there.
fn check_room(config: &SyntheticConfig, dir: &Path) -> Result<(), CorpusError> {
    let Some(parent) = dir.ancestors().skip(1).find(|parent| parent.is_dir()) else {
        return Ok(());
    };
    let (needed, begun) = (config.bytes(), dir.is_dir());
    // Where it is not told, writing will show.
    let Ok(disk) = rustix::fs::statvfs(parent) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if begun || needed <= free {
        return Ok(());
    }
    Err(CorpusError::NoRoom {
        dir: parent.to_owned(),
        needed: needed >> 20,
        free: free >> 20,
    })
}

/// Keeps the items with at least as many frames as they need, and no more seconds than the job allows.
fn keep(
    job: &Job,
    inspected: Vec<Result<Item, Unusable>>,
    left_out: &mut Excluded,
    needed: impl Fn(&Item) -> u64 + Sync,
) -> Vec<Item> {
    let frames = |item: &Result<Item, Unusable>| item.as_ref().map_or(0, &needed);
    let needed: Vec<u64> = inspected.par_iter().map(frames).collect();
    let longest = job.corpus.max_seconds.unwrap_or(f64::INFINITY);
    let mut kept = Vec::with_capacity(inspected.len());
    for (item, needed) in inspected.into_iter().zip(needed) {
        let item = match item {
            Ok(item) => item,
            Err(Unusable {
                utterance,
                reason,
                told,
            }) => {
                left_out.add(&utterance, reason, told);
                continue;
            }
        };
        let frames = item.frames;
        let (reason, told) = if item.seconds > longest {
            let told = format!(
                "lasts {:.1} s, and `corpus.max_seconds = {longest}` allows no more",
                item.seconds
            );
            (Reason::TooLong, told)
        } else if frames == 0 {
            let told = "is too short to give a frame of features".to_owned();
            (Reason::TooShort, told)
        } else if frames < needed {
            let told = format!("has {frames} frames where CTC needs {needed} for its transcript");
            (Reason::TooShortForTranscript, told)
        } else {
            kept.push(item);
            continue;
        };
        left_out.add(&item.id, reason, told);
    }
    kept
}

/// Takes the items that turned out to be unusable (places, ascending) out of `items`.
fn exclude(
    items: &mut Vec<Item>,
    left_out: &mut Excluded,
    unusable: Vec<(usize, Unusable)>,
) -> Result<(), CorpusError> {
    let mut places = unusable.iter().map(|(place, _)| *place).peekable();
    let mut place = 0;
    items.retain(|_| {
        let is_out = places.next_if_eq(&place).is_some();
        place += 1;
        !is_out
    });
    for (_, one) in unusable {
        left_out.add(&one.utterance, one.reason, one.told);
    }
    left_out.check(items.len())
}

/// The loss weight of each class of the vocabulary; none where all are equal.
fn class_weights(balance: ClassBalance, items: &[Item], vocabulary: &Vocabulary) -> Vec<f64> {
    if balance == ClassBalance::None {
        return Vec::new();
    }
    let mut counts = vec![0; vocabulary.outputs()];
    for item in items {
        let class = vocabulary.encode(&item.text).unwrap_or_default();
        if let [class] = class[..] {
            counts[class as usize] += 1;
        }
    }
    objective::balanced(&counts)
}

/// Names what a run is trained and scored on, so that it never goes on with other data than it was begun
/// with: recordings, transcripts, units and statistics. Where the files lie and what utterances are called is
/// no part of it, as no bit depends on that; what the job says of the training is compared key by key
/// ([`crate::job::changes`]).
fn digest(recipe: &Recipe, voices: &[GlobalStats], sets: [&[Item]; 2]) -> String {
    let mut hasher = blake3::Hasher::new();
    let settings = (&recipe.vocabulary, &recipe.stats);
    let settings = serde_json::to_vec(&settings).expect("settings are JSON");
    hasher.update(&settings);
    if !voices.is_empty() {
        // Not by way of a string: those of 100,000 speakers take hundreds of megabytes.
        serde_json::to_writer(io::BufWriter::new(&mut hasher), voices).expect("numbers are JSON");
    }
    let mut line = Vec::new();
    for set in sets {
        hasher.update(&(set.len() as u64).to_le_bytes());
        for item in set {
            let described = (&item.text, item.frames);
            line.clear();
            serde_json::to_writer(&mut line, &described).expect("strings are JSON");
            hasher.update(&line);
            if let Some(voice) = item.voice {
                hasher.update(&voice.to_le_bytes());
            }
            hasher.update(&item.recording.digest);
            if let Some(part) = &item.segment {
                hasher.update(&part.start.to_le_bytes());
                hasher.update(&part.end.to_le_bytes());
            }
            if let Some(channel) = item.channel {
                hasher.update(b"channel").update(&channel.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}
