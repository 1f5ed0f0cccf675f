//! `verify`: one job at several sizes, undisturbed or through faults, and whether all of them end with
//! the same bits.

mod chaos;
mod cluster;
mod random;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind::NotFound,
    path::{Path, PathBuf},
    time::Duration,
};

use coordinator::{
    job::Job,
    records::report::{REPORT, Report},
};
use proto::v1::SubmitRequest;
use serde::Serialize;
use speech::manifest::Manifest;

use crate::{
    args, client, cores,
    exit::{CommandError, Context as _, Result},
    jobs::{file, outcome, runs},
    output::{self, duration},
    runtime,
    signals::Signals,
    summary,
};
use chaos::{Injected, Schedule};
use run::RunResult;

/// What came of all runs.
#[derive(Debug, Serialize)]
struct VerifyReport {
    job: String,
    equal: bool,
    seed: u64,
    /// The weights' digest of the first run.
    reference_sha256: Option<String>,
    runs: Vec<SizeResult>,
}

/// What came of one run.
#[derive(Debug, Serialize)]
struct SizeResult {
    workers: usize,
    chaos: bool,
    weights_sha256: Option<String>,
    status: &'static str,
    /// From the start of its processes to the job's end.
    seconds: f64,
    steps: u64,
    /// Coordinator processes, one after the other.
    lives: u32,
    injected: Injected,
    /// As the run's report counts them.
    faults: BTreeMap<String, u64>,
    /// Whether it ended with the reference's bits.
    equal: bool,
}

pub(super) fn run(args: args::Verify) -> Result<()> {
    match (&args.job, args.random_jobs) {
        (_, Some(count)) => random_jobs(args, count),
        (Some(job), None) => {
            let job = file::read(job, &args.sets)?;
            one_job(args, job)
        }
        (None, None) => {
            Err(CommandError::Usage("name a job, or `--random-jobs N`".to_owned()).into())
        }
    }
}

fn random_jobs(args: args::Verify, count: u32) -> Result<()> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => runs::fresh("verify-random-jobs")?,
    };
    check(&args.workers, &out)?;
    if args.workers.len() < 2 {
        let told = "there is nothing to compare: give two sizes or more, `--workers 1,3`";
        return Err(CommandError::Usage(told.to_owned()).into());
    }
    let findings = runtime::block_on(random::compare_sizes(&args, count, &out))?;
    output::print(
        args.output.format,
        &findings,
        random::RandomJobsReport::text,
    )?;
    if findings.equal {
        return Ok(());
    }
    let told = format!(
        "the sizes did not end alike; the jobs and runs that differ are kept in {}",
        out.display()
    );
    Err(CommandError::Job(told).into())
}

fn one_job(args: args::Verify, job: Job) -> Result<()> {
    for manifest in job.corpus.train.iter().chain(&job.corpus.valid) {
        Manifest::read_with(manifest, job.corpus.max_bad)?;
    }
    let out = match &args.out {
        Some(out) => out.clone(),
        None => runs::fresh(&format!("verify-{}", job.name))?,
    };
    check(&args.workers, &out)?;
    let verification = Verification { args, job, out };
    let format = verification.args.output.format;
    let (findings, failed) = runtime::block_on(verification.run())?;
    output::print(format, &findings, VerifyReport::text)?;
    failed?;
    if findings.equal {
        return Ok(());
    }
    let told = "the runs did not end with the same bits; the rows that are not \"same\" differ from the first one";
    Err(CommandError::Job(told.to_owned()).into())
}

/// Each size has a folder of its own, and what lay there would be taken up.
fn check(sizes: &[u32], out: &Path) -> Result<(), CommandError> {
    let distinct: BTreeSet<u32> = sizes.iter().copied().collect();
    if distinct.len() < sizes.len() {
        let told = "`--workers` names a size twice; name each once".to_owned();
        return Err(CommandError::Usage(told));
    }
    let empty = std::fs::read_dir(out).map(|mut entries| entries.next().is_none());
    let what = match empty {
        Ok(true) => return Ok(()),
        Ok(false) => "is not empty".to_owned(),
        // A symbolic link to nothing is there all the same.
        Err(error) if error.kind() == NotFound && out.symlink_metadata().is_err() => return Ok(()),
        Err(error) => format!("is no directory that can be used ({error})"),
    };
    Err(CommandError::Data(format!(
        "{} {what}; choose another directory with `--out`",
        out.display()
    )))
}

struct Verification {
    args: args::Verify,
    job: Job,
    out: PathBuf,
}

impl Verification {
    /// Every run, up to the first that fails, and how that one did.
    async fn run(&self) -> Result<(VerifyReport, Result<(), CommandError>)> {
        let mut signals = Signals::listen()?;
        let mut findings = VerifyReport::new(&self.job.name, self.args.seed);
        for (size, chaos) in self.runs() {
            // Faults come with steps, and how many there are the first run has told.
            let steps = findings.runs.first().map_or(0, |run| run.steps);
            let schedule = chaos.then(|| Schedule::new(self.args.seed, size, steps));
            let ended = self.one(size, schedule, &mut findings, &mut signals);
            if let failed @ Err(_) = ended.await? {
                return Ok((findings, failed));
            }
        }
        Ok((findings, Ok(())))
    }

    /// Sizes, and whether through chaos; the first run is the reference.
    fn runs(&self) -> Vec<(usize, bool)> {
        let chaos = self.args.chaos;
        let sizes = self.args.workers.iter().map(|&size| size as usize);
        let reference = sizes.clone().take(usize::from(chaos));
        let reference = reference.map(|size| (size, false));
        reference.chain(sizes.map(|size| (size, chaos))).collect()
    }

    async fn one(
        &self,
        workers: usize,
        schedule: Option<Schedule>,
        findings: &mut VerifyReport,
        signals: &mut Signals,
    ) -> Result<Result<(), CommandError>> {
        let chaos = schedule.is_some();
        let dir = self.dir(workers, chaos)?;
        output::message(&self.announcement(workers, chaos, &dir));
        let threads = self.args.threads.map(|threads| threads as usize);
        let plan = run::RunPlan {
            cluster: cluster::ClusterSpec {
                dir,
                workers,
                threads: threads.unwrap_or_else(|| cores::threads_each(workers)),
                device: self.args.device,
                cache: self.args.cache_dir.clone(),
            },
            request: request(&self.job)?,
            epochs: self.job.train.epochs,
            schedule,
            stop: Duration::from_secs(self.args.stop),
        };
        let outcome = run::run(plan, signals).await?;
        let judged = outcome::judge(&outcome.job);
        let finding = SizeResult::new(workers, chaos, &outcome);
        if let Some(told) = finding.too_short() {
            output::message(&told);
        }
        findings.add(finding);
        Ok(judged)
    }

    /// Where a run goes.
    fn dir(&self, workers: usize, chaos: bool) -> Result<PathBuf> {
        let suffix = if chaos { "-chaos" } else { "" };
        let dir = self.out.join(format!("workers-{workers}{suffix}"));
        Ok(std::path::absolute(dir)?)
    }

    fn announcement(&self, workers: usize, chaos: bool, dir: &Path) -> String {
        let how = if chaos {
            format!("through chaos (seed {})", self.args.seed)
        } else {
            "undisturbed".to_owned()
        };
        let name = &self.job.name;
        let on = counted(workers);
        format!("{name} on {on}, {how}, in {}", dir.display())
    }
}

impl SizeResult {
    fn new(workers: usize, chaos: bool, outcome: &RunResult) -> Self {
        let job = &outcome.job;
        let report = std::fs::read(Path::new(&job.run_dir).join(REPORT)).unwrap_or_default();
        let report: Report = serde_json::from_slice(&report).unwrap_or_default();
        Self {
            workers,
            chaos,
            weights_sha256: report.weights_sha256,
            status: client::state_name(job.state()),
            seconds: outcome.seconds,
            steps: report.steps,
            lives: outcome.lives,
            injected: outcome.injected,
            faults: report.faults,
            equal: false,
        }
    }

    /// What to say of faults that had no time to happen.
    fn too_short(&self) -> Option<String> {
        let missing = self.injected.missing();
        let is_short = self.chaos && self.status == "succeeded" && !missing.is_empty();
        is_short.then(|| {
            format!(
                "the job was too short: it ended before there were any {}; give it more steps, with `--set train.epochs=…` for instance",
                missing.join(", ")
            )
        })
    }

    /// What was done to it and what its coordinator saw of that.
    fn faults(&self) -> Option<String> {
        let seen = summary::faults(&self.faults).unwrap_or("nothing".to_owned());
        let Self {
            workers, injected, ..
        } = self;
        let on = counted(*workers);
        self.chaos
            .then(|| format!("on {on}: {injected}; seen: {seen}"))
    }

    fn row(&self) -> Vec<String> {
        let hash = self.weights_sha256.as_deref().unwrap_or("-");
        vec![
            self.workers.to_string(),
            if self.chaos { "yes" } else { "no" }.to_owned(),
            hash.chars().take(HASH_DIGITS).collect(),
            if self.equal { "same" } else { "DIFFERS" }.to_owned(),
            self.status.to_owned(),
            duration(self.seconds),
            self.lives.to_string(),
            self.injected.total().to_string(),
        ]
    }
}

fn request(job: &Job) -> Result<SubmitRequest> {
    Ok(SubmitRequest {
        job_toml: job.to_toml().context("the job cannot be written")?,
        program_version: proto::PROGRAM_VERSION.to_owned(),
    })
}

fn counted(workers: usize) -> String {
    let plural = if workers == 1 { "" } else { "s" };
    format!("{workers} worker{plural}")
}

/// Digits of a hash in the table; the whole one stands below it.
const HASH_DIGITS: usize = 12;

impl VerifyReport {
    fn new(job: &str, seed: u64) -> Self {
        Self {
            job: job.to_owned(),
            equal: true,
            seed,
            reference_sha256: None,
            runs: Vec::new(),
        }
    }

    /// Compares a run with the first one. One without weights equals nothing.
    fn add(&mut self, mut run: SizeResult) {
        if self.runs.is_empty() {
            self.reference_sha256.clone_from(&run.weights_sha256);
        }
        run.equal = run.weights_sha256.is_some() && run.weights_sha256 == self.reference_sha256;
        self.equal &= run.equal;
        self.runs.push(run);
    }

    fn text(&self) -> String {
        let rows = self.runs.iter().map(SizeResult::row).collect();
        let header = [
            "workers", "chaos", "weights", "bits", "status", "time", "lives", "injected",
        ];
        let mut lines = vec![output::table(&header, rows)];
        lines.extend(self.runs.iter().filter_map(SizeResult::faults));
        if let (true, Some(hash)) = (self.equal, &self.reference_sha256) {
            let injected: u32 = self.runs.iter().map(|run| run.injected.total()).sum();
            lines.push(format!(
                "{} runs, {injected} faults, one result: sha256 {hash}",
                self.runs.len()
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(weights: Option<&str>) -> SizeResult {
        SizeResult {
            workers: 1,
            chaos: true,
            weights_sha256: weights.map(str::to_owned),
            status: "succeeded",
            seconds: 1.0,
            steps: 10,
            lives: 1,
            injected: Injected::default(),
            faults: BTreeMap::new(),
            equal: false,
        }
    }

    fn compared(hashes: &[Option<&str>]) -> VerifyReport {
        let mut findings = VerifyReport::new("job", 1);
        for hash in hashes {
            findings.add(finding(*hash));
        }
        findings
    }

    #[test]
    fn runs_are_equal_when_every_hash_is_the_first_ones() {
        let same = compared(&[Some("aa"), Some("aa"), Some("aa")]);
        assert!(same.equal && same.runs.iter().all(|run| run.equal));
        assert!(same.text().contains("one result: sha256 aa"));
    }

    #[test]
    fn one_other_hash_is_a_difference_and_its_row_says_so() {
        let other = compared(&[Some("aa"), Some("ab"), Some("aa")]);
        assert!(!other.equal);
        let equal: Vec<bool> = other.runs.iter().map(|run| run.equal).collect();
        assert_eq!(equal, [true, false, true]);
        let text = other.text();
        assert_eq!(text.matches("DIFFERS").count(), 1, "{text}");
        assert!(!text.contains("one result"), "{text}");
    }

    #[test]
    fn runs_without_weights_are_not_equal_to_each_other() {
        assert!(!compared(&[None, None]).equal);
        assert!(!compared(&[Some("aa"), None]).equal);
    }

    #[test]
    fn a_job_that_was_too_short_for_the_faults_says_which_did_not_happen() {
        let mut run = finding(Some("aa"));
        run.injected.stops = 1;
        let told = run.too_short().unwrap();
        assert!(
            told.contains("too short") && told.contains("leaves"),
            "{told}"
        );
        assert!(!told.contains("stops"), "{told}");
        run.chaos = false;
        assert_eq!(run.too_short(), None);
    }
}
