//! Files that are replaced as a whole: temporary file, fsync, rename, fsync of the directory.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use speech::regular_file;

/// A file that could not be replaced: it has its old contents.
#[derive(Debug)]
pub(crate) struct NotReplaced {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Puts `bytes` in place of the file at `path`: whoever reads it, after a power cut as well, finds the old contents or
/// the new ones whole.
///
/// # Errors
/// When the file cannot be written, renamed or synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), NotReplaced> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = regular_file::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source: io::Error| {
        // Best effort: what stays behind is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
        NotReplaced {
            path: path.to_owned(),
            source,
        }
    })
}
