//! `jobs`: the queue of a coordinator.

use proto::v1::{JobStatus, PruneRequest, PruneResponse};
use serde_json::{Value, json};
use speech::escape::escape;

use crate::{args, client, exit::Result, jobs::view, output, runtime};

pub(super) fn run(args: args::JobsArgs) -> Result<()> {
    if let Some(days) = args.prune {
        return prune(&args, days);
    }
    let jobs = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        Ok(client::list(&mut client).await?)
    })?;
    let values: Vec<Value> = jobs.iter().map(|job| view::json(job, "")).collect();
    output::print(args.output.format, &values, |_| {
        let rows = jobs.iter().map(row).collect();
        output::table(
            &[
                "id",
                "status",
                "epoch",
                "step",
                "loss",
                "submitted",
                "waits for",
            ],
            rows,
        )
    })
}

fn prune(args: &args::JobsArgs, days: u32) -> Result<()> {
    let pruned = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let seconds = 86_400 * u64::from(days);
        let pruned = client.prune(PruneRequest { seconds }).await;
        Ok(pruned
            .map_err(|status| client::refused(&status))?
            .into_inner())
    })?;
    let PruneResponse { jobs, folder } = pruned;
    let value = json!({ "jobs": jobs, "folder": folder });
    output::print(args.output.format, &value, |_| match jobs {
        0 => "there is no such job".to_owned(),
        1 => format!("1 job is off the list; its folder stays in {folder}"),
        jobs => format!("{jobs} jobs are off the list; their folders stay in {folder}"),
    })
}

fn row(job: &JobStatus) -> Vec<String> {
    vec![
        job.id.clone(),
        client::state_name(job.state()).to_owned(),
        format!("{}/{}", job.epoch, job.epochs),
        format!("{}/{}", job.step, job.steps),
        job.loss.map_or("-".to_owned(), |loss| format!("{loss:.4}")),
        job.submitted_at.clone(),
        escape(&job.waiting_for).into_owned(),
    ]
}
