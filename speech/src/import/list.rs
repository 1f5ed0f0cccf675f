//! Lists in text, whatever their columns: lines with their numbers, so that what is wrong can be named. It
//! refuses to know what a line says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImportError;

/// Longest line in bytes: hours of speech as text, and far less than a recording taken for a list.
const MAX_LINE: usize = 1 << 20;

/// A list that is text.
pub struct List {
    pub path: Arc<Path>,
    text: String,
}

impl List {
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = fs::read(path).map_err(|error| ImportError::Read {
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
        let wrong = |bytes: &[u8], problem: &str| ImportError::Line {
            path: path.to_owned(),
            line: 1 + bytes.iter().filter(|&&byte| byte == b'\n').count(),
            problem: problem.to_owned(),
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            wrong(&error.as_bytes()[..valid], "the line is not UTF-8")
        })?;
        let list = Self {
            path: path.into(),
            text,
        };
        let long = list.lines().find(|(_, line)| line.len() > MAX_LINE);
        match long.map(|(line, _)| line) {
            Some(line) => {
                Err(list.problem(line, format!("the line is longer than {MAX_LINE} bytes")))
            }
            None => Ok(list),
        }
    }

    /// The lines that say something, with their numbers, without what a Windows program ends them with.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// That `line` has a problem.
    pub fn problem(&self, line: usize, problem: impl Into<String>) -> ImportError {
        ImportError::Line {
            path: self.path.to_path_buf(),
            line,
            problem: problem.into(),
        }
    }

    pub fn place(&self, line: usize) -> Place {
        Place {
            list: Arc::clone(&self.path),
            line,
        }
    }
}

/// Where something was said.
#[derive(Clone, Debug)]
pub struct Place {
    pub list: Arc<Path>,
    pub line: usize,
}

/// The entries of a folder whose names do not start with a dot, which are the file system's, sorted.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
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

/// The name of a file or a folder.
pub fn name(path: &Path) -> Result<&str, ImportError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ImportError::NotUtf8 {
            path: path.to_owned(),
        })
}

/// The name of a file without its extension.
pub fn stem(path: &Path) -> Result<&str, ImportError> {
    path.file_stem()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ImportError::NotUtf8 {
            path: path.to_owned(),
        })
}

/// Whether `text` names a file beside others: a part of a path alone, and not one of those that lead away.
pub fn is_file_name(text: &str) -> bool {
    Path::new(text).file_name() == Some(text.as_ref())
}

/// Whether the file's extension is one of a recording. What it is, its bytes tell later.
pub fn is_recording(path: &Path) -> bool {
    const EXTENSIONS: [&str; 6] = ["wav", "flac", "mp3", "ogg", "oga", "sph"];
    path.extension().is_some_and(|found| {
        EXTENSIONS
            .iter()
            .any(|known| found.eq_ignore_ascii_case(known))
    })
}
