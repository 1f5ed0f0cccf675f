//! Recognises every utterance of a manifest with a model, and measures what that costs. It decides in what
//! portions recordings are read. Utterances that cannot be used are left out by name, within a bound.

mod speakers;

use std::{collections::BTreeMap, path::Path, time::Instant};

use serde::Serialize;
use speech::{
    audio::{self, Audio, Segments},
    features::Features,
    front_end::Scaling,
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
    portions::{Cancelled, Leaving, Ready, RecordingReader, features_of, portion},
};
pub(crate) use speakers::scalings;

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
    let mut leaving = Leaving::new(path, max_bad, manifest.utterances.len(), bad)?;
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
    let speakers = scalings(model, &all)?;
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
    let left_out = leaving.finish(recognised.len(), "evaluated")?;
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

pub(crate) fn read(utterances: &[Utterance]) -> Result<Vec<Audio>> {
    let recordings = utterances.iter().map(audio::read_utterance);
    Ok(recordings.collect::<Result<_, _>>()?)
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
