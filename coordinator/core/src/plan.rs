//! The plan of a job: which utterances make up which step. A pure function of the utterances'
//! lengths, the batch sizes and the seed; it does not depend on how many workers there are.

use speech::batching::{self, BatchConfig, BatchError, GlobalBatch};
use thiserror::Error;

/// A plan that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
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
    /// The lengths of the training utterances, in the manifest's order.
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
    /// The global batches in the order in which they are trained on, one a step.
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

    /// Passes over the whole training set, ascending ones included.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Updates in an epoch: the utterances over the batch size, rounded up.
    pub fn steps_per_epoch(&self) -> u64 {
        self.total_steps / self.epochs
    }

    /// Updates of the whole job: [`Plan::steps_per_epoch`] in each of its epochs.
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
        let order = if epoch < self.ascending {
            batching::ascending
        } else {
            batching::epoch
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

/// How many micro-batches a lease may have so that no node of that many has more than `bytes`: the
/// largest power of two for which the aligned runs of it, which are the nodes of the reduction tree, stay
/// below. `sizes` are the micro-batches' in bytes, in their order. 1 where a single one has more.
pub fn most_leased(sizes: &[u64], bytes: u64) -> u32 {
    let fits = |run: &usize| {
        sizes
            .chunks(*run)
            .all(|run| run.iter().sum::<u64>() <= bytes)
    };
    let doubled = std::iter::successors(Some(2_usize), |run| run.checked_mul(2));
    let beyond = doubled.take_while(|run| *run < 2 * sizes.len().max(1));
    let fitting = beyond.take_while(fits).last().unwrap_or(1);
    u32::try_from(fitting).unwrap_or(u32::MAX)
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
    fn leases_are_bounded_by_the_bytes_of_the_nodes_that_they_may_be() {
        assert_eq!(most_leased(&[], 10), 1);
        assert_eq!(most_leased(&[99], 10), 1, "a micro-batch is not cut");
        assert_eq!(most_leased(&[1; 100], 10), 8);
        assert_eq!(most_leased(&[1; 100], 1000), 128);
        assert_eq!(most_leased(&[1, 1, 1, 1, 9, 1], 9), 1);
        assert_eq!(most_leased(&[1, 1, 1, 1, 8, 1], 9), 4);
        let mut stream = speech::random::Stream::new(9, &[]);
        for _ in 0..200 {
            let sizes: Vec<u64> = (0..1 + stream.below(300))
                .map(|_| stream.below(50))
                .collect();
            let bytes = 50 + stream.below(2000);
            let most = most_leased(&sizes, bytes) as usize;
            let largest = |run| sizes.chunks(run).map(|run| run.iter().sum::<u64>()).max();
            assert!(most.is_power_of_two() && largest(most) <= Some(bytes));
            assert!(most >= sizes.len() || largest(2 * most) > Some(bytes));
        }
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
