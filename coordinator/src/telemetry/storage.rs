//! Whether the data directory can be written, and how full its file system is: looked at now and then on a thread
//! that may wait for the disk, so that nobody who asks has to.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use speech::regular_file;

use super::Telemetry;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// A look that is older says nothing: the disk does not answer.
const MAX_AGE: Duration = Duration::from_secs(60);
/// A run needs room for a checkpoint and its lines.
const MIN_FREE_BYTES: u64 = 64 << 20;
/// The file that is written to see whether files can be.
const PROBE: &str = "writable.tmp";

/// What was seen at one look.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub free_bytes: u64,
    pub size_bytes: u64,
    /// Why no file can be written.
    pub failure: Option<String>,
    at: Instant,
}

impl Storage {
    fn look(dir: &Path) -> Self {
        let mut failure = probe(dir).err().map(|error| error.to_string());
        let (free_bytes, size_bytes) = match rustix::fs::statvfs(dir) {
            Ok(found) => (
                found.f_bavail.saturating_mul(found.f_frsize),
                found.f_blocks.saturating_mul(found.f_frsize),
            ),
            Err(error) => {
                failure.get_or_insert_with(|| io::Error::from(error).to_string());
                (0, 0)
            }
        };
        Self {
            free_bytes,
            size_bytes,
            failure,
            at: Instant::now(),
        }
    }

    /// # Errors
    /// Why a run cannot write its files. It names no path: whoever asks may be anybody.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.at.elapsed() > MAX_AGE {
            return Err("the data directory's disk does not answer".to_owned());
        }
        if let Some(failure) = &self.failure {
            return Err(format!("the data directory cannot be written: {failure}"));
        }
        if self.free_bytes < MIN_FREE_BYTES {
            let free = self.free_bytes >> 20;
            return Err(format!(
                "the data directory's disk is full: {free} MiB are free"
            ));
        }
        Ok(())
    }
}

/// Writes a byte and takes it away again.
fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    let written = regular_file::create(&path).and_then(|mut file| file.write_all(b"\n"));
    written.and(fs::remove_file(&path))
}

/// Looks at `dir` again and again and writes down what was seen.
pub(crate) async fn watch(dir: PathBuf, telemetry: Telemetry) {
    loop {
        let from = dir.clone();
        let look = tokio::task::spawn_blocking(move || Storage::look(&from));
        let Ok(storage) = look.await else { return };
        telemetry.update(|figures| figures.storage = Some(storage));
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_written_is_ready_and_one_that_is_gone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = Storage::look(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(storage.size_bytes >= storage.free_bytes && storage.size_bytes > 0);
        assert_eq!(storage.failure, None);
        storage.free_bytes = MIN_FREE_BYTES;
        assert_eq!(storage.readiness(), Ok(()));
        storage.free_bytes -= 1;
        assert!(storage.readiness().unwrap_err().contains("full"));
        storage.at = Instant::now()
            .checked_sub(MAX_AGE + Duration::from_secs(1))
            .unwrap();
        assert!(storage.readiness().unwrap_err().contains("answer"));
        let gone = Storage::look(&dir.path().join("none"));
        let told = gone.readiness().unwrap_err();
        assert!(told.contains("cannot be written"), "{told}");
    }
}
