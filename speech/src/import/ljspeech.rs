//! LJSpeech: `metadata.csv` with lines `ID|as it is printed|as it is read`, not quoted, and `wavs/ID.wav`.

use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, is_file_name};
use super::{CorpusFormat, ImportError};

/// All of it is read by one person.
const SPEAKER: &str = "LJ";

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let path = source.join("metadata.csv");
    let Some(list) = List::read_if_there(&path)? else {
        return Err(ImportError::Layout {
            format: CorpusFormat::LjSpeech,
            path: source.to_owned(),
            expected: "metadata.csv and wavs/ must be in it".to_owned(),
        });
    };
    parse(&list, &source.join("wavs"))
}

/// The lines of `metadata.csv`.
pub fn parse(list: &List, wavs: &Path) -> Result<ImportFindings, ImportError> {
    let drafts = list.lines().map(|(line, text)| {
        let fields: Vec<&str> = text.split('|').collect();
        // Numbers and abbreviations are spelled in the last one; some who took the layout over leave
        // it out.
        let (id, said) = match fields[..] {
            [id, said] | [id, _, said] => (id.trim(), said),
            _ => return Err(list.problem(line, "the line is not `ID|TEXT|TEXT AS IT IS READ`")),
        };
        if !is_file_name(id) {
            return Err(list.problem(line, format!("the id is {id:?}, which is no file's name")));
        }
        Ok(UtteranceDraft {
            id: id.to_owned(),
            audio: wavs.join(format!("{id}.wav")),
            text: said.trim().to_owned(),
            speaker: Some(SPEAKER.to_owned()),
            place: Some(list.place(line)),
            ..UtteranceDraft::default()
        })
    });
    let mut found = ImportFindings::default();
    found.take_lines(list, drafts)?;
    Ok(found)
}
