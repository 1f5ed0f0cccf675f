//! Corpora as their publishers lay them out, read into utterances. It decides which format is
//! read how, and which utterances are held out of training ([`hold_out`]); it refuses to convert
//! audio, to correct transcripts, and to know what is done with the utterances.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::audio::{self, AudioError};
use crate::manifest::Utterance;

mod an4;
mod fsdd;
pub mod hold_out;

pub use hold_out::{HoldOut, HoldOutError, split};

/// A layout that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CMU's AN4 ("census"): `etc/an4_train.{fileids,transcription}` and `wav/`.
    An4,
    /// The Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.wav`.
    Fsdd,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::An4, Self::Fsdd];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::An4 => "an4",
            Self::Fsdd => "fsdd",
        })
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL
            .into_iter()
            .find(|format| format.to_string() == text);
        found.ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// No format has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown corpus format {0:?}; known: an4, fsdd")]
pub struct UnknownFormat(pub String);

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
    #[error("{}: the file's name is not {{digit}}_{{speaker}}_{{index}}.wav", path.display())]
    FileName { path: PathBuf },
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
pub fn read(format: Format, source: &Path) -> Result<Vec<Utterance>, ImportError> {
    if !source.is_dir() {
        let error = fs::read_dir(source)
            .err()
            .unwrap_or(io::ErrorKind::NotADirectory.into());
        return Err(ImportError::Read {
            path: source.to_owned(),
            error,
        });
    }
    match format {
        Format::An4 => an4::read(source),
        Format::Fsdd => fsdd::read(source),
    }
}

/// Seconds of the recording at `path`, by its header.
fn duration(path: &Path) -> Result<f64, ImportError> {
    Ok(audio::inspect(path)?.seconds())
}

#[cfg(test)]
mod tests;
