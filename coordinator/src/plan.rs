//! The plan of a job: which utterances make up which step. A pure function of the utterances'
//! lengths, the batch sizes and the seed; it refuses to know how many workers there are.

use speech::batching::{self, BatchConfig, BatchError, GlobalBatch};
use thiserror::Error;

/// A plan that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("there is no utterance to train on")]
    Empty,
    #[error("`train.epochs` is 0; it must be 1 or more")]
    NoEpochs,
    #[error("`train.{}` is 0; it must be 1 or more", .0.field)]
    Batch(#[from] BatchError),
    #[error("{epochs} epochs of {steps} steps are more than can be counted")]
    TooLong { epochs: u64, steps: u64 },
}

/// The steps of a job.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the training utterances, in the manifest's order.
    lengths: Vec<u64>,
    config: BatchConfig,
    seed: u64,
    epochs: u64,
    /// The first ones, which go from short utterances to long ones.
    ascending: u64,
    total_steps: u64,
}

/// Where a step lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counted from 0.
    pub epoch: u64,
    /// The global batch in its epoch, counted from 0.
    pub batch: u64,
}

/// One epoch's steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochPlan {
    pub steps: Vec<GlobalBatch>,
}

impl Plan {
    /// For training utterances of `lengths` (in frames or any other unit of work).
    ///
    /// # Errors
    /// When there is no step to make, or more than can be counted.
    pub fn new(
        lengths: Vec<u64>,
        config: BatchConfig,
        seed: u64,
        epochs: u64,
    ) -> Result<Self, PlanError> {
        config.validate()?;
        if lengths.is_empty() {
            return Err(PlanError::Empty);
        }
        if epochs == 0 {
            return Err(PlanError::NoEpochs);
        }
        let steps = lengths.len().div_ceil(config.batch) as u64;
        let total_steps = steps
            .checked_mul(epochs)
            .ok_or(PlanError::TooLong { epochs, steps })?;
        Ok(Self {
            lengths,
            config,
            seed,
            epochs,
            ascending: 0,
            total_steps,
        })
    }

    /// The same with `epochs` at the beginning that go from short utterances to long ones.
    #[must_use]
    pub fn ascending(self, epochs: u64) -> Self {
        Self {
            ascending: epochs,
            ..self
        }
    }

    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    pub fn steps_per_epoch(&self) -> u64 {
        self.total_steps / self.epochs
    }

    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Where `step`, counted from 0, lies.
    pub fn position(&self, step: u64) -> Position {
        let steps = self.steps_per_epoch();
        Position {
            epoch: step / steps,
            batch: step % steps,
        }
    }

    /// The steps of `epoch`, counted from 0. Costs a shuffle of the corpus: keep it for the epoch.
    pub fn epoch(&self, epoch: u64) -> EpochPlan {
        let order = match epoch < self.ascending {
            true => batching::ascending,
            false => batching::epoch,
        };
        EpochPlan {
            steps: order(&self.lengths, self.config, self.seed, epoch),
        }
    }
}

/// The micro-batches of an evaluation over utterances of `lengths`: each once, by length.
pub fn evaluation(lengths: &[u64], config: BatchConfig) -> Vec<Vec<u32>> {
    batching::sequential(lengths, config.micro_batch.min(config.batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BatchConfig = BatchConfig {
        batch: 8,
        micro_batch: 3,
    };

    fn plan(epochs: u64) -> Plan {
        Plan::new((0..50).collect(), CONFIG, 4, epochs).unwrap()
    }

    #[test]
    fn every_step_has_its_place_in_an_epoch() {
        let plan = plan(3);
        assert_eq!((plan.steps_per_epoch(), plan.total_steps()), (7, 21));
        let mut step = 0;
        for epoch in 0..plan.epochs() {
            let batches = plan.epoch(epoch).steps.len() as u64;
            assert_eq!(batches, plan.steps_per_epoch());
            for batch in 0..batches {
                assert_eq!(plan.position(step), Position { epoch, batch });
                step += 1;
            }
        }
        assert_eq!(step, plan.total_steps());
    }

    #[test]
    fn an_epoch_does_not_depend_on_how_many_there_are() {
        assert_eq!(plan(3).epoch(2), plan(9).epoch(2));
        assert_ne!(plan(3).epoch(1), plan(3).epoch(2));
    }

    #[test]
    fn the_first_epochs_can_go_from_short_to_long() {
        let (plain, sorted) = (plan(3), plan(3).ascending(1));
        assert_ne!(plain.epoch(0), sorted.epoch(0));
        assert_eq!(plain.epoch(1), sorted.epoch(1));
        assert_eq!(sorted.total_steps(), plain.total_steps());
    }

    #[test]
    fn evaluation_takes_everything_once() {
        let lengths = [5, 3, 9, 1];
        assert_eq!(evaluation(&lengths, CONFIG), [vec![3, 1, 0], vec![2]]);
    }

    #[test]
    fn a_plan_without_steps_is_refused_by_the_field() {
        let error = |lengths: Vec<u64>, config, epochs| {
            let plan = Plan::new(lengths, config, 1, epochs);
            plan.unwrap_err().to_string()
        };
        assert!(error(vec![], CONFIG, 1).contains("no utterance"));
        assert!(error(vec![1], CONFIG, 0).contains("`train.epochs`"));
        assert!(error(vec![1; 9], CONFIG, u64::MAX).contains("more than can be counted"));
        let zero = BatchConfig {
            micro_batch: 0,
            ..CONFIG
        };
        assert!(error(vec![1], zero, 1).contains("`train.micro_batch`"));
    }
}
