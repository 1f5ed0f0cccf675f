//! The folder in which starts leave what the next one would find out again: facts about recordings, and
//! statistics over them. Every file ends with BLAKE3 of what is before, appears whole or not at all, and may be
//! deleted at any time; without a folder that can be written, everything is computed anew.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

const CHECKSUM_BYTES: usize = 32;

/// Bytes of all files together. Beyond them the longest unused go.
const MAX_CACHE_BYTES: u64 = 2 << 30;

/// BLAKE3 of the running program: another build may read a header otherwise, or compute other bits. `None`
/// where the program cannot be read; nothing is kept then.
pub(super) fn program() -> Option<[u8; 32]> {
    static PROGRAM: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    *PROGRAM.get_or_init(|| {
        let mut hasher = blake3::Hasher::new();
        // What runs, even if another file has its name by now.
        let mut file = File::open("/proc/self/exe").ok()?;
        io::copy(&mut file, &mut hasher).ok()?;
        Some(*hasher.finalize().as_bytes())
    })
}

/// What was written to `path`, if that is whole and has no more than `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > most {
        return None;
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    (&file).take(most).read_to_end(&mut bytes).ok()?;
    let body = bytes.len().checked_sub(CHECKSUM_BYTES)?;
    if blake3::hash(&bytes[..body]).as_bytes() != &bytes[body..] {
        tracing::warn!(path = %path.display(), "a file of the cache is damaged, and is made anew");
        return None;
    }
    bytes.truncate(body);
    // Only the order of removal suffers when the time cannot be set.
    let _ = file.set_modified(SystemTime::now());
    Some(bytes)
}

/// Writes `parts`, one behind the other, to `path`, and makes room for it. A folder that cannot be written
/// costs time at the next start and nothing else.
pub(super) fn write<'a>(path: &Path, parts: impl Iterator<Item = &'a [u8]>) {
    if let Err(error) = try_write(path, parts) {
        tracing::warn!(
            path = %path.display(),
            "what was found out about the corpus cannot be kept for the next start: {error}"
        );
    }
}

fn try_write<'a>(path: &Path, parts: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile_in(folder)?;
    let written = (|| {
        let mut hasher = blake3::Hasher::new();
        let mut out = io::BufWriter::with_capacity(1 << 20, &mut file.1);
        for part in parts {
            hasher.update(part);
            out.write_all(part)?;
        }
        out.write_all(hasher.finalize().as_bytes())?;
        out.flush()?;
        drop(out);
        file.1.sync_all()?;
        fs::rename(&file.0, path)
    })();
    if written.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&file.0);
    }
    written?;
    trim(folder, MAX_CACHE_BYTES)
}

/// A new file beside the one that it will replace, of a name that no other process has.
fn tempfile_in(folder: &Path) -> io::Result<(PathBuf, File)> {
    let name = format!(
        ".{}.{:?}.tmp",
        std::process::id(),
        std::thread::current().id()
    );
    let path = folder.join(name);
    let open = || {
        let mut options = File::options();
        options.write(true).create_new(true).open(&path)
    };
    let file = open().or_else(|error| match error.kind() {
        // Left behind by a process of this number that was killed.
        io::ErrorKind::AlreadyExists => fs::remove_file(&path).and_then(|()| open()),
        _ => Err(error),
    });
    file.map(|file| (path.clone(), file))
}

/// Removes the longest unused files until all have at most `most` bytes.
fn trim(folder: &Path, most: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What goes meanwhile is another process's to remove.
        if let Ok(found) = entry.metadata()
            && found.is_file()
        {
            files.push((found.modified()?, entry.path(), found.len()));
        }
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(.., bytes)| bytes).sum();
    // The newest one stays, however large it is.
    files.pop();
    for (_, path, length) in files {
        if bytes <= most {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => bytes -= length,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_are_whole_and_the_longest_unused_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let path = |name: &str| inner.join(name);
        for (age, name) in ["old", "middle", "new"].iter().enumerate() {
            write(&path(name), [&[1; 400][..], &[2; 68]].into_iter());
            let file = File::options().write(true).open(path(name)).unwrap();
            let modified = SystemTime::now() - Duration::from_secs(1000 - 100 * age as u64);
            file.set_modified(modified).unwrap();
        }
        assert_eq!(read(&path("old"), 500).unwrap().len(), 468);
        assert_eq!(read(&path("old"), 499), None);
        assert_eq!(read(&path("absent"), 500), None);
        // The old one was read last.
        trim(&inner, 1000).unwrap();
        let left = |name: &str| path(name).exists();
        assert_eq!(["old", "middle", "new"].map(left), [true, false, true]);
        trim(&inner, 0).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        write(&file.join("below"), [&[1; 9][..]].into_iter());
        assert_eq!(read(&file.join("below"), 100), None);
    }
}
