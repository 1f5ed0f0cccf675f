//! What a run says of itself: events and metrics as JSON lines in its directory, and whoever follows
//! them. It decides that a line is written once and read once, through restarts and by followers
//! alike, and refuses to know what brings a line about.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use speech::{
    left_out::LeftOut,
    score::{Score, details::Taken},
    unknown_text::UnknownText,
};
use thiserror::Error;
use tokio::sync::watch;

mod follower;
pub(crate) mod history;

pub use follower::{Begin, Follower, Line};

use crate::{job::changes::Change, store::Cause, times::Times};

/// Something that happened in a run and is worth a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run began, or goes on in a new life of the coordinator.
    Started {
        generation: u64,
        /// The checkpoint's file name, when it goes on from one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed_from: Option<String>,
    },
    /// The run goes on with a job of which these keys were others before.
    JobChanged {
        changes: Vec<Change>,
        /// Whether an undisturbed run of the job as it is now gives the same bits.
        bit_identity: bool,
    },
    /// A checkpoint is damaged and was set aside; an earlier one is used, or none where none is whole.
    CheckpointDamaged {
        reason: String,
    },
    /// The corpus was read.
    Prepared {
        train_utterances: usize,
        train_hours: f64,
        valid_utterances: usize,
        valid_hours: f64,
        parameters: usize,
        vocabulary: usize,
        steps: u64,
        /// Whether the corpus was made by the project's own synthesiser.
        synthetic: bool,
    },
    /// An utterance that takes no part, and why.
    UtteranceLeftOut {
        utterance: String,
        set: Set,
        reason: String,
    },
    /// How many utterances of a set take no part, and why; the first of them were named before.
    LeftOut {
        set: Set,
        left_out: LeftOut,
    },
    /// Transcripts of the validation set have characters or classes that the model lacks.
    UnknownText {
        unknown: UnknownText,
    },
    /// Something of the job has no effect, or another one than it seems to; or its manifests are better looked at.
    Warned {
        message: String,
    },
    /// The compute class that the run's bits belong to from now on.
    Pinned {
        compute_class: String,
    },
    WorkerJoined {
        worker: u64,
        name: String,
        compute_class: String,
    },
    /// A worker said goodbye.
    WorkerLeft {
        worker: u64,
        name: String,
    },
    /// A worker was not heard of for too long.
    WorkerLost {
        worker: u64,
        name: String,
    },
    /// A worker kept a node for too long; others may have it.
    LeaseExpired {
        worker: u64,
        node: String,
    },
    /// A worker returned a node undone.
    GivenBack {
        worker: u64,
        node: String,
        reason: String,
        /// Returns before this one that have no line of their own.
        #[serde(default)]
        more: u64,
    },
    /// The run has not gone on for a while, because something is missing.
    Waiting {
        /// What is.
        reason: String,
    },
    /// A node that was to be computed by a second worker as well was not; said once in a life of the
    /// coordinator, the report counts them.
    Unaudited,
    /// A micro-batch whose gradient is not finite or too large, left out of the step's sum, weight
    /// and all.
    Quarantined {
        worker: u64,
        micro_batch: u32,
        utterances: Vec<String>,
        reason: String,
    },
    /// A step of which nothing was left to add: the weights stay as they are.
    StepSkipped {
        reason: String,
    },
    /// Two answers to the same node have different bits.
    Differed {
        node: String,
        first: u64,
        second: u64,
        /// The step is over: who is wrong will not be found out.
        late: bool,
    },
    /// A worker gave other bits than those that are right, and gets no more work.
    WorkerQuarantined {
        worker: u64,
        name: String,
        node: String,
    },
    /// What came in for the step is not to be trusted; it begins again.
    StepRestarted,
    /// The score on the validation set after an epoch.
    Evaluated {
        epoch: u32,
        /// Mean over the utterances that have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
        /// Whether no epoch before was better.
        best: bool,
        /// Without its confusions, of which the report has all.
        score: Score,
        /// The commonest.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        confusions: Vec<Taken>,
    },
    /// The validation set's figure has not improved for long enough: the learning rate falls.
    RateLowered {
        /// What the rate is multiplied by from here on, all falls together.
        factor: f64,
    },
    /// The run ends before its last epoch.
    StoppedEarly {
        epoch: u32,
        /// The epoch with the best figure.
        best_epoch: u64,
    },
    /// The score of what the final model is made of, where that is not simply the last weights.
    Chosen {
        /// Whose weights are averaged.
        epochs: Vec<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
        /// Without its confusions, of which the report has all.
        score: Score,
    },
    Checkpointed {
        file: String,
    },
    Cancelled,
    Failed {
        error: String,
        cause: Cause,
    },
    Succeeded {
        weights_sha256: String,
    },
}

/// Which of a job's two manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    Train,
    Valid,
}

/// A line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(with = "crate::timestamp")]
    pub time: Timestamp,
    /// Steps done when it happened.
    pub step: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// A line of `metrics.jsonl`: one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Counted from 1: the version of the weights that it made.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u32,
    /// Mean over the step's weight; absent when nothing was left to add.
    pub loss: Option<f64>,
    /// L2 norm of the mean gradient over all parameters, before clipping.
    pub grad_norm: Option<f64>,
    /// What the gradient was multiplied by.
    pub clip_coef: Option<f64>,
    pub clipped: bool,
    /// The share of the gradient's elements that `clip.policy = "value"` clamped; absent under others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_clamped: Option<f64>,
    pub lr: Option<f64>,
    /// What the step's utterances weigh together, in the job's unit.
    pub weight: f64,
    /// From the step's opening to its new weights.
    pub seconds: f64,
    pub utterances: u64,
    pub frames: u64,
    pub audio_seconds: f64,
    /// Seconds of audio trained on in a second of time.
    pub audio_seconds_per_second: f64,
    #[serde(flatten)]
    pub times: Times,
    /// Micro-batches left out.
    pub quarantined: u64,
    /// The parameter whose gradient had the largest norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dominated_by: Option<String>,
}

/// How many bytes of each file are whole lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    pub events: u64,
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
    pub ended: bool,
}

/// One of a run's two files of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Events,
    Metrics,
}

impl Lines {
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
        let events = Appender::open(Lines::Events.path(run_dir), offsets.events)?;
        let metrics = Appender::open(Lines::Metrics.path(run_dir), offsets.metrics)?;
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
            time: crate::store::now(),
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
    let length = |lines: Lines| {
        let length = File::open(lines.path(run_dir)).and_then(|mut file| {
            let end = file.metadata()?.len();
            whole_lines_before(&mut file, end)
        });
        length.unwrap_or_default()
    };
    let offsets = Offsets {
        events: length(Lines::Events),
        metrics: length(Lines::Metrics),
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
    const BLOCK: u64 = 1 << 16;
    let mut bytes = Vec::new();
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
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
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
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
