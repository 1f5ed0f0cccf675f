//! One run while it is worked on: what it works with, and what is counted and shown of it. What comes next in it is
//! [`crate::run`]'s to decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{command::Progress, lineage::Lineage, pass::Pass, unusable::Undecodable};
use crate::{
    clip::ClipPolicy,
    corpus::Prepared,
    events::{Offsets, StepMetrics, history::Kept},
    held::Held,
    job::Job,
    leases::Millis,
    plan::{EpochPlan, Plan},
    report::{Best, Metrics, Report},
    run::{RunMemory, RunSpec},
    times::Times,
    update::{Counts, Trainer},
};

/// What is counted and shown of a run, in all its lives; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Names the data that the run's bits depend on ([`Prepared::digest`]).
    pub corpus: String,
    /// The job of the steps so far, and what was changed in it.
    #[serde(default)]
    pub lineage: Lineage,
    pub offsets: Offsets,
    /// The shares of elements that were clamped, added over the steps.
    #[serde(default)]
    pub shares_clamped: f64,
    pub faults: BTreeMap<String, u64>,
    /// Utterances whose sound workers could not decode.
    #[serde(default)]
    pub undecodable: Undecodable,
    /// Names of the workers that were granted a lease.
    pub workers: BTreeSet<String>,
    /// Coordinator starts that worked on it.
    pub lives: u64,
    pub seconds: f64,
    /// Where the time of steps went.
    #[serde(default)]
    pub times: Times,
    pub audio_seconds: f64,
    pub loss: Option<f64>,
    pub metrics: Option<Metrics>,
    pub best: Option<Best>,
    /// Of the final model, where that is not simply the last weights.
    #[serde(default)]
    pub chosen: Option<Metrics>,
    pub compute_class: Option<String>,
}

impl Tally {
    /// Takes note of what befell the run after the checkpoint, by its events and by the report of the end
    /// that was undone.
    pub fn recall(&mut self, kept: &Kept, earlier: Option<&Report>) {
        for (kind, count) in &kept.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        self.lives += kept.lives;
        let Some(earlier) = earlier else { return };
        for (kind, count) in &earlier.faults {
            let known = self.faults.entry(kind.clone()).or_default();
            *known = (*known).max(*count);
        }
        self.lives = self.lives.max(earlier.lives);
    }
}

/// What a checkpoint keeps of a run beside weights and optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    #[serde(flatten)]
    pub run: RunMemory,
    #[serde(flatten)]
    pub tally: Tally,
}

#[derive(Debug)]
pub struct Training {
    pub job: Arc<Job>,
    pub prepared: Arc<Prepared>,
    pub plan: Plan,
    /// Absent while a thread works with it.
    pub trainer: Option<Trainer>,
    /// Of the trainer, also while that is away.
    pub counts: Counts,
    pub tally: Tally,
    /// Weights that are held for the final model.
    pub held: Held,
    pub pass: Option<Pass>,
    pub progress: Progress,
    epoch: Option<(u64, EpochPlan)>,
    /// Seconds a step, of late.
    pace: Option<f64>,
}

impl Training {
    pub fn new(
        job: Arc<Job>,
        prepared: Arc<Prepared>,
        plan: Plan,
        trainer: Trainer,
        (tally, held): (Tally, Held),
    ) -> Self {
        let counts = trainer.counts();
        let mut training = Self {
            job,
            prepared,
            plan,
            trainer: Some(trainer),
            counts,
            tally,
            held,
            pass: None,
            progress: Progress::default(),
            epoch: None,
            pace: None,
        };
        training.refresh();
        training
    }

    pub fn evaluates(&self) -> bool {
        !self.prepared.valid.is_empty()
    }

    /// What the order of its passes depends on. A pass comes to nothing for `returns` at most.
    pub fn spec(&self, returns: Duration) -> RunSpec {
        let train = &self.job.train;
        RunSpec {
            steps_per_epoch: self.plan.steps_per_epoch(),
            total_steps: self.plan.total_steps(),
            checkpoint_every: train.checkpoint_every,
            keeps_average: train.ema.is_some(),
            validates: self.evaluates(),
            select: self.job.select,
            schedule: self.job.schedule,
            max_norm_ratio: train.max_norm_ratio,
            max_left_out: train.max_quarantined,
            returns_patience: returns.as_millis() as Millis,
        }
    }

    /// The micro-batches of the update pass at `step`.
    pub fn micro_batches(&mut self, step: u64) -> Vec<Vec<u32>> {
        let position = self.plan.position(step);
        if self.epoch.as_ref().map(|(epoch, _)| *epoch) != Some(position.epoch) {
            self.epoch = Some((position.epoch, self.plan.epoch(position.epoch)));
        }
        let (_, epoch) = self.epoch.as_ref().expect("the epoch was just planned");
        epoch.steps[position.batch as usize].micro_batches.clone()
    }

    /// Takes note of a step that was made.
    pub fn record(&mut self, counts: Counts, metrics: &StepMetrics) {
        /// Weight of the newest step in the pace.
        const NEWEST: f64 = 0.1;
        self.counts = counts;
        self.tally.seconds += metrics.seconds;
        self.tally.audio_seconds += metrics.audio_seconds;
        self.tally.times.add(&metrics.times);
        self.tally.shares_clamped += metrics.share_clamped.unwrap_or(0.0);
        let pace = self.pace.unwrap_or(metrics.seconds);
        self.pace = Some(pace + NEWEST * (metrics.seconds - pace));
        if metrics.loss.is_some() {
            self.tally.loss = metrics.loss;
            self.progress.grad_norm = metrics.grad_norm;
            self.progress.clip_coef = metrics.clip_coef;
            self.progress.lr = metrics.lr;
        }
        self.progress.audio_seconds_per_second = metrics.audio_seconds_per_second;
        self.refresh();
    }

    fn refresh(&mut self) {
        let left = (self.plan.total_steps() - self.counts.step) as f64;
        self.progress.step = self.counts.step;
        self.progress.steps = self.plan.total_steps();
        self.progress.epochs = self.job.train.epochs;
        self.progress.loss = self.tally.loss;
        self.progress.times = self.tally.times;
        self.progress.eta_seconds = self.pace.map(|pace| pace * left);
    }

    /// The mean over applied steps of the share of elements that were clamped, where clipping is by
    /// value.
    pub fn clamped_share(&self) -> Option<f64> {
        let by_value = self.job.clip.policy == ClipPolicy::Value;
        by_value.then(|| self.tally.shares_clamped / self.counts.applied_steps.max(1) as f64)
    }

    /// The share of applied steps in which clipping changed the gradient.
    pub fn clipped_share(&self) -> f64 {
        self.counts.clipped_steps as f64 / self.counts.applied_steps.max(1) as f64
    }
}
