//! What a `train` was asked to do, checked before anything is written: the job, its manifests, the
//! run's directory, the workers and their threads.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use coordinator::job::Job;
use speech::manifest::Manifest;

use crate::{args, cores, exit::Failure, verbs::submit};

/// Where runs go that are told no place.
const RUNS: &str = "runs";

pub struct Plan {
    pub job: Job,
    pub run_dir: PathBuf,
    pub resume: bool,
    pub workers: usize,
    pub threads: usize,
    chosen: bool,
}

impl Plan {
    pub fn new(args: &args::Train) -> Result<Self> {
        let job = submit::read(&args.job, &args.sets)?;
        for manifest in job.corpus.train.iter().chain(&job.corpus.valid) {
            Manifest::read(manifest)?;
        }
        let run_dir = match (&args.out, args.resume) {
            (Some(out), _) => out.clone(),
            (None, false) => fresh(&job.name),
            (None, true) => newest(&job.name)?,
        };
        if args.resume {
            check_same(&job, &run_dir)?;
        }
        let workers = args
            .workers
            .map_or_else(cores::default_workers, |workers| workers as usize);
        Ok(Self {
            job,
            run_dir,
            resume: args.resume,
            workers,
            threads: args
                .threads
                .map_or_else(|| cores::threads_each(workers), |threads| threads as usize),
            chosen: args.workers.is_some(),
        })
    }

    /// What is about to happen, for a person.
    pub fn announcement(&self) -> String {
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
            if self.resume { "resuming" } else { "training" },
            self.job.name,
            self.run_dir.display(),
            plural(*workers),
            plural(*threads),
        )
    }

    /// What a person types to go on with this run.
    pub fn resume_command(&self, args: &args::Train) -> String {
        let mut words = vec!["unisono".to_owned(), "train".to_owned()];
        words.push(args.job.display().to_string());
        for set in &args.sets {
            words.extend(["--set".to_owned(), set.clone()]);
        }
        if let Some(workers) = args.workers {
            words.extend(["--workers".to_owned(), workers.to_string()]);
        }
        if let Some(threads) = args.threads {
            words.extend(["--threads".to_owned(), threads.to_string()]);
        }
        if args.device != args::Device::Auto {
            words.extend(["--device".to_owned(), args.device.name().to_owned()]);
        }
        words.extend(["--out".to_owned(), self.run_dir.display().to_string()]);
        words.push("--resume".to_owned());
        let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        quoted.join(" ")
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

/// Where a run of `name` goes that is told no place: named after the time too; a second run in the
/// same second gets a number.
pub fn fresh(name: &str) -> PathBuf {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let base = Path::new(RUNS).join(format!("{name}-{time}"));
    let numbered = (2..).map(|number| PathBuf::from(format!("{}-{number}", base.display())));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|path| !path.exists())
        .unwrap_or(base)
}

/// The newest run of a job of this name.
fn newest(name: &str) -> Result<PathBuf> {
    let none = || {
        Failure::Data(format!(
            "there is no run of `{name}` in {RUNS}/ to resume; name its directory with `--out`"
        ))
    };
    let entries = std::fs::read_dir(RUNS).map_err(|_| none())?;
    let prefix = format!("{name}-");
    let newest = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let time = file.strip_prefix(&prefix);
            time.is_some_and(|time| time.starts_with(|first: char| first.is_ascii_digit()))
                && path.join("job.toml").is_file()
        })
        .max();
    Ok(newest.ok_or_else(none)?)
}

/// A run goes on with the job that it was begun with.
fn check_same(job: &Job, run_dir: &Path) -> Result<()> {
    let path = run_dir.join("job.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let told = format!("{} holds no run to resume: {error}", run_dir.display());
            return Err(Failure::Data(told).into());
        }
    };
    let begun = Job::parse(&text, &path, &[])?;
    if begun == *job {
        return Ok(());
    }
    let wanted = job.to_toml().context("the job cannot be written")?;
    let begun = begun.to_toml().context("the job cannot be written")?;
    let line = wanted
        .lines()
        .find(|line| !begun.lines().any(|other| other == *line))
        .unwrap_or("some keys are missing");
    let told = format!(
        "the job is not the one that the run in {} was begun with (now: {line}); give the same job and `--set`, or begin a new run",
        run_dir.display()
    );
    Err(Failure::Data(told).into())
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
