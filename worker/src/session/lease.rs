//! Leases as they are meant: checked once, here, and trusted behind.

use std::{ops::Range, path::PathBuf};

use proto::{
    contribution::{Digest, Key},
    convert::ConvertError,
    v1,
};

use crate::cache::Wanted;

/// A node of a pass, to be computed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lease {
    pub key: Key,
    pub epoch: u32,
    pub norm_bound: Option<NormBound>,
    /// It is computed from averaged weights.
    pub averaged: bool,
    /// The node's, in order and without gaps.
    pub micro_batches: Vec<MicroBatch>,
}

/// Norms are to be measured, and micro-batches beyond `most` left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NormBound {
    pub most: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct MicroBatch {
    pub index: u32,
    pub utterances: Vec<Utterance>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Utterance {
    pub index: u32,
    pub id: String,
    pub audio: Wanted,
    /// The samples of it that are meant; `None` for all of it.
    pub segment: Option<Range<u64>>,
    pub text: String,
    /// Its speaker among the job's.
    pub voice: Option<u32>,
}

impl Utterance {
    /// Names what is heard: the recording, or the segment of it.
    pub fn heard(&self) -> Digest {
        let Some(part) = &self.segment else {
            return self.audio.digest;
        };
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.audio.digest)
            .update(&part.start.to_le_bytes())
            .update(&part.end.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

impl Lease {
    /// One past the last micro-batch: as good as the pass's own count for everything inside the node.
    pub fn end(&self) -> u32 {
        self.micro_batches.last().map_or(0, |last| last.index + 1)
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = ConvertError;

    fn try_from(lease: v1::Lease) -> Result<Self, ConvertError> {
        let key: Key = lease.key.ok_or(ConvertError::Missing("key"))?.try_into()?;
        let micro_batches = lease
            .micro_batches
            .into_iter()
            .map(MicroBatch::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        let lease = Self {
            key,
            epoch: lease.epoch,
            norm_bound: lease.norm_bound.map(|bound| NormBound { most: bound.most }),
            averaged: lease.averaged,
            micro_batches,
        };
        let indices = lease.micro_batches.iter().map(|one| one.index);
        if lease.micro_batches.is_empty() || !indices.eq(lease.key.node.range(lease.end())) {
            return Err(ConvertError::OutOfRange {
                field: "micro_batches",
                value: format!(
                    "{} micro-batches up to {} for node {}",
                    lease.micro_batches.len(),
                    lease.end(),
                    lease.key.node
                ),
            });
        }
        Ok(lease)
    }
}

impl TryFrom<v1::MicroBatch> for MicroBatch {
    type Error = ConvertError;

    fn try_from(micro_batch: v1::MicroBatch) -> Result<Self, ConvertError> {
        if micro_batch.utterances.is_empty() {
            return Err(ConvertError::Missing("micro_batches.utterances"));
        }
        let utterances = micro_batch
            .utterances
            .into_iter()
            .map(Utterance::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            index: micro_batch.index,
            utterances,
        })
    }
}

impl TryFrom<v1::Utterance> for Utterance {
    type Error = ConvertError;

    fn try_from(utterance: v1::Utterance) -> Result<Self, ConvertError> {
        let digest = Digest::try_from(utterance.audio_digest.as_ref()).map_err(|_| {
            ConvertError::OutOfRange {
                field: "utterance.audio_digest",
                value: format!("{} bytes", utterance.audio_digest.len()),
            }
        })?;
        let segment = utterance.segment.map(|part| part.start..part.end);
        if let Some(part) = segment.clone().filter(Range::is_empty) {
            return Err(ConvertError::OutOfRange {
                field: "utterance.segment",
                value: format!("{} to {}", part.start, part.end),
            });
        }
        Ok(Self {
            index: utterance.index,
            id: utterance.id,
            audio: Wanted {
                path: PathBuf::from(utterance.audio_path),
                bytes: utterance.audio_bytes,
                digest,
            },
            segment,
            text: utterance.text,
            voice: utterance.voice,
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::{contribution::PassKind, tree::Node};

    use super::*;

    fn wire(level: u32, index: u32, micro_batches: Range<u32>) -> v1::Lease {
        let key = Key {
            job: "a".to_owned(),
            generation: 1,
            kind: PassKind::Gradient,
            step: 4,
            node: Node::new(level, index).unwrap(),
            attempt: 0,
        };
        let utterance = v1::Utterance {
            audio_digest: vec![7; 32].into(),
            ..v1::Utterance::default()
        };
        v1::Lease {
            key: Some(key.into()),
            epoch: 2,
            norm_bound: None,
            averaged: false,
            micro_batches: micro_batches
                .map(|index| v1::MicroBatch {
                    index,
                    utterances: vec![utterance.clone()],
                })
                .collect(),
        }
    }

    #[test]
    fn a_node_comes_whole_or_cut_off_at_the_end_of_the_pass() {
        assert_eq!(Lease::try_from(wire(2, 1, 4..8)).unwrap().end(), 8);
        assert_eq!(Lease::try_from(wire(2, 1, 4..6)).unwrap().end(), 6);
    }

    #[test]
    fn a_lease_with_gaps_or_other_micro_batches_is_refused() {
        for range in [5..8, 0..4, 4..9, 4..4] {
            let error = Lease::try_from(wire(2, 1, range)).unwrap_err();
            assert!(error.to_string().contains("`micro_batches`"), "{error}");
        }
    }

    #[test]
    fn a_segment_is_read_and_an_empty_one_refused() {
        let with = |start, end| {
            let mut lease = wire(0, 0, 0..1);
            lease.micro_batches[0].utterances[0].segment = Some(v1::Segment { start, end });
            Lease::try_from(lease)
        };
        let lease = with(5, 9).unwrap();
        assert_eq!(lease.micro_batches[0].utterances[0].segment, Some(5..9));
        let error = with(9, 9).unwrap_err();
        assert!(error.to_string().contains("9 to 9"), "{error}");
    }

    #[test]
    fn a_digest_of_another_length_is_refused() {
        let mut lease = wire(0, 0, 0..1);
        lease.micro_batches[0].utterances[0].audio_digest = vec![0; 31].into();
        let error = Lease::try_from(lease).unwrap_err();
        assert!(error.to_string().contains("31 bytes"), "{error}");
    }
}
