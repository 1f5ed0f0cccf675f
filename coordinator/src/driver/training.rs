//! One run while it is worked on: where it stands and what comes next. It decides the order of
//! gradient passes, evaluations and checkpoints; it refuses to do any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{command::Progress, lineage::Lineage, pass::Pass, unusable::Undecodable};
use crate::{
    clip::ClipPolicy,
    corpus::Prepared,
    epochs::{EpochOutcome, EpochPolicy},
    events::{Offsets, StepMetrics, history::Kept},
    held::{self, Held},
    job::Job,
    norm_bound::{GradNormMedian, NormBound},
    plan::{EpochPlan, Plan},
    report::{Best, Metrics, Report},
    select::Figure,
    times::Times,
    update::{Counts, Trainer},
};

/// What a run remembers beside weights and optimizer; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Names the data that the run's bits depend on ([`Prepared::digest`]).
    pub corpus: String,
    /// The job of the steps so far, and what was changed in it.
    #[serde(default)]
    pub lineage: Lineage,
    pub offsets: Offsets,
    /// What came of the epochs so far.
    #[serde(default)]
    pub course: EpochPolicy,
    /// Micro-batches left out.
    pub quarantined: u64,
    /// Norms of micro-batches, where the job bounds them.
    #[serde(default)]
    pub norms: GradNormMedian,
    pub skipped_steps: u64,
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

/// What a run should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something is under way.
    Wait,
    /// Write the weights of this step down.
    Checkpoint,
    OpenGradient,
    OpenEvaluation,
    /// An epoch is over and there is nothing to score it on: take note of it.
    Hear,
    /// Score what the final model will be.
    OpenChoice,
    /// The sum is whole: update the weights.
    Update,
    /// The results are whole: score them.
    Score,
    /// Every step is done and scored: write what the run was for.
    Finish,
    /// It was asked to stop, and can be taken up again.
    Stop,
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
    /// Of the newest checkpoint.
    pub saved: Option<u64>,
    /// Nothing more is to be begun.
    pub stopping: bool,
    pub finishing: bool,
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
        saved: Option<u64>,
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
            saved,
            stopping: false,
            finishing: false,
            progress: Progress::default(),
            epoch: None,
            pace: None,
        };
        training.refresh();
        training
    }

    /// What comes next, as things stand.
    pub fn next(&self) -> Next {
        let step = self.counts.step;
        let home = self.trainer.is_some();
        let settling = self.pass.as_ref().is_some_and(Pass::is_settling);
        if self.finishing || settling {
            return Next::Wait;
        }
        if self.stopping {
            return match (home, self.saved == Some(step)) {
                (false, _) => Next::Wait,
                (true, true) => Next::Stop,
                (true, false) => Next::Checkpoint,
            };
        }
        if home && self.is_due() {
            return Next::Checkpoint;
        }
        if let Some(pass) = &self.pass {
            use proto::contribution::PassKind::{Evaluation, Gradient};
            return match (pass.is_whole(), pass.kind) {
                (true, Gradient) if home => Next::Update,
                (true, Evaluation) if home => Next::Score,
                _ => Next::Wait,
            };
        }
        let epochs_done = step / self.plan.steps_per_epoch();
        if self.is_epoch_end() && self.tally.course.epochs < epochs_done {
            // Newest weights can be scored while a checkpoint is written.
            let ready = home || (self.evaluates() && self.job.train.ema.is_none());
            return match (ready, self.evaluates()) {
                (false, _) => Next::Wait,
                (true, true) => Next::OpenEvaluation,
                (true, false) => Next::Hear,
            };
        }
        match (self.is_over(), home) {
            (false, _) => Next::OpenGradient,
            (true, false) => Next::Wait,
            (true, true) if self.chooses() && self.tally.chosen.is_none() => Next::OpenChoice,
            (true, true) => Next::Finish,
        }
    }

    /// Every step is made that will be.
    pub fn is_over(&self) -> bool {
        self.tally.course.stopped || self.counts.step == self.plan.total_steps()
    }

    /// Whether the final model is one whose score is not known yet: a mean, or an earlier epoch's.
    fn chooses(&self) -> bool {
        let last = match self.tally.course.held.as_slice() {
            [] => true,
            [only] => only.epoch == self.tally.course.epochs,
            _ => false,
        };
        self.evaluates() && !last
    }

    /// Takes note of the end of an epoch whose weights are home.
    pub fn end_epoch(&mut self, figure: Option<Figure>) -> EpochOutcome {
        let (Some(trainer), job) = (&mut self.trainer, &self.job) else {
            return EpochOutcome::default();
        };
        let course = &mut self.tally.course;
        let rules = (&job.select, &job.schedule);
        let last = self.plan.epochs();
        let outcome = course.end_epoch(rules, last, figure);
        if let Some(hold) = outcome.hold {
            held::take_up(&mut self.held, hold, trainer.judged());
        }
        trainer.set_drops(course.drops());
        outcome
    }

    pub fn evaluates(&self) -> bool {
        !self.prepared.valid.is_empty()
    }

    fn is_epoch_end(&self) -> bool {
        let step = self.counts.step;
        step > 0 && step.is_multiple_of(self.plan.steps_per_epoch())
    }

    /// Whether this step is to be written down and is not yet.
    fn is_due(&self) -> bool {
        let step = self.counts.step;
        let every = self.job.train.checkpoint_every;
        let due = self.is_epoch_end() || (step > 0 && every > 0 && step.is_multiple_of(every));
        due && self.saved != Some(step)
    }

    /// The epoch of the step that is worked on, counted from 1.
    pub fn epoch_number(&self) -> u32 {
        let last = match self.tally.course.stopped {
            true => self.counts.step,
            false => self.plan.total_steps(),
        };
        let epoch = self.plan.position(self.counts.step.min(last - 1)).epoch;
        u32::try_from(epoch + 1).unwrap_or(u32::MAX)
    }

    /// The epoch that ended with this step, counted from 1.
    pub fn epoch_ended(&self) -> u32 {
        let epoch = self.counts.step / self.plan.steps_per_epoch();
        u32::try_from(epoch).unwrap_or(u32::MAX)
    }

    /// The micro-batches of the next gradient pass.
    pub fn micro_batches(&mut self) -> Vec<Vec<u32>> {
        let position = self.plan.position(self.counts.step);
        if self.epoch.as_ref().map(|(epoch, _)| *epoch) != Some(position.epoch) {
            self.epoch = Some((position.epoch, self.plan.epoch(position.epoch)));
        }
        let (_, epoch) = self.epoch.as_ref().expect("the epoch was just planned");
        epoch.steps[position.batch as usize].micro_batches.clone()
    }

    /// How large the norm of a micro-batch may be in the next step, if the job bounds it.
    pub fn norm_bound(&self) -> Option<NormBound> {
        let ratio = self.job.train.max_norm_ratio?;
        let most = self.tally.norms.bound(ratio);
        Some(NormBound { most })
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

    /// What plateaus have multiplied the learning rate by.
    pub fn rate_factor(&self) -> f64 {
        self.job.schedule.fallen(self.tally.course.drops())
    }

    fn refresh(&mut self) {
        let left = (self.plan.total_steps() - self.counts.step) as f64;
        self.progress.step = self.counts.step;
        self.progress.steps = self.plan.total_steps();
        self.progress.epoch = self.epoch_number();
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
