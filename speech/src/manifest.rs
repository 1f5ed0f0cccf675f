//! The project's list of utterances: NeMo's JSON lines. It decides what a line must hold and names
//! the file and line of one that does not; it refuses to open the audio, and to know which text a
//! model can say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// One recording, or a segment of one, and what was said in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// Distinct within a manifest.
    pub id: String,
    pub audio: PathBuf,
    /// Where in the recording it begins, in seconds; 0 for its beginning.
    pub offset: f64,
    /// Seconds from there. What is shorter than the recording is a segment of it; see
    /// [`Utterance::segment`].
    pub duration: f64,
    /// The reference transcript, as the corpus writes it.
    pub text: String,
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
    pub utterances: Vec<Utterance>,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub digest: String,
}

/// What is wrong with a manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("cannot read the manifest {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot write the manifest {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{}: the manifest has no utterances", path.display())]
    Empty { path: PathBuf },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: LineProblem,
    },
}

/// What is wrong with a line of a manifest.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LineProblem {
    #[error("the line is longer than {MAX_LINE} bytes; a manifest has one JSON object a line")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("the line is not JSON: {0}; a manifest has one JSON object a line")]
    NotJson(String),
    #[error("the line is JSON but not an object with `audio_filepath`, `duration` and `text`")]
    NotAnObject,
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` must be {expected} and is {found}")]
    WrongType {
        field: &'static str,
        expected: &'static str,
        found: String,
    },
    #[error("`{field}` is empty")]
    EmptyField { field: &'static str },
    #[error("`duration` must be a positive number of seconds and is {0}")]
    Duration(f64),
    #[error("`offset` must be a number of seconds, 0 or more, and is {0}")]
    Offset(f64),
    #[error("{0} is not a number in JSON; `duration` must be a positive number of seconds")]
    NotFinite(&'static str),
    #[error(
        "the id {id:?} is already that of line {first}; give each utterance an `id` of its own"
    )]
    DuplicateId { id: String, first: usize },
    #[error("the path of {id:?} is not UTF-8 and cannot be written as JSON")]
    PathNotUtf8 { id: String },
}

/// Longest line in bytes: hours of speech as text, and far less than a recording taken for a manifest.
const MAX_LINE: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Manifest {
    /// Reads the manifest at `path`. Audio paths that are relative lie beside it. Blank lines and
    /// keys of other programs are passed over.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |error| ManifestError::Read {
            path: path.to_owned(),
            error,
        };
        Self::parse(BufReader::new(File::open(path).map_err(unreadable)?), path)
    }

    /// [`Self::read`] from `reader`; `path` is where relative audio lies beside, and stands in errors.
    pub fn parse(mut reader: impl BufRead, path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |error| ManifestError::Read {
            path: path.to_owned(),
            error,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut hasher = blake3::Hasher::new();
        let mut ids = Ids::default();
        let mut utterances = Vec::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let limit = MAX_LINE as u64 + 1;
            if (&mut reader)
                .take(limit)
                .read_until(b'\n', &mut bytes)
                .map_err(unreadable)?
                == 0
            {
                break;
            }
            hasher.update(&bytes);
            let at_line = |problem| ManifestError::Line {
                path: path.to_owned(),
                line,
                problem,
            };
            if bytes.len() > MAX_LINE {
                return Err(at_line(LineProblem::TooLong));
            }
            let start = if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
                BYTE_ORDER_MARK.len()
            } else {
                0
            };
            let text =
                std::str::from_utf8(&bytes[start..]).map_err(|_| at_line(LineProblem::NotUtf8))?;
            if text.trim().is_empty() {
                continue;
            }
            let utterance = read_line(text.trim(), folder).map_err(at_line)?;
            ids.add(&utterance.id, line).map_err(at_line)?;
            utterances.push(utterance);
        }
        if utterances.is_empty() {
            return Err(ManifestError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            utterances,
            digest: hasher.finalize().to_hex().to_string(),
        })
    }

    /// Writes `utterances` as the manifest at `path`, with absolute audio paths, whole or not at all.
    pub fn write(path: &Path, utterances: &[Utterance]) -> Result<(), ManifestError> {
        Self::write_with(path, utterances, |audio| audio)
    }

    /// As [`Self::write`], but audio in the manifest's folder is named relative to it: the folder can be
    /// moved, and the manifest's bytes do not depend on where it lies.
    pub fn write_movable(path: &Path, utterances: &[Utterance]) -> Result<(), ManifestError> {
        let unwritable = |error| ManifestError::Write {
            path: path.to_owned(),
            error,
        };
        let whole = std::path::absolute(path).map_err(unwritable)?;
        let folder = whole.parent().unwrap_or(Path::new(""));
        Self::write_with(path, utterances, |audio| {
            audio.strip_prefix(folder).unwrap_or(audio)
        })
    }

    fn write_with(
        path: &Path,
        utterances: &[Utterance],
        name: impl Fn(&Path) -> &Path,
    ) -> Result<(), ManifestError> {
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
            };
            ids.add(&utterance.id, line).map_err(at_line)?;
            positive(utterance.duration).map_err(at_line)?;
            not_negative(utterance.offset).map_err(at_line)?;
            let unwritable = |error| ManifestError::Write {
                path: path.to_owned(),
                error,
            };
            let audio = std::path::absolute(&utterance.audio).map_err(unwritable)?;
            let written = Written {
                id: &utterance.id,
                audio_filepath: name(&audio).to_str().ok_or_else(|| {
                    at_line(LineProblem::PathNotUtf8 {
                        id: utterance.id.clone(),
                    })
                })?,
                offset: utterance.offset,
                duration: utterance.duration,
                text: &utterance.text,
                speaker: utterance.speaker.as_deref(),
            };
            serde_json::to_writer(&mut text, &written).map_err(|error| unwritable(error.into()))?;
            text.push(b'\n');
        }
        write_whole(path, &text).map_err(|error| ManifestError::Write {
            path: path.to_owned(),
            error,
        })
    }

    /// Seconds of all utterances.
    pub fn seconds(&self) -> f64 {
        self.utterances
            .iter()
            .map(|utterance| utterance.duration)
            .sum()
    }
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    audio_filepath: &'a str,
    /// Left out where it is 0, which is what its absence means.
    #[serde(skip_serializing_if = "is_zero")]
    offset: f64,
    duration: f64,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'a str>,
}

fn is_zero(offset: &f64) -> bool {
    *offset == 0.0
}

/// The ids seen, with the line of each.
#[derive(Default)]
struct Ids(BTreeMap<String, usize>);

impl Ids {
    fn add(&mut self, id: &str, line: usize) -> Result<(), LineProblem> {
        match self.0.insert(id.to_owned(), line) {
            None => Ok(()),
            Some(first) => Err(LineProblem::DuplicateId {
                id: id.to_owned(),
                first,
            }),
        }
    }
}

fn read_line(text: &str, folder: &Path) -> Result<Utterance, LineProblem> {
    let value: Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    let Value::Object(fields) = value else {
        return Err(LineProblem::NotAnObject);
    };
    let audio = string(&fields, "audio_filepath")?.ok_or(LineProblem::Missing {
        field: "audio_filepath",
    })?;
    if audio.is_empty() {
        return Err(LineProblem::EmptyField {
            field: "audio_filepath",
        });
    }
    let duration = match fields.get("duration") {
        None => return Err(LineProblem::Missing { field: "duration" }),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| wrong("duration", "a number of seconds", value))?,
    };
    positive(duration)?;
    let offset = match fields.get("offset") {
        None | Some(Value::Null) => 0.0,
        Some(value) => value
            .as_f64()
            .ok_or_else(|| wrong("offset", "a number of seconds", value))?,
    };
    not_negative(offset)?;
    let text = string(&fields, "text")?.ok_or(LineProblem::Missing { field: "text" })?;
    let id = string(&fields, "id")?.unwrap_or(audio);
    if id.is_empty() {
        return Err(LineProblem::EmptyField { field: "id" });
    }
    Ok(Utterance {
        id: id.to_owned(),
        audio: folder.join(audio),
        offset,
        duration,
        text: text.to_owned(),
        speaker: string(&fields, "speaker")?.map(str::to_owned),
    })
}

/// The string called `field`; other programs write `null` for what they do not know.
fn string<'a>(
    fields: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, LineProblem> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(field, "a string", other)),
    }
}

fn wrong(field: &'static str, expected: &'static str, found: &Value) -> LineProblem {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => format!("the number {value}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    LineProblem::WrongType {
        field,
        expected,
        found,
    }
}

fn positive(duration: f64) -> Result<(), LineProblem> {
    if duration.is_finite() && duration > 0.0 {
        Ok(())
    } else {
        Err(LineProblem::Duration(duration))
    }
}

fn not_negative(offset: f64) -> Result<(), LineProblem> {
    if offset.is_finite() && offset >= 0.0 {
        Ok(())
    } else {
        Err(LineProblem::Offset(offset))
    }
}

/// Python writes NaN and Infinity, which JSON does not have, for a duration that it could not find.
fn not_json(text: &str, error: &serde_json::Error) -> LineProblem {
    let rest = text
        .as_bytes()
        .get(error.column().saturating_sub(1)..)
        .unwrap_or_default();
    for name in ["NaN", "Infinity"] {
        if rest.starts_with(name.as_bytes()) {
            return LineProblem::NotFinite(name);
        }
    }
    let message = error.to_string();
    // serde_json counts lines within the text that it was given, which here is always one.
    LineProblem::NotJson(message.replace(" at line 1 column ", " at column "))
}

/// Writes a file beside `path` and moves it there: who reads `path` sees all of it or the old one.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidFilename)?
        .to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests;
