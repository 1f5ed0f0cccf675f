//! What a run leaves on disk: checkpoints on the way and the final model. Each function begins to write
//! or takes up what came of it; when that is due is [`crate::run`]'s to decide.

use std::sync::Arc;

use super::{
    Driver, StartedRun,
    background::{self, Checkpointed, WorkDone},
    error::RunError,
    finish::add_faults,
    training::CheckpointState,
};
use crate::{
    records::events::Event,
    run::{self, RunMemory},
    trainer::checkpoint_average,
};

impl Driver {
    /// Writes a checkpoint of the weights as they are, with what the run remembers.
    pub(super) fn save(&mut self, memory: RunMemory) {
        let counters = *self.scheduler.counters();
        let Some(run) = &mut self.run else { return };
        let before = run.before;
        let Some(StartedRun { training, journal }) = &mut run.active else {
            return;
        };
        let synced = journal.syncer();
        let sync = match synced {
            Ok(sync) => sync,
            Err(error) => return run.fail(error.into()),
        };
        let Some(trainer) = training.trainer.take() else {
            return;
        };
        let mut run_state = training.run_state.clone();
        run_state.offsets = journal.offsets();
        add_faults(&mut run_state.faults, &before, &counters);
        let remembered = CheckpointState {
            run: memory,
            run_state,
        };
        let held = training.held.clone();
        let (dir, prepared) = (run.dir.clone(), Arc::clone(&training.prepared));
        let keep = training.job.train.keep_checkpoints;
        let fence = self.fence.clone();
        self.spawn(move || {
            let ready = || {
                fence.check()?;
                Ok(sync()?)
            };
            let saved =
                background::save(&dir, trainer, &prepared, (&remembered, &held), keep, ready);
            WorkDone::Checkpointed(Box::new(saved))
        });
    }

    pub(super) fn checkpointed(&mut self, checkpointed: Checkpointed) {
        let Checkpointed {
            trainer,
            step,
            result,
        } = checkpointed;
        let Some(training) = self.training_mut() else {
            return;
        };
        training.trainer = Some(trainer);
        match result {
            Ok(file) => {
                let drawn_by_scores = training.evaluates();
                tracing::debug!(file, "checkpoint");
                self.observe_checkpoint();
                self.note(Event::Checkpointed { file });
                if !drawn_by_scores {
                    self.draw();
                }
                self.advance(run::Input::Checkpointed { step });
            }
            Err(error) => self.fail(error),
        }
    }

    /// Writes the final model.
    pub(super) fn finish(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Some(StartedRun { training, .. }) = &mut run.active else {
            return;
        };
        let Some(trainer) = training.trainer.take() else {
            return;
        };
        let held = std::mem::take(&mut training.held);
        let (dir, prepared) = (run.dir.clone(), Arc::clone(&training.prepared));
        let fence = self.fence.clone();
        self.spawn(move || {
            let finished = fence.check().map_err(RunError::from);
            let mean = checkpoint_average::mean(&held);
            let weights = mean.as_ref().map_or(trainer.judged(), |mean| mean);
            let finished = finished.and_then(|()| background::finish(&dir, weights, &prepared));
            WorkDone::Finished(finished)
        });
    }
}
