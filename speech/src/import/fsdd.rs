//! The Free Spoken Digit Dataset: everything is in the file names, `{digit}_{speaker}_{index}.wav`.

use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::recordings;
use super::{CorpusFormat, ImportError};

const WORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let inner = source.join("recordings");
    let folder = if inner.is_dir() {
        inner.as_path()
    } else {
        source
    };
    let mut found = ImportFindings::default();
    for audio in recordings(folder)? {
        let stem = audio
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let Some(name) = RecordingName::parse(stem) else {
            found.known.push(audio.clone());
            found.bad.push(ImportError::File {
                path: audio,
                problem: "the file's name is not {digit}_{speaker}_{index}.wav".to_owned(),
            });
            continue;
        };
        found.drafts.push(UtteranceDraft {
            id: stem.to_owned(),
            text: WORDS[name.digit].to_owned(),
            speaker: Some(name.speaker.to_owned()),
            audio: audio.clone(),
            ..UtteranceDraft::default()
        });
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::Fsdd,
            path: source.to_owned(),
            expected: "{digit}_{speaker}_{index}.wav must be in it or in its folder `recordings`"
                .to_owned(),
        });
    }
    Ok(found)
}

/// What the name of a recording, which is also its id, says.
pub(super) struct RecordingName<'a> {
    /// 0 to 9.
    digit: usize,
    speaker: &'a str,
    /// The how-manieth recording of this digit by this speaker, from 0.
    pub(super) index: u32,
}

impl<'a> RecordingName<'a> {
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
