//! Strict configuration: TOML in which an unknown key, a wrong type or an impossible value is an error that names
//! the file, the line, the key and the nearest known one. It does not depend on what the keys mean; the types that
//! derive `Deserialize` (with `deny_unknown_fields`) do.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::error_class::{Class, Classify};
use toml::de::DeTable;
use toml::{Table, Value};

mod spans;

use spans::{keys_at, line_of, span_of};

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum StrictError {
    #[error("{place}: this is not TOML: {message}")]
    Syntax { place: KeyOrigin, message: String },
    #[error("{place}: unknown key `{key}` in {}; {}", section(path), known)]
    UnknownKey {
        place: KeyOrigin,
        path: String,
        key: String,
        known: Box<KnownKeys>,
    },
    #[error("{place}: `{path}` cannot be `{value}`; {}", known)]
    UnknownValue {
        place: KeyOrigin,
        path: String,
        value: String,
        known: Box<KnownKeys>,
    },
    #[error("{place}: {} lacks the key `{key}`", section(path))]
    MissingKey {
        place: KeyOrigin,
        path: String,
        key: String,
    },
    #[error("{place}: {}: {message}", if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") })]
    Value {
        place: KeyOrigin,
        path: String,
        message: String,
    },
    #[error("`--set {argument}`: {problem}")]
    Override { argument: String, problem: String },
}

impl Classify for StrictError {
    fn class(&self) -> Class {
        match self {
            Self::Override { .. } => Class::Usage,
            _ => Class::Data,
        }
    }
}

/// Where a key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A file of settings.
    File {
        /// The path of the file.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
    },
    /// The argument of `--set`.
    Override(String),
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Override(argument) => write!(f, "--set {argument}"),
        }
    }
}

fn section(path: &str) -> String {
    if path.is_empty() {
        "the top of the file".to_owned()
    } else {
        format!("[{path}]")
    }
}

/// What could have been written in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKeys {
    /// The name most like what was written, where one is like it at all.
    pub nearest: Option<String>,
    /// All names that could have been written there.
    pub names: Vec<String>,
}

impl KnownKeys {
    fn beside(written: &str, names: Vec<String>) -> Box<Self> {
        let nearest = nearest(written, &names);
        Box::new(Self { nearest, names })
    }
}

impl fmt::Display for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.names.as_slice() {
            [] => "nothing is known here".to_owned(),
            names => format!("known: {}", names.join(", ")),
        };
        match &self.nearest {
            Some(nearest) => write!(f, "did you mean `{nearest}`? ({names})"),
            None => f.write_str(&names),
        }
    }
}

/// Reads `text`, the contents of the file at `path`, which is only named.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, StrictError> {
    parse_with(text, path, &[])
}

/// As [`parse`], with the arguments of `--set` applied in order to what the file says. An error in
/// what an argument set names the argument, not a line.
pub fn parse_with<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    overrides: &[String],
) -> Result<T, StrictError> {
    let in_file = |line| KeyOrigin::File {
        path: path.to_owned(),
        line,
    };
    let root = DeTable::parse(text).map_err(|error| StrictError::Syntax {
        place: in_file(error.span().map(|span| line_of(text, span.start))),
        message: error.message().to_owned(),
    })?;
    if overrides.is_empty() {
        return toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            let keys = error
                .span()
                .map(|span| keys_at(root.get_ref(), &span))
                .unwrap_or_default();
            explain(&error, keys, |_| in_file(line))
        });
    }

    let syntax = |error: toml::de::Error| StrictError::Syntax {
        place: in_file(None),
        message: error.message().to_owned(),
    };
    let mut table: Table = toml::from_str(text).map_err(syntax)?;
    for argument in overrides {
        set(&mut table, argument)?;
    }
    // Rendered again, so that an error has a span to find its keys by; its line means nothing to
    // the reader and is looked up in the file as it was written.
    let rendered = toml::to_string(&table).map_err(|error| StrictError::Syntax {
        place: in_file(None),
        message: error.to_string(),
    })?;
    toml::from_str(&rendered).map_err(|error| {
        let keys = match (error.span(), DeTable::parse(&rendered)) {
            (Some(span), Ok(root)) => keys_at(root.get_ref(), &span),
            _ => Vec::new(),
        };
        explain(&error, keys, |keys| {
            let last = |wrote: fn(&str, &[String]) -> bool| {
                overrides.iter().rev().find(|it| wrote(it, keys))
            };
            let written = span_of(root.get_ref(), keys);
            let whole = written
                .as_ref()
                .is_some_and(|(depth, _)| *depth == keys.len());
            // A section that the file lacks was made by the argument that set a key of it.
            match last(sets).or_else(|| if whole { None } else { last(sets_inside) }) {
                Some(argument) => KeyOrigin::Override(argument.clone()),
                None => in_file(written.map(|(_, span)| line_of(text, span.start))),
            }
        })
    })
}

/// Sets what `argument`, `section.key=value` or `key=value`, says. The value is read as TOML and,
/// where it is none (or a date, which no key holds), taken as a string; nothing after the `=` is
/// the empty string.
pub fn set(table: &mut Table, argument: &str) -> Result<(), StrictError> {
    let problem = |problem: String| StrictError::Override {
        argument: argument.to_owned(),
        problem,
    };
    let Some((key, value)) = argument.split_once('=') else {
        return Err(problem(
            "a value is missing; write it as section.key=value".to_owned(),
        ));
    };
    let keys: Vec<&str> = key.trim().split('.').collect();
    let bare = |key: &&str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if let Some(bad) = keys.iter().find(|key| !bare(key)) {
        let problem_of = if bad.is_empty() {
            "a part of the key is empty".to_owned()
        } else {
            format!("`{bad}` is not a key")
        };
        return Err(problem(format!(
            "{problem_of}; write it as section.key=value"
        )));
    }
    let (last, sections) = keys
        .split_last()
        .expect("splitting gives at least one part");
    let mut inner = table;
    for (depth, section) in sections.iter().enumerate() {
        let entry = inner
            .entry(*section)
            .or_insert_with(|| Value::Table(Table::new()));
        let kind = entry.type_str();
        inner = entry.as_table_mut().ok_or_else(|| {
            let path = keys[..=depth].join(".");
            problem(format!(
                "`{path}` is a value ({kind}) and has no keys below it"
            ))
        })?;
    }
    if inner.get(*last).is_some_and(Value::is_table) && !value.trim_start().starts_with('{') {
        return Err(problem(format!(
            "`{}` is a section; set one of its keys",
            keys.join(".")
        )));
    }
    inner.insert((*last).to_owned(), read_value(value));
    Ok(())
}

fn read_value(text: &str) -> Value {
    match text.trim().parse::<Value>() {
        Ok(Value::Datetime(_)) | Err(_) => Value::String(text.to_owned()),
        Ok(value) => value,
    }
}

/// Whether `argument` wrote what lies at `keys`, or a section that holds it.
fn sets(argument: &str, keys: &[String]) -> bool {
    let path: Vec<&str> = set_path(argument).collect();
    path.len() <= keys.len() && path.iter().zip(keys).all(|(part, key)| part == key)
}

/// Whether `argument` wrote something inside of what lies at `keys`.
fn sets_inside(argument: &str, keys: &[String]) -> bool {
    !keys.is_empty()
        && set_path(argument)
            .take(keys.len())
            .eq(keys.iter().map(String::as_str))
}

fn set_path(argument: &str) -> impl Iterator<Item = &str> {
    let path = argument.split_once('=').map_or(argument, |(key, _)| key);
    path.trim().split('.')
}

/// Turns serde's message into what the reader needs; `keys` is the path of what it is about, and
/// `place` where that was written.
fn explain(
    error: &toml::de::Error,
    mut keys: Vec<String>,
    place: impl Fn(&[String]) -> KeyOrigin,
) -> StrictError {
    let message = error.message().trim_end();
    if let Some((key, known)) = unknown(message, "unknown field ") {
        let place = place(&keys);
        // The span is the key's own; the section is what holds it.
        if keys.last() == Some(&key) {
            keys.pop();
        }
        let known = KnownKeys::beside(&key, known);
        return StrictError::UnknownKey {
            place,
            path: keys.join("."),
            key,
            known,
        };
    }
    let place = place(&keys);
    let path = keys.join(".");
    if let Some((value, known)) = unknown(message, "unknown variant ") {
        let known = KnownKeys::beside(&value, known);
        return StrictError::UnknownValue {
            place,
            path,
            value,
            known,
        };
    }
    if let Some(key) = message
        .strip_prefix("missing field ")
        .and_then(|rest| quoted(rest).next())
    {
        return StrictError::MissingKey {
            place,
            path,
            key: key.to_owned(),
        };
    }
    StrictError::Value {
        place,
        path,
        message: message.to_owned(),
    }
}

/// Takes apart serde's "unknown field `x`, expected one of `a`, `b`" (`serde::de::Error`).
fn unknown(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let mut names = quoted(message.strip_prefix(prefix)?);
    let unknown = names.next()?.to_owned();
    Some((unknown, names.map(str::to_owned).collect()))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn nearest(name: &str, known: &[String]) -> Option<String> {
    /// Below this, a suggestion is a guess (clap's threshold for commands is the same).
    const ALIKE: f64 = 0.7;
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let name = plain(name);
    let mut best = (ALIKE, None);
    for candidate in known {
        let alike = strsim::jaro_winkler(&name, &plain(candidate));
        if alike > best.0 {
            best = (alike, Some(candidate.clone()));
        }
    }
    best.1
}

#[cfg(test)]
mod tests;
