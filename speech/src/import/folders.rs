//! A folder for each class with its recordings in it, as people make them by hand: `yes/a.wav`. Folders named
//! as splits are (`train/yes/a.wav`) are splits.

use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::list::{entries, is_recording, name, stem};
use super::{Format, ImportError};

const SPLITS: [&str; 9] = [
    "train",
    "training",
    "valid",
    "validation",
    "val",
    "dev",
    "eval",
    "test",
    "testing",
];

pub(super) fn read(source: &Path) -> Result<Vec<Draft>, ImportError> {
    let mut folders = entries(source)?;
    folders.retain(|path| path.is_dir());
    let is_split = |path: &PathBuf| name(path).is_ok_and(|name| SPLITS.contains(&name));
    let mut drafts = Vec::new();
    if !folders.is_empty() && folders.iter().all(is_split) {
        for split in &folders {
            for class in entries(split)?.iter().filter(|path| path.is_dir()) {
                read_class(class, Some(name(split)?), &mut drafts)?;
            }
        }
    } else {
        for class in &folders {
            read_class(class, None, &mut drafts)?;
        }
    }
    if drafts.is_empty() {
        return Err(ImportError::Layout {
            format: Format::Folders,
            path: source.to_owned(),
            expected:
                "{class}/{recording}.wav (or .flac, .mp3, .ogg) must be in it, or {split}/{class}/{recording}.wav"
                    .to_owned(),
        });
    }
    Ok(drafts)
}

fn read_class(
    class: &Path,
    split: Option<&str>,
    drafts: &mut Vec<Draft>,
) -> Result<(), ImportError> {
    let word = name(class)?;
    let before = drafts.len();
    for audio in entries(class)? {
        if !is_recording(&audio) {
            continue;
        }
        let id = format!("{word}/{}", stem(&audio)?);
        drafts.push(Draft {
            id: split.map_or_else(|| id.clone(), |split| format!("{split}/{id}")),
            audio,
            part: None,
            text: word.to_owned(),
            speaker: None,
            split: split.map(str::to_owned),
            place: None,
        });
    }
    if drafts.len() == before {
        return Err(ImportError::File {
            path: class.to_owned(),
            problem: "the folder of a class has no recordings".to_owned(),
        });
    }
    Ok(())
}
