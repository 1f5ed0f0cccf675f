//! LibriSpeech: `{subset}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt` with a line `ID WORDS` for each
//! `ID.flac` beside it. A subset is a split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, folders, name, recordings, stem};
use super::{CorpusFormat, ImportError};

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let inner = source.join("LibriSpeech");
    let root = if inner.is_dir() { &inner } else { source };
    let mut found = ImportFindings::default();
    // The folder of a subset, or the one that holds them all.
    if has_speakers(root)? {
        read_subset(root, &mut found)?;
    } else {
        for subset in folders(root)? {
            if has_speakers(&subset)? {
                read_subset(&subset, &mut found)?;
            }
        }
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::LibriSpeech,
            path: source.to_owned(),
            expected: "{subset}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt must be in it, as in dev-clean/84/121123/84-121123.trans.txt"
                .to_owned(),
        });
    }
    Ok(found)
}

/// Speakers are numbers.
fn has_speakers(folder: &Path) -> Result<bool, ImportError> {
    let number = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            !name.is_empty() && name.iter().all(u8::is_ascii_digit)
        })
    };
    Ok(folders(folder)?.iter().any(number))
}

fn read_subset(subset: &Path, found: &mut ImportFindings) -> Result<(), ImportError> {
    let split = name(subset)?.to_owned();
    for speaker in folders(subset)? {
        for chapter in folders(&speaker)? {
            read_chapter(&chapter, name(&speaker)?, &split, found)?;
        }
    }
    Ok(())
}

fn read_chapter(
    chapter: &Path,
    speaker: &str,
    split: &str,
    found: &mut ImportFindings,
) -> Result<(), ImportError> {
    let prefix = format!("{speaker}-{}", name(chapter)?);
    let path = chapter.join(format!("{prefix}.trans.txt"));
    let mut named = BTreeSet::new();
    match List::read(&path) {
        Err(error) => found.bad.push(error),
        Ok(list) => {
            let drafts: Vec<Result<UtteranceDraft, ImportError>> = list
                .lines()
                .map(|line| draft(&list, line, chapter, &prefix))
                .collect();
            let drafts = drafts.into_iter().map(|draft| {
                let draft = UtteranceDraft {
                    speaker: Some(speaker.to_owned()),
                    split: Some(split.to_owned()),
                    ..draft?
                };
                named.insert(draft.id.clone());
                Ok(draft)
            });
            found.take_lines(&list, drafts)?;
        }
    }
    for audio in recordings(chapter)? {
        if !named.contains(stem(&audio)?) {
            found.known.push(audio.clone());
            found.bad.push(ImportError::File {
                problem: format!("{} has no transcript of it", path.display()),
                path: audio,
            });
        }
    }
    Ok(())
}

fn draft(
    list: &List,
    (line, text): (usize, &str),
    chapter: &Path,
    prefix: &str,
) -> Result<UtteranceDraft, ImportError> {
    let (id, words) = text
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(|| list.problem(line, "the line is not `ID WORDS`"))?;
    if id.rsplit_once('-').is_none_or(|(start, _)| start != prefix) {
        return Err(list.problem(
            line,
            format!("the id {id:?} is not one of chapter {prefix}"),
        ));
    }
    Ok(UtteranceDraft {
        id: id.to_owned(),
        audio: chapter.join(format!("{id}.flac")),
        text: words.split_whitespace().collect::<Vec<_>>().join(" "),
        place: Some(list.place(line)),
        ..UtteranceDraft::default()
    })
}
