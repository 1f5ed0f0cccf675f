//! Statistics of manifests, and what looks wrong in them: lengths, words, speakers, and suspects. It decides what
//! is suspicious and says by which number; nothing is corrected.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::manifest::{Manifest, ROUNDING, Utterance};
use crate::text::Vocabulary;

mod lookalikes;
mod rounded_durations;
mod sound;
mod splits;

pub use rounded_durations::cut_ends;
pub use sound::{SoundMeasures, measure};
pub use splits::{InspectedManifest, shared, shared_files};

/// Most frequent words that are told.
const FREQUENT_WORDS: usize = 20;
/// Characters that are said in a second by nobody; what people read is about 15.
const MAX_CHARACTERS_PER_SECOND: f64 = 25.0;
/// Characters that are always allowed: a word may be cut close.
const ALWAYS_ALLOWED_SECONDS: f64 = 5.0;
/// Share of samples at full scale from which a recording counts as clipped.
const CLIPPED_SHARE: f64 = 1e-3;
/// Peak, as a share of full scale, below which nobody is heard: -50 dB.
const SILENT_RMS: f32 = 0.003_162;

/// What one manifest holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The digest by which reports name the manifest.
    pub digest: String,
    /// The number of utterances.
    pub utterances: usize,
    /// Hours of speech.
    pub hours: f64,
    /// Utterances of each; those that name no speaker are not among them.
    pub speakers: BTreeMap<String, usize>,
    /// Durations of utterances in seconds.
    pub seconds: Spread,
    /// Utterances by their length.
    pub lengths: Vec<Bin>,
    /// The characters of the transcripts.
    pub characters: Spread,
    /// Words of all transcripts.
    pub words: usize,
    /// Words that differ.
    pub distinct_words: usize,
    /// Words that occur once.
    pub rare_words: usize,
    /// The most frequent words and how often each occurs, the most frequent first.
    pub frequent_words: Vec<(String, usize)>,
    /// Transcripts that differ.
    pub distinct_transcripts: usize,
    /// Every character of the transcripts, in order: a CTC model's units.
    pub vocabulary: String,
    /// Utterances by the sampling rate of their recordings.
    pub sample_rates: BTreeMap<u32, usize>,
    /// Recordings that cannot be used, or are not as long as the manifest says.
    pub problems: Vec<String>,
    /// Utterances that can be used and are better looked at.
    pub suspects: Vec<Suspect>,
}

/// How values are spread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest value.
    pub least: f64,
    /// The value in the middle.
    pub median: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The largest value.
    pub most: f64,
}

/// Utterances from `from` seconds on and shorter than `to`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Seconds at which the bin begins; included.
    pub from: f64,
    /// Seconds at which the bin ends; excluded.
    pub to: f64,
    /// The number of utterances in the bin.
    pub utterances: usize,
}

/// What makes an utterance or a manifest suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspicion {
    /// The transcript has no text.
    Empty,
    /// Many samples are at full scale.
    Clipped,
    /// No sample is far from zero.
    Silent,
    /// More characters than anybody says in the time.
    TooLong,
    /// The same samples as another utterance.
    Duplicate,
    /// Durations end before the recordings do, as if they had been rounded down.
    CutEnds,
    /// Transcripts that look the same and are not.
    LookAlike,
    /// The same samples are in two manifests.
    SharedRecordings,
    /// Segments of one recording are in two manifests and overlap.
    OverlappingSegments,
    /// Segments of one recording are in two manifests.
    SplitRecordings,
    /// An id is in two manifests, of different recordings.
    SharedIds,
    /// A speaker is in two manifests.
    SharedSpeakers,
    /// A sentence is in two manifests.
    SharedTexts,
}

/// An utterance, or a pair of manifests, that looks wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suspect {
    /// What kind of suspicion it is.
    pub suspicion: Suspicion,
    /// Whose it is; `None` where it is not one utterance's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utterance: Option<String>,
    /// A sentence with the figures behind the suspicion.
    pub why: String,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        Self {
            least: at(0),
            median: at(values.len() / 2),
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
            most: at(values.len().saturating_sub(1)),
        }
    }
}

/// At most twelve bins of a round width, from 0 to the longest.
fn histogram(seconds: &[f64]) -> Vec<Bin> {
    const BINS: f64 = 12.0;
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    // 1, 2 and 5 times the powers of ten from a hundredth of a second on.
    let widths = (-2..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    let width = widths
        .into_iter()
        .find(|width| longest / width < BINS)
        .unwrap_or(f64::INFINITY);
    let bin = |seconds: f64| (seconds / width) as usize;
    let mut bins: Vec<Bin> = (0..=bin(longest))
        .map(|number| Bin {
            from: number as f64 * width,
            to: (number + 1) as f64 * width,
            utterances: 0,
        })
        .collect();
    for seconds in seconds {
        bins[bin(*seconds)].utterances += 1;
    }
    bins
}

/// Listens to everything that the named manifests name, in parallel, and says what is in each and what they
/// share.
pub fn inspect(manifests: &[(&str, &Manifest)]) -> (Vec<Inspection>, Vec<Suspect>) {
    let sounds: Vec<Vec<Result<SoundMeasures, String>>> = manifests
        .iter()
        .map(|(_, manifest)| measure(&manifest.utterances))
        .collect();
    let described = manifests.iter().zip(&sounds);
    let described = described.map(|((_, manifest), sounds)| describe(manifest, sounds));
    let inspected: Vec<InspectedManifest> = manifests
        .iter()
        .zip(&sounds)
        .map(|((name, manifest), sounds)| InspectedManifest {
            name,
            utterances: &manifest.utterances,
            sounds,
        })
        .collect();
    (described.collect(), shared(&inspected))
}

fn describe(manifest: &Manifest, sounds: &[Result<SoundMeasures, String>]) -> Inspection {
    let utterances = &manifest.utterances;
    let mut speakers = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for utterance in utterances {
        if let Some(speaker) = &utterance.speaker {
            *speakers.entry(speaker.clone()).or_default() += 1;
        }
        for word in utterance.text.split_whitespace() {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut frequent: Vec<(&str, usize)> =
        counts.iter().map(|(word, count)| (*word, *count)).collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut sample_rates = BTreeMap::new();
    let mut problems = Vec::new();
    let mut suspects = Vec::new();
    let mut inspected: BTreeMap<[u8; 32], &str> = BTreeMap::new();
    for (utterance, sound) in utterances.iter().zip(sounds) {
        let mut suspect = |suspicion, why| {
            suspects.push(Suspect {
                suspicion,
                utterance: Some(utterance.id.clone()),
                why,
            });
        };
        if utterance.text.trim().is_empty() {
            suspect(Suspicion::Empty, "its transcript is empty".to_owned());
        }
        let sound = match sound {
            Ok(sound) => sound,
            Err(problem) => {
                problems.push(problem.clone());
                continue;
            }
        };
        *sample_rates.entry(sound.sample_rate).or_default() += 1;
        problems.extend(wrong_length(utterance, sound));
        for (suspicion, why) in sound.suspicions(&utterance.text) {
            suspect(suspicion, why);
        }
        match inspected.get(&sound.digest) {
            Some(first) => suspect(
                Suspicion::Duplicate,
                format!("it has the same samples as {first:?}"),
            ),
            None => {
                inspected.insert(sound.digest, &utterance.id);
            }
        }
    }
    let lengths = utterances.iter().zip(sounds);
    let cut = cut_ends(lengths.filter_map(|(utterance, sound)| {
        Some((utterance, sound.as_ref().ok()?.recording_seconds))
    }));
    suspects.extend(cut.map(|why| Suspect {
        suspicion: Suspicion::CutEnds,
        utterance: None,
        why,
    }));
    let mut texts: BTreeMap<&str, usize> = BTreeMap::new();
    for utterance in utterances {
        *texts.entry(&utterance.text).or_default() += 1;
    }
    suspects.extend(lookalikes::find(&texts));
    let durations: Vec<f64> = utterances.iter().map(|one| one.duration).collect();
    let characters = utterances
        .iter()
        .map(|one| one.text.chars().count() as f64)
        .collect();
    let vocabulary = Vocabulary::characters(utterances.iter().map(|one| one.text.as_str()));
    Inspection {
        digest: manifest.digest.clone(),
        utterances: utterances.len(),
        hours: manifest.seconds() / 3600.0,
        speakers,
        lengths: histogram(&durations),
        seconds: Spread::of(durations),
        characters: Spread::of(characters),
        words: counts.values().sum(),
        distinct_words: counts.len(),
        rare_words: counts.values().filter(|count| **count == 1).count(),
        frequent_words: frequent
            .into_iter()
            .take(FREQUENT_WORDS)
            .map(|(word, count)| (word.to_owned(), count))
            .collect(),
        distinct_transcripts: texts.len(),
        vocabulary: vocabulary.map_or_else(|_| String::new(), |found| found.units.concat()),
        sample_rates,
        problems,
        suspects,
    }
}

fn wrong_length(utterance: &Utterance, sound: &SoundMeasures) -> Option<String> {
    let wrong = (sound.seconds - utterance.duration).abs() > ROUNDING;
    wrong.then(|| {
        format!(
            "{}: lasts {:.2} s and not {:.2} s as the manifest says",
            utterance.audio.display(),
            sound.seconds,
            utterance.duration
        )
    })
}

impl SoundMeasures {
    fn suspicions(&self, text: &str) -> Vec<(Suspicion, String)> {
        let mut found = Vec::new();
        if self.at_full_scale > CLIPPED_SHARE {
            let share = 100.0 * self.at_full_scale;
            found.push((
                Suspicion::Clipped,
                format!("{share:.1} % of its samples are at full scale"),
            ));
        }
        if self.peak < SILENT_RMS {
            let decibels = 20.0 * f64::from(self.peak).log10();
            found.push((
                Suspicion::Silent,
                format!("nothing in it is louder than {decibels:.0} dB of full scale"),
            ));
        }
        let characters = text.chars().filter(|one| !one.is_whitespace()).count() as f64;
        if characters > MAX_CHARACTERS_PER_SECOND * self.seconds + ALWAYS_ALLOWED_SECONDS {
            found.push((
                Suspicion::TooLong,
                format!("{characters} characters in {:.2} s", self.seconds),
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests;
