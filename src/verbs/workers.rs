//! `workers`: who works for a coordinator.

use proto::v1::{ListWorkersRequest, WorkerStatus};
use serde_json::{Value, json};

use crate::{args, client, exit::Result, output, runtime};

pub(super) fn run(args: args::Query) -> Result<()> {
    let workers = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let list = client.list_workers(ListWorkersRequest {}).await;
        Ok(list
            .map_err(|status| client::refused(&status))?
            .into_inner()
            .workers)
    })?;
    let values: Vec<Value> = workers.iter().map(to_json).collect();
    output::print(args.output.format, &values, |_| {
        let rows = workers.iter().map(row).collect();
        let header = [
            "worker", "name", "doing", "sent", "heard", "threads", "class",
        ];
        output::table(&header, rows)
    })
}

fn to_json(worker: &WorkerStatus) -> Value {
    json!({
        "worker": worker.worker,
        "name": worker.name,
        "compute_class": worker.compute_class,
        "program_version": worker.program_version,
        "threads": worker.threads,
        "doing": worker.doing,
        "contributions": worker.contributions,
        "seconds_since_heard": worker.seconds_since_heard,
    })
}

fn row(worker: &WorkerStatus) -> Vec<String> {
    vec![
        worker.worker.to_string(),
        worker.name.clone(),
        worker.doing.clone(),
        worker.contributions.to_string(),
        format!("{:.1} s ago", worker.seconds_since_heard),
        worker.threads.to_string(),
        worker.compute_class.clone(),
    ]
}
