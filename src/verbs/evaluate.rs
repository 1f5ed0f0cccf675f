//! `evaluate`: measures a trained model on a manifest. Here is also how a model is opened, for
//! `transcribe`.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::Result;
use serde::Serialize;
use speech::{
    audio::{self, Audio},
    features::Features,
    manifest::{Manifest, Utterance},
    score::{self, Score},
    text::Kind,
};
use worker::{
    compute::{Compute, DeviceChoice},
    inference::Model,
};

use super::decoding;
use crate::{
    args,
    exit::Failure,
    output::{self, duration, percent},
};

/// Recordings in memory at once.
const AT_ONCE: usize = 64;
/// Bad transcripts and recordings are named up to this many.
const NAMED: usize = 5;

#[derive(Debug, Serialize)]
struct Evaluation {
    /// With the model's decoder.
    #[serde(flatten)]
    score: Score,
    /// Beside it, what the best label of every frame gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    greedy: Option<Greedy>,
    /// Mean over the utterances that have one.
    loss: Option<f64>,
    audio_seconds: f64,
    /// Reading, features, model and decoding; opening the model is left out.
    seconds: f64,
    /// Seconds of computing for a second of audio.
    real_time_factor: f64,
    compute_class: String,
}

#[derive(Debug, Serialize)]
struct Greedy {
    wer: Option<f64>,
    cer: Option<f64>,
}

pub fn run(args: args::Evaluate) -> Result<()> {
    let mut manifest = Manifest::read(&args.manifest)?;
    let (mut model, compute) = open(&args.model, args.device)?;
    decoding::set(&mut model, &args.decoding)?;
    for utterance in &mut manifest.utterances {
        utterance.text = model.recipe().text.normalize(&utterance.text);
    }
    let labels = labels(&model, &manifest, &args.manifest)?;
    let begun = Instant::now();
    let mut pairs = Vec::new();
    let mut greedy = Vec::new();
    let mut losses = Vec::new();
    let mut audio_seconds = 0.0;
    for (utterances, labels) in manifest
        .utterances
        .chunks(AT_ONCE)
        .zip(labels.chunks(AT_ONCE))
    {
        let recordings = utterances
            .iter()
            .map(audio::read_utterance)
            .collect::<Result<Vec<Audio>, _>>()?;
        audio_seconds += recordings.iter().map(seconds).sum::<f64>();
        let features = features(&model, &recordings, |place| utterances[place].id.clone())?;
        let heard = model.recognise(&features.iter().collect::<Vec<_>>())?;
        let labels: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
        losses.extend(model.losses(&heard, &labels).into_iter().flatten());
        let decoded = match model.decoder() {
            Some(_) => model.hypotheses(&heard)?,
            None => Vec::new(),
        };
        let mut decoded = decoded.into_iter();
        for (utterance, heard) in utterances.iter().zip(heard) {
            let best = decoded.next().and_then(|found| found.into_iter().next());
            match best {
                Some(best) => {
                    greedy.push((utterance.text.clone(), heard.text));
                    pairs.push((utterance.text.clone(), best.text));
                }
                None => pairs.push((utterance.text.clone(), heard.text)),
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let vocabulary = &model.recipe().vocabulary;
    let evaluation = Evaluation {
        score: match vocabulary.kind {
            Kind::Classes => score::keyword(&pairs, &vocabulary.units),
            Kind::Characters | Kind::Bytepair | Kind::Words => score::transcripts(&pairs),
        },
        greedy: model.decoder().is_some().then(|| {
            let Score { wer, cer, .. } = score::transcripts(&greedy);
            Greedy { wer, cer }
        }),
        loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
        audio_seconds,
        seconds,
        real_time_factor: seconds / audio_seconds.max(f64::MIN_POSITIVE),
        compute_class: compute.class,
    };
    output::print(args.output.format, &evaluation, |evaluation| {
        let greedy = evaluation.greedy.as_ref().map(|greedy| {
            let shown = |rate: Option<f64>| rate.map_or("undefined".to_owned(), percent);
            format!(
                "\ngreedily   WER {}, CER {}",
                shown(greedy.wer),
                shown(greedy.cer)
            )
        });
        format!(
            "{}{}\nreal-time factor {:.4}: {} of speech in {}, on {}",
            evaluation.score,
            greedy.unwrap_or_default(),
            evaluation.real_time_factor,
            duration(evaluation.audio_seconds),
            duration(evaluation.seconds),
            evaluation.compute_class
        )
    })
}

/// The model in `folder` on the device that was typed, with all of the machine's cores.
pub fn open(folder: &Path, device: args::Device) -> Result<(Model, Compute)> {
    worker::compute::set_threads(crate::cores::logical())?;
    let compute = Compute::open(choice(device))?;
    Ok((Model::load(folder, &compute)?, compute))
}

pub const fn choice(device: args::Device) -> DeviceChoice {
    match device {
        args::Device::Auto => DeviceChoice::Auto,
        args::Device::Cpu => DeviceChoice::Cpu,
        args::Device::Wgpu => DeviceChoice::Wgpu,
    }
}

pub fn seconds(audio: &Audio) -> f64 {
    audio.samples.len() as f64 / f64::from(audio.sample_rate)
}

/// The features of each recording; an error names the recording by `name`.
pub fn features(
    model: &Model,
    recordings: &[Audio],
    name: impl Fn(usize) -> String,
) -> Result<Vec<Features>> {
    let found = model.features(recordings).into_iter().enumerate();
    found
        .map(|(place, features)| {
            features.map_err(|error| Failure::Data(format!("{}: {error}", name(place))).into())
        })
        .collect()
}

/// What the transcripts are to the model, or an error that names those it cannot say.
fn labels(model: &Model, manifest: &Manifest, path: &Path) -> Result<Vec<Vec<u32>>> {
    let vocabulary = &model.recipe().vocabulary;
    let mut labels = Vec::with_capacity(manifest.utterances.len());
    let mut wrong: BTreeMap<String, Vec<&Utterance>> = BTreeMap::new();
    for utterance in &manifest.utterances {
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
        manifest.utterances.len(),
        named.join("; ")
    ))
    .into())
}
