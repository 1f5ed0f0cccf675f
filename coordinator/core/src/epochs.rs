//! What a run makes of its epochs: whose weights it holds for the final model, when the learning rate
//! falls, and when it ends early. It decides from the validation set's figures in the order of the
//! epochs alone, so that workers, restarts and clocks change nothing; a checkpoint keeps all of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Figure, Keep, SelectConfig},
};

/// Where a run stands. The weights that it holds lie beside it, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Epochs that were heard of.
    pub epochs: u64,
    /// Whose weights are held, in the order of epochs.
    pub held: Vec<Mark>,
    /// The best figure so far, and the epoch that had it.
    best: Option<Mark>,
    plateau: Plateau,
    /// No more epochs are to be made.
    pub stopped: bool,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Counted from 1.
    pub epoch: u64,
    pub figure: Option<Figure>,
}

/// Weights that are held, one vector for each of [`Course::held`].
pub type Held = Vec<Arc<Vec<f32>>>;

/// What followed from an epoch's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The learning rate falls from here on.
    pub lowered: bool,
    /// The run is over before its last epoch.
    pub stopped: bool,
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

impl Course {
    /// How often the learning rate fell.
    pub fn drops(&self) -> u64 {
        self.plateau.drops
    }

    /// The epoch with the best figure so far.
    pub fn best_epoch(&self) -> Option<u64> {
        self.best.map(|best| best.epoch)
    }

    /// Takes note of the next epoch's end: its `figure`, if there is one, and its `weights`, which are
    /// asked for where they are to be held. `last` is the number of the run's last epoch.
    pub fn hear(
        &mut self,
        (select, schedule): (&SelectConfig, &ScheduleConfig),
        last: u64,
        figure: Option<Figure>,
        weights: impl FnOnce() -> Vec<f32>,
        held: &mut Held,
    ) -> Heard {
        self.epochs += 1;
        let mark = Mark {
            epoch: self.epochs,
            figure,
        };
        if self.makes_room(select, &mark, held) {
            self.held.push(mark);
            held.push(Arc::new(weights()));
        }
        if mark.beats(self.best.as_ref()) {
            self.best = Some(mark);
        }
        let since_best = self.epochs - self.best_epoch().unwrap_or(0);
        let patience = u64::from(select.patience);
        self.stopped = patience > 0 && since_best >= patience && self.epochs < last;
        let plateau = schedule.kind == ScheduleKind::Plateau;
        Heard {
            lowered: plateau && self.plateau.hear(schedule, figure),
            stopped: self.stopped,
        }
    }

    /// Whether the weights of `mark` are to be held; lets go of others for them.
    fn makes_room(&mut self, select: &SelectConfig, mark: &Mark, held: &mut Held) -> bool {
        let room = select.held();
        if room == 0 {
            return false;
        }
        if self.held.len() < room {
            return true;
        }
        let place = match select.keep {
            Keep::Last => 0,
            Keep::Best => {
                // Of equally bad ones the latest goes.
                let places = 1..self.held.len();
                places.fold(0, |worst, place| {
                    let (one, other) = (&self.held[worst], &self.held[place]);
                    if other.beats(Some(one)) { worst } else { place }
                })
            }
        };
        if select.keep == Keep::Best && !mark.beats(Some(&self.held[place])) {
            return false;
        }
        self.held.remove(place);
        held.remove(place);
        true
    }
}

impl Mark {
    /// Whether it is better than `other`; what has no figure is worse than anything that has one.
    fn beats(&self, other: Option<&Self>) -> bool {
        match (self.figure, other.and_then(|other| other.figure)) {
            (Some(this), Some(other)) => this.beats(&other),
            (this, _) => this.is_some(),
        }
    }
}

impl Plateau {
    fn hear(&mut self, schedule: &ScheduleConfig, figure: Option<Figure>) -> bool {
        let better = match (figure, self.best) {
            (Some(figure), Some(best)) => figure.beats_by(schedule.threshold, &best),
            (figure, _) => figure.is_some(),
        };
        match better {
            true => (self.best, self.bad) = (figure, 0),
            false => self.bad += 1,
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

/// The mean of `held`, element by element: added in f64 in the order of epochs, divided once and
/// rounded once. `None` of nothing; one vector is its own mean.
pub fn mean(held: &Held) -> Option<Arc<Vec<f32>>> {
    use rayon::prelude::*;
    const RUN: usize = 1 << 14;
    let first = match held.as_slice() {
        [] => return None,
        [only] => return Some(Arc::clone(only)),
        [first, ..] => first,
    };
    let count = held.len() as f64;
    let mut mean = vec![0.0f32; first.len()];
    mean.par_chunks_mut(RUN)
        .enumerate()
        .for_each(|(run, mean)| {
            for (place, mean) in (run * RUN..).zip(mean) {
                let sum: f64 = held.iter().map(|weights| f64::from(weights[place])).sum();
                *mean = (sum / count) as f32;
            }
        });
    Some(Arc::new(mean))
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
        let (mut course, mut held) = (Course::default(), Held::new());
        let last = rates.len() as u64;
        for &value in rates {
            let figure = value.is_finite().then_some(Figure {
                value,
                rises: false,
            });
            let weights = || vec![(course.epochs + 1) as f32];
            let weights = weights();
            let schedule = ScheduleConfig::default();
            let heard = course.hear((select, &schedule), last, figure, || weights, &mut held);
            if heard.stopped {
                break;
            }
        }
        let epochs: Vec<u64> = course.held.iter().map(|mark| mark.epoch).collect();
        let vectors: Vec<u64> = held.iter().map(|weights| weights[0] as u64).collect();
        assert_eq!(epochs, vectors, "weights lie beside their marks");
        (epochs, course.epochs)
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
    fn the_mean_is_rounded_once() {
        assert_eq!(mean(&Held::new()), None);
        let held: Held = [[1.0f32, 1e8], [2.0, 1.0], [4.0, -1e8]]
            .map(|weights| Arc::new(weights.to_vec()))
            .to_vec();
        let expected = [(7.0f64 / 3.0) as f32, (1.0f64 / 3.0) as f32];
        assert_eq!(mean(&held).unwrap().as_slice(), expected);
        assert!(Arc::ptr_eq(&mean(&held[..1].to_vec()).unwrap(), &held[0]));
    }

    #[test]
    fn it_survives_a_checkpoint_bit_for_bit() {
        let (mut course, mut held) = (Course::default(), Held::new());
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Plateau,
            patience: 1,
            ..ScheduleConfig::default()
        };
        let select = select(Keep::Best, 4, 50);
        for epoch in 1..40 {
            let value = (0.1 * f64::from(epoch)).sin().abs();
            let figure = Some(Figure { value, rises: true });
            course.hear((&select, &schedule), 99, figure, Vec::new, &mut held);
            let json = serde_json::to_string(&course).unwrap();
            assert_eq!(serde_json::from_str::<Course>(&json).unwrap(), course);
        }
        assert!(course.drops() > 3);
    }
}
