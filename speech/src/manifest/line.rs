//! A line of a manifest: what it must hold, and what is wrong with one that does not. Lines are read in blocks,
//! whose lines are taken apart in parallel.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value};
use thiserror::Error;

use super::Utterance;

/// Longest line in bytes: hours of speech as text, and far less than a recording taken for a manifest.
pub(super) const MAX_LINE: usize = 1 << 20;
/// Bytes of lines that are taken apart together, and how many lines.
const BLOCK_BYTES: usize = 4 << 20;
const MAX_BLOCK_LINES: usize = 1 << 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a line of a manifest.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum LineError {
    #[error("the line is longer than {MAX_LINE} bytes; a manifest has one JSON object a line")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error(
        "the file is a JSON array, and a manifest has one JSON object a line: write each element as a line of its own, \
         for example with `jq -c '.[]' IN > OUT`"
    )]
    Array,
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

/// What a line says.
pub(super) struct ParsedLine {
    /// Its id is the path of its recording, as it is written, where it has none of its own.
    pub utterance: Utterance,
    pub has_id: bool,
}

/// Lines that were read and not yet taken apart.
#[derive(Default)]
pub(super) struct LineBlock {
    bytes: Vec<u8>,
    /// The number of each, and where it is in `bytes`; `None` for one that is too long.
    lines: Vec<(usize, Option<Range<usize>>)>,
}

impl LineBlock {
    /// Takes in the lines from number `next` on, as many as go into a block; `false` at the end of the file.
    pub(super) fn fill(
        &mut self,
        reader: &mut impl BufRead,
        next: &mut usize,
        hasher: &mut blake3::Hasher,
    ) -> io::Result<bool> {
        self.bytes.clear();
        self.lines.clear();
        let first = *next;
        while self.bytes.len() < BLOCK_BYTES && self.lines.len() < MAX_BLOCK_LINES {
            let start = self.bytes.len();
            let read = reader
                .by_ref()
                .take(MAX_LINE as u64 + 1)
                .read_until(b'\n', &mut self.bytes)?;
            if read == 0 {
                break;
            }
            hasher.update(&self.bytes[start..]);
            let line = match read > MAX_LINE {
                false => Some(start..self.bytes.len()),
                true => {
                    let ended = self.bytes.ends_with(b"\n");
                    let array = self.bytes[start..].trim_ascii_start().starts_with(b"[");
                    self.bytes.truncate(start);
                    if !ended {
                        skip_line(reader, hasher)?;
                    }
                    // Programs write an array as one line: its first byte is enough to say so.
                    self.bytes.extend(array.then_some(b'['));
                    array.then_some(start..start + 1)
                }
            };
            match &line {
                Some(line) if self.bytes[line.clone()].trim_ascii().is_empty() => {
                    self.bytes.truncate(start);
                }
                _ => self.lines.push((*next, line)),
            }
            *next += 1;
        }
        Ok(*next > first)
    }

    /// What each line says, by its number; nothing where it is blank. Relative audio lies in `folder`.
    pub(super) fn read(
        &self,
        folder: &Path,
    ) -> Vec<(usize, Result<Option<ParsedLine>, LineError>)> {
        let read = |(number, line): &(usize, Option<Range<usize>>)| {
            let said = match line {
                None => Err(LineError::TooLong),
                Some(line) => of_bytes(&self.bytes[line.clone()], *number, folder),
            };
            (*number, said)
        };
        self.lines.par_iter().with_min_len(64).map(read).collect()
    }
}

/// Passes over the rest of a line.
fn skip_line(reader: &mut impl BufRead, hasher: &mut blake3::Hasher) -> io::Result<()> {
    loop {
        let held = match reader.fill_buf() {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = held.iter().position(|&byte| byte == b'\n');
        let count = end.map_or(held.len(), |at| at + 1);
        hasher.update(&held[..count]);
        reader.consume(count);
        if end.is_some() || count == 0 {
            return Ok(());
        }
    }
}

fn of_bytes(bytes: &[u8], number: usize, folder: &Path) -> Result<Option<ParsedLine>, LineError> {
    let bytes = match number {
        1 => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes),
        _ => bytes,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| LineError::NotUtf8)?;
    match text.trim() {
        "" => Ok(None),
        text => of_text(text, folder).map(Some),
    }
}

fn of_text(text: &str, folder: &Path) -> Result<ParsedLine, LineError> {
    if text.starts_with('[') {
        return Err(LineError::Array);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    let Value::Object(fields) = value else {
        return Err(LineError::NotAnObject);
    };
    let audio = string(&fields, "audio_filepath")?.ok_or(LineError::Missing {
        field: "audio_filepath",
    })?;
    if audio.is_empty() {
        return Err(LineError::EmptyField {
            field: "audio_filepath",
        });
    }
    let duration = match fields.get("duration") {
        None => return Err(LineError::Missing { field: "duration" }),
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
    let channel = channel(fields.get("channel"))?;
    // NeMo's manifests of keywords have `label`, or `command`, in its place.
    let mut text = None;
    for field in ["text", "label", "command"] {
        text = match text {
            None => text_or_number(&fields, field)?,
            found => found,
        };
    }
    let text = text.ok_or(LineError::Missing { field: "text" })?;
    let id = text_or_number(&fields, "id")?;
    if id.as_deref() == Some("") {
        return Err(LineError::EmptyField { field: "id" });
    }
    Ok(ParsedLine {
        has_id: id.is_some(),
        utterance: Utterance {
            audio: folder.join(audio),
            id: id.unwrap_or(Cow::Borrowed(audio)).into_owned(),
            offset,
            duration,
            channel,
            text: text.into_owned(),
            speaker: text_or_number(&fields, "speaker")?.map(Cow::into_owned),
        },
    })
}

/// As in Lhotse's manifests, channels are whole numbers and count from 0.
fn channel(value: Option<&Value>) -> Result<Option<u16>, LineError> {
    const EXPECTED: &str = "a whole number from 0 (the first channel) to 65535";
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|number| u16::try_from(number).ok()) {
            Some(channel) => Ok(Some(channel)),
            None => Err(wrong("channel", EXPECTED, value)),
        },
    }
}

/// The string called `field`; other programs write `null` for what they do not know.
fn string<'a>(
    fields: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, LineError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(field, "a string", other)),
    }
}

/// As [`string`]; a number is the text that it is written as, as speakers and digits often are.
fn text_or_number<'a>(
    fields: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, LineError> {
    match fields.get(field) {
        Some(Value::Number(number)) => Ok(Some(Cow::Owned(number.to_string()))),
        _ => Ok(string(fields, field)?.map(Cow::Borrowed)),
    }
}

fn wrong(field: &'static str, expected: &'static str, found: &Value) -> LineError {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => format!("the number {value}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    LineError::WrongType {
        field,
        expected,
        found,
    }
}

pub(super) fn positive(duration: f64) -> Result<(), LineError> {
    if duration.is_finite() && duration > 0.0 {
        Ok(())
    } else {
        Err(LineError::Duration(duration))
    }
}

pub(super) fn not_negative(offset: f64) -> Result<(), LineError> {
    if offset.is_finite() && offset >= 0.0 {
        Ok(())
    } else {
        Err(LineError::Offset(offset))
    }
}

/// Python writes NaN and Infinity, which JSON does not have, for a duration that it could not find.
fn not_json(text: &str, error: &serde_json::Error) -> LineError {
    let rest = text
        .as_bytes()
        .get(error.column().saturating_sub(1)..)
        .unwrap_or_default();
    for name in ["NaN", "Infinity"] {
        if rest.starts_with(name.as_bytes()) {
            return LineError::NotFinite(name);
        }
    }
    let message = error.to_string();
    // serde_json counts lines within the text that it was given, which here is always one.
    LineError::NotJson(message.replace(" at line 1 column ", " at column "))
}
