//! The order of an epoch: which utterances make up which global batch, and which of those share a micro-batch. A
//! pure function of the lengths, the sizes, the seed and the epoch; it does not depend on how many workers there
//! are, or what an utterance holds.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::random::Stream;

/// Sizes in utterances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Utterances of one optimizer step, at least 1.
    pub batch: usize,
    /// Utterances of one forward and backward pass, at least 1; at most `batch` have an effect.
    pub micro_batch: usize,
}

/// A size that no batch can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("`{field}` is 0: a batch holds at least one utterance")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct BatchError {
    /// The field of [`BatchConfig`].
    pub field: &'static str,
}

impl BatchConfig {
    /// Both sizes are at least 1.
    pub fn validate(&self) -> Result<(), BatchError> {
        for (field, value) in [("batch", self.batch), ("micro_batch", self.micro_batch)] {
            if value == 0 {
                return Err(BatchError { field });
            }
        }
        Ok(())
    }
}

/// The utterances of one optimizer step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalBatch {
    /// Positions in the manifest, in the order of the reduction tree's leaves.
    pub micro_batches: Vec<Vec<u32>>,
}

/// First tag of the streams that order an epoch.
const EPOCH_ORDER: u64 = 0x6570_6f63;

/// Most global batches that are sorted together. Larger pools pad less; smaller ones mix more.
const POOL_BATCHES: usize = 16;

/// An epoch is cut into at least this many pools where it has the batches for it: a pool of the
/// whole corpus would put the same utterances together in every epoch.
const MAX_POOLS: usize = 4;

/// Every utterance of `lengths` exactly once, shuffled, with those of like length together.
///
/// The shuffled corpus is cut into pools, each pool is sorted by length (what is equally long stays
/// shuffled) and cut into global batches, and the batches of all pools are shuffled. The micro-batches
/// of a batch are ordered so that each half of the reduction tree costs about the same. `config`
/// must have passed [`BatchConfig::validate`].
pub fn epoch(lengths: &[u64], config: BatchConfig, seed: u64, epoch: u64) -> Vec<GlobalBatch> {
    let mut stream = Stream::new(seed, &[EPOCH_ORDER, epoch]);
    let mut order: Vec<u32> = (0..lengths.len()).map(position).collect();
    stream.shuffle(&mut order);

    let batches = lengths.len().div_ceil(config.batch);
    let pool = (batches / MAX_POOLS).clamp(1, POOL_BATCHES);
    let mut epoch = Vec::with_capacity(batches);
    for pool in order.chunks_mut(pool * config.batch) {
        pool.sort_by_key(|&index| lengths[index as usize]);
        epoch.extend(pool.chunks(config.batch).map(|batch| GlobalBatch {
            micro_batches: balance(cut(batch, config.micro_batch), lengths),
        }));
    }
    stream.shuffle(&mut epoch);
    epoch
}

/// Every utterance of `lengths` exactly once, in global batches from the shortest to the longest (SortaGrad,
/// Amodei et al. 2016); what is equally long is shuffled. The rest is as in [`epoch`].
pub fn ascending(lengths: &[u64], config: BatchConfig, seed: u64, epoch: u64) -> Vec<GlobalBatch> {
    let mut stream = Stream::new(seed, &[EPOCH_ORDER, epoch]);
    let mut order: Vec<u32> = (0..lengths.len()).map(position).collect();
    stream.shuffle(&mut order);
    order.sort_by_key(|&index| lengths[index as usize]);
    let batches = order.chunks(config.batch);
    let batch = |batch| GlobalBatch {
        micro_batches: balance(cut(batch, config.micro_batch), lengths),
    };
    batches.map(batch).collect()
}

/// Every utterance once, from the shortest to the longest (equal ones in the manifest's order), cut
/// into micro-batches of `micro_batch`, at least 1: the order of an evaluation.
pub fn sequential(lengths: &[u64], micro_batch: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..lengths.len()).map(position).collect();
    order.sort_by_key(|&index| lengths[index as usize]);
    cut(&order, micro_batch)
}

fn cut(order: &[u32], size: usize) -> Vec<Vec<u32>> {
    order.chunks(size).map(<[u32]>::to_vec).collect()
}

/// Orders micro-batches for the reduction tree: two workers take a half of it each, four a quarter,
/// and all wait for the one that has most frames. The longest go first, each to the half that is
/// shorter so far for the leaves it has.
fn balance(mut micro_batches: Vec<Vec<u32>>, lengths: &[u64]) -> Vec<Vec<u32>> {
    let frames = |one: &Vec<u32>| {
        one.iter()
            .map(|&index| lengths[index as usize])
            .sum::<u64>()
    };
    if micro_batches.len() < 3 {
        return micro_batches;
    }
    let leaves = micro_batches.len().next_power_of_two() / 2;
    let room = [leaves, micro_batches.len() - leaves];
    micro_batches.sort_by_key(|one| std::cmp::Reverse(frames(one)));
    let mut halves = [Vec::new(), Vec::new()];
    let mut sums = [0, 0];
    for one in micro_batches {
        // sums[0] / room[0] against sums[1] / room[1], without division.
        let left_is_shorter = sums[0] * room[1] as u64 <= sums[1] * room[0] as u64;
        let half = match (halves[0].len() == room[0], halves[1].len() == room[1]) {
            (true, _) => 1,
            (_, true) => 0,
            _ => usize::from(!left_is_shorter),
        };
        sums[half] += frames(&one);
        halves[half].push(one);
    }
    let [left, right] = halves;
    let mut ordered = balance(left, lengths);
    ordered.extend(balance(right, lengths));
    ordered
}

fn position(index: usize) -> u32 {
    u32::try_from(index).expect("a manifest's lines are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lengths() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0u64..400, 0..300)
    }

    fn flat(batches: &[GlobalBatch]) -> Vec<u32> {
        batches
            .iter()
            .flat_map(|batch| batch.micro_batches.concat())
            .collect()
    }

    /// Frames computed for nothing: each micro-batch is as long as its longest utterance.
    fn padding(micro_batches: impl Iterator<Item = Vec<u32>>, lengths: &[u64]) -> u64 {
        micro_batches
            .map(|micro_batch| {
                let of = |index: &u32| lengths[*index as usize];
                let longest = micro_batch.iter().map(of).max().unwrap_or(0);
                micro_batch
                    .iter()
                    .map(|index| longest - of(index))
                    .sum::<u64>()
            })
            .sum()
    }

    proptest! {
        #[test]
        fn every_utterance_comes_exactly_once_in_batches_of_bounded_size(
            lengths in lengths(), batch in 1usize..40, micro_batch in 1usize..50, seed: u64, number in 0u64..9,
        ) {
            let config = BatchConfig { batch, micro_batch };
            let batches = epoch(&lengths, config, seed, number);
            let mut seen = flat(&batches);
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(batches.len(), lengths.len().div_ceil(batch));
            for global in &batches {
                let size: usize = global.micro_batches.iter().map(Vec::len).sum();
                prop_assert!((1..=batch).contains(&size));
                let mut sizes: Vec<usize> = global.micro_batches.iter().map(Vec::len).collect();
                sizes.sort_unstable();
                prop_assert!((1..=micro_batch).contains(&sizes[0]));
                prop_assert!(sizes[1..].iter().all(|&size| size == micro_batch));
            }
            prop_assert_eq!(batches, epoch(&lengths, config, seed, number));
        }

        #[test]
        fn an_ascending_epoch_takes_everything_once_and_never_goes_back(
            lengths in lengths(), batch in 1usize..40, micro_batch in 1usize..50, seed: u64,
        ) {
            let config = BatchConfig { batch, micro_batch };
            let batches = ascending(&lengths, config, seed, 0);
            let mut seen = flat(&batches);
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(batches.len(), lengths.len().div_ceil(batch));
            let of = |batch: &GlobalBatch| -> Vec<u64> {
                let indices = batch.micro_batches.iter().flatten();
                indices.map(|&index| lengths[index as usize]).collect()
            };
            for pair in batches.windows(2) {
                prop_assert!(of(&pair[0]).iter().max() <= of(&pair[1]).iter().min());
                prop_assert_eq!(of(&pair[0]).len(), batch);
            }
            prop_assert_eq!(batches, ascending(&lengths, config, seed, 0));
        }

        #[test]
        fn evaluation_runs_from_short_to_long(lengths in lengths(), micro_batch in 1usize..50) {
            let order = sequential(&lengths, micro_batch);
            prop_assert!(order.iter().rev().skip(1).all(|one| one.len() == micro_batch));
            let keys: Vec<_> = order.concat().iter().map(|&i| (lengths[i as usize], i)).collect();
            prop_assert_eq!(keys.len(), lengths.len());
            prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn epochs_and_seeds_give_other_batches_and_not_only_another_order() {
        let lengths: Vec<u64> = (0..96).collect();
        let config = BatchConfig {
            batch: 8,
            micro_batch: 4,
        };
        let sets = |seed, number| {
            let mut sets: Vec<Vec<u32>> = epoch(&lengths, config, seed, number)
                .iter()
                .map(|batch| batch.micro_batches.concat())
                .collect();
            sets.sort();
            sets
        };
        assert_eq!(sets(1, 0), sets(1, 0));
        assert_ne!(sets(1, 0), sets(1, 1));
        assert_ne!(sets(1, 0), sets(2, 0));
    }

    #[test]
    fn utterances_of_like_length_share_a_micro_batch() {
        let mut stream = Stream::new(4, &[]);
        let lengths: Vec<u64> = (0..2000).map(|_| 30 + stream.below(700)).collect();
        let config = BatchConfig {
            batch: 32,
            micro_batch: 8,
        };
        let batches = epoch(&lengths, config, 1, 0);
        let bucketed = padding(
            batches.into_iter().flat_map(|batch| batch.micro_batches),
            &lengths,
        );
        let mut order: Vec<u32> = (0..2000).collect();
        stream.shuffle(&mut order);
        let plain = padding(cut(&order, 8).into_iter(), &lengths);
        assert!(
            bucketed * 5 < plain,
            "{bucketed} frames of padding against {plain}"
        );
    }

    #[test]
    fn the_halves_of_a_step_cost_about_the_same() {
        let mut stream = Stream::new(7, &[]);
        let lengths: Vec<u64> = (0..1600).map(|_| 50 + stream.below(500)).collect();
        let config = BatchConfig {
            batch: 16,
            micro_batch: 4,
        };
        let (mut whole, mut larger_halves) = (0, 0);
        for batch in epoch(&lengths, config, 1, 0) {
            let frames = |half: &[Vec<u32>]| -> u64 {
                half.iter().flatten().map(|&i| lengths[i as usize]).sum()
            };
            let (left, right) = batch.micro_batches.split_at(2);
            whole += frames(left) + frames(right);
            larger_halves += frames(left).max(frames(right));
        }
        let speed = whole as f64 / larger_halves as f64;
        assert!(speed > 1.97, "two workers are {speed} times as fast as one");
    }

    proptest! {
        #[test]
        fn balancing_keeps_every_micro_batch(count in 0usize..70, seed: u64) {
            let mut stream = Stream::new(seed, &[]);
            let lengths: Vec<u64> = (0..count).map(|_| stream.below(900)).collect();
            let cut: Vec<Vec<u32>> = (0..count as u32).map(|index| vec![index]).collect();
            let mut balanced = balance(cut.clone(), &lengths);
            balanced.sort();
            prop_assert_eq!(balanced, cut);
        }
    }

    #[test]
    fn long_and_short_batches_are_mixed() {
        let lengths: Vec<u64> = (0..1600).collect();
        let config = BatchConfig {
            batch: 10,
            micro_batch: 10,
        };
        let first = |batch: &GlobalBatch| u64::from(batch.micro_batches[0][0]);
        let batches = epoch(&lengths, config, 3, 0);
        let climbs = batches
            .windows(2)
            .filter(|pair| first(&pair[0]) < first(&pair[1]))
            .count();
        assert!(
            (50..110).contains(&climbs),
            "{climbs} of 159 batches are longer than the one before"
        );
    }

    #[test]
    fn a_size_of_zero_is_named() {
        let error = BatchConfig {
            batch: 4,
            micro_batch: 0,
        }
        .validate()
        .unwrap_err();
        assert!(error.to_string().contains("`micro_batch`"));
        assert_eq!(
            BatchConfig {
                batch: 4,
                micro_batch: 9
            }
            .validate(),
            Ok(())
        );
    }
}
