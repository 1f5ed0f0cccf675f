//! How a job stands, for people and for scripts.

use speech::escape::escape;
use std::collections::BTreeMap;

use coordinator::records::report::Report;
use proto::v1::JobStatus;
use serde_json::{Map, Value, json};

use crate::{client, exit::Result, output, summary};

/// Prints how a job stands; `report` is the text of its report, empty where there is none.
pub(crate) fn show(job: &JobStatus, report: &str, format: output::OutputFormat) -> Result<()> {
    let json = json(job, report);
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
        lines.push(format!("waits for    {}", escape(&job.waiting_for)));
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

/// A job as scripts read it: how it stands and what `report` has, the text of its report where that is
/// wanted and there is one.
pub(crate) fn json(job: &JobStatus, report: &str) -> Value {
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
