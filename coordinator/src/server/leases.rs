//! Leases as messages: whole where they are short, in parts where one micro-batch alone is long. Each
//! message has the statistics of its own utterances' speakers.

use std::collections::BTreeMap;

use proto::{contribution::PassKind, pieces::PART_BYTES, v1};
use speech::front_end::GlobalStats;

use crate::{corpus::Item, driver::LeasedNode};

impl LeasedNode {
    fn items(&self) -> &[Item] {
        match self.key.kind {
            PassKind::Gradient => &self.active_job.prepared.train,
            PassKind::Evaluation => &self.active_job.prepared.valid,
        }
    }

    fn bytes(&self, utterance: u32) -> usize {
        self.items()[utterance as usize].named_bytes(&self.active_job.prepared.voices)
    }

    /// Each utterance with the place of its micro-batch, in order.
    fn utterances(&self) -> impl Iterator<Item = (u32, u32)> {
        let micro_batches = self.micro_batches.iter();
        micro_batches.flat_map(|(index, utterances)| utterances.iter().map(|one| (*index, *one)))
    }

    /// The lease; without its micro-batches where those are too long for a message.
    pub(crate) fn into_message(self) -> v1::Lease {
        let bytes: usize = self.utterances().map(|(_, one)| self.bytes(one)).sum();
        let in_parts = bytes > PART_BYTES;
        let mut part = Part::default();
        if !in_parts {
            for (micro_batch, utterance) in self.utterances() {
                part.add(&self, micro_batch, utterance);
            }
        }
        v1::Lease {
            key: Some(self.key.into()),
            epoch: self.epoch,
            norm_bound: self
                .norm_bound
                .map(|bound| v1::NormBound { most: bound.most }),
            averaged: self.averaged,
            micro_batches: part.message.micro_batches,
            voices: part.message.voices,
            in_parts,
        }
    }

    /// The micro-batches in messages of bounded size.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = v1::LeasePart> + Send + 'static {
        let utterances: Vec<(u32, u32)> = self.utterances().collect();
        let mut done = 0;
        std::iter::from_fn(move || {
            let mut part = Part::default();
            let mut bytes = 0;
            while let Some(&(micro_batch, utterance)) = utterances.get(done) {
                bytes += self.bytes(utterance);
                if bytes > PART_BYTES && !part.message.micro_batches.is_empty() {
                    break;
                }
                part.add(&self, micro_batch, utterance);
                done += 1;
            }
            (!part.message.micro_batches.is_empty()).then_some(part.message)
        })
    }
}

/// A message in the making.
#[derive(Default)]
struct Part {
    message: v1::LeasePart,
    /// Where each of the run's speaker statistics lies in the message, by its index in the run.
    places: BTreeMap<u32, u32>,
}

impl Part {
    /// Adds the next utterance of the micro-batch `index`.
    fn add(&mut self, leased: &LeasedNode, index: u32, utterance: u32) {
        let item = &leased.items()[utterance as usize];
        let voice = item.voice.map(|voice| self.voice(leased, voice));
        let named = name(utterance, item, voice);
        match self.message.micro_batches.last_mut() {
            Some(last) if last.index == index => last.utterances.push(named),
            _ => self.message.micro_batches.push(v1::MicroBatch {
                index,
                utterances: vec![named],
            }),
        }
    }

    fn voice(&mut self, leased: &LeasedNode, voice: u32) -> u32 {
        let voices = &mut self.message.voices;
        *self.places.entry(voice).or_insert_with(|| {
            voices.push(statistics(
                &leased.active_job.prepared.voices[voice as usize],
            ));
            voices.len() as u32 - 1
        })
    }
}

fn name(index: u32, item: &Item, voice: Option<u32>) -> v1::Utterance {
    v1::Utterance {
        index,
        id: item.id.clone(),
        audio_path: item.recording.path.to_string_lossy().into_owned(),
        audio_bytes: item.recording.bytes,
        audio_digest: item.recording.digest.to_vec().into(),
        text: item.text.clone(),
        segment: item.segment.as_ref().map(|part| v1::Segment {
            start: part.start,
            end: part.end,
        }),
        voice,
        channel: item.channel.map(u32::from),
    }
}

fn statistics(stats: &GlobalStats) -> v1::Voice {
    v1::Voice {
        mean: stats.mean.clone(),
        variance: stats.variance.clone(),
        frames: stats.frames,
    }
}
