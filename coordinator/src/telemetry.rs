//! Figures of a running coordinator for a monitoring system: what the driver and the server are doing, by the names
//! and units that Prometheus' conventions ask for. Labels have a fixed set of values: nothing that a peer chooses is
//! one. The driver writes figures down as they change; whoever reads them does not disturb it.

mod exposition;
mod process;
mod storage;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{
    leases::Counters,
    records::{events::StepMetrics, times::Times},
};

pub(crate) use storage::watch;

/// Seconds: from a toy on one host to a large model on many.
const STEP_SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// The figures of one coordinator. Its clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    figures: Arc<Mutex<Figures>>,
    steps: Histogram,
    requests: Family<RequestLabels, Counter>,
    registry: Arc<Registry>,
}

/// A method and a gRPC code.
type RequestLabels = [(&'static str, &'static str); 2];

/// What was written down last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Whether the queue is worked on.
    pub serving: bool,
    /// Counts the starts on the data directory.
    pub generation: u64,
    /// Jobs by state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Jobs that ended in this life, by state and cause.
    pub ended: BTreeMap<(&'static str, &'static str), u64>,
    pub workers: u64,
    /// Workers that wait for a lease.
    pub waiting_workers: u64,
    pub counters: Counters,
    pub skipped_steps: u64,
    pub clipped_steps: u64,
    pub left_out: u64,
    pub utterances: u64,
    pub frames: u64,
    pub audio_seconds: f64,
    pub times: Times,
    pub checkpoints: u64,
    /// Seconds since 1970.
    pub last_checkpoint: Option<f64>,
    /// The running job.
    pub job: Option<JobFigures>,
    pub storage: Option<storage::Storage>,
}

/// How far the running job is.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobFigures {
    /// Whether it lacks a worker.
    pub waits: bool,
    pub step: u64,
    pub steps: u64,
    pub epoch: u32,
    pub epochs: u32,
    pub loss: Option<f64>,
    pub grad_norm: Option<f64>,
    pub learning_rate: Option<f64>,
    pub remaining_seconds: Option<f64>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let figures = Arc::new(Mutex::new(Figures::default()));
        let steps = Histogram::new(STEP_SECONDS);
        let requests = Family::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(exposition::Exposition(Arc::clone(&figures))));
        registry.register_collector(Box::new(process::Process));
        registry.register(
            "unisono_step_duration_seconds",
            "Time from the opening of a training step to its weight update",
            steps.clone(),
        );
        registry.register(
            "unisono_requests",
            "Calls by gRPC method and by the code that the answer began with",
            requests.clone(),
        );
        Self {
            figures,
            steps,
            requests,
            registry: Arc::new(registry),
        }
    }
}

impl Telemetry {
    /// All figures in Prometheus' text format, version 0.0.4.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a string takes what is written");
        text
    }

    /// The media type of [`Self::text`].
    pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

    /// # Errors
    /// Why no job can be worked on now.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let figures = self.figures();
        if !figures.serving {
            return Err("the queue of jobs is not worked on".to_owned());
        }
        match &figures.storage {
            None => Err("the data directory was not looked at yet".to_owned()),
            Some(storage) => storage.readiness(),
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures());
    }

    /// A step that was made, or `skipped`.
    pub(crate) fn record_step(&self, metrics: &StepMetrics, skipped: bool) {
        self.steps.observe(metrics.seconds);
        let mut figures = self.figures();
        figures.skipped_steps += u64::from(skipped);
        figures.clipped_steps += u64::from(metrics.clipped);
        figures.left_out += metrics.quarantined;
        figures.utterances += metrics.utterances;
        figures.frames += metrics.frames;
        figures.audio_seconds += metrics.audio_seconds;
        figures.times.add(&metrics.times);
    }

    /// A call of `method`, whose answer began with `code`.
    pub(crate) fn record_request(&self, method: &'static str, code: &'static str) {
        let labels = [("method", method), ("code", code)];
        self.requests.get_or_create(&labels).inc();
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        // Nothing panics while it is held, and figures are whole in any case.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_have_conventional_names() {
        let telemetry = Telemetry::default();
        telemetry.record_request("Submit", "OK");
        telemetry.update(|figures| {
            figures.job = Some(JobFigures {
                loss: Some(0.5),
                grad_norm: Some(2.0),
                learning_rate: Some(0.1),
                remaining_seconds: Some(60.0),
                ..JobFigures::default()
            });
            figures.counters.expired = 3;
            figures.ended = [(("failed", "data"), 1)].into();
            figures.last_checkpoint = Some(1.5);
        });
        let text = telemetry.text();
        let mut types = 0;
        for line in text.lines() {
            let Some(described) = line.strip_prefix("# TYPE ") else {
                continue;
            };
            types += 1;
            let (name, kind) = described.split_once(' ').unwrap();
            assert!(
                name.starts_with("unisono_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert_eq!(
                text.matches(&format!("# TYPE {name} ")).count(),
                1,
                "{name}"
            );
        }
        assert!(types > 30, "{text}");
        for line in [
            "unisono_requests_total{method=\"Submit\",code=\"OK\"} 1",
            "unisono_faults_total{kind=\"expired\"} 3",
            "unisono_jobs_ended_total{state=\"failed\",cause=\"data\"} 1",
            "unisono_job_loss 0.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let text = Telemetry::default().text();
        for name in ["unisono_job_loss", "unisono_job_step", "unisono_storage_"] {
            assert!(!text.contains(name), "{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn jobs_can_run_only_once_the_queue_is_taken_up_and_the_disk_is_known() {
        let telemetry = Telemetry::default();
        assert!(telemetry.readiness().is_err());
        telemetry.update(|figures| figures.serving = true);
        assert!(telemetry.readiness().is_err());
    }
}
