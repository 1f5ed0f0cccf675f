//! A folder for each class with its recordings in it, as people make them by hand: `yes/a.wav`. Folders named
//! as splits are (`train/yes/a.wav`) are splits.

use std::collections::BTreeSet;
use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{folders, name, recordings, stem};
use super::{CorpusFormat, ImportError};

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

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = ImportFindings::default();
    for class in folders(source)? {
        read_class(&class, None, &mut found)?;
    }
    // With recordings right below them, they are classes, whatever they are called.
    if found.is_empty() {
        found = ImportFindings::default();
        for split in folders(source)? {
            let name = name(&split)?;
            if SPLITS.contains(&name) {
                for class in folders(&split)? {
                    read_class(&class, Some(name), &mut found)?;
                }
            }
        }
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::Folders,
            path: source.to_owned(),
            expected:
                "{class}/{recording}.wav (or any other form of recording) must be in it, or {split}/{class}/{recording}.wav"
                    .to_owned(),
        });
    }
    Ok(found)
}

fn read_class(
    class: &Path,
    split: Option<&str>,
    found: &mut ImportFindings,
) -> Result<(), ImportError> {
    let word = name(class)?;
    let mut ids = BTreeSet::new();
    let recordings = recordings(class)?;
    if recordings.is_empty() {
        let shown = split.map_or_else(|| word.into(), |split| Path::new(split).join(word));
        found.passed_over.add("folders without recordings", &shown);
    }
    for audio in recordings {
        // Where there are `a.wav` and `a.flac`, the second is called by its whole name.
        let mut id = format!("{word}/{}", stem(&audio)?);
        if !ids.insert(id.clone()) {
            id = format!("{word}/{}", name(&audio)?);
            ids.insert(id.clone());
        }
        found.drafts.push(UtteranceDraft {
            id: split.map_or_else(|| id.clone(), |split| format!("{split}/{id}")),
            audio,
            text: word.to_owned(),
            split: split.map(str::to_owned),
            ..UtteranceDraft::default()
        });
    }
    Ok(())
}
