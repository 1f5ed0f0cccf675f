//! What a model makes of every utterance of a manifest, and what that costs. It decides in what portions
//! recordings are read; it refuses to know what is shown of the result.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::Result;
use serde::Serialize;
use speech::{
    audio::{self, Audio},
    features::Features,
    front_end::Scaling,
    manifest::{Manifest, Utterance},
    score::{
        self, Score,
        details::{Recognised, Unit},
    },
    text::Kind,
};
use worker::{compute::Compute, inference::Model};

use super::speakers;
use crate::exit::Failure;

/// Recordings in memory at once.
pub(super) const AT_ONCE: usize = 64;
/// Bad transcripts and recordings are named up to this many.
const NAMED: usize = 5;

/// What a model made of a manifest.
pub struct Measured {
    /// With the model's decoder.
    pub score: Score,
    /// Where there is one.
    pub greedy: Option<Greedy>,
    pub unit: Unit,
    /// In the manifest's order, as all that follows.
    pub utterances: Vec<Utterance>,
    pub recognised: Vec<Recognised>,
    /// How each speaker is normalised, where the model asks who speaks.
    pub speakers: BTreeMap<String, Scaling>,
    /// Of each utterance that has one.
    pub losses: Vec<Option<f64>>,
    pub audio_seconds: f64,
    pub seconds: f64,
}

/// What the best label of every frame gives.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Greedy {
    pub wer: Option<f64>,
    pub cer: Option<f64>,
}

/// What recognition costs.
#[derive(Debug, Serialize)]
pub struct Efficiency {
    pub audio_seconds: f64,
    /// Reading, features, model and decoding; opening the model is left out.
    pub seconds: f64,
    /// Seconds of computing for a second of audio.
    pub real_time_factor: f64,
    pub parameters: usize,
    /// Of the file of weights.
    pub model_bytes: u64,
    /// Of this program so far, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    pub compute_class: String,
}

impl Efficiency {
    /// Of the model in `folder`.
    pub fn of(folder: &Path, model: &Model, measured: &Measured, compute: &Compute) -> Self {
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

/// Recognises every utterance of `manifest`, which was read from `path`.
pub fn measure(model: &Model, manifest: Manifest, path: &Path) -> Result<Measured> {
    let mut utterances = manifest.utterances;
    for utterance in &mut utterances {
        utterance.text = model.recipe().text.normalize(&utterance.text);
    }
    let labels = labels(model, &utterances, path)?;
    let begun = Instant::now();
    let speakers = speakers::scalings(model, &utterances)?;
    let (mut recognised, mut losses, mut audio_seconds) = (Vec::new(), Vec::new(), 0.0);
    let mut greedy = Vec::new();
    for (utterances, labels) in utterances.chunks(AT_ONCE).zip(labels.chunks(AT_ONCE)) {
        let recordings = read(utterances)?;
        let features = features(model, &recordings, utterances, &speakers)?;
        let heard = model.recognise(&features.iter().collect::<Vec<_>>())?;
        let labels: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
        losses.extend(model.losses(&heard, &labels));
        let decoded = match model.decoder() {
            Some(_) => model.hypotheses(&heard)?,
            None => Vec::new(),
        };
        let mut decoded = decoded.into_iter();
        for ((utterance, heard), recording) in utterances.iter().zip(heard).zip(&recordings) {
            let best = decoded.next().and_then(|found| found.into_iter().next());
            let hypothesis = match best {
                Some(best) => {
                    greedy.push((utterance.text.clone(), heard.text));
                    best.text
                }
                None => heard.text,
            };
            let seconds = seconds(recording);
            audio_seconds += seconds;
            recognised.push(Recognised {
                id: utterance.id.clone(),
                speaker: utterance.speaker.clone(),
                seconds,
                reference: utterance.text.clone(),
                hypothesis,
            });
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let pairs: Vec<(&str, &str)> = recognised
        .iter()
        .map(|one| (one.reference.as_str(), one.hypothesis.as_str()))
        .collect();
    let vocabulary = &model.recipe().vocabulary;
    let (unit, score) = match vocabulary.kind {
        Kind::Classes => (Unit::Utterances, score::keyword(&pairs, &vocabulary.units)),
        _ => (Unit::Words, score::transcripts(&pairs)),
    };
    let greedy = model.decoder().is_some().then(|| {
        let Score { wer, cer, .. } = score::transcripts(&greedy);
        Greedy { wer, cer }
    });
    Ok(Measured {
        score,
        greedy,
        unit,
        utterances,
        recognised,
        speakers,
        losses,
        audio_seconds,
        seconds,
    })
}

pub fn read(utterances: &[Utterance]) -> Result<Vec<Audio>> {
    let recordings = utterances.iter().map(audio::read_utterance);
    Ok(recordings.collect::<Result<_, _>>()?)
}

pub fn seconds(audio: &Audio) -> f64 {
    audio.samples.len() as f64 / f64::from(audio.sample_rate)
}

/// The features of each utterance's recording, normalised by its speaker if that is among `speakers`; an
/// error names the utterance.
pub fn features(
    model: &Model,
    recordings: &[Audio],
    utterances: &[Utterance],
    speakers: &BTreeMap<String, Scaling>,
) -> Result<Vec<Features>> {
    let whose = |utterance: &Utterance| speakers.get(utterance.speaker.as_ref()?);
    let whose: Vec<Option<&Scaling>> = utterances.iter().map(whose).collect();
    let found = model.features_of(recordings, &whose);
    found
        .into_iter()
        .zip(utterances)
        .map(|(features, utterance)| {
            let told = |error| Failure::Data(format!("{}: {error}", utterance.id));
            features.map_err(|error| told(error).into())
        })
        .collect()
}

/// What the transcripts are to the model, or an error that names those it cannot say.
fn labels(model: &Model, utterances: &[Utterance], path: &Path) -> Result<Vec<Vec<u32>>> {
    let vocabulary = &model.recipe().vocabulary;
    let mut labels = Vec::with_capacity(utterances.len());
    let mut wrong: BTreeMap<String, Vec<&Utterance>> = BTreeMap::new();
    for utterance in utterances {
        match vocabulary.encode(&utterance.text) {
            Ok(encoded) => labels.push(encoded),
            Err(error) => wrong.entry(error.to_string()).or_default().push(utterance),
        }
    }
    if wrong.is_empty() {
        return Ok(labels);
    }
    let count: usize = wrong.values().map(Vec::len).sum();
    let named: Vec<String> = wrong
        .iter()
        .take(NAMED)
        .map(|(error, utterances)| format!("{}: {error}", utterances[0].id))
        .collect();
    Err(Failure::Data(format!(
        "{}: {count} of {} transcripts cannot be said by the model: {}",
        path.display(),
        utterances.len(),
        named.join("; ")
    ))
    .into())
}
