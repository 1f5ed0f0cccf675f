//! What two runs of one job must have in common: everything in the report, the metrics of steps and the events
//! that is not a time, a worker or a count of what happened on the way.

use std::{fs, path::Path};

use crate::exit::{Context as _, Result};

use coordinator::records::{events::LineFile, report::REPORT as REPORT_FILE};
use serde_json::{Map, Value};

/// Figures of the report.
const REPORT: &[&str] = &[
    "status",
    "error",
    "steps",
    "applied_steps",
    "total_steps",
    "epochs",
    "weights_sha256",
    "metrics",
    "best",
    "chosen",
    "loss",
    "clipped_share",
    "quarantined",
    "audio_hours",
    "parameters",
    "train_utterances",
    "valid_utterances",
];

/// Figures of a step.
const METRICS: &[&str] = &[
    "step",
    "epoch",
    "loss",
    "grad_norm",
    "clip_coef",
    "clip_threshold",
    "share_clamped",
    "clipped",
    "lr",
    "weight",
    "utterances",
    "frames",
    "audio_seconds",
    "quarantined",
    "dominated_by",
];

/// Events that say what was decided, and not how it came about.
const DECISIONS: &[&str] = &[
    "prepared",
    "utterance-left-out",
    "evaluated",
    "chosen",
    "rate-lowered",
    "stopped-early",
    "quarantined",
    "step-skipped",
    "succeeded",
    "failed",
];

/// What one run left behind.
#[derive(Debug, PartialEq)]
pub(super) struct RunRecord {
    report: Value,
    steps: Vec<Value>,
    /// In an order of their own: what happens within a step is written as it comes in.
    decisions: Vec<String>,
}

impl RunRecord {
    /// Reads what lies in `run_dir`: the report, the metrics of steps and the events.
    ///
    /// # Errors
    /// Names a file that cannot be read.
    pub(super) fn read(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(REPORT_FILE);
        let report = fs::read(&path).with_context(|| path.display().to_string())?;
        let report: Value =
            serde_json::from_slice(&report).with_context(|| path.display().to_string())?;
        let steps = lines(&LineFile::Metrics.path(run_dir))?;
        let steps = steps.iter().map(|line| part(line, METRICS)).collect();
        let events = lines(&LineFile::Events.path(run_dir))?;
        Ok(Self {
            report: part(&report, REPORT),
            steps,
            decisions: decisions(events),
        })
    }

    pub(super) fn weights_sha256(&self) -> Option<&str> {
        self.report["weights_sha256"].as_str()
    }

    pub(super) fn steps(&self) -> u64 {
        self.report["steps"].as_u64().unwrap_or(0)
    }

    /// The first difference of each kind from `other`, in words; none when the runs are equal.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for key in REPORT {
            let (a, b) = (&self.report[key], &other.report[key]);
            if a != b {
                found.push(format!("{key}: {} / {}", short(a), short(b)));
            }
        }
        for (mine, others, which) in [
            (&self.decisions, &other.decisions, "first"),
            (&other.decisions, &self.decisions, "other"),
        ] {
            let alone = mine.iter().find(|event| !others.contains(event));
            if let Some(event) = alone {
                let event = event.chars().take(MAX_VALUE_CHARACTERS).collect::<String>();
                found.push(format!("an event of the {which} run alone: {event}"));
            }
        }
        if self.decisions.len() != other.decisions.len() {
            let (a, b) = (self.decisions.len(), other.decisions.len());
            found.push(format!("{a} / {b} events"));
        }
        if self.steps.len() != other.steps.len() {
            let (a, b) = (self.steps.len(), other.steps.len());
            found.push(format!("{a} / {b} lines of metrics"));
        }
        let mut pairs = self.steps.iter().zip(&other.steps);
        if let Some((a, b)) = pairs.find(|(a, b)| a != b) {
            let figures = METRICS.iter().filter(|key| a[**key] != b[**key]);
            let figures: Vec<String> = figures
                .map(|key| format!("{key} {} / {}", short(&a[*key]), short(&b[*key])))
                .collect();
            found.push(format!("step {}: {}", a["step"], figures.join(", ")));
        }
        found
    }
}

/// Characters of a value that a difference shows.
const MAX_VALUE_CHARACTERS: usize = 160;

fn short(value: &Value) -> String {
    value
        .to_string()
        .chars()
        .take(MAX_VALUE_CHARACTERS)
        .collect()
}

fn part(value: &Value, keys: &[&str]) -> Value {
    let kept = keys.iter().filter_map(|key| {
        let value = value.get(key)?;
        Some(((*key).to_owned(), value.clone()))
    });
    Value::Object(kept.collect::<Map<_, _>>())
}

fn decisions(events: Vec<Value>) -> Vec<String> {
    let mut decisions: Vec<String> = events
        .into_iter()
        .filter(|event| {
            let name = event["event"].as_str().unwrap_or_default();
            DECISIONS.contains(&name)
        })
        .map(|mut event| {
            if let Some(fields) = event.as_object_mut() {
                fields.remove("time");
                fields.remove("worker");
            }
            event.to_string()
        })
        .collect();
    decisions.sort();
    decisions
}

/// The lines of a file of JSON lines; none where a run ended before it wrote any.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| path.display().to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(loss: f64, seconds: f64, workers: [u64; 2]) -> RunRecord {
        let dir = tempfile::tempdir().unwrap();
        let step = |step: u64| {
            json!({"step": step, "loss": loss / step as f64, "seconds": seconds, "lr": 0.1})
                .to_string()
        };
        fs::write(
            dir.path().join("metrics.jsonl"),
            [step(1), step(2)].join("\n"),
        )
        .unwrap();
        // The order within a step is that of arrival.
        let events = workers.map(|worker| {
            json!({"event": "quarantined", "step": 1, "time": "now", "worker": worker, "micro_batch": worker})
                .to_string()
        });
        let joined = json!({"event": "worker-joined", "worker": seconds}).to_string();
        fs::write(
            dir.path().join("events.jsonl"),
            format!("{joined}\n{}", events.join("\n")),
        )
        .unwrap();
        let report = json!({"status": "succeeded", "loss": loss, "seconds": seconds, "steps": 2});
        fs::write(dir.path().join(REPORT_FILE), report.to_string()).unwrap();
        RunRecord::read(dir.path()).unwrap()
    }

    #[test]
    fn times_workers_and_the_order_of_arrival_are_no_difference() {
        let (one, other) = (run(0.5, 1.0, [1, 2]), run(0.5, 9.0, [2, 1]));
        assert!(one.differences(&other).is_empty());
        assert_eq!(one.steps(), 2);
    }

    #[test]
    fn a_figure_that_differs_is_named_with_its_first_step() {
        let (one, other) = (run(0.5, 1.0, [1, 2]), run(0.25, 1.0, [1, 3]));
        let found = one.differences(&other);
        assert_eq!(found[0], "loss: 0.5 / 0.25");
        assert!(
            found[1].starts_with("an event of the first run alone: {\"event\":\"quarantined\"")
        );
        assert!(found[2].starts_with("an event of the other run alone: "));
        assert_eq!(found[3], "step 1: loss 0.5 / 0.25");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn runs_of_other_lengths_differ() {
        let one = run(0.5, 1.0, [1, 2]);
        let mut other = run(0.5, 1.0, [1, 2]);
        other.steps.pop();
        other.decisions.pop();
        let found = one.differences(&other);
        assert!(found.contains(&"2 / 1 events".to_owned()), "{found:?}");
        assert!(
            found.contains(&"2 / 1 lines of metrics".to_owned()),
            "{found:?}"
        );
    }
}
