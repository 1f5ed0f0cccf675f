//! The ends of epochs: what is scored, on which weights, and what follows from it. Each function begins
//! one thing or takes up what came of it; what follows from a score is [`crate::epochs`]'s to say.

use std::sync::Arc;

use proto::contribution::PassKind;
use speech::score::{Score, details::Taken};

use super::{
    Driver,
    background::{self, Done, Scored},
    error::RunError,
};
use crate::{
    broadcast::Encoded,
    epochs::EpochOutcome,
    events::{Event, Set},
    held,
    leases::Input,
    plan,
    report::{Best, Metrics},
    select::{Figure, Measure},
};

impl Driver {
    /// Opens the evaluation of the epoch that has ended, on the moving average where one is kept.
    pub(super) fn open_evaluation(&mut self) {
        let Some(training) = self.training() else {
            return;
        };
        let (step, wire) = (training.counts.step, training.job.train.wire);
        let trainer = training.trainer.as_ref();
        let average = trainer.and_then(|trainer| trainer.moving_average());
        let average = average.map(|average| Encoded::new(average, wire));
        self.evaluate(step, average);
    }

    /// Opens the evaluation of what the final model will be. No weights that gradients are computed
    /// from ever have its version.
    pub(super) fn open_choice(&mut self) {
        let Some(training) = self.training() else {
            return;
        };
        let (step, wire) = (training.counts.step + 1, training.job.train.wire);
        let mean = held::mean(&training.held);
        self.evaluate(step, mean.map(|mean| Encoded::new(&mean, wire)));
    }

    /// Opens a pass over the validation set, on other weights than the newest ones if there are any.
    fn evaluate(&mut self, step: u64, other: Option<Encoded>) {
        let Some(training) = self.training() else {
            return;
        };
        let valid = training.prepared.valid.iter();
        let lengths: Vec<u64> = valid.map(|item| item.frames).collect();
        let micro_batches = plan::evaluation(&lengths, training.job.train.batching());
        let epoch = training.epoch_ended();
        let averaged = other.is_some();
        self.weights.send_modify(|weights| {
            if let Some(weights) = weights {
                weights.averaged = other.map(|other| (step, Arc::new(other)));
            }
        });
        let mut pass = self.pass_over(PassKind::Evaluation, step, epoch, micro_batches);
        if let Some(pass) = &mut pass {
            pass.averaged = averaged;
        }
        self.open(pass);
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
        self.tell(Input::PassClosed);
        self.spawn(move || Done::Scored(Box::new(background::score(&prepared, &results))));
    }

    pub(super) fn scored(&mut self, scored: Scored) {
        let Scored {
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
        training.tally.seconds += pass.opened.elapsed().as_secs_f64();
        let metrics = Metrics {
            loss,
            score: score.clone(),
        };
        if pass.step > training.counts.step {
            training.tally.chosen = Some(metrics);
            let epochs = training.tally.course.held.iter().map(|mark| mark.epoch);
            let epochs = epochs.collect();
            self.note(Event::Chosen {
                epochs,
                loss,
                score: told(score).0,
            });
            return;
        }
        let this = Best::of(&score, pass.epoch, pass.step);
        let before = training.tally.best.as_ref();
        let best = match (&this, before) {
            (Some(this), Some(before)) => this.beats(before),
            (this, _) => this.is_some(),
        };
        if best {
            training.tally.best = this;
        }
        training.tally.metrics = Some(metrics);
        let by = training.job.select.by;
        let figure = Figure::of(by, &score, loss);
        // A loss that is not finite is a figure of this epoch alone; what is not there at all never comes.
        let never = figure.is_none() && (by != Measure::Loss || loss.is_none());
        let missing = training.job.needs_scores().filter(|_| never);
        let (score, confusions) = told(score);
        self.note(Event::Evaluated {
            epoch: pass.epoch,
            loss,
            best,
            score,
            confusions,
        });
        if let Some(field) = missing {
            self.fail(RunError::NoFigure { field, by });
            return;
        }
        self.end_epoch(figure);
        self.draw();
    }

    /// Takes note of the end of an epoch, and says what follows.
    pub(super) fn end_epoch(&mut self, figure: Option<Figure>) {
        let Some(training) = self.training_mut() else {
            return;
        };
        let EpochOutcome {
            lowered, stopped, ..
        } = training.end_epoch(figure);
        let (epoch, factor) = (training.epoch_ended(), training.rate_factor());
        let best_epoch = training.tally.course.best_epoch().unwrap_or(0);
        if lowered {
            self.note(Event::RateLowered { factor });
        }
        if stopped {
            self.note(Event::StoppedEarly { epoch, best_epoch });
        }
        if let Some(training) = self.training()
            && let Some(field) = training.job.needs_scores()
            && training.is_over()
            && best_epoch == 0
        {
            let by = training.job.select.by;
            self.fail(RunError::NeverFinite { field, by });
        }
    }
}

/// A score as an event tells it, which comes with each epoch: without all confusions, and the commonest of
/// them. Which class was taken for which grows with the classes and the utterances; the report has it once.
fn told(score: Score) -> (Score, Vec<Taken>) {
    const TOLD: usize = 10;
    let confusions = score.confusion.as_ref().map(|all| all.commonest(TOLD));
    let score = Score {
        confusion: None,
        ..score
    };
    (score, confusions.unwrap_or_default())
}
