//! One run while it is worked on: what it works with, and what is counted and shown of it. What comes next in it is
//! [`crate::run`]'s to decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{command::Progress, left_out::Undecodable, lineage::Lineage, pass::PassData};
use crate::{
    compute_class::Pin,
    corpus::Prepared,
    job::Job,
    leases::Millis,
    plan::{EpochPlan, Plan},
    records::{
        events::{Offsets, StepMetrics, history::KeptEvents},
        report::{Best, Metrics, Report},
        times::Times,
    },
    run::{RunMemory, RunSpec},
    trainer::{Counts, Trainer, checkpoint_average::HeldWeights},
};

/// What is counted and shown of a run, in all its lives; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunState {
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
    /// The score of the final model, where that is not simply the last weights.
    #[serde(default)]
    pub chosen: Option<Metrics>,
    pub compute_class: Option<String>,
}

impl RunState {
    /// Takes note of what befell the run after the checkpoint, by its events and by the report of the end
    /// that was undone.
    pub(super) fn recall(&mut self, kept: &KeptEvents, earlier: Option<&Report>) {
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
pub(super) struct CheckpointState {
    #[serde(flatten)]
    pub run: RunMemory,
    #[serde(flatten)]
    pub run_state: RunState,
}

#[derive(Debug)]
pub(super) struct Training {
    pub job: Arc<Job>,
    pub prepared: Arc<Prepared>,
    pub plan: Plan,
    /// Absent while a thread works with it.
    pub trainer: Option<Trainer>,
    /// The trainer's counts, also while another thread has the trainer.
    pub counts: Counts,
    pub run_state: RunState,
    /// Weights that are held for the final model.
    pub held: HeldWeights,
    pub pass: Option<PassData>,
    pub progress: Progress,
    epoch: Option<(u64, EpochPlan)>,
    /// Seconds a step, of late.
    pace: Option<f64>,
}

impl Training {
    pub(super) fn new(
        job: Arc<Job>,
        prepared: Arc<Prepared>,
        plan: Plan,
        trainer: Trainer,
        (run_state, held): (RunState, HeldWeights),
    ) -> Self {
        let counts = trainer.counts();
        let mut training = Self {
            job,
            prepared,
            plan,
            trainer: Some(trainer),
            counts,
            run_state,
            held,
            pass: None,
            progress: Progress::default(),
            epoch: None,
            pace: None,
        };
        training.refresh();
        training
    }

    pub(super) fn evaluates(&self) -> bool {
        !self.prepared.valid.is_empty()
    }

    /// What decides which workers may compute for it.
    pub(super) fn class_pin(&self) -> Pin<'_> {
        Pin {
            policy: self.job.compute_class,
            pinned: self.run_state.compute_class.as_deref(),
            may_change: self.run_state.lineage.may_change_class,
        }
    }

    /// What the order of its passes depends on. A pass comes to nothing for `returns` at most.
    pub(super) fn spec(&self, returns: Duration) -> RunSpec {
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
    pub(super) fn micro_batches(&mut self, step: u64) -> Vec<Vec<u32>> {
        let position = self.plan.position(step);
        if self.epoch.as_ref().map(|(epoch, _)| *epoch) != Some(position.epoch) {
            self.epoch = Some((position.epoch, self.plan.epoch(position.epoch)));
        }
        let (_, epoch) = self.epoch.as_ref().expect("the epoch was just planned");
        epoch.steps[position.batch as usize].micro_batches.clone()
    }

    /// Takes note of a step that was made.
    pub(super) fn record(&mut self, counts: Counts, metrics: &StepMetrics) {
        /// Weight of the newest step in the pace.
        const NEWEST_STEP_WEIGHT: f64 = 0.1;
        self.counts = counts;
        self.run_state.seconds += metrics.seconds;
        self.run_state.audio_seconds += metrics.audio_seconds;
        self.run_state.times.add(&metrics.times);
        self.run_state.shares_clamped += metrics.share_clamped.unwrap_or(0.0);
        let pace = self.pace.unwrap_or(metrics.seconds);
        self.pace = Some(pace + NEWEST_STEP_WEIGHT * (metrics.seconds - pace));
        if metrics.loss.is_some() {
            self.run_state.loss = metrics.loss;
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
        self.progress.loss = self.run_state.loss;
        self.progress.times = self.run_state.times;
        self.progress.eta_seconds = self.pace.map(|pace| pace * left);
    }

    /// The mean over applied steps of the share of elements that clipping changed, where it need not be all
    /// or none.
    pub(super) fn clamped_share(&self) -> Option<f64> {
        let parts = self.job.clip.changes_parts();
        parts.then(|| self.run_state.shares_clamped / self.counts.applied_steps.max(1) as f64)
    }

    /// The share of applied steps in which clipping changed the gradient.
    pub(super) fn clipped_share(&self) -> f64 {
        self.counts.clipped_steps as f64 / self.counts.applied_steps.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// As program version 0.1.0 of 2026-11-27 wrote it, before the run's state machine had a memory of its own.
    const WRITTEN: &str = r#"{"corpus":"84e5796137096d807ddb63acc7f0e14c55847332e39064870fcd8d838416aef3","lineage":{
        "job":"name = \"digits-ctc\"\n","init":null,"permissions":0,"amendments":[]},"offsets":{
        "events":7130,"metrics":530174},"course":{"epochs":13,"held":[{"epoch":7,"figure":{
        "value":0.027259684361549498,"rises":false}}],"best":{"epoch":7,"figure":{
        "value":0.027259684361549498,"rises":false}},"plateau":{"best":null,"bad":0,"cooldown":0,"drops":0},
        "stopped":false},"quarantined":2,"norms":[0.125,3.5],"skipped_steps":1,"shares_clamped":0.0,
        "faults":{"audited":0,"differed":0,"duplicates":0,"expired":0,"foreign":0,"given_back":0,
        "interrupted":0,"joins":2,"late":5,"leaves":0,"lost":0,"quarantined_workers":0,"recomputed":5,
        "restarted":0,"retries":0,"stale":0,"unaudited":0},"undecodable":{"train":{"places":[],"summary":{
        "utterances":0,"of":0,"by_reason":{},"examples":[]}},"valid":{"places":[],"summary":{"utterances":0,
        "of":0,"by_reason":{},"examples":[]}}},"workers":["worker-1","worker-2"],"lives":1,
        "seconds":31.66327794499999,"times":{"compute_s":35.09716906899996,"features_s":4.305055227000001,
        "pull_s":1.3972645489999995,"push_s":4.595051649,"wait_s":14.929712760000019,"reduce_s":1.044791601,
        "update_s":2.0961835620000007},"audio_seconds":32335.222500000036,"loss":0.03742578863599222,
        "metrics":{"loss":0.5305443633670306,"utterances":200,"wer":0.027259684361549498,
        "cer":0.007016473459426479,"word_errors":{"substitutions":18,"deletions":1,"insertions":0,
        "reference":697},"char_errors":{"substitutions":4,"deletions":17,"insertions":2,"reference":3278}},
        "best":{"epoch":7,"step":525,"metric":"wer","value":0.027259684361549498},"chosen":null,
        "compute_class":"flex/x86_64+avx512f/0.1.0"}"#;

    #[test]
    fn a_checkpoint_of_before_is_read_and_written_under_the_same_names() {
        let remembered: CheckpointState = serde_json::from_str(WRITTEN).unwrap();
        let CheckpointState { run, run_state } = &remembered;
        assert_eq!((run.left_out, run.skipped_steps), (2, 1));
        assert_eq!((run.policy.epochs, run.policy.best_epoch()), (13, Some(7)));
        assert_eq!(run.norms.bound(1.0), None);
        assert_eq!((run_state.lives, run_state.workers.len()), (1, 2));
        let written = serde_json::to_value(&remembered).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(WRITTEN).unwrap());
        let again = serde_json::to_string(&remembered).unwrap();
        assert_eq!(
            serde_json::from_str::<CheckpointState>(&again).unwrap(),
            remembered
        );
    }
}
