//! Leases as they are meant: checked once, here, and trusted behind.

use std::{ops::Range, path::PathBuf, sync::Arc};

use proto::{
    contribution::{Digest, Key},
    convert::ConvertError,
    v1,
};
use speech::front_end::GlobalStats;

use crate::cache::{Part, Wanted};

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
    /// The channel of it that is meant, counted from 0; `None` for the mean of all.
    pub channel: Option<u16>,
    pub text: String,
    /// Statistics of its speaker, where features are normalised with them.
    pub voice: Option<Arc<GlobalStats>>,
}

impl Utterance {
    /// The segment that is meant; `None` for all of the recording.
    pub(super) fn part(&self) -> Option<Part> {
        let samples = self.segment.clone()?;
        let channel = self.channel;
        Some(Part { samples, channel })
    }

    /// Names what is heard: the recording or one channel of it, or the segment of that.
    pub(super) fn segment_digest(&self) -> Digest {
        let source = self.audio.of_channel(self.channel);
        let Some(part) = &self.segment else {
            return source;
        };
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&source)
            .update(&part.start.to_le_bytes())
            .update(&part.end.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

impl Lease {
    /// One past the last micro-batch: as good as the pass's own count for everything inside the node.
    pub(super) fn end(&self) -> u32 {
        self.micro_batches.last().map_or(0, |last| last.index + 1)
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = ConvertError;

    fn try_from(lease: v1::Lease) -> Result<Self, ConvertError> {
        let key: Key = lease.key.ok_or(ConvertError::Missing("key"))?.try_into()?;
        let voices: Vec<Arc<GlobalStats>> = lease.voices.into_iter().map(statistics).collect();
        let micro_batches = lease
            .micro_batches
            .into_iter()
            .map(|one| micro_batch(one, &voices))
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

fn statistics(voice: v1::Voice) -> Arc<GlobalStats> {
    Arc::new(GlobalStats {
        mean: voice.mean,
        variance: voice.variance,
        frames: voice.frames,
    })
}

fn micro_batch(
    wire: v1::MicroBatch,
    voices: &[Arc<GlobalStats>],
) -> Result<MicroBatch, ConvertError> {
    if wire.utterances.is_empty() {
        return Err(ConvertError::Missing("micro_batches.utterances"));
    }
    let utterances = wire.utterances.into_iter();
    Ok(MicroBatch {
        index: wire.index,
        utterances: utterances
            .map(|one| utterance(one, voices))
            .collect::<Result<_, _>>()?,
    })
}

fn utterance(wire: v1::Utterance, voices: &[Arc<GlobalStats>]) -> Result<Utterance, ConvertError> {
    let out_of_range = |field, value| ConvertError::OutOfRange { field, value };
    let digest = Digest::try_from(wire.audio_digest.as_ref());
    let digest = digest.map_err(|_| {
        let value = format!("{} bytes", wire.audio_digest.len());
        out_of_range("utterance.audio_digest", value)
    })?;
    let segment = wire.segment.map(|part| part.start..part.end);
    if let Some(part) = segment.clone().filter(Range::is_empty) {
        let value = format!("{} to {}", part.start, part.end);
        return Err(out_of_range("utterance.segment", value));
    }
    let channel = wire.channel.map(|channel| {
        u16::try_from(channel).map_err(|_| out_of_range("utterance.channel", channel.to_string()))
    });
    let voice = wire.voice.map(|place| {
        let voice = voices.get(place as usize).cloned();
        voice.ok_or_else(|| out_of_range("utterance.voice", place.to_string()))
    });
    Ok(Utterance {
        index: wire.index,
        id: wire.id,
        audio: Wanted {
            path: PathBuf::from(wire.audio_path),
            bytes: wire.audio_bytes,
            digest,
        },
        segment,
        channel: channel.transpose()?,
        text: wire.text,
        voice: voice.transpose()?,
    })
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
            voices: Vec::new(),
            in_parts: false,
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
    fn each_channel_is_heard_as_something_else_and_one_out_of_range_is_refused() {
        let heard = |channel, segment: Option<Range<u64>>| {
            let mut lease = wire(0, 0, 0..1);
            let utterance = &mut lease.micro_batches[0].utterances[0];
            utterance.channel = channel;
            utterance.segment = segment.map(|it| v1::Segment {
                start: it.start,
                end: it.end,
            });
            let lease = Lease::try_from(lease)?;
            Ok::<_, ConvertError>(lease.micro_batches[0].utterances[0].segment_digest())
        };
        let mut all = Vec::new();
        for segment in [None, Some(5..9), Some(5..10)] {
            for channel in [None, Some(0), Some(1), Some(256)] {
                all.push(heard(channel, segment.clone()).unwrap());
            }
        }
        assert_eq!(all[0], [7; 32], "that of the file");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
        let error = heard(Some(65_536), None).unwrap_err();
        assert!(
            error.to_string().contains("`utterance.channel` is 65536"),
            "{error}"
        );
    }

    #[test]
    fn a_speaker_is_found_beside_the_utterances_or_the_lease_is_refused() {
        let with = |place| {
            let mut lease = wire(0, 0, 0..1);
            lease.voices = vec![
                v1::Voice::default(),
                v1::Voice {
                    frames: 5,
                    ..v1::Voice::default()
                },
            ];
            lease.micro_batches[0].utterances[0].voice = Some(place);
            Lease::try_from(lease)
        };
        let lease = with(1).unwrap();
        let voice = lease.micro_batches[0].utterances[0].voice.as_ref();
        assert_eq!(voice.map(|stats| stats.frames), Some(5));
        let error = with(2).unwrap_err();
        assert!(
            error.to_string().contains("`utterance.voice` is 2"),
            "{error}"
        );
    }

    #[test]
    fn a_digest_of_another_length_is_refused() {
        let mut lease = wire(0, 0, 0..1);
        lease.micro_batches[0].utterances[0].audio_digest = vec![0; 31].into();
        let error = Lease::try_from(lease).unwrap_err();
        assert!(error.to_string().contains("31 bytes"), "{error}");
    }
}
