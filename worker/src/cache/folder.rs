//! A folder of files that may vanish at any time, bounded in bytes. Several processes may share it:
//! each file's time of change tells when it was last used, and who finds the folder too large
//! removes the longest unused.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use speech::regular_file;

use super::CacheError;

/// Files being written; they are no entries.
const UNFINISHED: &str = ".tmp";

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// In bytes. 0: it is not there, and nothing is read or written.
    limit: u64,
    /// What this process believes the files to hold together: never less than it has written since
    /// it last counted.
    held: Mutex<u64>,
    /// Numbers this process's unfinished files.
    unfinished: AtomicU64,
}

struct CachedFile {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Folder {
    pub(super) fn open(path: PathBuf, limit: u64) -> Result<Self, CacheError> {
        let fail = |source| CacheError::Folder {
            path: path.clone(),
            source,
        };
        let mut held = 0;
        if limit > 0 {
            fs::create_dir_all(&path).map_err(fail)?;
            let entries = entries(&path).map_err(fail)?;
            held = entries.iter().map(|entry| entry.bytes).sum();
        }
        Ok(Self {
            path,
            limit,
            held: Mutex::new(held),
            unfinished: AtomicU64::new(0),
        })
    }

    /// The file called `name`, if it is there and has at most `most` bytes. Marks it as used.
    pub(super) fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.path.join(name);
        let file = regular_file::open(&path).ok()?;
        let bytes = regular_file::read_bounded(&file, most).ok()?;
        // Only the order of removal suffers when the time cannot be set.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Where the file called `name` lies, if it does.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn remove(&self, name: &str) {
        // Gone already is as good.
        let _ = fs::remove_file(self.path.join(name));
    }

    /// Writes the file whole or not at all, and makes room for it. What is larger than the folder
    /// may be is not kept.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_with(name, bytes.len() as u64, |file| file.write_all(bytes))
    }

    /// [`Self::write`] of the `size` bytes that `fill` writes one after the other.
    pub(super) fn write_with(
        &self,
        name: &str,
        size: u64,
        fill: impl FnOnce(&mut fs::File) -> io::Result<()>,
    ) -> io::Result<()> {
        if size > self.limit || self.limit == 0 {
            return Ok(());
        }
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .path
            .join(format!("{name}.{}.{number}{UNFINISHED}", process::id()));
        let written = regular_file::create(&temporary)
            .and_then(|mut file| fill(&mut file))
            .and_then(|()| fs::rename(&temporary, self.path.join(name)));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        // Nothing is synced: readers verify what they read.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held += size;
        if *held > self.limit {
            *held = self.evict()?;
        }
        Ok(())
    }

    /// Removes the longest unused until a tenth of the folder is free; what is left.
    fn evict(&self) -> io::Result<u64> {
        let mut entries = entries(&self.path)?;
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut held: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if held <= self.limit {
            return Ok(held);
        }
        let goal = self.limit - self.limit / 10;
        for entry in &entries {
            if held <= goal {
                break;
            }
            // Another process may have been quicker.
            let _ = fs::remove_file(&entry.path);
            held -= entry.bytes;
        }
        Ok(held)
    }
}

fn entries(folder: &Path) -> io::Result<Vec<CachedFile>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file that vanishes between the two calls is not held.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_file() && !entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            entries.push(CachedFile {
                used: metadata.modified()?,
                path: entry.path(),
                bytes: metadata.len(),
            });
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn used_long_ago(path: &Path, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_longest_unused_goes_when_the_folder_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().to_owned(), 30).unwrap();
        for (name, seconds) in [("old", 30), ("read", 40), ("young", 10)] {
            folder.write(name, &[1; 10]).unwrap();
            used_long_ago(&dir.path().join(name), seconds);
        }
        assert_eq!(folder.read("read", 10).unwrap(), [1; 10]);
        folder.write("new", &[2; 8]).unwrap();
        assert_eq!(names(dir.path()), ["new", "read"]);
    }

    #[test]
    fn what_another_process_left_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("left"), [0; 25]).unwrap();
        used_long_ago(&dir.path().join("left"), 9);
        let folder = Folder::open(dir.path().to_owned(), 30).unwrap();
        folder.write("new", &[0; 10]).unwrap();
        assert_eq!(names(dir.path()), ["new"]);
    }

    #[test]
    fn what_is_too_large_is_neither_kept_nor_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().to_owned(), 30).unwrap();
        folder.write("huge", &[0; 31]).unwrap();
        assert!(names(dir.path()).is_empty());
        folder.write("small", &[0; 20]).unwrap();
        assert!(folder.read("small", 19).is_none());
        assert!(folder.read("none", 19).is_none());
    }

    #[test]
    fn a_folder_without_room_is_neither_made_nor_needed() {
        let path = PathBuf::from("/dev/null/unisono");
        let folder = Folder::open(path, 0).unwrap();
        folder.write("some", &[1]).unwrap();
        folder.write("empty", &[]).unwrap();
        assert!(folder.read("some", 10).is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Folder::open(file.join("cache"), 30).unwrap_err();
        assert!(error.to_string().contains("file/cache"), "{error}");
    }
}
