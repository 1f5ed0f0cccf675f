//! Writes down, for whoever watches the coordinator, how the driver stands. It decides nothing and reads what is there.

use std::collections::BTreeMap;

use speech::error_class::Class;

use super::{ActiveRun, Driver, Stop};
use crate::{
    records::timestamp,
    store::JobState,
    telemetry::{Figures, JobFigures},
};

impl Driver {
    /// Writes down how things stand.
    pub(super) fn observe(&mut self) {
        let recount = std::mem::take(&mut self.jobs_changed);
        let jobs = recount.then(|| self.jobs_by_state());
        let job = self.run.as_ref().map(|run| self.job_figures(run));
        let serving = matches!(self.stop, Stop::No) && self.fenced.is_none();
        self.telemetry.update(|figures| {
            *figures = Figures {
                serving,
                generation: self.scheduler.generation(),
                jobs: jobs.unwrap_or_else(|| std::mem::take(&mut figures.jobs)),
                workers: self.registry.len() as u64,
                waiting_workers: self.waiting.len() as u64,
                counters: *self.scheduler.counters(),
                job,
                ..std::mem::take(figures)
            };
        });
    }

    fn jobs_by_state(&self) -> BTreeMap<&'static str, u64> {
        const STATES: [JobState; 5] = [
            JobState::Queued,
            JobState::Running,
            JobState::Succeeded,
            JobState::Failed,
            JobState::Cancelled,
        ];
        let mut jobs: BTreeMap<_, _> = STATES.map(|state| (name(state), 0)).into();
        for (_, entry) in self.store().jobs().iter() {
            *jobs.entry(name(entry.state)).or_default() += 1;
        }
        jobs
    }

    fn job_figures(&self, run: &ActiveRun) -> JobFigures {
        let mut figures = JobFigures {
            waits: self.lack(run).is_some(),
            ..JobFigures::default()
        };
        if let Some(active) = &run.active {
            let progress = &active.training.progress;
            figures.step = progress.step;
            figures.steps = progress.steps;
            figures.epoch = progress.epoch;
            figures.epochs = progress.epochs;
            figures.loss = progress.loss;
            figures.grad_norm = progress.grad_norm;
            figures.learning_rate = progress.lr;
            figures.remaining_seconds = progress.eta_seconds;
        }
        figures
    }

    /// Writes down that a job has ended.
    pub(super) fn observe_end(&self, state: JobState, cause: Option<Class>) {
        let cause = match cause {
            None => "",
            Some(Class::Training) => "training",
            Some(Class::Usage) => "usage",
            Some(Class::Data) => "data",
            Some(Class::Infrastructure) => "infrastructure",
        };
        self.telemetry.update(|figures| {
            *figures.ended.entry((name(state), cause)).or_default() += 1;
        });
    }

    /// Writes down that a checkpoint was written.
    pub(super) fn observe_checkpoint(&self) {
        let now = timestamp::now().as_millisecond() as f64 / 1000.0;
        self.telemetry.update(|figures| {
            figures.checkpoints += 1;
            figures.last_checkpoint = Some(now);
        });
    }
}

const fn name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}
