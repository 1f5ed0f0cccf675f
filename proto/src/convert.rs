//! Conversion between generated messages and domain types. What is missing or out of range is refused here, by the
//! name of its field, and trusted behind.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    contribution::{Contribution, Digest, Hasher, Key, PassKind, Quarantined, Unusable},
    session::WorkerSession,
    shared_memory::{SharedMemoryHandle, Token},
    tree::Node,
    v1,
    wire::Wire,
};

/// A message that cannot be what its sender meant.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ConvertError {
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{field}` is {value}, which is out of range")]
    OutOfRange { field: &'static str, value: String },
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<Node> for v1::Node {
    fn from(node: Node) -> Self {
        Self {
            level: node.level(),
            index: node.index(),
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = ConvertError;

    fn try_from(node: v1::Node) -> Result<Self, ConvertError> {
        Self::new(node.level, node.index).ok_or_else(|| ConvertError::OutOfRange {
            field: "key.node",
            value: format!("{}/{}", node.level, node.index),
        })
    }
}

impl From<PassKind> for v1::PassKind {
    fn from(kind: PassKind) -> Self {
        match kind {
            PassKind::Gradient => Self::Gradient,
            PassKind::Evaluation => Self::Evaluation,
        }
    }
}

impl TryFrom<v1::PassKind> for PassKind {
    type Error = ConvertError;

    fn try_from(kind: v1::PassKind) -> Result<Self, ConvertError> {
        match kind {
            v1::PassKind::Unspecified => Err(ConvertError::Missing("key.kind")),
            v1::PassKind::Gradient => Ok(Self::Gradient),
            v1::PassKind::Evaluation => Ok(Self::Evaluation),
        }
    }
}

impl From<Key> for v1::Key {
    fn from(key: Key) -> Self {
        Self {
            job: key.job,
            generation: key.generation,
            kind: v1::PassKind::from(key.kind).into(),
            step: key.step,
            node: Some(key.node.into()),
            attempt: key.attempt,
        }
    }
}

impl TryFrom<v1::Key> for Key {
    type Error = ConvertError;

    fn try_from(key: v1::Key) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: key.kind().try_into()?,
            node: key
                .node
                .ok_or(ConvertError::Missing("key.node"))?
                .try_into()?,
            job: key.job,
            generation: key.generation,
            step: key.step,
            attempt: key.attempt,
        })
    }
}

impl From<Wire> for v1::Wire {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::F32 => Self::F32,
            Wire::Bf16 => Self::Bf16,
        }
    }
}

impl TryFrom<v1::Wire> for Wire {
    type Error = ConvertError;

    fn try_from(wire: v1::Wire) -> Result<Self, ConvertError> {
        match wire {
            v1::Wire::Unspecified => Err(ConvertError::Missing("wire")),
            v1::Wire::F32 => Ok(Self::F32),
            v1::Wire::Bf16 => Ok(Self::Bf16),
        }
    }
}

impl From<SharedMemoryHandle> for v1::Lane {
    fn from(place: SharedMemoryHandle) -> Self {
        Self {
            process: place.process,
            descriptor: place.descriptor,
            token: place.token.to_vec().into(),
            bytes: place.bytes,
        }
    }
}

impl TryFrom<v1::Lane> for SharedMemoryHandle {
    type Error = ConvertError;

    fn try_from(lane: v1::Lane) -> Result<Self, ConvertError> {
        let token = Token::try_from(lane.token.as_ref());
        Ok(Self {
            process: lane.process,
            descriptor: lane.descriptor,
            token: token.map_err(|_| ConvertError::OutOfRange {
                field: "lane.token",
                value: format!("{} bytes", lane.token.len()),
            })?,
            bytes: lane.bytes,
        })
    }
}

impl From<Quarantined> for v1::Quarantined {
    /// A micro-batch may have more utterances than a message should name: the first ones are, and the others
    /// counted.
    fn from(quarantined: Quarantined) -> Self {
        const MOST_BYTES: usize = 64 << 10;
        let Quarantined {
            micro_batch,
            mut utterances,
            mut reason,
        } = quarantined;
        let mut bytes = 0;
        let fits = utterances.iter().take_while(|id| {
            bytes += id.len() + 8;
            bytes <= MOST_BYTES
        });
        let (named, all) = (fits.count().max(1), utterances.len());
        if named < all {
            utterances.truncate(named);
            reason = format!("{reason} ({} more utterances)", all - named);
        }
        Self {
            micro_batch,
            utterances,
            reason,
        }
    }
}

impl From<v1::Quarantined> for Quarantined {
    fn from(quarantined: v1::Quarantined) -> Self {
        Self {
            micro_batch: quarantined.micro_batch,
            utterances: quarantined.utterances,
            reason: quarantined.reason,
        }
    }
}

impl From<Unusable> for v1::Unusable {
    fn from(unusable: Unusable) -> Self {
        Self {
            utterance: unusable.utterance,
            reason: unusable.reason,
        }
    }
}

impl From<v1::Unusable> for Unusable {
    fn from(unusable: v1::Unusable) -> Self {
        Self {
            utterance: unusable.utterance,
            reason: unusable.reason,
        }
    }
}

impl v1::ContributionHeader {
    /// The header of `contribution`; its vector follows in chunks.
    pub fn new(
        worker: &WorkerSession,
        key: Key,
        contribution: &Contribution,
        spent: v1::Spent,
    ) -> Self {
        let elements = contribution.sum.as_ref().map_or(0, Vec::len);
        let header = Self::unsealed(worker, key, contribution, elements, spent);
        header.sealed(contribution.digest())
    }

    /// The header of the numbers of `contribution` and of a vector of `elements` that is kept elsewhere;
    /// without a digest.
    pub fn unsealed(
        worker: &WorkerSession,
        key: Key,
        contribution: &Contribution,
        elements: usize,
        spent: v1::Spent,
    ) -> Self {
        Self {
            worker: worker.worker,
            session: worker.secret.clone(),
            key: Some(key.into()),
            weight: contribution.weight,
            loss: contribution.loss,
            utterances: contribution.utterances,
            frames: contribution.frames,
            audio_seconds: contribution.audio_seconds,
            quarantined: contribution
                .quarantined
                .iter()
                .cloned()
                .map(Into::into)
                .collect(),
            elements: elements as u64,
            digest: Bytes::new(),
            spent: Some(spent),
            norms: contribution.norms.clone(),
            in_lane: 0,
            unusable: contribution
                .unusable
                .iter()
                .cloned()
                .map(Into::into)
                .collect(),
        }
    }

    /// The same with the contribution's digest.
    #[must_use]
    pub fn sealed(self, digest: Digest) -> Self {
        Self {
            digest: digest.to_vec().into(),
            ..self
        }
    }

    /// The digest of its numbers and of a vector as `wire` has it; empty where there is none.
    pub fn digest_with(&self, vector: &[f32], wire: Wire) -> Digest {
        Hasher::new(self.weight, self.loss, self.utterances, &self.norms).digest_with(vector, wire)
    }

    /// The contribution it announces, with the vector that followed it, as one that travels as `f32`.
    ///
    /// # Errors
    /// When a number of it cannot be: weights are finite and not negative, losses are finite.
    pub fn into_contribution(self, sum: Option<Vec<f32>>) -> Result<Contribution, ConvertError> {
        let out_of_range = |field, value: f64| ConvertError::OutOfRange {
            field,
            value: value.to_string(),
        };
        if !self.weight.is_finite() || self.weight < 0.0 {
            return Err(out_of_range("weight", self.weight));
        }
        if !self.loss.is_finite() {
            return Err(out_of_range("loss", self.loss));
        }
        if !self.audio_seconds.is_finite() || self.audio_seconds < 0.0 {
            return Err(out_of_range("audio_seconds", self.audio_seconds));
        }
        let is_norm = |norm: &f64| norm.is_finite() && *norm >= 0.0;
        if let Some(norm) = self.norms.iter().copied().find(|norm| !is_norm(norm)) {
            return Err(out_of_range("norms", norm));
        }
        Ok(Contribution {
            sum,
            wire: Wire::F32,
            weight: self.weight,
            loss: self.loss,
            utterances: self.utterances,
            frames: self.frames,
            audio_seconds: self.audio_seconds,
            quarantined: self.quarantined.into_iter().map(Into::into).collect(),
            unusable: self.unusable.into_iter().map(Into::into).collect(),
            norms: self.norms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            job: "a".into(),
            generation: 3,
            kind: PassKind::Gradient,
            step: 9,
            node: Node::new(2, 1).unwrap(),
            attempt: 1,
        }
    }

    #[test]
    fn a_key_survives_the_wire() {
        assert_eq!(Key::try_from(v1::Key::from(key())), Ok(key()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let wire = v1::Key {
            node: None,
            ..key().into()
        };
        assert_eq!(Key::try_from(wire), Err(ConvertError::Missing("key.node")));
        let wire = v1::Key {
            kind: 0,
            ..key().into()
        };
        assert_eq!(Key::try_from(wire), Err(ConvertError::Missing("key.kind")));
        let node = Some(v1::Node {
            level: 40,
            index: 0,
        });
        let error = Key::try_from(v1::Key {
            node,
            ..key().into()
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`key.node` is 40/0, which is out of range"
        );
    }

    #[test]
    fn a_micro_batch_of_a_million_utterances_is_named_by_the_first_ones() {
        let quarantined = |count: usize| Quarantined {
            micro_batch: 3,
            utterances: (0..count).map(|at| format!("clip-{at:08}")).collect(),
            reason: "the loss is NaN".to_owned(),
        };
        let named = v1::Quarantined::from(quarantined(1_000_000));
        assert!(crate::pieces::encoded_len(&named) < 70_000);
        let first = named.utterances.len();
        assert_eq!(
            named.utterances[first - 1],
            format!("clip-{:08}", first - 1)
        );
        let more = format!("the loss is NaN ({} more utterances)", 1_000_000 - first);
        assert_eq!(named.reason, more);
        let few = v1::Quarantined::from(quarantined(64));
        assert_eq!(Quarantined::from(few), quarantined(64));
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        let contribution = Contribution {
            weight: 4.0,
            loss: 1.0,
            unusable: vec![Unusable {
                utterance: 3,
                reason: "it ends in the middle".to_owned(),
            }],
            ..Contribution::default()
        };
        let worker = WorkerSession::default();
        let header =
            v1::ContributionHeader::new(&worker, key(), &contribution, v1::Spent::default());
        assert_eq!(header.clone().into_contribution(None), Ok(contribution));
        for weight in [f64::NAN, f64::INFINITY, -1.0] {
            let header = v1::ContributionHeader {
                weight,
                ..header.clone()
            };
            assert!(header.into_contribution(None).is_err());
        }
    }
}
