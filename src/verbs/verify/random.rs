//! `verify --random-jobs`: valid jobs drawn at random, each trained at every size, and whether the runs have
//! anything but times in common that differs. It decides what is said of each job and what is kept of it.

mod compare;
mod draw;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use coordinator::job::Job;
use proto::v1::{Cause, JobStatus, State};
use serde::Serialize;
use speech::{
    random::Stream,
    synth::{self, SyntheticConfig, Task},
};
use tokio::time::timeout;

use super::{cluster, counted, request, run};
use crate::{
    args, client, cores,
    exit::{CommandError, Context as _, Result},
    jobs::file,
    output::{self, duration},
    signals::Signals,
};
use compare::RunRecord;

/// A drawn job takes seconds. A run that has not ended by then hangs.
const JOB_TIMEOUT: Duration = Duration::from_secs(600);

/// What came of all jobs.
#[derive(Debug, Serialize)]
pub(super) struct RandomJobsReport {
    pub equal: bool,
    /// The seed of the first job; the others' follow it.
    seed: u64,
    workers: Vec<u32>,
    jobs: Vec<JobResult>,
}

/// What came of one job.
#[derive(Debug, Serialize)]
struct JobResult {
    seed: u64,
    /// Kind of model and head.
    model: String,
    /// How the first run ended; the next three fields are of that run too.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    steps: u64,
    weights_sha256: Option<String>,
    /// All runs together.
    seconds: f64,
    equal: bool,
    /// In words, each with the two sizes that are compared.
    differences: Vec<String>,
    /// Where the job and its runs are kept; those of jobs whose runs are equal are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<PathBuf>,
}

/// Draws `count` jobs and trains each at every size, below the folder `out`.
///
/// # Errors
/// When a folder cannot be written, or a signal came. What a job's runs end with is a finding.
pub(super) async fn compare_sizes(
    args: &args::Verify,
    count: u32,
    out: &Path,
) -> Result<RandomJobsReport> {
    let mut signals = Signals::listen()?;
    let out = std::path::absolute(out)?;
    let corpora = out.join("corpora");
    make_corpora(&corpora)?;
    let mut findings = RandomJobsReport {
        equal: true,
        seed: args.seed,
        workers: args.workers.clone(),
        jobs: Vec::new(),
    };
    for index in 0..u64::from(count) {
        let seed = args.seed.wrapping_add(index);
        let dir = out.join(format!("job-{seed}"));
        let finding = one(args, seed, &corpora, &dir, &mut signals).await?;
        output::message(&finding.line());
        findings.equal &= finding.equal;
        findings.jobs.push(finding);
    }
    let _ = fs::remove_dir_all(&corpora).inspect_err(|error| {
        output::message(&format!("{} stays: {error}", corpora.display()));
    });
    Ok(findings)
}

/// Spoken digits, and strings of them: a few dozen, which a small model learns from in a second.
fn make_corpora(folder: &Path) -> Result<()> {
    for (name, task) in [("keyword", Task::Digits), ("ctc", Task::DigitStrings)] {
        let config = SyntheticConfig {
            task,
            train: 60,
            valid: 20,
            speakers: 6,
            valid_speakers: 3,
            seed: 5,
            sample_rate: 8000,
            ..SyntheticConfig::default()
        };
        synth::generate(&config, &folder.join(name))?;
    }
    Ok(())
}

async fn one(
    args: &args::Verify,
    seed: u64,
    corpora: &Path,
    dir: &Path,
    signals: &mut Signals,
) -> Result<JobResult> {
    let path = dir.join("job.toml");
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(&path, draw::job(seed, corpora)).with_context(|| path.display().to_string())?;
    let job = file::read(&path, &[])?;
    let mut finding = JobResult::new(seed, &job);
    let mut first: Option<(String, RunRecord)> = None;
    for &workers in &args.workers {
        let workers = workers as usize;
        let threads = args
            .threads
            .map_or_else(|| threads(seed, workers), |threads| threads as usize);
        let size = format!("{} with {threads} threads", counted(workers));
        let plan = run::RunPlan {
            cluster: cluster::ClusterSpec {
                dir: dir.join(format!("workers-{workers}")),
                workers,
                threads,
                device: args.device,
                cache: args.cache_dir.clone(),
            },
            request: request(&job)?,
            epochs: job.train.epochs,
            schedule: None,
            stop: Duration::ZERO,
        };
        let outcome = match timeout(JOB_TIMEOUT, run::run(plan, signals)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure @ CommandError::Signal { .. })) => return Err(failure.into()),
            Ok(Err(failure)) => {
                finding.differ(&size, failure.to_string());
                continue;
            }
            Err(_) => {
                let limit = duration(JOB_TIMEOUT.as_secs_f64());
                finding.differ(&size, format!("had not ended after {limit}"));
                continue;
            }
        };
        finding.seconds += outcome.seconds;
        if let Some(error) = broken(&outcome.job) {
            finding.differ(&size, error);
        }
        let found = RunRecord::read(Path::new(&outcome.job.run_dir))?;
        match &first {
            None => {
                finding.describe(&outcome.job, &found);
                first = Some((size, found));
            }
            Some((reference, reference_run)) => {
                for difference in reference_run.differences(&found) {
                    finding.differ(&format!("{reference} / {size}"), difference);
                }
            }
        }
    }
    if finding.equal {
        fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    } else {
        finding.kept = Some(dir.to_owned());
    }
    Ok(finding)
}

/// Threads of each of `workers` workers where nobody says how many: the job's own draw, because their number
/// must not reach a bit either.
fn threads(seed: u64, workers: usize) -> usize {
    const TAG: u64 = 1;
    let mut stream = Stream::new(seed, &[TAG, workers as u64]);
    1 + stream.below(4.min(2 * cores::logical() as u64)) as usize
}

/// What is wrong with a job that ended as no valid job does. That too many micro-batches were left out, for
/// instance, is an end like another: the runs have to agree on it.
fn broken(job: &JobStatus) -> Option<String> {
    let is_fine = match job.state() {
        State::Succeeded => true,
        State::Failed => job.cause() == Cause::Training,
        _ => false,
    };
    (!is_fine).then(|| format!("{}: {}", client::state_name(job.state()), job.error))
}

impl JobResult {
    fn new(seed: u64, job: &Job) -> Self {
        let model = &job.model;
        Self {
            seed,
            model: format!("{}, {:?}", model.kind.name(), model.head).to_lowercase(),
            status: "unknown",
            error: None,
            steps: 0,
            weights_sha256: None,
            seconds: 0.0,
            equal: true,
            differences: Vec::new(),
            kept: None,
        }
    }

    fn describe(&mut self, job: &JobStatus, run: &RunRecord) {
        self.status = client::state_name(job.state());
        self.error = Some(job.error.clone()).filter(|error| !error.is_empty());
        self.steps = run.steps();
        self.weights_sha256 = run.weights_sha256().map(str::to_owned);
    }

    fn differ(&mut self, sizes: &str, what: String) {
        self.equal = false;
        self.differences.push(format!("{sizes}: {what}"));
    }

    /// For a person who waits.
    fn line(&self) -> String {
        let bits = if self.equal { "same" } else { "DIFFERS" };
        let mut line = format!(
            "seed {}: {bits} ({}, {} steps, {}, {})",
            self.seed,
            self.model,
            self.steps,
            self.status,
            duration(self.seconds)
        );
        for difference in &self.differences {
            line.push_str("\n    ");
            line.push_str(difference);
        }
        line
    }
}

impl RandomJobsReport {
    pub(super) fn text(&self) -> String {
        let differing: Vec<&JobResult> = self.jobs.iter().filter(|job| !job.equal).collect();
        let succeeded = self.jobs.iter().filter(|job| job.status == "succeeded");
        let mut lines: Vec<String> = differing.iter().map(|job| job.line()).collect();
        lines.push(format!(
            "{} random jobs at {:?} workers: {} differ, {} succeeded, {} ended with an error",
            self.jobs.len(),
            self.workers,
            differing.len(),
            succeeded.clone().count(),
            self.jobs.len() - succeeded.count(),
        ));
        if !differing.is_empty() {
            let seeds: Vec<String> = differing.iter().map(|job| job.seed.to_string()).collect();
            lines.push(format!(
                "seeds that differ: {}; repeat one with `--random-jobs 1 --seed SEED`",
                seeds.join(", ")
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(seed: u64, differences: &[&str]) -> JobResult {
        let text = draw::job(seed, Path::new("/corpora"));
        let job = Job::parse(&text, Path::new("job.toml"), &[]).unwrap();
        let mut finding = JobResult::new(seed, &job);
        finding.status = "succeeded";
        for difference in differences {
            finding.differ("1 worker / 3 workers", (*difference).to_owned());
        }
        finding
    }

    #[test]
    fn seeds_that_differ_are_named_with_how_to_repeat_them() {
        let jobs = vec![
            finding(1, &[]),
            finding(2, &["loss: 1 / 2"]),
            finding(3, &[]),
        ];
        let findings = RandomJobsReport {
            equal: false,
            seed: 1,
            workers: vec![1, 3],
            jobs,
        };
        let text = findings.text();
        assert!(
            text.contains("3 random jobs at [1, 3] workers: 1 differ, 3 succeeded"),
            "{text}"
        );
        assert!(text.contains("seeds that differ: 2; repeat"), "{text}");
        assert!(text.contains("1 worker / 3 workers: loss: 1 / 2"), "{text}");
    }

    #[test]
    fn a_job_that_ends_for_its_own_reasons_is_compared_and_any_other_end_is_a_finding() {
        let ended = |state: State, cause: Cause| JobStatus {
            state: state.into(),
            cause: cause.into(),
            error: "why".to_owned(),
            ..JobStatus::default()
        };
        assert_eq!(broken(&ended(State::Succeeded, Cause::Unspecified)), None);
        assert_eq!(broken(&ended(State::Failed, Cause::Training)), None);
        for cause in [Cause::Data, Cause::Infrastructure] {
            let told = broken(&ended(State::Failed, cause)).unwrap();
            assert!(told.contains("why"), "{told}");
        }
    }

    #[test]
    fn the_number_of_threads_follows_from_seed_and_size() {
        let drawn: Vec<usize> = (0..50).map(|seed| threads(seed, 3)).collect();
        assert!(drawn.iter().all(|threads| (1..=4).contains(threads)));
        assert!(drawn.iter().any(|threads| *threads != drawn[0]));
        assert_eq!(threads(7, 2), threads(7, 2));
    }
}
