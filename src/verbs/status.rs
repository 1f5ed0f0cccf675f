//! `status`: how one job stands.

use anyhow::Result;
use coordinator::report::Report;
use proto::v1::JobStatus;

use crate::{args, client, output, summary};

pub fn run(args: args::OneJob) -> Result<()> {
    let (job, report) = super::block_on(async {
        let mut client = client::connect(&args.at.coordinator).await?;
        let job = client::status(&mut client, args.id.clone()).await?;
        let report = client::report(&mut client, &job.id).await?;
        Ok((job, report))
    })?;
    show(&job, &report, args.output.format)
}

/// Prints how a job stands; `report` is the text of its report, empty where there is none.
pub fn show(job: &JobStatus, report: &str, format: output::Format) -> Result<()> {
    let json = super::jobs::json(job, report);
    output::print(format, &json, |_| text(job, report))
}

fn text(job: &JobStatus, report: &str) -> String {
    let mut lines = vec![format!(
        "{} is {}: epoch {}/{}, step {}/{}{}",
        job.id,
        client::state_name(job.state()),
        job.epoch,
        job.epochs,
        job.step,
        job.steps,
        job.loss
            .map_or(String::new(), |loss| format!(", loss {loss:.4}")),
    )];
    if !job.waiting_for.is_empty() {
        lines.push(format!("waits for    {}", output::shown(&job.waiting_for)));
    }
    if !job.error.is_empty() {
        lines.push(format!("error: {}", job.error));
    }
    match serde_json::from_str::<Report>(report) {
        Ok(report) if client::has_ended(job.state()) => {
            lines.push(summary::text(&report, &job.run_dir));
        }
        _ => {
            let times = job.times.clone().into_iter().collect();
            let times = summary::times(&times, job.step);
            lines.extend(times.map(|times| format!("time         {times}")));
            let counts = job.faults.clone().into_iter().collect();
            let seen = summary::faults(&counts);
            lines.extend(seen.map(|seen| format!("seen         {seen}")));
            lines.push(format!("run          {}", job.run_dir));
        }
    }
    lines.join("\n")
}
