//! Importers of corpora in their publishers' layouts. It decides which format is read how, what becomes of lines
//! and recordings that cannot be used, and which utterances are held out of training ([`hold_out`]). Audio is not
//! converted, and transcripts are not corrected.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use thiserror::Error;

use crate::escape::escape;
use crate::manifest::Utterance;
use crate::tolerance::{MaxBad, TooManyBad};
use crate::{
    audio::AudioError,
    error_class::{self, Class, Classify},
};

mod an4;
pub mod common_voice;
mod draft;
pub mod festvox;
mod findings;
mod folders;
mod fsdd;
pub mod hold_out;
pub mod kaldi;
mod librispeech;
mod list;
pub mod ljspeech;
mod measure;
mod speech_commands;

pub use draft::UtteranceDraft;
pub use findings::{ImportFindings, PassedOver};
pub use hold_out::{HoldOut, HoldOutError, split};
pub use list::{List, ListPosition};

/// A layout that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorpusFormat {
    /// CMU's AN4 ("census"): `etc/an4_train.{fileids,transcription}` and `wav/`.
    An4,
    /// Mozilla's Common Voice, one language: `train.tsv`, `dev.tsv`, `test.tsv` and `clips/`.
    CommonVoice,
    /// Festvox voices such as CMU ARCTIC: `etc/txt.done.data` and `wav/`.
    Festvox,
    /// A folder for each class.
    Folders,
    /// The Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.wav`.
    Fsdd,
    /// A data directory of Kaldi, or several: `wav.scp`, `text`, `segments`, `utt2spk`.
    Kaldi,
    /// LibriSpeech: `{subset}/{speaker}/{chapter}/`.
    LibriSpeech,
    /// LJSpeech: `metadata.csv` and `wavs/`.
    LjSpeech,
    /// Google's Speech Commands, every word a class.
    SpeechCommands,
    /// Google's Speech Commands, ten words, the unknown ones and silence.
    SpeechCommands12,
}

impl CorpusFormat {
    /// All formats, in the order in which they are listed.
    pub const ALL: [Self; 10] = [
        Self::An4,
        Self::CommonVoice,
        Self::Festvox,
        Self::Folders,
        Self::Fsdd,
        Self::Kaldi,
        Self::LibriSpeech,
        Self::LjSpeech,
        Self::SpeechCommands,
        Self::SpeechCommands12,
    ];
}

impl fmt::Display for CorpusFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::An4 => "an4",
            Self::CommonVoice => "common-voice",
            Self::Festvox => "festvox",
            Self::Folders => "folders",
            Self::Fsdd => "fsdd",
            Self::Kaldi => "kaldi",
            Self::LibriSpeech => "librispeech",
            Self::LjSpeech => "ljspeech",
            Self::SpeechCommands => "speech-commands",
            Self::SpeechCommands12 => "speech-commands-12",
        })
    }
}

impl FromStr for CorpusFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL
            .into_iter()
            .find(|format| format.to_string() == text);
        found.ok_or_else(|| UnknownFormat {
            name: text.to_owned(),
        })
    }
}

/// No format has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown corpus format {name:?}; known: {}", CorpusFormat::ALL.map(|format| format.to_string()).join(", "))]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct UnknownFormat {
    pub name: String,
}

impl Classify for UnknownFormat {
    fn class(&self) -> Class {
        Class::Usage
    }
}

/// An utterance, and the part of the corpus that its publisher put it in.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The utterance as its manifest will have it.
    pub utterance: Utterance,
    /// What its recording is called in the corpus, where that may have several utterances.
    pub recording: Option<String>,
    /// The name of that part, such as `train` or `dev`.
    pub split: Option<String>,
}

/// What was read of a corpus.
#[derive(Debug)]
pub struct ImportedCorpus {
    /// The utterances, in the order in which they were found.
    pub utterances: Vec<Imported>,
    /// Lines and recordings that should be utterances and cannot be used.
    pub left_out: Vec<ImportError>,
    /// Files that are no part of it, by kind.
    pub passed_over: Vec<PassedOver>,
}

/// How a corpus is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How many lines and recordings may be left out.
    pub max_bad: MaxBad,
    /// Ids have to be distinct within each split alone.
    pub splits_apart: bool,
}

/// Why a corpus could not be imported.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ImportError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is not laid out as {format} is: {expected}", path.display())]
    Layout {
        format: CorpusFormat,
        path: PathBuf,
        expected: String,
    },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    #[error("{}: the name is not UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("{}:{line}: the audio {} is missing{hint}", list.display(), audio.display())]
    MissingAudio {
        list: PathBuf,
        line: usize,
        audio: PathBuf,
        hint: String,
    },
    #[error("{told}")]
    Recording { told: String },
    #[error(
        "{first}; {wrong} of the {total} lines of the file are not as they should be: it seems to be laid out otherwise"
    )]
    OtherLayout {
        first: Box<Self>,
        wrong: usize,
        total: usize,
    },
    #[error("{source}:\n{}", first.join("\n"))]
    TooManyBad {
        /// What is wrong, as far as it is told.
        first: Vec<String>,
        source: TooManyBad,
    },
    #[error("nothing is left of the corpus that can be used:\n{}", first.join("\n"))]
    NothingLeft { first: Vec<String> },
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl Classify for ImportError {
    fn class(&self) -> Class {
        match self {
            Self::Read { error, .. } => error.class(),
            other => error_class::of_data(other),
        }
    }
}

impl ImportError {
    fn too_many(bad: Vec<Self>, source: TooManyBad) -> Self {
        let first = shown(&bad);
        Self::TooManyBad { first, source }
    }

    fn nothing_left(bad: Vec<Self>) -> Self {
        Self::NothingLeft { first: shown(&bad) }
    }
}

/// Problems that are told one by one.
const NAMED_ERRORS: usize = 5;

/// The first of `bad` and how many more there are, a line each, however a file is called.
pub fn shown(bad: &[ImportError]) -> Vec<String> {
    let mut lines: Vec<String> = bad
        .iter()
        .take(NAMED_ERRORS)
        .map(|one| escape(&one.to_string()).into_owned())
        .collect();
    match bad.len().saturating_sub(NAMED_ERRORS) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    lines
}

/// The corpus at `source`, its utterances in an order that depends on the corpus alone.
///
/// # Errors
/// When the corpus is laid out otherwise, or more of it cannot be used than `options` allow.
pub fn read(
    format: CorpusFormat,
    source: &Path,
    options: Options,
) -> Result<ImportedCorpus, ImportError> {
    if !source.is_dir() {
        let error = fs::read_dir(source)
            .err()
            .unwrap_or(io::ErrorKind::NotADirectory.into());
        return Err(ImportError::Read {
            path: source.to_owned(),
            error,
        });
    }
    let found = match format {
        CorpusFormat::An4 => an4::read(source),
        CorpusFormat::CommonVoice => common_voice::read(source),
        CorpusFormat::Festvox => festvox::read(source),
        CorpusFormat::Folders => folders::read(source),
        CorpusFormat::Fsdd => fsdd::read(source),
        CorpusFormat::Kaldi => kaldi::read(source),
        CorpusFormat::LibriSpeech => librispeech::read(source),
        CorpusFormat::LjSpeech => ljspeech::read(source),
        CorpusFormat::SpeechCommands => speech_commands::read(source),
        CorpusFormat::SpeechCommands12 => speech_commands::read_twelve(source),
    };
    let mut found = found?;
    found
        .drafts
        .par_iter_mut()
        .for_each(UtteranceDraft::find_form);
    found.survey(source);
    measure::measure(found, options)
}

#[cfg(test)]
mod tests;
