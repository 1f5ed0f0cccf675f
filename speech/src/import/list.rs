//! Lists in text, whatever their columns: lines with their numbers, so that what is wrong can be named; and
//! the files of a folder, told apart by what they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImportError;
use crate::audio::{self, AudioError};
use crate::regular_file;
use crate::text_file;

/// Longest line in bytes: hours of speech as text, and far less than a recording taken for a list.
const MAX_LINE: usize = 1 << 20;

/// A list that is text.
#[derive(Debug)]
pub struct List {
    /// The path of the list.
    pub path: Arc<Path>,
    text: String,
    /// Lines that cannot be read, in their order, and why.
    unreadable: Vec<(usize, String)>,
}

impl List {
    /// Reads the list at `path`; UTF-16 and gzip are decoded.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = regular_file::read(path, u64::MAX).map_err(|error| ImportError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(path, bytes)
    }

    /// As [`Self::read`], where the file may be absent.
    pub fn read_if_there(path: &Path) -> Result<Option<Self>, ImportError> {
        path.exists().then(|| Self::read(path)).transpose()
    }

    /// `path` stands in errors.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, ImportError> {
        let bytes = text_file::utf8_bytes(bytes).map_err(|error| ImportError::Read {
            path: path.to_owned(),
            error,
        })?;
        let mut unreadable = Vec::new();
        for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if bytes.len() > MAX_LINE {
                unreadable.push((line, format!("the line is longer than {MAX_LINE} bytes")));
            } else if std::str::from_utf8(bytes).is_err() {
                unreadable.push((line, "the line is not UTF-8".to_owned()));
            }
        }
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(Self {
            path: path.into(),
            text,
            unreadable,
        })
    }

    /// The lines that say something, with their numbers, without what a Windows program ends them with.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        (1..).zip(text.lines()).filter(|(number, line)| {
            let readable = self.unreadable.binary_search_by_key(number, |(it, _)| *it);
            !line.trim().is_empty() && readable.is_err()
        })
    }

    /// What is wrong with each line that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = ImportError> {
        self.unreadable
            .iter()
            .map(|(line, problem)| self.problem(*line, problem.as_str()))
    }

    /// That `line` has a problem.
    pub fn problem(&self, line: usize, problem: impl Into<String>) -> ImportError {
        ImportError::Line {
            path: self.path.to_path_buf(),
            line,
            problem: problem.into(),
        }
    }

    /// The position of a line, counted from 1.
    pub fn place(&self, line: usize) -> ListPosition {
        ListPosition {
            list: Arc::clone(&self.path),
            line,
        }
    }
}

/// Where something was said.
#[derive(Clone, Debug)]
pub struct ListPosition {
    /// The path of the list.
    pub list: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
}

/// The entries of a folder whose names do not start with a dot, which are the file system's, sorted.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let unreadable = |error| ImportError::Read {
        path: folder.to_owned(),
        error,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The folders among [`entries`].
pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut folders = entries(folder)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// The recordings among [`entries`].
pub(super) fn recordings(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut files = entries(folder)?;
    files.retain(|path| !path.is_dir() && look(path) == FileKind::Recording);
    Ok(files)
}

/// The name of a file or a folder.
pub(super) fn name(path: &Path) -> Result<&str, ImportError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ImportError::NotUtf8 {
            path: path.to_owned(),
        })
}

/// The name of a file without its extension.
pub(super) fn stem(path: &Path) -> Result<&str, ImportError> {
    path.file_stem()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ImportError::NotUtf8 {
            path: path.to_owned(),
        })
}

/// Whether `text` names a file beside others: a part of a path alone, and not one of those that lead away.
pub(super) fn is_file_name(text: &str) -> bool {
    Path::new(text).file_name() == Some(text.as_ref())
}

/// Extensions of files that are meant to be recordings, whether they can be read or not.
pub(super) const SOUND_EXTENSIONS: [&str; 34] = [
    "wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "sph", "nist", "m4a", "m4b", "mp4", "aac",
    "aif", "aiff", "aifc", "webm", "mka", "caf", "au", "snd", "w64", "rf64", "bwf", "wma", "amr",
    "3gp", "spx", "raw", "pcm", "ape", "wv", "mp2", "alac",
];

/// Extensions of files beside recordings, which nobody needs to look into.
const OTHER_EXTENSIONS: [&str; 37] = [
    "txt", "md", "tsv", "csv", "json", "jsonl", "xml", "html", "pdf", "png", "jpg", "jpeg", "gif",
    "svg", "py", "sh", "pl", "ipynb", "gz", "bz2", "xz", "zip", "tar", "tgz", "lab", "phn", "wrd",
    "textgrid", "ctm", "stm", "scp", "ark", "log", "toml", "yaml", "yml", "npy",
];

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Or what is named as one: whether it can be read is found out when it is measured.
    Recording,
    /// No recording, but this.
    Other(String),
}

pub(super) fn is_named_as_recording(path: &Path) -> bool {
    has_extension(path, &SOUND_EXTENSIONS).is_some()
}

fn has_extension(path: &Path, of: &[&'static str]) -> Option<&'static str> {
    let extension = path.extension()?;
    let found = of
        .iter()
        .find(|known| extension.eq_ignore_ascii_case(known))?;
    Some(found)
}

/// What the file at `path` is: by its bytes, unless its extension says that it is meant to be a recording, or
/// is that of another kind of file.
pub(super) fn look(path: &Path) -> FileKind {
    if is_named_as_recording(path) {
        return FileKind::Recording;
    }
    if let Some(extension) = has_extension(path, &OTHER_EXTENSIONS) {
        return FileKind::Other(format!(".{extension}"));
    }
    match audio::inspect(path) {
        Err(AudioError::NotAudio { found, .. }) => FileKind::Other(found.to_string()),
        Err(AudioError::Empty { .. }) => FileKind::Other("an empty file".to_owned()),
        Err(AudioError::NotAFile { .. }) => FileKind::Other("no regular file".to_owned()),
        Err(AudioError::Missing { .. }) => FileKind::Other("a link that leads nowhere".to_owned()),
        Err(AudioError::Read { .. }) => FileKind::Other("a file that cannot be read".to_owned()),
        // Damaged or not, it begins as one.
        Ok(_) | Err(_) => FileKind::Recording,
    }
}
