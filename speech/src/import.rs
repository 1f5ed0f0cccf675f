//! Corpora as their publishers lay them out, read into utterances. It decides which format is
//! read how, and which utterances are held out of training ([`hold_out`]); it refuses to convert
//! audio, to correct transcripts, and to know what is done with the utterances.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::audio::AudioError;
use crate::manifest::Utterance;

mod an4;
pub mod common_voice;
mod draft;
pub mod festvox;
mod folders;
mod fsdd;
pub mod hold_out;
pub mod kaldi;
mod librispeech;
mod list;
pub mod ljspeech;
mod speech_commands;

pub use draft::Draft;
pub use hold_out::{HoldOut, HoldOutError, split};
pub use list::{List, Place};

/// A layout that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
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

impl Format {
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

impl fmt::Display for Format {
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

impl FromStr for Format {
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
#[error("unknown corpus format {name:?}; known: {}", Format::ALL.map(|format| format.to_string()).join(", "))]
pub struct UnknownFormat {
    pub name: String,
}

/// An utterance, and the part of the corpus that its publisher put it in.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub utterance: Utterance,
    pub split: Option<String>,
}

/// Why a corpus could not be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is not laid out as {format} is: {expected}", path.display())]
    Layout {
        format: Format,
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
    #[error(transparent)]
    Audio(#[from] AudioError),
}

/// The utterances of the corpus at `source`, in an order that depends on the corpus alone.
pub fn read(format: Format, source: &Path) -> Result<Vec<Imported>, ImportError> {
    if !source.is_dir() {
        let error = fs::read_dir(source)
            .err()
            .unwrap_or(io::ErrorKind::NotADirectory.into());
        return Err(ImportError::Read {
            path: source.to_owned(),
            error,
        });
    }
    let drafts = match format {
        Format::An4 => an4::read(source),
        Format::CommonVoice => common_voice::read(source),
        Format::Festvox => festvox::read(source),
        Format::Folders => folders::read(source),
        Format::Fsdd => fsdd::read(source),
        Format::Kaldi => kaldi::read(source),
        Format::LibriSpeech => librispeech::read(source),
        Format::LjSpeech => ljspeech::read(source),
        Format::SpeechCommands => speech_commands::read(source),
        Format::SpeechCommands12 => speech_commands::read_twelve(source),
    };
    draft::measure(drafts?)
}

#[cfg(test)]
mod tests;
