//! What a `train` was asked to do, checked before anything is written: the job, its manifests, the
//! run's directory, the workers and their threads.

use std::path::Path;

use coordinator::{
    job::Job,
    leases::AuditPolicy,
    records::report::{REPORT, Report},
    store::{Layout, Resumption},
};
use proto::v1::{Cause, JobStatus, State};
use speech::manifest::Manifest;
use worker::compute::DeviceChoice;

use crate::{
    args, cores,
    exit::{CommandError, Result},
    jobs::{
        file,
        runs::{self, RunStart},
    },
};

pub(super) struct TrainPlan {
    pub job: Job,
    pub start: RunStart,
    pub allow_change: bool,
    pub workers: usize,
    pub threads: usize,
    chosen: bool,
}

impl TrainPlan {
    pub(super) fn new(args: &args::Train) -> Result<Self> {
        let out = args.out.as_deref();
        if out.is_some_and(|out| out.as_os_str().is_empty()) {
            let told = "`--out` is empty; name a directory".to_owned();
            return Err(CommandError::Usage(told).into());
        }
        let job = file::read(&args.job, &all_sets(args)?)?;
        for manifest in job.corpus.train.iter().chain(&job.corpus.valid) {
            Manifest::read_with(manifest, job.corpus.max_bad)?;
        }
        let start = runs::find(&job, out, args.resume, args.allow_change)?;
        let workers = args
            .workers
            .map_or_else(cores::default_workers, |workers| workers as usize);
        check_audit(&job, workers)?;
        Ok(Self {
            job,
            start,
            allow_change: args.allow_change,
            workers,
            threads: args
                .threads
                .map_or_else(|| cores::threads_each(workers), |threads| threads as usize),
            chosen: args.workers.is_some(),
        })
    }

    pub(super) fn run_dir(&self) -> &Path {
        match &self.start {
            RunStart::Fresh(dir) | RunStart::GoOn(dir) | RunStart::Finished(dir) => dir,
        }
    }

    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.start, RunStart::Fresh(_))
    }

    pub(super) fn layout(&self) -> Layout {
        let resumption = || Resumption {
            job: Some(Box::new(self.job.clone())),
            sets: Vec::new(),
            allow_change: self.allow_change,
        };
        Layout::Single {
            run_dir: self.run_dir().to_owned(),
            resume: (!self.is_fresh()).then(resumption),
        }
    }

    /// The report of a run that has come to its end; `None` where it is gone.
    pub(super) fn report(&self) -> Option<Report> {
        let text = std::fs::read(self.run_dir().join(REPORT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What is about to happen, for a person.
    pub(super) fn announcement(&self) -> String {
        let Self {
            workers, threads, ..
        } = self;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let why = if self.chosen {
            String::new()
        } else {
            format!(" (this machine has {} physical cores)", cores::physical())
        };
        format!(
            "{} {} in {}: {workers} worker{} of {threads} thread{}{why}",
            if self.is_fresh() {
                "training"
            } else {
                "resuming"
            },
            self.job.name,
            self.run_dir().display(),
            plural(*workers),
            plural(*threads),
        )
    }

    /// What a person types to go on with a run whose learning rate was too high for it, if it failed of that.
    pub(super) fn slower_command(&self, args: &args::Train, status: &JobStatus) -> Option<String> {
        const KEY: &str = "optimizer.learning_rate";
        let diverged = status.state() == State::Failed
            && status.cause() == Cause::Training
            && status.error.contains(KEY);
        let lower = format!("{KEY}={:e}", self.job.optimizer.learning_rate / 10.0);
        diverged.then(|| self.command(args, &["--allow-change", "--set", &lower]))
    }

    /// What a person types to go on with this run.
    pub(super) fn resume_command(&self, args: &args::Train) -> String {
        self.command(args, &[])
    }

    fn command(&self, args: &args::Train, more: &[&str]) -> String {
        let mut words = vec!["unisono".to_owned(), "train".to_owned()];
        words.push(args.job.display().to_string());
        if let Some(path) = &args.init_from {
            words.extend(["--init-from".to_owned(), path.display().to_string()]);
        }
        for set in &args.sets {
            words.extend(["--set".to_owned(), set.clone()]);
        }
        if let Some(workers) = args.workers {
            words.extend(["--workers".to_owned(), workers.to_string()]);
        }
        if let Some(threads) = args.threads {
            words.extend(["--threads".to_owned(), threads.to_string()]);
        }
        if args.device != DeviceChoice::Auto {
            words.extend(["--device".to_owned(), args.device.to_string()]);
        }
        if let Some(cache) = &args.cache_dir {
            words.extend(["--cache-dir".to_owned(), cache.display().to_string()]);
        }
        words.extend(["--out".to_owned(), self.run_dir().display().to_string()]);
        words.push("--resume".to_owned());
        words.extend(more.iter().map(|&word| word.to_owned()));
        let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        quoted.join(" ")
    }
}

/// The keys that are laid over the job's file: `--init-from` is one of them.
fn all_sets(args: &args::Train) -> Result<Vec<String>> {
    let mut sets = args.sets.clone();
    if let Some(path) = &args.init_from {
        let path = std::path::absolute(path)?;
        let Some(path) = path.to_str() else {
            let told = format!("`--init-from` {path:?} is not UTF-8, and a job cannot hold it");
            return Err(CommandError::Usage(told).into());
        };
        sets.push(format!("train.init={}", toml::Value::from(path)));
    }
    Ok(sets)
}

/// Nobody else comes to a run on one machine.
fn check_audit(job: &Job, workers: usize) -> Result<(), CommandError> {
    match job.audit_policy() {
        AuditPolicy::Compare { audit } if audit >= 1.0 && workers < 2 => Err(CommandError::Data(
            "with `train.audit = 1.0` nothing counts that two workers do not agree on, and this run would have one; \
             give it more with `--workers 2`, or audit a smaller share"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// As a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_as_a_shell_reads_it() {
        assert_eq!(quoted("train.epochs=3"), "train.epochs=3");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
