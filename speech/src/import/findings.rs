//! What an importer finds in a corpus: drafts of utterances, what cannot be used, and what it passes over. It
//! decides when a list is laid out otherwise than it should be; it knows no layout.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::ImportError;
use super::draft::UtteranceDraft;
use super::list::{FileKind, List, SOUND_EXTENSIONS, entries, is_named_as_recording, look};

/// Files of a kind that are told by name.
const NAMED_FILES: usize = 5;
/// Folders in folders that are looked into.
const MAX_FOLDER_DEPTH: usize = 32;

/// What an importer found.
#[derive(Debug, Default)]
pub struct ImportFindings {
    /// The utterances that were found, their recordings not yet read.
    pub drafts: Vec<UtteranceDraft>,
    /// Lines and files that should be utterances and cannot be.
    pub bad: Vec<ImportError>,
    /// Files that the importer has a word on already, or knows what for.
    pub(super) known: Vec<PathBuf>,
    /// Names of files that belong to the layout and are not read.
    pub(super) known_names: &'static [&'static str],
    pub(super) passed_over: PassedOverCounts,
}

impl ImportFindings {
    pub(super) fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.bad.is_empty()
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.drafts.extend(other.drafts);
        self.bad.extend(other.bad);
        self.known.extend(other.known);
    }

    /// Takes in what the lines of `list` say: a draft each, or what is wrong.
    ///
    /// # Errors
    /// When most of the lines are wrong: then the file is laid out otherwise.
    pub(super) fn take_lines(
        &mut self,
        list: &List,
        lines: impl IntoIterator<Item = Result<UtteranceDraft, ImportError>>,
    ) -> Result<(), ImportError> {
        let mut wrong = Vec::new();
        let before = self.drafts.len();
        for line in lines {
            match line {
                Ok(draft) => self.drafts.push(draft),
                Err(error) => wrong.push(error),
            }
        }
        self.take_wrong(list, self.drafts.len() - before, wrong)
    }

    /// Takes in what is wrong with lines of `list`, of which `good` are as they should be.
    ///
    /// # Errors
    /// As [`Self::take_lines`].
    pub(super) fn take_wrong(
        &mut self,
        list: &List,
        good: usize,
        mut wrong: Vec<ImportError>,
    ) -> Result<(), ImportError> {
        wrong.extend(list.unreadable());
        wrong.sort_by_key(|error| match error {
            ImportError::Line { line, .. } => *line,
            _ => 0,
        });
        let total = good + wrong.len();
        if wrong.len() > good {
            let count = wrong.len();
            return Err(ImportError::OtherLayout {
                first: Box::new(wrong.swap_remove(0)),
                wrong: count,
                total,
            });
        }
        self.bad.extend(wrong);
        self.known.push(list.path.to_path_buf());
        Ok(())
    }

    /// Looks for files below `source` that are neither imported nor known, and counts them by kind.
    pub(super) fn survey(&mut self, source: &Path) {
        let known: HashSet<PathBuf> = self
            .drafts
            .iter()
            .map(|draft| &draft.audio)
            .chain(&self.known)
            .map(|path| clean(path))
            .collect();
        let root = clean(source);
        let mut walk = FileWalk {
            root: &root,
            known: &known,
            known_names: self.known_names,
            tally: &mut self.passed_over,
        };
        walk.folder(&root, 0);
    }
}

struct FileWalk<'a> {
    root: &'a Path,
    known: &'a HashSet<PathBuf>,
    known_names: &'a [&'a str],
    tally: &'a mut PassedOverCounts,
}

impl FileWalk<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = entries(folder) else {
            self.tell("folders that cannot be read".to_owned(), folder);
            return;
        };
        // A link that leads back up has no end.
        if depth > MAX_FOLDER_DEPTH {
            self.tell("folders that lie too deep".to_owned(), folder);
            return;
        }
        for path in entries {
            let is_known = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| self.known_names.contains(&name));
            if path.is_dir() {
                self.folder(&path, depth + 1);
            } else if !is_known && !self.known.contains(&path) {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let kind = match look(path) {
            FileKind::Other(kind) => format!("other files ({kind})"),
            FileKind::Recording if self.is_another_form(path) => {
                "recordings that are imported in another form".to_owned()
            }
            FileKind::Recording => {
                "recordings that are in no list, or not where the layout has them".to_owned()
            }
        };
        self.tell(kind, path);
    }

    fn tell(&mut self, kind: String, path: &Path) {
        let shown = path.strip_prefix(self.root).unwrap_or(path);
        self.tally.add(kind, shown);
    }

    /// Whether a recording that differs in its extension alone is imported.
    fn is_another_form(&self, path: &Path) -> bool {
        SOUND_EXTENSIONS
            .iter()
            .any(|form| self.known.contains(&path.with_extension(form)))
            && is_named_as_recording(path)
    }
}

/// `path` without a step back or in place, by its spelling alone.
fn clean(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut cleaned = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(cleaned.pop()),
            part => cleaned.push(part),
        }
    }
    cleaned
}

/// Files of one kind that were not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The extension of these files, or what they are called.
    pub kind: String,
    /// How many files of the kind there are.
    pub count: usize,
    /// The first of them, below the corpus's folder.
    pub examples: Vec<PathBuf>,
}

/// What is passed over, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct PassedOverCounts(BTreeMap<String, (usize, Vec<PathBuf>)>);

impl PassedOverCounts {
    pub(super) fn add(&mut self, kind: impl Into<String>, path: &Path) {
        let (count, examples) = self.0.entry(kind.into()).or_default();
        *count += 1;
        if examples.len() < NAMED_FILES {
            examples.push(path.to_owned());
        }
    }

    pub(super) fn into_list(self) -> Vec<PassedOver> {
        let list = self.0.into_iter();
        list.map(|(kind, (count, examples))| PassedOver {
            kind,
            count,
            examples,
        })
        .collect()
    }
}
