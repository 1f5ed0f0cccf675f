//! Festvox voices such as CMU ARCTIC: `etc/txt.done.data` with lines `( ID "TEXT" )`, and `wav/ID.wav`.

use std::path::{Path, PathBuf};

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, entries, is_file_name, name};
use super::{CorpusFormat, ImportError};

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let list = |folder: &Path| folder.join("etc/txt.done.data");
    if list(source).exists() {
        return parse(&List::read(&list(source))?, &source.join("wav"), None);
    }
    let mut voices: Vec<PathBuf> = entries(source)?;
    voices.retain(|voice| list(voice).exists());
    if voices.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::Festvox,
            path: source.to_owned(),
            expected: "etc/txt.done.data and wav/ must be in it, or in the folders in it, one for each voice"
                .to_owned(),
        });
    }
    let mut found = ImportFindings::default();
    for voice in voices {
        let list = List::read(&list(&voice))?;
        found.extend(parse(&list, &voice.join("wav"), Some(name(&voice)?))?);
    }
    Ok(found)
}

/// The lines of `txt.done.data`. Voices read the same sentences under the same ids: theirs begin with the
/// `voice`, who is the speaker.
pub fn parse(list: &List, wav: &Path, voice: Option<&str>) -> Result<ImportFindings, ImportError> {
    let drafts = list.lines().map(|(line, text)| {
        let (id, said) = line_of(text.trim())
            .ok_or_else(|| list.problem(line, "the line is not `( ID \"TEXT\" )`"))?;
        if !is_file_name(id) {
            return Err(list.problem(line, format!("the id is {id:?}, which is no file's name")));
        }
        Ok(UtteranceDraft {
            id: voice.map_or_else(|| id.to_owned(), |voice| format!("{voice}/{id}")),
            audio: wav.join(format!("{id}.wav")),
            text: said,
            speaker: voice.map(str::to_owned),
            place: Some(list.place(line)),
            ..UtteranceDraft::default()
        })
    });
    let mut found = ImportFindings::default();
    found.take_lines(list, drafts)?;
    Ok(found)
}

/// Scheme's strings: a backslash takes the next character as it is.
fn line_of(text: &str) -> Option<(&str, String)> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let (id, rest) = inner.split_once(char::is_whitespace)?;
    let mut characters = rest.trim().strip_prefix('"')?.chars();
    let mut said = String::new();
    loop {
        match characters.next()? {
            '\\' => said.push(characters.next()?),
            '"' => break,
            other => said.push(other),
        }
    }
    characters.as_str().is_empty().then_some((id, said))
}
