//! `submit`: gives a job to a coordinator and follows it; leaving it does not stop it.

use std::path::Path;

use anyhow::{Context as _, Result};
use coordinator::{job::Job, report::Report};
use proto::v1::{Cause, JobStatus, State, SubmitRequest};
use serde_json::json;

use crate::{
    args, client,
    exit::{self, Failure},
    follow::{self, PATIENCE, Since, What},
    output::{self, Format},
    progress::Progress,
    signals::Signals,
    summary,
};

pub fn run(args: args::Submit) -> Result<()> {
    let job = read(&args.job, &args.sets)?;
    let epochs = job.train.epochs;
    let request = SubmitRequest {
        job_toml: job.to_toml().context("the job cannot be written")?,
        program_version: proto::PROGRAM_VERSION.to_owned(),
    };
    super::block_on(async move {
        let mut client = client::connect(&args.at.coordinator).await?;
        let submitted = client::submit(&mut client, request).await;
        let submitted = submitted.map_err(|status| client::refused(&status))?;
        let id = submitted.into_inner().id;
        if args.no_wait {
            return output::print(args.output.format, &json!({ "id": id }), |_| id.clone());
        }
        output::message(&format!("submitted {id}"));
        let mut signals = Signals::listen()?;
        let mut progress = Progress::new(epochs);
        let wanted = follow::Wanted {
            what: What::Everything,
            since: Since::FirstLine,
            patience: PATIENCE,
        };
        let ended = tokio::select! {
            ended = follow::follow(&mut client, &id, wanted, |news| progress.show(news)) => ended,
            signal = signals.next() => Err(Failure::Signal {
                signal,
                told: format!(
                    "job {id} goes on without you: `unisono logs -f {id}` follows it, `unisono cancel {id}` stops it"
                ),
            }),
        };
        progress.finish();
        drop(signals);
        let ended = ended?;
        let report = client::report(&mut client, &id).await?;
        conclude(&ended, &report, args.output.format)
    })
}

/// The job at `path`, with `sets` laid over it and its paths made absolute.
pub fn read(path: &Path, sets: &[String]) -> Result<Job> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let told = format!("cannot read the job {}: {error}", path.display());
        match exit::may_pass(&error) {
            true => Failure::Infrastructure(told),
            false => Failure::Data(told),
        }
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?;
    let job = Job::parse(&text, path, sets)?;
    job.check_written(&text, path, sets)?;
    Ok(job.resolve(&folder))
}

/// Prints what came of a job, by the text of its report, and turns a job that did not succeed into an
/// error.
pub fn conclude(job: &JobStatus, report: &str, format: Format) -> Result<()> {
    let report = serde_json::from_str::<Report>(report);
    if let Ok(report) = &report {
        output::print(format, report, |report| summary::text(report, &job.run_dir))?;
    }
    Ok(judge(job)?)
}

/// A job that did not succeed as an error, by what it calls for.
pub fn judge(job: &JobStatus) -> Result<(), Failure> {
    match job.state() {
        State::Succeeded => Ok(()),
        State::Cancelled => Err(Failure::Job(format!("job {} was cancelled", job.id))),
        _ => Err(match job.cause() {
            Cause::Infrastructure => Failure::Infrastructure(job.error.clone()),
            Cause::Data => Failure::Data(job.error.clone()),
            Cause::Training | Cause::Unspecified => Failure::Job(job.error.clone()),
        }),
    }
}
