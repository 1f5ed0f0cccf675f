//! Utterances heard: how loud, how long, and whether the same as others. A recording with many segments is
//! decoded once, for each of its channels that is meant.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::audio::{self, Audio};
use crate::manifest::Utterance;

/// Amplitudes from here on are full scale, whichever encoder rounded them.
const CLIPPING_AMPLITUDE: f32 = 0.9995;

/// What is heard of an utterance.
#[derive(Clone, Debug, PartialEq)]
pub struct SoundMeasures {
    /// Samples a second, in Hz.
    pub sample_rate: u32,
    /// The utterance's duration in seconds.
    pub seconds: f64,
    /// Greatest amplitude; full scale is 1.
    pub peak: f32,
    /// Share of the samples that are at full scale.
    pub at_full_scale: f64,
    /// BLAKE3 of the samples.
    pub digest: [u8; 32],
    /// Seconds of the whole recording, which the utterance may be a segment of, and BLAKE3 of the samples of its channel.
    pub recording_seconds: f64,
    /// BLAKE3 of the samples of the whole recording's channel.
    pub recording: [u8; 32],
}

impl SoundMeasures {
    /// The fingerprint of the samples `part` of a recording with the digest `whole`.
    fn of(recording: &Audio, part: Range<usize>, whole: [u8; 32]) -> Self {
        let samples = &recording.samples[part.clone()];
        let full = samples
            .iter()
            .filter(|value| value.abs() >= CLIPPING_AMPLITUDE)
            .count();
        Self {
            sample_rate: recording.sample_rate,
            seconds: samples.len() as f64 / f64::from(recording.sample_rate),
            peak: samples
                .iter()
                .fold(0.0, |peak, value| value.abs().max(peak)),
            at_full_scale: full as f64 / samples.len().max(1) as f64,
            digest: if part.len() == recording.samples.len() {
                whole
            } else {
                digest(recording, part)
            },
            recording_seconds: recording.seconds(),
            recording: whole,
        }
    }
}

/// BLAKE3 of the samples `part` and of their rate.
fn digest(recording: &Audio, part: Range<usize>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&recording.sample_rate.to_le_bytes());
    for value in &recording.samples[part] {
        hasher.update(&value.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A recording and its channel, or the mean of all.
type ChannelRef<'a> = (&'a Path, Option<u16>);

/// Each utterance's sound, or what is wrong with its recording, in the order given.
pub fn measure(utterances: &[Utterance]) -> Vec<Result<SoundMeasures, String>> {
    let mut files: BTreeMap<ChannelRef, Vec<usize>> = BTreeMap::new();
    for (place, utterance) in utterances.iter().enumerate() {
        let source = (utterance.audio.as_path(), utterance.channel);
        files.entry(source).or_default().push(place);
    }
    let files: Vec<(ChannelRef, Vec<usize>)> = files.into_iter().collect();
    let mut heard: Vec<(usize, Result<SoundMeasures, String>)> = files
        .into_par_iter()
        .flat_map_iter(|((path, channel), places)| {
            let recording = audio::read_part(path, None, channel).map(|heard| {
                let recording = heard.audio;
                let whole = digest(&recording, 0..recording.samples.len());
                (recording, whole)
            });
            let hear = |place: usize| match &recording {
                Ok((recording, whole)) => (place, part(&utterances[place], recording, *whole)),
                Err(error) => (place, Err(error.to_string())),
            };
            places.into_iter().map(hear).collect::<Vec<_>>()
        })
        .collect();
    heard.sort_by_key(|(place, _)| *place);
    heard.into_iter().map(|(_, sound)| sound).collect()
}

fn part(
    utterance: &Utterance,
    recording: &Audio,
    whole: [u8; 32],
) -> Result<SoundMeasures, String> {
    let held = recording.samples.len();
    let part = utterance
        .segment(held as u64, recording.sample_rate)
        .map_or(0..held, |part| part.start as usize..part.end as usize);
    if part.is_empty() {
        return Err(format!(
            "{}: the segment of {:?} begins at {} s, where the recording has ended",
            utterance.audio.display(),
            utterance.id,
            utterance.offset
        ));
    }
    Ok(SoundMeasures::of(recording, part, whole))
}
