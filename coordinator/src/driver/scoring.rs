//! The ends of epochs: what is scored, on which weights, and what follows from it. Each function begins
//! one thing or takes up what came of it; what follows from a score is [`crate::epochs`]'s to decide.

use std::sync::Arc;

use speech::score::{Score, details::Taken};

use super::{
    ActiveRun, Driver,
    background::{self, ScoreDone, WorkDone},
};
use crate::{
    broadcast::Encoded,
    records::{
        events::{Event, Set},
        report::{Best, Metrics},
    },
    run::{self, EpochEnd, OpenPass, Purpose},
    select::{Figure, Measure},
    trainer::checkpoint_average,
};

impl Driver {
    /// Makes the weights available that an evaluation is about, where they are not the newest ones: a moving average,
    /// or what the final model will be. Says whether there are such.
    pub(super) fn offer_averaged(&mut self, opened: &OpenPass) -> bool {
        let Some(training) = self.training() else {
            return false;
        };
        let wire = training.job.train.wire;
        let trainer = training.trainer.as_ref();
        let other = match opened.purpose {
            Purpose::Update | Purpose::Evaluate { average: false } => None,
            Purpose::Evaluate { average: true } => trainer
                .and_then(|trainer| trainer.moving_average())
                .map(|average| Encoded::new(average, wire)),
            Purpose::Choose => {
                checkpoint_average::mean(&training.held).map(|mean| Encoded::new(&mean, wire))
            }
        };
        let averaged = other.is_some();
        self.weights.send_modify(|weights| {
            if let Some(weights) = weights {
                weights.averaged = other.map(|other| (opened.version, Arc::new(other)));
            }
        });
        averaged
    }

    /// Scores the results of an evaluation pass.
    pub(super) fn score(&mut self) {
        let Some(training) = self.training_mut() else {
            return;
        };
        let prepared = Arc::clone(&training.prepared);
        let Some(pass) = &mut training.pass else {
            return;
        };
        let results = pass.settle_results();
        self.spawn(move || WorkDone::Scored(Box::new(background::score(&prepared, &results))));
    }

    pub(super) fn scored(&mut self, scored: ScoreDone) {
        let ScoreDone {
            score,
            loss,
            unusable,
        } = scored;
        self.record_unusable(Set::Valid, unusable);
        let Some(training) = self.training_mut() else {
            return;
        };
        let Some(pass) = training.pass.take() else {
            return;
        };
        training.run_state.seconds += pass.opened.elapsed().as_secs_f64();
        let metrics = Metrics {
            loss,
            score: score.clone(),
        };
        if pass.purpose == Purpose::Choose {
            training.run_state.chosen = Some(metrics);
            let epochs = self.run.as_ref().map(ActiveRun::held_epochs);
            self.note(Event::Chosen {
                epochs: epochs.unwrap_or_default(),
                loss,
                score: without_most_confusions(score).0,
            });
            let (figure, possible) = (None, true);
            return self.advance(run::Input::Scored { figure, possible });
        }
        let this = Best::of(&score, pass.epoch, pass.step);
        let before = training.run_state.best.as_ref();
        let best = match (&this, before) {
            (Some(this), Some(before)) => this.beats(before),
            (this, _) => this.is_some(),
        };
        if best {
            training.run_state.best = this;
        }
        training.run_state.metrics = Some(metrics);
        let by = training.job.select.by;
        let figure = Figure::of(by, &score, loss);
        // A loss that is not finite is a figure of this epoch alone; what is not there at all never comes.
        let possible = figure.is_some() || (by == Measure::Loss && loss.is_some());
        let (score, confusions) = without_most_confusions(score);
        self.note(Event::Evaluated {
            epoch: pass.epoch,
            loss,
            best,
            score,
            confusions,
        });
        self.advance(run::Input::Scored { figure, possible });
    }

    /// Does what follows from the end of an epoch.
    pub(super) fn end_epoch(&mut self, end: EpochEnd) {
        let Some(training) = self.training_mut() else {
            return;
        };
        let Some(trainer) = &mut training.trainer else {
            return;
        };
        if let Some(hold) = end.outcome.hold {
            checkpoint_average::take_up(&mut training.held, hold, trainer.judged());
        }
        trainer.set_drops(end.drops);
        let factor = training.job.schedule.fallen(end.drops);
        let evaluates = training.evaluates();
        if end.outcome.lowered {
            self.note(Event::RateLowered { factor });
        }
        if end.outcome.stopped {
            self.note(Event::StoppedEarly {
                epoch: end.epoch,
                best_epoch: end.best_epoch.unwrap_or(0),
            });
        }
        if evaluates {
            self.draw();
        }
    }
}

/// A score as an event tells it, which comes with each epoch: without all confusions, and the commonest of
/// them. Which class was taken for which grows with the classes and the utterances; the report has it once.
fn without_most_confusions(score: Score) -> (Score, Vec<Taken>) {
    const MAX_TOLD_CONFUSIONS: usize = 10;
    let confusions = score
        .confusion
        .as_ref()
        .map(|all| all.commonest(MAX_TOLD_CONFUSIONS));
    let score = Score {
        confusion: None,
        ..score
    };
    (score, confusions.unwrap_or_default())
}
