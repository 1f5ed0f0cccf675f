//! The Free Spoken Digit Dataset: everything is in the file names, `{digit}_{speaker}_{index}.wav`.

use std::fs;
use std::path::Path;

use super::{Format, ImportError, duration};
use crate::manifest::Utterance;

const WORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

pub(super) fn read(source: &Path) -> Result<Vec<Utterance>, ImportError> {
    let inner = source.join("recordings");
    let folder = if inner.is_dir() {
        inner.as_path()
    } else {
        source
    };
    let unreadable = |error| ImportError::Read {
        path: folder.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A name that starts with a dot is the file system's, not the corpus's.
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("wav"))
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(ImportError::Layout {
            format: Format::Fsdd,
            path: source.to_owned(),
            expected: "{digit}_{speaker}_{index}.wav must be in it or in its folder `recordings`"
                .to_owned(),
        });
    }
    files.sort();
    let mut utterances = Vec::with_capacity(files.len());
    for audio in files {
        let stem = audio
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let Some(name) = Name::parse(stem) else {
            return Err(ImportError::FileName { path: audio });
        };
        utterances.push(Utterance {
            id: stem.to_owned(),
            offset: 0.0,
            duration: duration(&audio)?,
            text: WORDS[name.digit].to_owned(),
            speaker: Some(name.speaker.to_owned()),
            audio,
        });
    }
    Ok(utterances)
}

/// What the name of a recording, which is also its id, says.
pub(super) struct Name<'a> {
    /// 0 to 9.
    digit: usize,
    speaker: &'a str,
    /// The how-manieth recording of this digit by this speaker, from 0.
    pub(super) index: u32,
}

impl<'a> Name<'a> {
    pub(super) fn parse(stem: &'a str) -> Option<Self> {
        let (digit, rest) = stem.split_once('_')?;
        let (speaker, index) = rest.rsplit_once('_')?;
        let number = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())?
        };
        if digit.len() != 1 || speaker.is_empty() {
            return None;
        }
        Some(Self {
            digit: number(digit)? as usize,
            speaker,
            index: number(index)?,
        })
    }
}
