//! The epoch policy: whose weights a run holds for the final model (model selection), when the learning rate falls
//! (reduce on a plateau), and when training ends early (early stopping). It decides from the validation set's figures
//! in the order of the epochs alone, so that workers, restarts and clocks change nothing; a checkpoint keeps all of it.
//! The weights themselves are the caller's: [`EpochOutcome`] says which to hold and which to let go.

use serde::{Deserialize, Serialize};

use crate::{
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Figure, Keep, SelectConfig},
};

/// Where a run stands. The weights that it holds lie with the caller, in the order of [`EpochPolicy::held`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochPolicy {
    /// Epochs that have ended.
    pub epochs: u64,
    /// Whose weights are held, in the order of epochs.
    pub held: Vec<ScoredEpoch>,
    /// The best figure so far, and the epoch that had it.
    best: Option<ScoredEpoch>,
    plateau: Plateau,
    /// Training is over before its last epoch.
    pub stopped: bool,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredEpoch {
    /// Counted from 1.
    pub epoch: u64,
    /// What epochs are compared by; `None` where the validation set does not give it as a number.
    pub figure: Option<Figure>,
}

/// What follows from an epoch's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochOutcome {
    /// The weights of this epoch's end are to be held.
    pub hold: Option<Hold>,
    /// The learning rate falls from here on.
    pub lowered: bool,
    /// Training is over before its last epoch.
    pub stopped: bool,
}

/// How the weights of an epoch's end are taken up among those that are held: behind the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The place of the weights that are let go for them first.
    pub replaces: Option<usize>,
}

/// `ReduceLROnPlateau` as torch has it, with a relative threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plateau {
    best: Option<Figure>,
    /// Epochs in a row that were not better.
    bad: u32,
    /// Epochs that are not counted yet.
    cooldown: u32,
    /// How often the rate fell.
    drops: u64,
}

impl EpochPolicy {
    /// How often the learning rate fell.
    pub fn drops(&self) -> u64 {
        self.plateau.drops
    }

    /// The epoch with the best figure so far, counted from 1.
    pub fn best_epoch(&self) -> Option<u64> {
        self.best.map(|best| best.epoch)
    }

    /// Ends the next epoch with the validation set's `figure`, if there is one. `last` is the number of the run's last
    /// epoch, counted from 1.
    pub fn end_epoch(
        &mut self,
        (select, schedule): (&SelectConfig, &ScheduleConfig),
        last: u64,
        figure: Option<Figure>,
    ) -> EpochOutcome {
        self.epochs += 1;
        let mark = ScoredEpoch {
            epoch: self.epochs,
            figure,
        };
        let hold = self.room_for(select, &mark);
        if let Some(Hold { replaces }) = hold {
            if let Some(place) = replaces {
                self.held.remove(place);
            }
            self.held.push(mark);
        }
        if mark.beats(self.best.as_ref()) {
            self.best = Some(mark);
        }
        let since_best = self.epochs - self.best_epoch().unwrap_or(0);
        let patience = u64::from(select.patience);
        self.stopped = patience > 0 && since_best >= patience && self.epochs < last;
        let plateau = schedule.kind == ScheduleKind::Plateau;
        EpochOutcome {
            hold,
            lowered: plateau && self.plateau.end_epoch(schedule, figure),
            stopped: self.stopped,
        }
    }

    /// Whether the weights of `mark` are to be held, and in whose place.
    fn room_for(&self, select: &SelectConfig, mark: &ScoredEpoch) -> Option<Hold> {
        let room = select.held();
        if room == 0 {
            return None;
        }
        if self.held.len() < room {
            return Some(Hold { replaces: None });
        }
        let place = match select.keep {
            Keep::Last => 0,
            Keep::Best => {
                // Where several are equally bad, the latest goes.
                let places = 1..self.held.len();
                places.fold(0, |worst, place| {
                    let (one, other) = (&self.held[worst], &self.held[place]);
                    if other.beats(Some(one)) { worst } else { place }
                })
            }
        };
        let better = select.keep == Keep::Last || mark.beats(Some(&self.held[place]));
        better.then_some(Hold {
            replaces: Some(place),
        })
    }
}

impl ScoredEpoch {
    /// Whether it is better than `other`; what has no figure is worse than anything that has one.
    fn beats(&self, other: Option<&Self>) -> bool {
        match (self.figure, other.and_then(|other| other.figure)) {
            (Some(this), Some(other)) => this.beats(&other),
            (this, _) => this.is_some(),
        }
    }
}

impl Plateau {
    fn end_epoch(&mut self, schedule: &ScheduleConfig, figure: Option<Figure>) -> bool {
        let better = match (figure, self.best) {
            (Some(figure), Some(best)) => figure.beats_by(schedule.threshold, &best),
            (figure, _) => figure.is_some(),
        };
        if better {
            (self.best, self.bad) = (figure, 0)
        } else {
            self.bad += 1
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.bad = 0;
        }
        let lowered = self.bad > schedule.patience;
        if lowered {
            self.drops += 1;
            self.cooldown = schedule.cooldown;
            self.bad = 0;
        }
        lowered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(keep: Keep, average: usize, patience: u32) -> SelectConfig {
        SelectConfig {
            keep,
            average,
            patience,
            ..SelectConfig::default()
        }
    }

    /// Epochs held, and the number of epochs made, of a run with these error rates.
    fn run(select: &SelectConfig, rates: &[f64]) -> (Vec<u64>, u64) {
        let mut policy = EpochPolicy::default();
        let mut vectors = Vec::new();
        let last = rates.len() as u64;
        for (epoch, &value) in (1..).zip(rates) {
            let figure = value.is_finite().then_some(Figure {
                value,
                rises: false,
            });
            let schedule = ScheduleConfig::default();
            let outcome = policy.end_epoch((select, &schedule), last, figure);
            if let Some(Hold { replaces }) = outcome.hold {
                replaces.map(|place| vectors.remove(place));
                vectors.push(epoch);
            }
            if outcome.stopped {
                break;
            }
        }
        let epochs: Vec<u64> = policy.held.iter().map(|mark| mark.epoch).collect();
        assert_eq!(epochs, vectors, "weights lie beside their marks");
        (epochs, policy.epochs)
    }

    const RATES: [f64; 7] = [0.9, 0.4, 0.5, 0.3, 0.4, f64::NAN, 0.6];

    #[test]
    fn the_last_ones_are_held_and_the_best_ones_with_the_earlier_of_equals() {
        let held = |keep, average| run(&select(keep, average, 0), &RATES).0;
        assert_eq!(held(Keep::Last, 1), [] as [u64; 0]);
        assert_eq!(held(Keep::Last, 3), [5, 6, 7]);
        assert_eq!(held(Keep::Best, 1), [4]);
        assert_eq!(held(Keep::Best, 2), [2, 4]);
        assert_eq!(held(Keep::Best, 3), [2, 4, 5]);
        assert_eq!(held(Keep::Best, 9), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_run_ends_after_as_many_epochs_without_a_better_one() {
        let epochs = |patience| run(&select(Keep::Last, 1, patience), &RATES).1;
        assert_eq!([0, 1, 2, 3, 4].map(epochs), [7, 3, 6, 7, 7]);
        let without = run(&select(Keep::Last, 1, 2), &[f64::NAN; 5]).1;
        assert_eq!(without, 2, "what has no figure is no better");
    }

    #[test]
    fn it_survives_a_checkpoint_bit_for_bit() {
        let mut policy = EpochPolicy::default();
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Plateau,
            patience: 1,
            ..ScheduleConfig::default()
        };
        let select = select(Keep::Best, 4, 50);
        for epoch in 1..40 {
            let value = (0.1 * f64::from(epoch)).sin().abs();
            let figure = Some(Figure { value, rises: true });
            policy.end_epoch((&select, &schedule), 99, figure);
            let json = serde_json::to_string(&policy).unwrap();
            assert_eq!(serde_json::from_str::<EpochPolicy>(&json).unwrap(), policy);
        }
        assert!(policy.drops() > 3);
    }
}
