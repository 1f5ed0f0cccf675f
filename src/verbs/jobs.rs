//! `jobs`: the queue of a coordinator. Here is also how a job is shown, for all verbs that do.

use std::collections::BTreeMap;

use anyhow::Result;
use proto::v1::{JobStatus, PruneRequest, PruneResponse};
use serde_json::{Map, Value, json};

use crate::{args, client, output};

pub fn run(args: args::Jobs) -> Result<()> {
    if let Some(days) = args.prune {
        return prune(&args, days);
    }
    let jobs = super::block_on(async {
        let mut client = client::connect(&args.at.coordinator).await?;
        Ok(client::list(&mut client).await?)
    })?;
    let values: Vec<Value> = jobs.iter().map(|job| json(job, "")).collect();
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

fn prune(args: &args::Jobs, days: u32) -> Result<()> {
    let pruned = super::block_on(async {
        let mut client = client::connect(&args.at.coordinator).await?;
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
        output::shown(&job.waiting_for).into_owned(),
    ]
}

/// A job as scripts read it: how it stands and what `report` has, the text of its report where that is
/// wanted and there is one.
pub fn json(job: &JobStatus, report: &str) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("id", json!(job.id));
    put("name", json!(job.name));
    put("status", json!(client::state_name(job.state())));
    put("step", json!(job.step));
    put("steps", json!(job.steps));
    put("epoch", json!(job.epoch));
    put("epochs", json!(job.epochs));
    put("loss", json!(job.loss));
    put("workers", json!(job.workers));
    put(
        "waiting_for",
        match job.waiting_for.as_str() {
            "" => Value::Null,
            missing => json!(missing),
        },
    );
    put("submitted_at", json!(job.submitted_at));
    put("run_dir", json!(job.run_dir));
    let faults: BTreeMap<_, _> = job.faults.iter().collect();
    put("faults", json!(faults));
    let times: BTreeMap<_, _> = job.times.iter().collect();
    put("times", json!(times));
    if !job.error.is_empty() {
        put("error", json!(job.error));
        put("cause", json!(client::cause_name(job.cause())));
    }
    if let Ok(Value::Object(report)) = serde_json::from_str(report) {
        for (name, value) in report {
            // How it stands now counts: a resumed job still has the report of its earlier end.
            fields.entry(name).or_insert(value);
        }
    }
    Value::Object(fields)
}
