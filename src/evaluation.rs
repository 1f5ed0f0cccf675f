//! Recognises every utterance of a manifest with a model, and measures what that costs. It decides in what
//! portions recordings are read. Utterances that cannot be used are left out by name, within a bound.

mod speakers;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use speech::{
    audio::{self, Audio, Segments},
    escape::escape,
    features::Features,
    front_end::{FrontEndError, Scaling},
    left_out::{LeftOut, Reason},
    manifest::{BadLine, Manifest, Utterance},
    score::{
        self, Score,
        details::{ErrorUnit, Recognised},
    },
    text::UnitKind,
    tolerance::MaxBad,
    unknown_text::UnknownText,
};
use worker::{compute::Compute, inference::Model};

use crate::{
    exit::{CommandError, Result},
    output,
};

/// Recordings in memory at once: so many at most, and no more than [`MAX_PORTION_SAMPLES`] unless one has more.
const MAX_PORTION_UTTERANCES: usize = 64;
const MAX_PORTION_SAMPLES: usize = 8 << 20;
/// Utterances that are left out are named one by one up to this many.
const NAMED_UTTERANCES: u64 = 5;

/// What a model made of a manifest.
pub(crate) struct Measured {
    /// With the model's decoder.
    pub score: Score,
    /// Where there is one.
    pub greedy: Option<Greedy>,
    pub unit: ErrorUnit,
    pub left_out: LeftOut,
    /// Transcripts that the model cannot say.
    pub unknown: UnknownText,
    /// Those that were recognised, in the manifest's order, as all that follows.
    pub utterances: Vec<Utterance>,
    pub recognised: Vec<Recognised>,
    /// How each speaker is normalised, where the model asks who speaks.
    pub speakers: BTreeMap<String, Scaling>,
    /// The loss of each utterance that has one.
    pub losses: Vec<Option<f64>>,
    pub audio_seconds: f64,
    pub seconds: f64,
}

/// What the best label of every frame gives.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Greedy {
    pub wer: Option<f64>,
    pub cer: Option<f64>,
}

/// What recognition costs.
#[derive(Debug, Serialize)]
pub(crate) struct Efficiency {
    pub audio_seconds: f64,
    /// Reading, features, model and decoding; opening the model is left out.
    pub seconds: f64,
    /// Seconds of computing for a second of audio.
    pub real_time_factor: f64,
    pub parameters: usize,
    /// The size of the file of weights.
    pub model_bytes: u64,
    /// The peak memory of this program so far, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    pub compute_class: String,
}

impl Efficiency {
    /// What it cost to measure the model in `folder`.
    pub(crate) fn of(folder: &Path, model: &Model, measured: &Measured, compute: &Compute) -> Self {
        let file = std::fs::metadata(folder.join("model.safetensors"));
        let (audio_seconds, seconds) = (measured.audio_seconds, measured.seconds);
        Self {
            audio_seconds,
            seconds,
            real_time_factor: seconds / audio_seconds.max(f64::MIN_POSITIVE),
            parameters: model.spec().elements(),
            model_bytes: file.map_or(0, |file| file.len()),
            peak_memory_bytes: crate::memory::peak(),
            compute_class: compute.class.clone(),
        }
    }
}

/// Recognises the utterances of `manifest`, which was read from `path` with the lines that cannot be used; so many
/// as `max_bad` says may be left out.
pub(crate) fn measure(
    model: &Model,
    (manifest, bad): (Manifest, Vec<BadLine>),
    path: &Path,
    max_bad: MaxBad,
) -> Result<Measured> {
    let mut leaving = Leaving {
        path,
        bound: max_bad,
        left_out: LeftOut::of(manifest.utterances.len() + bad.len()),
    };
    for BadLine { line, problem } in bad {
        let told = format!("{}:{line}: {problem}", path.display());
        leaving.leave_out(&format!("line {line}"), Some(Reason::BadLine), &told)?;
    }
    let vocabulary = &model.recipe().vocabulary;
    let mut all = Vec::with_capacity(manifest.utterances.len());
    for mut utterance in manifest.utterances {
        utterance.text = model.recipe().reference(&utterance.text);
        if vocabulary.kind == UnitKind::Classes && utterance.text.is_empty() {
            let told = "its transcript is empty, which is no class";
            leaving.leave_out(&utterance.id, Some(Reason::NoTranscript), told)?;
        } else {
            all.push(utterance);
        }
    }
    let transcripts = all.iter().map(|it| (it.id.as_str(), it.text.as_str()));
    let unknown = UnknownText::of(vocabulary, transcripts);
    if !unknown.is_empty() {
        output::message(&format!("{}: {unknown}", path.display()));
    }
    let begun = Instant::now();
    let speakers = speakers::scalings(model, &all)?;
    let (mut utterances, mut recognised, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    let (mut audio_seconds, mut greedy) = (0.0, Vec::new());
    let segments = Segments::of(all.iter().map(|it| (it.audio.as_path(), it.channel)));
    let mut cancelled = Cancelled::default();
    let mut rest = all.into_iter();
    while rest.len() > 0 {
        let recordings = RecordingReader {
            segments: &segments,
            cancelled: &mut cancelled,
        };
        let portion = portion(model, &mut rest, recordings, &speakers, &mut leaving)?;
        let features: Vec<&Features> = portion.iter().map(|one| &one.features).collect();
        let heard = model.recognise(&features)?;
        let labels = portion
            .iter()
            .map(|one| vocabulary.encode(&one.utterance.text).ok());
        let labels: Vec<Option<Vec<u32>>> = labels.collect();
        let labels: Vec<Option<&[u32]>> = labels.iter().map(Option::as_deref).collect();
        losses.extend(model.losses(&heard, &labels));
        let decoded = match model.decoder() {
            Some(_) => model.hypotheses(&heard)?,
            None => Vec::new(),
        };
        let mut decoded = decoded.into_iter();
        for (one, heard) in portion.into_iter().zip(heard) {
            let Ready {
                utterance, seconds, ..
            } = one;
            let best = decoded.next().and_then(|found| found.into_iter().next());
            let hypothesis = match best {
                Some(best) => {
                    greedy.push((utterance.text.clone(), heard.text));
                    best.text
                }
                None => heard.text,
            };
            audio_seconds += seconds;
            recognised.push(Recognised {
                id: utterance.id.clone(),
                speaker: utterance.speaker.clone(),
                seconds,
                reference: utterance.text.clone(),
                hypothesis,
            });
            utterances.push(utterance);
        }
    }
    cancelled.tell();
    let left_out = leaving.finish(recognised.len())?;
    let seconds = begun.elapsed().as_secs_f64();
    let pairs: Vec<(&str, &str)> = recognised
        .iter()
        .map(|one| (one.reference.as_str(), one.hypothesis.as_str()))
        .collect();
    let (unit, score) = match vocabulary.kind {
        UnitKind::Classes => (
            ErrorUnit::Utterances,
            score::keyword(&pairs, &vocabulary.units),
        ),
        _ => (ErrorUnit::Words, score::transcripts(&pairs)),
    };
    let greedy = model.decoder().is_some().then(|| {
        let Score { wer, cer, .. } = score::transcripts(&greedy);
        Greedy { wer, cer }
    });
    Ok(Measured {
        score,
        greedy,
        unit,
        left_out,
        unknown,
        utterances,
        recognised,
        speakers,
        losses,
        audio_seconds,
        seconds,
    })
}

/// Where utterances are read from.
struct RecordingReader<'a> {
    segments: &'a Segments,
    cancelled: &'a mut Cancelled,
}

/// Recordings whose channels are of opposite phase, so that nothing is left of their mean.
#[derive(Default)]
struct Cancelled(BTreeSet<PathBuf>);

impl Cancelled {
    fn add(&mut self, path: &Path) {
        if !self.0.contains(path) {
            self.0.insert(path.to_owned());
        }
    }

    fn tell(&self) {
        let Some(first) = self.0.first() else { return };
        output::message(&format!(
            "warning: the channels of {} recordings are of opposite phase and cancel, so that hardly a sound is left of \
             their mean, first of {}: name the channel that is meant with `channel` in the manifest",
            self.0.len(),
            first.display().to_string().escape_debug()
        ));
    }
}

/// An utterance that can be recognised.
struct Ready {
    utterance: Utterance,
    /// The length of its recording.
    seconds: f64,
    features: Features,
}

/// The next utterances that fit into memory together, without those that cannot be used.
fn portion(
    model: &Model,
    rest: &mut impl Iterator<Item = Utterance>,
    from: RecordingReader,
    speakers: &BTreeMap<String, Scaling>,
    leaving: &mut Leaving,
) -> Result<Vec<Ready>> {
    let (mut utterances, mut recordings, mut samples) = (Vec::new(), Vec::<Audio>::new(), 0);
    while recordings.len() < MAX_PORTION_UTTERANCES && samples < MAX_PORTION_SAMPLES {
        let Some(utterance) = rest.next() else { break };
        match from.segments.utterance(&utterance) {
            Ok(heard) => {
                if heard.cancels {
                    from.cancelled.add(&utterance.audio);
                }
                let recording = heard.audio;
                samples += recording.samples.len();
                recordings.push(recording);
                utterances.push(utterance);
            }
            Err(error) => {
                leaving.leave_out(&utterance.id, Reason::of_audio(&error), &error.to_string())?;
            }
        }
    }
    let found = features_of(model, &recordings, &utterances, speakers);
    let mut ready = Vec::with_capacity(utterances.len());
    for ((utterance, recording), features) in utterances.into_iter().zip(&recordings).zip(found) {
        match features {
            Ok(features) => ready.push(Ready {
                seconds: recording.seconds(),
                utterance,
                features,
            }),
            Err(error) => {
                let told = format!("{}: {error}", utterance.audio.display());
                match Reason::of_front_end(&error) {
                    None if !matches!(error, FrontEndError::Audio(_)) => {
                        return Err(CommandError::Data(told).into());
                    }
                    reason => leaving.leave_out(&utterance.id, reason, &told)?,
                }
            }
        }
    }
    Ok(ready)
}

/// The account of what is left out of an evaluation.
struct Leaving<'a> {
    /// The path of the manifest.
    path: &'a Path,
    bound: MaxBad,
    left_out: LeftOut,
}

impl Leaving<'_> {
    /// Names and counts an utterance that cannot be used; without a reason, the system failed.
    fn leave_out(&mut self, utterance: &str, reason: Option<Reason>, told: &str) -> Result<()> {
        let Some(reason) = reason else {
            let told = format!("utterance {utterance:?}: {told}");
            return Err(CommandError::Infrastructure(told).into());
        };
        match self.left_out.utterances {
            ..NAMED_UTTERANCES => output::message(&format!(
                "utterance {} is left out: {}",
                escape(utterance),
                escape(told)
            )),
            NAMED_UTTERANCES => {
                output::message("more utterances are left out; the end counts them")
            }
            _ => {}
        }
        self.left_out.add(utterance, reason, told);
        let path = self.path.display();
        self.left_out
            .check(self.bound)
            .map_err(|error| CommandError::Data(format!("{path}: {error}")).into())
    }

    /// What was left out, unless that is all.
    fn finish(self, recognised: usize) -> Result<LeftOut> {
        match self.left_out.examples.first() {
            Some(first) if recognised == 0 => {
                let told = format!(
                    "{}: none of the {} utterances can be evaluated; the first, {:?}: {}",
                    self.path.display(),
                    self.left_out.of,
                    first.utterance,
                    escape(&first.reason)
                );
                Err(CommandError::Data(told).into())
            }
            _ => Ok(self.left_out),
        }
    }
}

pub(crate) fn read(utterances: &[Utterance]) -> Result<Vec<Audio>> {
    let recordings = utterances.iter().map(audio::read_utterance);
    Ok(recordings.collect::<Result<_, _>>()?)
}

/// The features of each utterance's recording, normalised by its speaker if that is among `speakers`.
fn features_of(
    model: &Model,
    recordings: &[Audio],
    utterances: &[Utterance],
    speakers: &BTreeMap<String, Scaling>,
) -> Vec<Result<Features, FrontEndError>> {
    let whose = |utterance: &Utterance| speakers.get(utterance.speaker.as_ref()?);
    let whose: Vec<Option<&Scaling>> = utterances.iter().map(whose).collect();
    model.features_of(recordings, &whose)
}

/// [`features_of`] utterances that were recognised before; an error names the utterance.
pub(crate) fn features(
    model: &Model,
    recordings: &[Audio],
    utterances: &[Utterance],
    speakers: &BTreeMap<String, Scaling>,
) -> Result<Vec<Features>> {
    features_of(model, recordings, utterances, speakers)
        .into_iter()
        .zip(utterances)
        .map(|(features, utterance)| {
            let told = |error| CommandError::Data(format!("{}: {error}", utterance.id));
            features.map_err(|error| told(error).into())
        })
        .collect()
}
