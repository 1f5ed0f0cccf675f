//! Followers of a run's lines: each line is read once, from where the follower begins to the last that was
//! published.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use super::{JournalError, LineFile, Published, whole_lines};

/// The line that a follower reads first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// The first of the file.
    #[default]
    First,
    /// The line that begins at this byte; where none does, that of [`Self::CurrentStart`].
    Offset(u64),
    /// The first that was written since the run was last taken up.
    CurrentStart,
}

/// A line of a run's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The byte of the file at which the line begins.
    pub offset: u64,
    /// Without its line break.
    pub text: String,
}

/// Reads a run's lines up to the last published one, and waits for more.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    lines: LineFile,
    feed: watch::Receiver<Published>,
    follow: bool,
    begin: Begin,
    place: Option<FilePosition>,
}

/// How far a follower has read.
#[derive(Clone, Copy, Debug)]
struct FilePosition {
    /// The end of the last line that was read.
    read: u64,
    /// Where the run's start began to write when the follower last looked.
    start: u64,
}

impl Follower {
    /// Reads the file `lines` in `run_dir` from `begin` on, as far as `feed` has published it. With `follow` it waits for
    /// more lines until the run has ended.
    pub fn new(
        run_dir: &Path,
        lines: LineFile,
        feed: watch::Receiver<Published>,
        follow: bool,
        begin: Begin,
    ) -> Self {
        Self {
            path: lines.path(run_dir),
            lines,
            feed,
            follow,
            begin,
            place: None,
        }
    }

    /// The next lines, at least one; `None` when there will be no more.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Line>>, JournalError> {
        loop {
            let published = *self.feed.borrow_and_update();
            let end = self.lines.of(published.offsets);
            if let Some(start) = published.start {
                let read = self.go_on(self.lines.of(start), end).await?;
                if read < end {
                    let lines = self.read(read, end).await?;
                    return Ok(Some(lines));
                }
            }
            if published.ended || !self.follow || self.feed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The byte to go on from in a file whose whole lines end at `end`, in a run that was last taken up when
    /// they ended at `start`.
    async fn go_on(&mut self, start: u64, end: u64) -> Result<u64, JournalError> {
        let read = match (self.place, self.begin) {
            (Some(place), _) if place.start == start => place.read,
            // The run was taken up anew since: what followed its checkpoint was written again.
            (Some(place), _) => place.read.min(start),
            (None, Begin::First) => 0,
            (None, Begin::CurrentStart) => start,
            (None, Begin::Offset(offset)) if self.is_line(offset, end).await? => offset,
            (None, Begin::Offset(_)) => start,
        };
        self.place = Some(FilePosition { read, start });
        Ok(read)
    }

    /// Whether a line begins at `offset` of the file, or its whole lines end there, at `end`.
    async fn is_line(&self, offset: u64, end: u64) -> Result<bool, JournalError> {
        if offset == 0 || offset >= end {
            return Ok(offset == 0 || offset == end);
        }
        let before = self.blocking(move |path| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset - 1))?;
            let mut byte = [0];
            file.read_exact(&mut byte)?;
            Ok(byte)
        });
        Ok(before.await? == *b"\n")
    }

    async fn read(&mut self, start: u64, end: u64) -> Result<Vec<Line>, JournalError> {
        /// What is read at once; a line longer than this is read whole all the same.
        const READ_BYTES: u64 = 64 << 10;
        let lines = self.blocking(move |path| read_lines(path, start, end, READ_BYTES));
        let (lines, read) = lines.await?;
        if let Some(place) = &mut self.place {
            place.read = read;
        }
        Ok(lines)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&path).map_err(|source| JournalError { path, source })
        });
        done.await.expect("reading a file does not panic")
    }
}

/// Whole lines of the bytes from `start` to `end`, some `limit` bytes of them and at least one line; and the byte
/// behind the last one.
pub(super) fn read_lines(
    path: &Path,
    start: u64,
    end: u64,
    limit: u64,
) -> io::Result<(Vec<Line>, u64)> {
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
    let mut lines = Vec::new();
    let mut offset = start;
    for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
        lines.push(Line {
            offset,
            text: String::from_utf8_lossy(&line[..line.len() - 1]).into_owned(),
        });
        offset += line.len() as u64;
    }
    Ok((lines, offset))
}
