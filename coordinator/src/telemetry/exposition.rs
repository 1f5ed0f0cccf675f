//! How the driver's figures are written for Prometheus: names, units and what each means.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    },
    metrics::MetricType,
};
use proto::PROGRAM_VERSION;

use super::{Figures, JobFigures, storage::Storage};

/// Writes what was written down last.
#[derive(Debug)]
pub(super) struct Exposition(pub Arc<Mutex<Figures>>);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let figures = self.0.lock();
        let figures = figures.unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = Page(encoder);
        page.coordinator(&figures)?;
        page.training(&figures)?;
        if let Some(job) = &figures.job {
            page.job(job)?;
        }
        if let Some(storage) = &figures.storage {
            page.storage(storage)?;
        }
        Ok(())
    }
}

/// What is written on a scrape.
pub(super) struct Page<'a>(pub DescriptorEncoder<'a>);

impl Page<'_> {
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let mut gauge = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge.encode_gauge(&value)
    }

    /// A gauge that is left out where there is no value.
    fn known(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        match value {
            Some(value) => self.gauge(name, help, value),
            None => Ok(()),
        }
    }

    /// `_total` is added to the name.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let mut counter = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// Counters of one name; `_total` is added to it.
    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            let mut counter = family.encode_family(&labels)?;
            counter.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn coordinator(&mut self, figures: &Figures) -> fmt::Result {
        let mut info = self.0.encode_descriptor(
            "unisono_build_info",
            "The program's version",
            None,
            MetricType::Gauge,
        )?;
        info.encode_family(&[("version", PROGRAM_VERSION)])?
            .encode_gauge(&1_u64)?;
        self.gauge(
            "unisono_serving",
            "Whether the queue of jobs is worked on: 1, or 0",
            u64::from(figures.serving),
        )?;
        self.gauge(
            "unisono_generation",
            "Starts of a coordinator on the data directory",
            figures.generation,
        )?;
        let mut jobs = self.0.encode_descriptor(
            "unisono_jobs",
            "Jobs on the list, by state",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in &figures.jobs {
            jobs.encode_family(&[("state", *state)])?
                .encode_gauge(count)?;
        }
        let ended = figures.ended.iter();
        self.counters(
            "unisono_jobs_ended",
            "Jobs that ended since this start, by state and, where they failed, by cause",
            ended.map(|((state, cause), count)| ([("state", *state), ("cause", *cause)], *count)),
        )?;
        self.gauge(
            "unisono_workers",
            "Workers that have joined and are heard of",
            figures.workers,
        )?;
        self.gauge(
            "unisono_workers_waiting",
            "Workers that wait for a lease",
            figures.waiting_workers,
        )
    }

    fn training(&mut self, figures: &Figures) -> fmt::Result {
        self.counter(
            "unisono_leases",
            "Leases that workers were given",
            figures.counters.granted,
        )?;
        self.counter(
            "unisono_contributions",
            "Contributions and results that were the first for their micro-batches, and count",
            figures.counters.accepted,
        )?;
        let faults = figures.counters.faults();
        self.counters(
            "unisono_faults",
            "What went otherwise than in a run that nothing happens to, by the kinds of a report's `faults`",
            faults.map(|(kind, count)| ([("kind", kind)], count)),
        )?;
        self.counter(
            "unisono_steps_skipped",
            "Training steps that did not move the weights",
            figures.skipped_steps,
        )?;
        self.counter(
            "unisono_steps_clipped",
            "Training steps whose gradient was clipped",
            figures.clipped_steps,
        )?;
        self.counter(
            "unisono_micro_batches_left_out",
            "Micro-batches that were left out of training steps",
            figures.left_out,
        )?;
        self.counter(
            "unisono_utterances",
            "Utterances that were trained on, each epoch anew",
            figures.utterances,
        )?;
        self.counter(
            "unisono_frames",
            "Frames of features that were trained on, each epoch anew",
            figures.frames,
        )?;
        self.counter(
            "unisono_audio_seconds",
            "Audio that was trained on, each epoch anew",
            figures.audio_seconds,
        )?;
        let times = figures.times.by_name();
        let phases = times.iter().map(|(name, seconds)| {
            let phase = name.trim_end_matches("_s");
            ([("phase", phase)], *seconds)
        });
        self.counters(
            "unisono_step_phase_seconds",
            "Where the time of training steps went, added over workers; `reduce` and `update` are the coordinator's",
            phases,
        )?;
        self.counter(
            "unisono_checkpoints",
            "Checkpoints that were written",
            figures.checkpoints,
        )?;
        self.known(
            "unisono_last_checkpoint_timestamp_seconds",
            "When the last checkpoint was written, in seconds since 1970",
            figures.last_checkpoint,
        )
    }

    fn job(&mut self, job: &JobFigures) -> fmt::Result {
        self.gauge(
            "unisono_job_waits",
            "Whether the running job lacks a worker that may compute for it: 1, or 0",
            u64::from(job.waits),
        )?;
        self.gauge(
            "unisono_job_step",
            "Training steps that the running job has made",
            job.step,
        )?;
        self.gauge(
            "unisono_job_steps",
            "Training steps that the running job is to make",
            job.steps,
        )?;
        self.gauge(
            "unisono_job_epoch",
            "The running job's epoch, counted from 1",
            job.epoch,
        )?;
        self.gauge(
            "unisono_job_epochs",
            "Epochs of the running job",
            job.epochs,
        )?;
        self.known(
            "unisono_job_loss",
            "The running job's mean loss in the last step that moved the weights",
            job.loss,
        )?;
        self.known(
            "unisono_job_gradient_norm",
            "The norm of the running job's last gradient, before clipping",
            job.grad_norm,
        )?;
        self.known(
            "unisono_job_learning_rate",
            "The learning rate of the running job's last step",
            job.learning_rate,
        )?;
        self.known(
            "unisono_job_remaining_seconds",
            "Until the running job's last step, at the pace of the last ones",
            job.remaining_seconds,
        )
    }

    fn storage(&mut self, storage: &Storage) -> fmt::Result {
        self.gauge(
            "unisono_storage_free_bytes",
            "Free space of the data directory's file system",
            storage.free_bytes,
        )?;
        self.gauge(
            "unisono_storage_size_bytes",
            "Size of the data directory's file system",
            storage.size_bytes,
        )?;
        self.gauge(
            "unisono_storage_writable",
            "Whether a file could be written into the data directory: 1, or 0",
            u64::from(storage.readiness().is_ok()),
        )
    }
}
