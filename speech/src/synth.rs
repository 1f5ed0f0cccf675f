//! Synthetic spoken digits, so that a fresh machine without data can train, test and scale: a formant synthesiser
//! after Klatt (1980) with many speakers and recording conditions. What it makes is an honest stand-in for
//! recorded speech, and is to be called synthetic wherever a figure from it is shown. It does not depend on
//! recognisers.
//!
//! From words to sound: [`Digit`] -> sounds (`phoneme`) -> control parameters over time (`track`) ->
//! samples (`klatt`, on the sections of `filter`) -> a recording (`recording`). Who says what is in
//! `plan`; the files are in `corpus`, and where each word begins and ends in them in `times`.

mod config;
mod corpus;
mod digit;
mod filter;
mod klatt;
mod phoneme;
mod plan;
mod recording;
mod speaker;
mod times;
mod track;

pub use config::{SyntheticConfig, Task};
pub use corpus::{CorpusSummary, SplitSummary, Synthesized, generate, generate_unless};
pub use digit::{Digit, transcript};
pub use speaker::{Speaker, VoiceType};
pub use times::{SpokenWord, UtteranceWords, word_times};

use crate::audio::{Audio, AudioError};
use crate::error_class::{self, Class, Classify};
use crate::manifest::ManifestError;
use crate::random::Stream;
use std::path::{Path, PathBuf};

// What the random streams below a corpus's seed are for.
const SPEAKER: u64 = 1;
const UTTERANCE: u64 = 2;
const WORDS: u64 = 3;
const CAST: u64 = 4;

/// Why there is no synthetic corpus.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum SynthError {
    #[error("synthetic corpus: `{field}` is {value}: {rule}")]
    Config {
        field: &'static str,
        value: String,
        rule: String,
    },
    #[error(
        "{}: holds a synthetic corpus whose `{field}` is {there}, not {here}; choose another folder or remove this one",
        .dir.display()
    )]
    Different {
        dir: PathBuf,
        field: String,
        there: String,
        here: String,
    },
    #[error(
        "{}: holds something else than a synthetic corpus ({found}); choose an empty or a new folder",
        .dir.display()
    )]
    Occupied { dir: PathBuf, found: String },
    #[error(
        "{}: has changed since the synthetic corpus was made; remove the folder to make it again",
        .path.display()
    )]
    Altered { path: PathBuf },
    #[error("{}: is not the marker of a synthetic corpus: {reason}; remove the folder to make it again", .path.display())]
    Marker { path: PathBuf, reason: String },
    #[error("{}: {source}", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the synthesis was given up")]
    Abandoned,
    #[error(transparent)]
    Audio(#[from] AudioError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Classify for SynthError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl SynthError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// `words` in the voice of `speaker`, without noise or room, with its peak at a half: a function of its
/// arguments.
pub fn say(words: &[Digit], speaker: &Speaker, sample_rate: u32, stream: &mut Stream) -> Audio {
    let speech = perform(words, speaker, sample_rate, stream);
    let peak = speech.iter().fold(1e-9, |peak: f64, x| peak.max(x.abs()));
    Audio {
        sample_rate,
        samples: speech.iter().map(|x| (0.5 * x / peak) as f32).collect(),
    }
}

/// Sound at an arbitrary level. Low rates are made at twice the rate and halved: fricatives live above
/// 4 kHz, and what a telephone band leaves of them is what a filter leaves.
fn perform(words: &[Digit], speaker: &Speaker, sample_rate: u32, stream: &mut Stream) -> Vec<f64> {
    const FULL_BAND_RATE: u32 = 16_000;
    let rate = f64::from(sample_rate);
    let controls = track::track(words, speaker, stream);
    if sample_rate >= FULL_BAND_RATE {
        klatt::synthesize(&controls, speaker, rate, stream)
    } else {
        filter::halve(&klatt::synthesize(&controls, speaker, 2.0 * rate, stream))
    }
}
