//! Carries out what the run's state machine ([`crate::run`]) asks for, in its order, and tells it what happened.

use std::sync::atomic::Ordering;

use super::{ActiveRun, Driver, RunError, Stop};
use crate::{
    leases::{Input, Millis},
    run::{self, Action, End},
};

impl Driver {
    /// Does what the run has asked for, until something has to be waited for.
    pub(super) async fn proceed(&mut self) {
        while self.fenced.is_none() {
            let Some(run) = &mut self.run else {
                match &mut self.stop {
                    Stop::No => {
                        if self.begin_next().await {
                            continue;
                        }
                    }
                    Stop::Asked(_) => self.stopped(),
                    Stop::Done => {}
                }
                return;
            };
            match run.actions.pop_front() {
                Some(action) => self.act(action).await,
                None => return,
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::OpenPass(opened) => self.open(opened),
            Action::ClosePass => self.tell(Input::PassClosed),
            Action::AbandonPass => {
                if let Some(training) = self.training_mut() {
                    training.pass = None;
                }
                self.tell(Input::PassClosed);
            }
            Action::Add { attempt } => self.add(attempt),
            Action::Update => self.update(),
            Action::Score => self.score(),
            Action::EndEpoch(end) => self.end_epoch(end),
            Action::Checkpoint { memory } => self.save(*memory),
            Action::Finish => self.finish(),
            Action::TellReturn { more } => self.tell_return(more),
            // The preparation hears of it, and nobody waits for it.
            Action::AbandonPreparation => {
                if let Some(run) = &self.run {
                    run.abandoned.store(true, Ordering::Relaxed);
                }
            }
            Action::End(End::Requeued) => self.put_away().await,
            Action::End(end) => {
                let ending = self.ending(end);
                self.end(ending).await;
            }
        }
    }
}

impl ActiveRun {
    /// Tells the run's state machine what happened.
    pub(super) fn advance(&mut self, input: run::Input) {
        let now = self.clock.elapsed().as_millis() as Millis;
        self.actions.extend(self.core.handle(now, input));
        if let Some(active) = &mut self.active {
            active.training.progress.epoch = self.core.epoch();
        }
    }

    /// Ends it. Of several things that go wrong the first counts.
    pub(super) fn fail(&mut self, error: RunError) {
        self.error.get_or_insert(error);
        self.advance(run::Input::Failed);
    }
}
