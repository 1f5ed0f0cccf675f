//! A worker's contribution to a node of the reduction tree, and how two of them are added. It decides the
//! arithmetic of a merge once, for workers and coordinator alike.

use crate::{CHUNK_BYTES, tree::Node, wire::Wire};

/// What a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PassKind {
    /// Training: the answers are gradients.
    Gradient,
    /// Scoring: the answers are hypotheses and losses.
    Evaluation,
}

/// Names one contribution: equal keys mean equal bits, the attempt aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The name of the job.
    pub job: String,
    /// Counts the coordinator's starts.
    pub generation: u64,
    /// What the pass computes.
    pub kind: PassKind,
    /// The version of the weights it is computed from.
    pub step: u64,
    /// The node of the reduction tree.
    pub node: Node,
    /// Counts the leases of this node.
    pub attempt: u32,
}

/// BLAKE3 of a contribution's bits, the vector as it travels.
pub type Digest = [u8; 32];

/// A micro-batch left out of the sum, weight and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its index among those of the step.
    pub micro_batch: u32,
    /// Ids of its utterances.
    pub utterances: Vec<String>,
    /// Why it is left out of the sum, for a person.
    pub reason: String,
}

/// An utterance that was left out of its micro-batch because its recording, whose bytes are those that the job
/// was planned with, cannot be decoded, or is too short once it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its place in the training set.
    pub utterance: u32,
    /// Why it cannot be used, for a person.
    pub reason: String,
}

/// The sum over the micro-batches of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contribution {
    /// The gradient's sum over utterances (never the mean), flat, in the model specification's
    /// order; `None` when every micro-batch was left out.
    pub sum: Option<Vec<f32>>,
    /// How its elements are rounded, and those of every sum that it is part of.
    pub wire: Wire,
    /// What the utterances weigh together, in the job's unit: utterances, frames or labels.
    pub weight: f64,
    /// The losses' sum.
    pub loss: f64,
    /// Utterances that count.
    pub utterances: u64,
    /// Frames of features of these utterances.
    pub frames: u64,
    /// Seconds of audio.
    pub audio_seconds: f64,
    /// Micro-batches that are left out of the sum.
    pub quarantined: Vec<Quarantined>,
    /// In the order of the micro-batches.
    pub unusable: Vec<Unusable>,
    /// L2 norms of the micro-batches' mean gradients, in order, where the job bounds them: of every
    /// one that is finite, also of those that were left out.
    pub norms: Vec<f64>,
}

impl Contribution {
    /// Adds the right sibling: left + right, element by element, in place. An absent vector is
    /// skipped, not added as zeros.
    ///
    /// # Panics
    /// When the vectors' lengths differ: they are checked where they arrive.
    #[must_use]
    pub fn merge(self, right: Self) -> Self {
        let wire = self.wire;
        self.merge_by(right, |left, right| wire.add(left, &right))
    }

    /// [`Contribution::merge`], with the vectors left to `add`: [`Wire::add`] on all their elements.
    ///
    /// # Panics
    /// As [`Contribution::merge`] does.
    #[must_use]
    pub fn merge_by(mut self, right: Self, add: impl FnOnce(&mut [f32], Vec<f32>)) -> Self {
        self.sum = match (self.sum, right.sum) {
            (Some(mut left), Some(right)) => {
                assert_eq!(left.len(), right.len(), "contributions of one model");
                add(&mut left, right);
                Some(left)
            }
            (one, other) => one.or(other),
        };
        self.weight += right.weight;
        self.loss += right.loss;
        self.utterances += right.utterances;
        self.frames += right.frames;
        self.audio_seconds += right.audio_seconds;
        self.quarantined.extend(right.quarantined);
        self.unusable.extend(right.unusable);
        self.norms.extend(right.norms);
        self
    }

    /// The digest of everything that reaches the weights or the metrics.
    pub fn digest(&self) -> Digest {
        let vector = self.sum.as_deref().unwrap_or_default();
        self.hasher().digest_with(vector, self.wire)
    }

    /// A digest that has everything but the vector, whose bytes come next.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.weight, self.loss, self.utterances, &self.norms)
    }
}

/// The digest of a contribution whose vector comes piece by piece: that of its numbers and of the
/// digests of the vector's blocks, so that several threads can share in it.
#[derive(Debug)]
pub struct Hasher {
    whole: blake3::Hasher,
    /// The hash of the block that is not full yet, with what is in it.
    open: blake3::Hasher,
    filled: usize,
}

impl Hasher {
    /// Bytes of a block; only the last may be shorter.
    pub const BLOCK: usize = CHUNK_BYTES;

    /// The digest of everything but the vector.
    pub fn new(weight: f64, loss: f64, utterances: u64, norms: &[f64]) -> Self {
        let mut whole = blake3::Hasher::new();
        whole.update(&weight.to_le_bytes());
        whole.update(&loss.to_le_bytes());
        whole.update(&utterances.to_le_bytes());
        for norm in norms {
            whole.update(&norm.to_le_bytes());
        }
        Self {
            whole,
            open: blake3::Hasher::new(),
            filled: 0,
        }
    }

    /// The digest with the whole vector, empty where there is none.
    pub fn digest_with(mut self, vector: &[f32], wire: Wire) -> Digest {
        let mut room = Vec::new();
        for block in vector.chunks(Self::BLOCK / wire.bytes()) {
            self.add(&Self::block(wire.bytes_of(block, &mut room)));
        }
        self.digest()
    }

    /// The digest of a block.
    pub fn block(bytes: &[u8]) -> Digest {
        *blake3::hash(bytes).as_bytes()
    }

    /// Takes the next block by its digest. No pieces of one may be left open.
    pub fn add(&mut self, block: &Digest) {
        self.whole.update(block);
    }

    /// Takes the next bytes of the vector.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(Self::BLOCK - self.filled));
            self.open.update(piece);
            self.filled += piece.len();
            bytes = rest;
            if self.filled == Self::BLOCK {
                self.whole.update(self.open.finalize().as_bytes());
                self.open.reset();
                self.filled = 0;
            }
        }
    }

    /// The digest of what was hashed so far: BLAKE3 over the digests of its blocks.
    pub fn digest(&self) -> Digest {
        let mut whole = self.whole.clone();
        if self.filled > 0 {
            whole.update(self.open.finalize().as_bytes());
        }
        *whole.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contribution(sum: Option<Vec<f32>>, weight: f64) -> Contribution {
        Contribution {
            sum,
            weight,
            ..Contribution::default()
        }
    }

    #[test]
    fn merging_adds_left_and_right() {
        let merged = contribution(Some(vec![1.0, -0.0]), 2.0)
            .merge(contribution(Some(vec![0.5, -0.0]), 3.0));
        assert_eq!(merged.weight, 5.0);
        let bits: Vec<u32> = merged
            .sum
            .unwrap()
            .iter()
            .map(|value| value.to_bits())
            .collect();
        assert_eq!(bits, [1.5f32.to_bits(), (-0.0f32).to_bits()]);
    }

    #[test]
    fn merging_keeps_the_order_of_what_is_left_out() {
        let with = |utterance| Contribution {
            unusable: vec![Unusable {
                utterance,
                reason: String::new(),
            }],
            ..Contribution::default()
        };
        let merged = with(7).merge(with(2)).merge(with(5));
        let places: Vec<u32> = merged.unusable.iter().map(|one| one.utterance).collect();
        assert_eq!(places, [7, 2, 5]);
    }

    #[test]
    fn an_absent_vector_is_skipped() {
        let left_out = contribution(None, 0.0);
        let negative_zero = contribution(Some(vec![-0.0]), 1.0);
        for merged in [
            left_out.clone().merge(negative_zero.clone()),
            negative_zero.clone().merge(left_out.clone()),
        ] {
            assert_eq!(merged.sum.unwrap()[0].to_bits(), (-0.0f32).to_bits());
        }
    }

    #[test]
    fn a_vector_in_pieces_has_the_same_digest() {
        for elements in [3, Hasher::BLOCK / 4, Hasher::BLOCK + 7] {
            for wire in [Wire::F32, Wire::Bf16] {
                let values = (0..elements).map(|place| place as f32).collect();
                let mut whole = contribution(Some(values), 2.0);
                whole.norms = vec![0.5];
                whole.wire = wire;
                let bytes = crate::tensor::encode(whole.sum.as_ref().unwrap(), wire);
                let numbers = Contribution {
                    sum: None,
                    ..whole.clone()
                };
                let mut hasher = numbers.hasher();
                assert_eq!(hasher.digest(), numbers.digest());
                for piece in [&bytes[..4], &bytes[4..]] {
                    hasher.update(piece);
                }
                assert_eq!(hasher.digest(), whole.digest());
                let mut hasher = numbers.hasher();
                for block in bytes.chunks(Hasher::BLOCK) {
                    hasher.add(&Hasher::block(block));
                }
                assert_eq!(hasher.digest(), whole.digest());
            }
        }
    }

    #[test]
    fn the_digest_sees_vector_weight_and_loss() {
        let one = contribution(Some(vec![1.0, 2.0]), 2.0);
        assert_eq!(one.digest(), one.clone().digest());
        assert_ne!(
            one.digest(),
            contribution(Some(vec![1.0, 2.0]), 3.0).digest()
        );
        assert_ne!(
            one.digest(),
            contribution(Some(vec![2.0, 1.0]), 2.0).digest()
        );
        assert_ne!(
            one.digest(),
            Contribution {
                loss: 1.0,
                ..one.clone()
            }
            .digest()
        );
    }
}
