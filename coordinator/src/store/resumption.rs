//! Taking up a run again: with the job that it was begun with, or with one of which some keys differ. It
//! decides what may differ, and keeps the changed job beside the old one until the run has shown that its
//! checkpoint goes with it.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{JobEntry, JobState, Store, StoreError, at, read_state};
use crate::{
    durable,
    job::{
        Job,
        changes::{self, Change, ChangeError, Effect},
    },
    records::report::REPORT,
};

/// How a run is taken up again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resumption {
    /// The job that it goes on with; its own where there is none.
    pub job: Option<Box<Job>>,
    /// Keys that are laid over it: `section.key=value`.
    pub sets: Vec<String>,
    /// Whether it may go on with changes, or on machines, that end the promise of equal bits.
    pub allow_change: bool,
}

/// A run of one job, as it lies in its directory.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDirectory {
    /// The job's id.
    pub id: String,
    /// What is written down of it.
    pub entry: JobEntry,
    /// The job that the run goes on with.
    pub job: Job,
    /// Whether it has a checkpoint. Without one it begins anew, whatever the job.
    pub computed: bool,
}

impl RunDirectory {
    /// The run in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn look(dir: &Path) -> Result<Option<Self>, StoreError> {
        look(dir)
    }

    /// The keys in which `job` differs from the run's, and what follows.
    pub fn changes(&self, job: &Job) -> Vec<(Change, Effect)> {
        changes::changes(&self.job, &self.renamed(job))
    }

    /// Whether it may go on with `job`.
    ///
    /// # Errors
    /// The keys that stand in the way.
    pub fn check(&self, job: &Job, allow_change: bool) -> Result<(), ChangeError> {
        if self.computed {
            changes::check(&self.changes(job), allow_change)
        } else {
            Ok(())
        }
    }

    /// Whether it has come to its end and `job` asks for no more.
    pub fn is_over(&self, job: &Job) -> bool {
        self.entry.state == JobState::Succeeded && !changes::prolong(&self.job, job)
    }

    /// A run keeps its name, whatever the job's file is called by now.
    fn renamed(&self, job: &Job) -> Job {
        Job {
            name: self.job.name.clone(),
            ..job.clone()
        }
    }
}

pub(super) fn look(dir: &Path) -> Result<Option<RunDirectory>, StoreError> {
    let is_run = dir.join(JOB_FILE).is_file();
    let Some(state) = is_run.then(|| read_state(dir)).transpose()?.flatten() else {
        return Ok(None);
    };
    let Some((id, entry)) = state.jobs.iter().next() else {
        return Ok(None);
    };
    let job = job(id, dir, &[])?;
    Ok(Some(RunDirectory {
        id: id.to_owned(),
        entry: entry.clone(),
        job,
        computed: has_checkpoint(dir),
    }))
}

/// Where that cannot be told, there is one.
fn has_checkpoint(dir: &Path) -> bool {
    match fs::read_dir(dir.join("checkpoints")) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The job that a run goes by.
const JOB_FILE: &str = "job.toml";
/// The one that it is to go on with, until that has been compared with its checkpoint.
const NEXT_JOB_FILE: &str = "job.next.toml";
/// The report of the end before the run went on.
pub(crate) const EARLIER_REPORT: &str = "report.previous.json";

/// The job of the run in `dir`, with `sets` laid over it.
pub(super) fn job(id: &str, dir: &Path, sets: &[String]) -> Result<Job, StoreError> {
    let pending = dir.join(NEXT_JOB_FILE);
    let path = if pending.is_file() {
        pending
    } else {
        dir.join(JOB_FILE)
    };
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    // The run's own file has every key; those that somebody writes now have to have an effect.
    let parsed = Job::parse(&text, &path, sets)
        .and_then(|job| job.check_written("", &path, sets).map(|()| job));
    parsed.map_err(|error| StoreError::Job {
        id: id.to_owned(),
        path,
        reason: error.to_string(),
    })
}

/// Puts the changed job in the place of the one before, if there is one.
pub(crate) fn settle(dir: &Path) -> Result<(), StoreError> {
    let (pending, settled) = (dir.join(NEXT_JOB_FILE), dir.join(JOB_FILE));
    match fs::rename(&pending, &settled) {
        Ok(()) => File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(at(&settled)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(&settled)(error)),
    }
}

/// Drops a changed job that the run cannot go on with.
pub(crate) fn dismiss(dir: &Path) -> Result<(), StoreError> {
    let pending = dir.join(NEXT_JOB_FILE);
    match fs::remove_file(&pending) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&pending)(error)),
        _ => Ok(()),
    }
}

impl Store {
    /// Puts a job at the end of the queue again, unless it may not go on so, or that cannot be written.
    ///
    /// # Errors
    /// [`StoreError::Changed`] with the keys that stand in the way; [`StoreError::RunEnded`] when the job
    /// has reached its end and nothing more is asked for.
    pub fn resume(&mut self, id: &str, resumption: Resumption) -> Result<(), StoreError> {
        let Resumption {
            job: given,
            sets,
            allow_change,
        } = resumption;
        let dir = self.run_dir(id);
        let entry = self.entry(id)?.clone();
        let run = RunDirectory {
            job: job(id, &dir, &[])?,
            id: id.to_owned(),
            entry,
            computed: has_checkpoint(&dir),
        };
        let wanted = match given {
            Some(job) => run.renamed(&job),
            None => run.renamed(&job(id, &dir, &sets)?),
        };
        let refuse = |source| StoreError::Changed {
            dir: dir.clone(),
            source,
        };
        run.check(&wanted, allow_change).map_err(refuse)?;
        if run.is_over(&wanted) {
            return Err(StoreError::RunEnded { dir });
        }
        if !run.changes(&wanted).is_empty() {
            let toml = wanted.to_toml();
            let toml = toml.map_err(|error| StoreError::Unwritable(error.to_string()))?;
            durable::replace(&dir.join(NEXT_JOB_FILE), toml.as_bytes())?;
        }
        put_report_by(&dir)?;
        let turn = self.next_turn();
        let entry = self.entry(id)?;
        entry.state = JobState::Queued;
        entry.error = None;
        entry.cause = None;
        entry.turn = turn;
        entry.preparing = false;
        entry.ended_preparing = 0;
        entry.permissions += u64::from(allow_change);
        let written = self.persist();
        if written.is_err() {
            *self.entry(id)? = run.entry;
        }
        written
    }
}

/// Keeps the report of the end that is being undone: as `report.json` it would be taken for this run's.
fn put_report_by(dir: &Path) -> Result<(), StoreError> {
    let report = dir.join(REPORT);
    match fs::rename(&report, dir.join(EARLIER_REPORT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&report)(error)),
        _ => Ok(()),
    }
}
