//! LibriSpeech: `{subset}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt` with a line `ID WORDS` for each
//! `ID.flac` beside it. A subset is a split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::list::{List, entries, is_recording, name, stem};
use super::{Format, ImportError};

pub(super) fn read(source: &Path) -> Result<Vec<Draft>, ImportError> {
    let inner = source.join("LibriSpeech");
    let root = if inner.is_dir() { &inner } else { source };
    let mut drafts = Vec::new();
    // The folder of a subset, or the one that holds them all.
    if has_speakers(root)? {
        read_subset(root, &mut drafts)?;
    } else {
        for subset in folders(root)? {
            if has_speakers(&subset)? {
                read_subset(&subset, &mut drafts)?;
            }
        }
    }
    if drafts.is_empty() {
        return Err(ImportError::Layout {
            format: Format::LibriSpeech,
            path: source.to_owned(),
            expected: "{subset}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt must be in it, as in dev-clean/84/121123/84-121123.trans.txt"
                .to_owned(),
        });
    }
    Ok(drafts)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut folders = entries(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
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

fn read_subset(subset: &Path, drafts: &mut Vec<Draft>) -> Result<(), ImportError> {
    let split = name(subset)?.to_owned();
    for speaker in folders(subset)? {
        for chapter in folders(&speaker)? {
            read_chapter(&chapter, name(&speaker)?, &split, drafts)?;
        }
    }
    Ok(())
}

fn read_chapter(
    chapter: &Path,
    speaker: &str,
    split: &str,
    drafts: &mut Vec<Draft>,
) -> Result<(), ImportError> {
    let prefix = format!("{speaker}-{}", name(chapter)?);
    let list = List::read(&chapter.join(format!("{prefix}.trans.txt")))?;
    let mut named = BTreeSet::new();
    for (line, text) in list.lines() {
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
        named.insert(id.to_owned());
        drafts.push(Draft {
            id: id.to_owned(),
            audio: chapter.join(format!("{id}.flac")),
            part: None,
            text: words.split_whitespace().collect::<Vec<_>>().join(" "),
            speaker: Some(speaker.to_owned()),
            split: Some(split.to_owned()),
            place: Some(list.place(line)),
        });
    }
    for path in entries(chapter)? {
        if is_recording(&path) && !named.contains(stem(&path)?) {
            return Err(ImportError::File {
                problem: format!("{} has no transcript of it", list.path.display()),
                path,
            });
        }
    }
    Ok(())
}
