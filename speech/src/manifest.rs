//! Manifests: lists of utterances as JSON lines, in NeMo's format, read and written. It decides what a line must
//! hold and names the file and line of one that does not; no audio is opened, and any text is taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::corpus_roots::CorpusRoots;
use crate::text_file;
use crate::tolerance::{MaxBad, TooManyBad};
use crate::{
    error_class::{Class, Classify},
    output_file::{self, OutputError},
};

mod ids;
mod line;

pub use line::LineError;

use ids::Ids;
use line::{LineBlock, ParsedLine};

/// One recording, or a segment of one, and what was said in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// Distinct within a manifest.
    pub id: String,
    /// The path of the recording.
    pub audio: PathBuf,
    /// Where in the recording it begins, in seconds; 0 for its beginning.
    pub offset: f64,
    /// Seconds from there. What is shorter than the recording is a segment of it; see
    /// [`Utterance::segment`].
    pub duration: f64,
    /// The channel of the recording that is meant, counted from 0; `None` for the mean of all.
    pub channel: Option<u16>,
    /// The reference transcript, as the corpus writes it.
    pub text: String,
    /// The speaker's name, where the manifest has one.
    pub speaker: Option<String>,
}

/// Seconds by which durations may be rounded: an utterance from 0 that is no more than this shorter
/// than its recording is all of it.
pub const ROUNDING: f64 = 0.05;

impl Utterance {
    /// The part of a recording of `frames` samples at `sample_rate` Hz that is meant, in samples; `None`
    /// for all of it. As in NeMo, an utterance is `audio[offset .. offset + duration]`, and what
    /// reaches beyond the recording ends with it. Programs round durations: one that begins at 0 and
    /// ends no more than [`ROUNDING`] before the recording does is the whole recording. A range that
    /// begins at its end or beyond is empty.
    pub fn segment(&self, frames: u64, sample_rate: u32) -> Option<Range<u64>> {
        let rate = f64::from(sample_rate);
        let short = frames as f64 / rate - self.duration;
        if self.offset == 0.0 && short <= ROUNDING {
            return None;
        }
        // Casts from floats saturate.
        let at = |seconds: f64| ((seconds * rate).round() as u64).min(frames);
        Some(at(self.offset)..at(self.offset + self.duration))
    }
}

/// The utterances of a file, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The utterances in the manifest's order.
    pub utterances: Vec<Utterance>,
    /// BLAKE3 of the file's text (unpacked, in UTF-8) in hexadecimal: of its bytes, where it is that.
    pub digest: String,
}

/// What is wrong with a manifest.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ManifestError {
    #[error("cannot read the manifest {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot name the recordings of the manifest {}: {error}", path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Write(#[from] OutputError),
    #[error("{}: the manifest has no utterances", path.display())]
    Empty { path: PathBuf },
    #[error("{}:{line}: {problem}{}", path.display(), and_more(*others))]
    Line {
        path: PathBuf,
        line: usize,
        problem: LineError,
        /// Lines behind it that have something wrong with them too.
        others: usize,
    },
    #[error("{}:{}: {}; {source}", path.display(), first.line, first.problem)]
    TooManyBad {
        path: PathBuf,
        first: BadLine,
        source: TooManyBad,
    },
}

impl Classify for ManifestError {
    fn class(&self) -> Class {
        match self {
            Self::Write(error) => error.class(),
            Self::Read { error, .. } | Self::Folder { error, .. } => error.class(),
            Self::Empty { .. } | Self::Line { .. } | Self::TooManyBad { .. } => Class::Data,
        }
    }
}

fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " (and 1 line more has something wrong with it)".to_owned(),
        others => format!(" (and {others} lines more have something wrong with them)"),
    }
}

/// A line of a manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("line {line}: {problem}")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct BadLine {
    pub line: usize,
    pub problem: LineError,
}

/// Lines with something wrong that are kept to be told; all are counted.
const MAX_LEFT_OUT_KEPT: usize = 100_000;

/// A file as it was read.
struct Parsed {
    utterances: Vec<Utterance>,
    digest: String,
    /// The first [`MAX_LEFT_OUT_KEPT`], in the file's order.
    bad: Vec<BadLine>,
    bad_count: usize,
}

impl Manifest {
    /// Reads the manifest at `path`: JSON lines in UTF-8 or UTF-16, plain or packed with gzip. Audio paths that
    /// are relative lie beside it. Blank lines and keys of other programs are passed over.
    ///
    /// # Errors
    /// The first line that has something wrong with it, and how many more there are.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let file = open(path, &CorpusRoots::anywhere())?;
        Self::strict(parse(file, path)?, path)
    }

    /// [`Self::read`] from `reader`; `path` is where relative audio lies beside, and stands in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(reader: impl BufRead, path: &Path) -> Result<Self, ManifestError> {
        Self::strict(parse(reader, path)?, path)
    }

    /// As [`Self::read`], but lines that cannot be used are left out and given beside it, the first hundred
    /// thousand of them.
    ///
    /// # Errors
    /// When more lines are bad than `bound` allows, or none is left.
    pub fn read_with(path: &Path, bound: MaxBad) -> Result<(Self, Vec<BadLine>), ManifestError> {
        Self::read_beneath(&CorpusRoots::anywhere(), path, bound)
    }

    /// As [`Self::read_with`], of a manifest that lies beneath `roots`.
    ///
    /// # Errors
    /// As [`Self::read_with`].
    pub fn read_beneath(
        roots: &CorpusRoots,
        path: &Path,
        bound: MaxBad,
    ) -> Result<(Self, Vec<BadLine>), ManifestError> {
        let parsed = parse(open(path, roots)?, path)?;
        let total = parsed.utterances.len() + parsed.bad_count;
        match (bound.check(parsed.bad_count, total), parsed.bad.first()) {
            (Err(source), Some(first)) => Err(ManifestError::TooManyBad {
                path: path.to_owned(),
                first: first.clone(),
                source,
            }),
            (_, Some(_)) if parsed.utterances.is_empty() => {
                Self::strict(parsed, path).map(|manifest| (manifest, Vec::new()))
            }
            _ => {
                let (utterances, digest) = (parsed.utterances, parsed.digest);
                Ok((Self { utterances, digest }, parsed.bad))
            }
        }
    }

    fn strict(parsed: Parsed, path: &Path) -> Result<Self, ManifestError> {
        match parsed.bad.into_iter().next() {
            None => Ok(Self {
                utterances: parsed.utterances,
                digest: parsed.digest,
            }),
            Some(BadLine { line, problem }) => Err(ManifestError::Line {
                path: path.to_owned(),
                line,
                problem,
                others: parsed.bad_count - 1,
            }),
        }
    }

    /// Writes `utterances` as the manifest at `path`, with absolute audio paths, whole or not at all.
    pub fn write(path: &Path, utterances: &[Utterance]) -> Result<(), ManifestError> {
        let bytes = Self::encode(path, utterances)?;
        Ok(output_file::write(path, &|out| out.write_all(&bytes))?)
    }

    /// As [`Self::write`], but audio in the manifest's folder is named relative to it: the folder can be
    /// moved, and the manifest's bytes do not depend on where it lies.
    pub fn write_movable(path: &Path, utterances: &[Utterance]) -> Result<(), ManifestError> {
        let whole = std::path::absolute(path).map_err(|error| ManifestError::Folder {
            path: path.to_owned(),
            error,
        })?;
        let folder = whole.parent().unwrap_or(Path::new(""));
        let bytes = encode(path, utterances, |audio| {
            audio.strip_prefix(folder).unwrap_or(audio)
        })?;
        Ok(output_file::write(path, &|out| out.write_all(&bytes))?)
    }

    /// The bytes that [`Self::write`] writes; `path` stands in errors.
    ///
    /// # Errors
    /// When there are no utterances, or one could not be read back.
    pub fn encode(path: &Path, utterances: &[Utterance]) -> Result<Vec<u8>, ManifestError> {
        encode(path, utterances, |audio| audio)
    }

    /// Seconds of all utterances.
    pub fn seconds(&self) -> f64 {
        self.utterances
            .iter()
            .map(|utterance| utterance.duration)
            .sum()
    }
}

/// Names audio by `name` of its absolute path.
fn encode(
    path: &Path,
    utterances: &[Utterance],
    name: impl Fn(&Path) -> &Path,
) -> Result<Vec<u8>, ManifestError> {
    if utterances.is_empty() {
        return Err(ManifestError::Empty {
            path: path.to_owned(),
        });
    }
    let mut ids = Ids::default();
    let mut text = Vec::new();
    for (utterance, line) in utterances.iter().zip(1..) {
        let at_line = |problem| ManifestError::Line {
            path: path.to_owned(),
            line,
            problem,
            others: 0,
        };
        ids.add(&utterance.id, line).map_err(at_line)?;
        line::positive(utterance.duration).map_err(at_line)?;
        line::not_negative(utterance.offset).map_err(at_line)?;
        let unnamed = |error| ManifestError::Folder {
            path: path.to_owned(),
            error,
        };
        let audio = std::path::absolute(&utterance.audio).map_err(unnamed)?;
        let written = ManifestLine {
            id: &utterance.id,
            audio_filepath: name(&audio).to_str().ok_or_else(|| {
                at_line(LineError::PathNotUtf8 {
                    id: utterance.id.clone(),
                })
            })?,
            offset: utterance.offset,
            duration: utterance.duration,
            channel: utterance.channel,
            text: &utterance.text,
            speaker: utterance.speaker.as_deref(),
        };
        serde_json::to_writer(&mut text, &written).map_err(|error| unnamed(error.into()))?;
        text.push(b'\n');
    }
    Ok(text)
}

#[derive(Serialize)]
struct ManifestLine<'a> {
    id: &'a str,
    audio_filepath: &'a str,
    /// Left out where it is 0, which is what its absence means.
    #[serde(skip_serializing_if = "is_zero")]
    offset: f64,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<u16>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'a str>,
}

fn is_zero(offset: &f64) -> bool {
    *offset == 0.0
}

fn open(path: &Path, roots: &CorpusRoots) -> Result<BufReader<File>, ManifestError> {
    let file = roots.open(path).map_err(|error| unreadable(path, error))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn unreadable(path: &Path, error: io::Error) -> ManifestError {
    ManifestError::Read {
        path: path.to_owned(),
        error,
    }
}

fn parse(reader: impl BufRead, path: &Path) -> Result<Parsed, ManifestError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = text_file::utf8(reader).map_err(|error| unreadable(path, error))?;
    let mut hasher = blake3::Hasher::new();
    let mut block = LineBlock::default();
    let mut bad = Vec::new();
    let mut bad_count = 0;
    let mut lines: Vec<(usize, ParsedLine)> = Vec::new();
    let mut next = 1;
    while block
        .fill(&mut reader, &mut next, &mut hasher)
        .map_err(|error| unreadable(path, error))?
    {
        for (number, line) in block.read(folder) {
            match line {
                Ok(None) => {}
                Ok(Some(line)) => lines.push((number, line)),
                Err(mut problem) => {
                    // At the beginning, it is the whole file's, and no line of it can be read.
                    let fatal = problem == LineError::Array && lines.is_empty() && bad_count == 0;
                    if problem == LineError::Array && !fatal {
                        problem = LineError::NotAnObject;
                    }
                    bad_count += 1;
                    if bad.len() < MAX_LEFT_OUT_KEPT {
                        let line = number;
                        bad.push(BadLine { line, problem });
                    }
                    if fatal {
                        return Ok(Parsed {
                            utterances: Vec::new(),
                            digest: String::new(),
                            bad,
                            bad_count,
                        });
                    }
                }
            }
        }
    }
    let (utterances, repeated) = ids::name(lines);
    bad_count += repeated.len();
    bad.extend(repeated);
    bad.sort_by_key(|one| one.line);
    bad.truncate(MAX_LEFT_OUT_KEPT);
    if utterances.is_empty() && bad.is_empty() {
        return Err(ManifestError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Parsed {
        utterances,
        digest: hasher.finalize().to_hex().to_string(),
        bad,
        bad_count,
    })
}

#[cfg(test)]
mod tests;
