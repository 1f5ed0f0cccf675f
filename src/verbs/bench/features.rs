//! `bench features`: how fast audio becomes features, from the bytes of its files.

use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use speech::{
    audio,
    features::FeaturesConfig,
    front_end::FrontEnd,
    manifest::{Manifest, Utterance},
};
use worker::compute;

use super::median;
use crate::{
    args,
    exit::{CommandError, Context as _, Result},
    output::{self, duration},
};

#[derive(Debug, Serialize)]
struct FeatureSpeed {
    /// Seconds of audio in a second.
    audio_s_per_s: f64,
    /// A pass over the manifest, median.
    seconds: f64,
    audio_seconds: f64,
    utterances: usize,
    threads: u32,
}

pub(super) fn run(args: args::BenchFeatures) -> Result<()> {
    compute::set_threads(args.threads as usize)?;
    let manifest = Manifest::read(&args.manifest)?;
    let Some(first) = manifest.utterances.first() else {
        let told = format!("{} has no utterances", args.manifest.display());
        return Err(CommandError::Data(told).into());
    };
    let config = FeaturesConfig {
        sample_rate: audio::read(&first.audio)?.sample_rate,
        ..FeaturesConfig::default()
    };
    let front_end = FrontEnd::new(&config, None)?;
    // What the disk takes is another matter.
    let files = manifest.utterances.iter().map(|utterance| {
        let path = &utterance.audio;
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    });
    let files: Vec<Vec<u8>> = files.collect::<Result<_>>()?;
    let mut audio_seconds = 0.0;
    let mut passes = Vec::new();
    for _ in 0..args.repeats {
        let began = Instant::now();
        let utterances = manifest.utterances.par_iter().zip(&files);
        let seconds = utterances.map(|(utterance, bytes)| hear(&front_end, utterance, bytes));
        let seconds: Vec<f64> = seconds.collect::<Result<_>>()?;
        passes.push(began.elapsed().as_secs_f64());
        audio_seconds = seconds.iter().sum();
    }
    let seconds = median(passes);
    let speed = FeatureSpeed {
        audio_s_per_s: audio_seconds / seconds,
        seconds,
        audio_seconds,
        utterances: files.len(),
        threads: args.threads,
    };
    output::print(args.output.format, &speed, |speed| {
        format!(
            "{:.0} s of audio a second: {} in {:.3} s, {} threads",
            speed.audio_s_per_s,
            duration(speed.audio_seconds),
            speed.seconds,
            speed.threads
        )
    })
}

/// Computes the features of a file and gives its seconds of audio.
fn hear(front_end: &FrontEnd, utterance: &Utterance, bytes: &[u8]) -> Result<f64> {
    let audio = audio::decode_part(
        &utterance.audio.to_string_lossy(),
        bytes,
        None,
        utterance.channel,
    )?
    .audio;
    let features = front_end.features(&audio);
    let told = || format!("utterance `{}`", utterance.id);
    std::hint::black_box(features.with_context(told)?);
    Ok(audio.seconds())
}
