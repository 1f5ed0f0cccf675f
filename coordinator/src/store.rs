//! The data directory: who holds it, which generation this start is, which jobs there are and where
//! each keeps its files. It decides what survives a restart of the coordinator's queue, and does not depend
//! on what a job computes or what lies in its checkpoints.

mod fence;
mod jobs;
mod resumption;
mod run_directory;

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::{
    error_class::{Class, Classify},
    regular_file,
};
use thiserror::Error;

use crate::{
    durable::{self, NotReplaced},
    job::{Job, changes::ChangeError},
    records::timestamp,
};
pub use fence::Fence;
pub use jobs::Jobs;
pub(crate) use resumption::{EARLIER_REPORT, dismiss, settle};
pub use resumption::{Resumption, RunDirectory};

/// How a data directory is laid out.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// A queue of jobs, each in `jobs/<id>/`.
    Queue {
        /// The directory of the queue's state and of the jobs.
        data_dir: PathBuf,
    },
    /// One job, whose run directory is the data directory. Without `resume` the directory must not
    /// hold anything yet; with it, it must hold a run.
    Single {
        /// Where the run's files are written.
        run_dir: PathBuf,
        /// How the run that lies there goes on; `None` begins one.
        resume: Option<Resumption>,
    },
}

impl Layout {
    pub(crate) fn root(&self) -> &Path {
        match self {
            Self::Queue { data_dir } => data_dir,
            Self::Single { run_dir, .. } => run_dir,
        }
    }
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its turn, or for workers.
    #[default]
    Queued,
    /// It is being trained.
    Running,
    /// It reached its end.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// A person ended it.
    Cancelled,
}

impl JobState {
    /// Whether it stays so until somebody asks for more.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job in the queue, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// The job's name, as its file has it.
    pub name: String,
    /// Whether it waits, runs or has ended, and how it ended.
    pub state: JobState,
    /// Its place in the queue: lower ones run first. Resuming gives a new one.
    pub turn: u64,
    /// When it came into the queue.
    #[serde(with = "crate::records::timestamp")]
    pub submitted_at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What kind of error that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Class>,
    /// How often it was resumed with leave to change what its bits depend on. A checkpoint says which
    /// of these it has made use of.
    #[serde(default)]
    pub permissions: u64,
    /// It is being prepared: where the coordinator ends now, the job may be why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preparing: bool,
    /// How often the coordinator ended while it prepared the job, since it was last prepared to the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ended_preparing: u32,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl JobEntry {
    /// What becomes of a job that was running when the coordinator ended without a word. Says whether it has
    /// failed by that.
    fn take_up(&mut self) -> bool {
        /// Ends of the coordinator that one job may be the cause of.
        const MOST: u32 = 2;
        if self.state != JobState::Running {
            return false;
        }
        self.state = JobState::Queued;
        self.ended_preparing += u32::from(std::mem::take(&mut self.preparing));
        let failed = self.ended_preparing >= MOST;
        if failed {
            self.state = JobState::Failed;
            self.cause = Some(Class::Data);
            self.error = Some(format!(
                "the coordinator ended {} times while it prepared this job, killed or out of memory, so that it is not begun again by itself; make the job smaller, or resume it once the cause is gone",
                self.ended_preparing
            ));
        }
        failed
    }
}

/// `state.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    generation: u64,
    /// The number of the next job.
    next: u64,
    jobs: Jobs,
}

/// Why a data directory cannot be used, or a job in it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum StoreError {
    #[error(
        "{} is in use by another coordinator (process {holder}); stop that one, or choose another directory", dir.display()
    )]
    Held { dir: PathBuf, holder: String },
    #[error(
        "{} was taken over by another coordinator (its start {newest}, this one's {generation}); this one writes no more", dir.display()
    )]
    Fenced {
        dir: PathBuf,
        generation: u64,
        newest: u64,
    },
    #[error(
        "{} holds a run already; continue it with `--resume`, or choose another directory with `--out`", dir.display()
    )]
    RunExists { dir: PathBuf },
    #[error("{} holds no run to resume", dir.display())]
    NoRun { dir: PathBuf },
    #[error(
        "{} holds {found}, which no run of this program has made; choose another directory with `--out`, or an empty one", dir.display()
    )]
    Occupied { dir: PathBuf, found: String },
    #[error(
        "{} holds {found}, which no coordinator has made; choose another directory with `--data-dir`", dir.display()
    )]
    NoDataDir { dir: PathBuf, found: String },
    #[error("{} is no directory; choose another one with `--out`", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error(
        "the run in {} has succeeded already; there is nothing to resume (`--set train.epochs=N` asks for more epochs)", dir.display()
    )]
    RunEnded { dir: PathBuf },
    #[error("the run in {}: {source}", dir.display())]
    Changed { dir: PathBuf, source: ChangeError },
    #[error(
        "{} cannot be read as the queue's state ({reason}); restore it, or move the directory away", path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("job {id}: {} cannot be read as the job: {reason}", path.display())]
    Job {
        id: String,
        path: PathBuf,
        reason: String,
    },
    #[error("the job cannot be written as TOML: {0}")]
    Unwritable(String),
    #[error("there is no job `{0}`; `unisono jobs` lists them")]
    UnknownJob(String),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl From<NotReplaced> for StoreError {
    fn from(NotReplaced { path, source }: NotReplaced) -> Self {
        Self::Io { path, source }
    }
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Held { .. } | Self::Fenced { .. } | Self::Io { .. } => Class::Infrastructure,
            _ => Class::Data,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The data directory of a coordinator, held by it alone while this value lives.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    written: StateFile,
    fence: Fence,
    /// The lock is the open file's: it is gone when the process is, however that ends.
    _lock: File,
}

impl Store {
    /// Takes the directory, bumps the generation and puts what was running back into the queue.
    pub fn open(layout: Layout) -> Result<Self, StoreError> {
        let root = layout.root().to_owned();
        let resumption = match &layout {
            Layout::Queue { .. } => {
                run_directory::check_queue(&root)?;
                None
            }
            Layout::Single { resume: None, .. } => {
                run_directory::check(&root)?;
                None
            }
            Layout::Single { resume, .. } => {
                if resumption::look(&root)?.is_none() {
                    return Err(StoreError::NoRun { dir: root });
                }
                resume.clone()
            }
        };
        fs::create_dir_all(&root).map_err(at(&root))?;
        let lock = lock(&root)?;
        let mut written = read_state(&root)?.unwrap_or(StateFile {
            next: 1,
            ..StateFile::default()
        });
        if matches!(layout, Layout::Single { resume: None, .. }) && !written.jobs.is_empty() {
            return Err(StoreError::RunExists { dir: root });
        }
        written.generation = written.generation.max(Fence::newest(&root)) + 1;
        let fence = Fence::raise(&root, written.generation)?;
        for (id, entry) in written.jobs.iter_mut() {
            if entry.take_up() {
                let error = entry.error.as_deref().unwrap_or_default();
                tracing::error!(job = id, "failed: {error}");
            }
        }
        let mut store = Self {
            layout,
            written,
            fence,
            _lock: lock,
        };
        match resumption {
            Some(resumption) => {
                let id = store.written.jobs.iter().next();
                let id = id.map(|(id, _)| id.to_owned());
                let id = id.ok_or(StoreError::NoRun { dir: root })?;
                store.resume(&id, resumption)?;
            }
            None => store.persist()?,
        }
        Ok(store)
    }

    /// Counts the starts of a coordinator on this directory, from 1.
    pub const fn generation(&self) -> u64 {
        self.written.generation
    }

    /// Whether this start is still the one that may write.
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Jobs by id, in the order of their submission.
    pub const fn jobs(&self) -> &Jobs {
        &self.written.jobs
    }

    /// Where a job keeps its files.
    pub fn run_dir(&self, id: &str) -> PathBuf {
        match &self.layout {
            Layout::Queue { .. } => self.jobs_dir().join(id),
            Layout::Single { run_dir, .. } => run_dir.clone(),
        }
    }

    /// Where corpora that jobs share are generated.
    pub fn synthetic_dir(&self) -> PathBuf {
        self.layout.root().join("synthetic")
    }

    /// The queued job whose turn is next.
    pub fn next_queued(&self) -> Option<String> {
        let queued = self.written.jobs.iter();
        let queued = queued.filter(|(_, entry)| entry.state == JobState::Queued);
        let (id, _) = queued.min_by_key(|(_, entry)| entry.turn)?;
        Some(id.to_owned())
    }

    /// Writes a job down as queued and gives its id.
    pub fn add(&mut self, job: &Job) -> Result<String, StoreError> {
        let id = format!("{:04}-{}", self.written.next, job.name);
        let dir = self.run_dir(&id);
        if matches!(self.layout, Layout::Single { .. }) && !self.written.jobs.is_empty() {
            return Err(StoreError::RunExists { dir });
        }
        let toml = job
            .to_toml()
            .map_err(|error| StoreError::Unwritable(error.to_string()))?;
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        durable::replace(&dir.join("job.toml"), toml.as_bytes())?;
        let entry = JobEntry {
            name: job.name.clone(),
            state: JobState::Queued,
            turn: self.next_turn(),
            submitted_at: timestamp::now(),
            error: None,
            cause: None,
            permissions: 0,
            preparing: false,
            ended_preparing: 0,
        };
        self.written.jobs.insert(id.clone(), entry);
        self.written.next += 1;
        if let Err(error) = self.persist() {
            // Whoever is told that it is not queued does not expect it to run.
            self.written.jobs.remove(&id);
            return Err(error);
        }
        Ok(id)
    }

    /// The job as it was submitted, or as it is to go on.
    pub fn job(&self, id: &str) -> Result<Job, StoreError> {
        resumption::job(id, &self.run_dir(id), &[])
    }

    /// Writes a job's state down; `error` says why it failed and whether a retry is worth it. It is in
    /// that state even if that cannot be written: a full disk may be what it failed of.
    pub fn set_state(
        &mut self,
        id: &str,
        state: JobState,
        error: Option<(String, Class)>,
    ) -> Result<(), StoreError> {
        let entry = self.entry(id)?;
        entry.state = state;
        entry.preparing = state == JobState::Running;
        if state != JobState::Running {
            entry.ended_preparing = 0;
        }
        entry.cause = error.as_ref().map(|(_, cause)| *cause);
        entry.error = error.map(|(error, _)| error);
        self.persist()
    }

    /// Writes down that a running job is prepared: it is not what the coordinator ends of from here on.
    pub fn set_prepared(&mut self, id: &str) -> Result<(), StoreError> {
        let entry = self.entry(id)?;
        entry.preparing = false;
        entry.ended_preparing = 0;
        self.persist()
    }

    /// Takes jobs off the list that have ended and were submitted before `time`, unless that cannot be
    /// written; gives them. Their folders stay.
    pub fn forget(&mut self, time: Timestamp) -> Result<Jobs, StoreError> {
        let old = |entry: &JobEntry| entry.state.has_ended() && entry.submitted_at < time;
        let gone = self.written.jobs.take(old);
        if let Err(error) = self.persist() {
            self.written.jobs.put_back(gone);
            return Err(error);
        }
        Ok(gone)
    }

    /// Where the folders of jobs lie.
    pub fn jobs_dir(&self) -> PathBuf {
        match &self.layout {
            Layout::Queue { data_dir } => data_dir.join("jobs"),
            Layout::Single { run_dir, .. } => run_dir.clone(),
        }
    }

    fn next_turn(&self) -> u64 {
        let turns = self.written.jobs.values().map(|entry| entry.turn);
        turns.max().unwrap_or(0) + 1
    }

    fn entry(&mut self, id: &str) -> Result<&mut JobEntry, StoreError> {
        let unknown = || StoreError::UnknownJob(id.to_owned());
        self.written.jobs.get_mut(id).ok_or_else(unknown)
    }

    fn persist(&self) -> Result<(), StoreError> {
        self.fence.check()?;
        let json = serde_json::to_vec_pretty(&self.written)
            .expect("strings, numbers and maps keyed by strings are JSON");
        Ok(durable::replace(
            &self.layout.root().join("state.json"),
            &json,
        )?)
    }
}

/// `state.json` of a directory, if there is one.
fn read_state(root: &Path) -> Result<Option<StateFile>, StoreError> {
    let path = root.join("state.json");
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(written) => Ok(Some(written)),
            Err(error) => Err(StoreError::Damaged {
                path,
                reason: error.to_string(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path)(error)),
    }
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let mut file = regular_file::open_or_create(&path).map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(at(&path))?;
            return Err(StoreError::Held {
                dir: root.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(error) => return Err(at(&path)(error.into())),
    }
    file.set_len(0).map_err(at(&path))?;
    file.rewind().map_err(at(&path))?;
    writeln!(file, "{}", std::process::id()).map_err(at(&path))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
