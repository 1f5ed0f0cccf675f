//! Followers of a run's lines: each line is read once, from the first to the last that was published.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use super::{JournalError, Lines, Published, whole_lines};

/// Reads a run's lines from the first to the last published one, and waits for more.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    lines: Lines,
    feed: watch::Receiver<Published>,
    follow: bool,
    read: u64,
}

impl Follower {
    pub fn new(
        run_dir: &Path,
        lines: Lines,
        feed: watch::Receiver<Published>,
        follow: bool,
    ) -> Self {
        Self {
            path: lines.path(run_dir),
            lines,
            feed,
            follow,
            read: 0,
        }
    }

    /// The next lines, at least one; `None` when there will be no more.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, JournalError> {
        /// What is read at once; a line longer than this is read whole all the same.
        const READ: u64 = 1 << 20;
        loop {
            let published = *self.feed.borrow_and_update();
            let end = self.lines.of(published.offsets);
            // A run that is taken up again rewrites what followed its checkpoint.
            self.read = self.read.min(end);
            if self.read < end {
                let (path, start) = (self.path.clone(), self.read);
                let lines = tokio::task::spawn_blocking(move || {
                    let read = read_lines(&path, start, end, READ);
                    read.map_err(|source| JournalError { path, source })
                });
                let lines = lines.await.expect("reading a file does not panic")?;
                self.read += lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
                return Ok(Some(lines));
            }
            if published.ended || !self.follow || self.feed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

pub(super) fn read_lines(path: &Path, start: u64, end: u64, limit: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    let mut rest = file.take(end - start);
    let whole = loop {
        let read = rest.by_ref().take(limit).read_to_end(&mut bytes)?;
        match whole_lines(&bytes) {
            0 if read == 0 => {
                let shorter = "the file is shorter than what was written to it";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shorter));
            }
            0 => {}
            whole => break whole,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..whole]);
    Ok(text.lines().map(str::to_owned).collect())
}
