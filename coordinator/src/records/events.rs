//! What a run says of itself: events and metrics as JSON lines in its directory, and whoever follows
//! them. It decides that a line is written once and read once, through restarts and by followers
//! alike, and does not depend on what brings a line about.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use speech::regular_file;
use thiserror::Error;
use tokio::sync::watch;

mod follower;
pub(crate) mod history;
mod records;

pub use follower::{Begin, Follower, Line};
pub use records::{Event, Record, Set, StepMetrics};

/// How many bytes of each file are whole lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// Bytes of `events.jsonl`.
    pub events: u64,
    /// Bytes of `metrics.jsonl`.
    pub metrics: u64,
}

/// What followers may read, and whether more will come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The ends of what may be read.
    pub offsets: Offsets,
    /// The ends of the files when the run was last taken up, cut off at its checkpoint: what lies behind was
    /// written since then. `None` while the run waits to be taken up, and nothing may be read.
    pub start: Option<Offsets>,
    /// Nothing more will be written.
    pub ended: bool,
}

/// One of a run's two files of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFile {
    /// What happened in the run, a line each.
    Events,
    /// What each step measured, a line each.
    Metrics,
}

impl LineFile {
    /// Where it lies in the directory of a run.
    pub fn path(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Events => "events.jsonl",
            Self::Metrics => "metrics.jsonl",
        })
    }

    const fn of(self, offsets: Offsets) -> u64 {
        match self {
            Self::Events => offsets.events,
            Self::Metrics => offsets.metrics,
        }
    }
}

/// A file of lines that cannot be read or written.
#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// The two files of a run, open for appending.
#[derive(Debug)]
pub struct Journal {
    events: Appender,
    metrics: Appender,
    start: Offsets,
    feed: watch::Sender<Published>,
}

impl Journal {
    /// Opens the files of `run_dir` and cuts them off at `offsets`: what lies behind was written
    /// after the checkpoint that the run goes on from, and will be written again.
    pub fn open(
        run_dir: &Path,
        offsets: Offsets,
        feed: watch::Sender<Published>,
    ) -> Result<Self, JournalError> {
        let events = Appender::open(LineFile::Events.path(run_dir), offsets.events)?;
        let metrics = Appender::open(LineFile::Metrics.path(run_dir), offsets.metrics)?;
        let journal = Self {
            start: Offsets {
                events: events.length,
                metrics: metrics.length,
            },
            events,
            metrics,
            feed,
        };
        journal.publish(false);
        Ok(journal)
    }

    /// Appends an event.
    pub fn event(&mut self, step: u64, event: Event) -> Result<Record, JournalError> {
        let record = Record {
            time: crate::records::timestamp::now(),
            step,
            event,
        };
        self.events.append(&record)?;
        self.publish(false);
        Ok(record)
    }

    /// Appends a step.
    pub fn metrics(&mut self, metrics: &StepMetrics) -> Result<(), JournalError> {
        self.metrics.append(metrics)?;
        self.publish(false);
        Ok(())
    }

    /// Tells followers that this was all.
    pub fn end(&mut self) {
        self.publish(true);
    }

    /// The lengths of both files, in whole lines.
    pub const fn offsets(&self) -> Offsets {
        Offsets {
            events: self.events.length,
            metrics: self.metrics.length,
        }
    }

    /// What makes durable all that was appended so far; for a thread that may wait.
    pub fn syncer(
        &self,
    ) -> Result<impl FnOnce() -> Result<(), JournalError> + Send + use<>, JournalError> {
        let files = [self.events.duplicate()?, self.metrics.duplicate()?];
        Ok(move || {
            for (path, file) in files {
                let synced = file.sync_data();
                synced.map_err(|source| JournalError { path, source })?;
            }
            Ok(())
        })
    }

    fn publish(&self, ended: bool) {
        self.feed.send_replace(Published {
            offsets: self.offsets(),
            start: Some(self.start),
            ended,
        });
    }
}

/// What followers of a job may read that nobody works on.
pub fn published(run_dir: &Path, ended: bool) -> Published {
    let length = |lines: LineFile| {
        let length = File::open(lines.path(run_dir)).and_then(|mut file| {
            let end = file.metadata()?.len();
            whole_lines_before(&mut file, end)
        });
        length.unwrap_or_default()
    };
    let offsets = Offsets {
        events: length(LineFile::Events),
        metrics: length(LineFile::Metrics),
    };
    Published {
        offsets,
        start: Some(offsets),
        ended,
    }
}

fn whole_lines(bytes: &[u8]) -> usize {
    let newline = bytes.iter().rposition(|&byte| byte == b'\n');
    newline.map_or(0, |at| at + 1)
}

/// How many of the first `end` bytes of `file` are whole lines. Reads backwards from `end` to the last
/// line break alone, so that it takes as long for a run of ten million steps as for one of a thousand.
fn whole_lines_before(file: &mut File, end: u64) -> io::Result<u64> {
    const READ_BYTES: u64 = 1 << 16;
    let mut bytes = Vec::new();
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(READ_BYTES);
        bytes.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        match whole_lines(&bytes) {
            0 => end = start,
            whole => return Ok(start + whole as u64),
        }
    }
    Ok(0)
}

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Appender {
    fn open(path: PathBuf, offset: u64) -> Result<Self, JournalError> {
        let open = || {
            let mut file = regular_file::open_or_create(&path)?;
            let end = file.metadata()?.len().min(offset);
            let length = whole_lines_before(&mut file, end)?;
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => Ok(Self { path, file, length }),
            Err(source) => Err(JournalError { path, source }),
        }
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let mut append = || {
            let mut bytes = serde_json::to_vec(line)?;
            bytes.push(b'\n');
            // Rewritten from the last whole line, so that a line cut short by a full disk goes.
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(&bytes)?;
            Ok(bytes.len() as u64)
        };
        self.length += append().map_err(|source| JournalError {
            path: self.path.clone(),
            source,
        })?;
        Ok(())
    }

    fn duplicate(&self) -> Result<(PathBuf, File), JournalError> {
        let path = self.path.clone();
        match self.file.try_clone() {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(JournalError { path, source }),
        }
    }
}

#[cfg(test)]
mod tests;
