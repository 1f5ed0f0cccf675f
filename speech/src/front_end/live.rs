//! Features of audio that is still coming in (streaming): the same, to the bit, as of the whole recording, as soon as
//! they can be known, however the samples are cut. It holds what later frames need and no more, so that
//! memory does not grow with the recording.

use thiserror::Error;

use super::{FrontEnd, FrontEndError, normalize::Scaling};
use crate::{
    audio::is_amplitude,
    features::{Features, Normalization, deltas},
};

/// Why features cannot be computed of sound that is still coming in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum NotLive {
    #[error(
        "features.normalization is \"utterance\": the mean and variance of an utterance are known at its \
         end; train with \"global\" or \"none\" to hear a stream"
    )]
    UtteranceNormalization,
    #[error(
        "features.normalization is \"speaker\", and nobody says who speaks; train with \"global\" or \"none\" to \
         hear a stream"
    )]
    SpeakerNormalization,
    #[error(
        "features.range_db is not 0: how loud an utterance becomes is known at its end; train without it to hear a \
         stream"
    )]
    Range,
    #[error("features.normalization is \"global\", and there are no global statistics")]
    MissingStats,
}

/// Computes the features of one utterance from samples as they come in.
pub struct LiveFrontEnd<'a> {
    front_end: &'a FrontEnd,
    scaling: Option<&'a Scaling>,
    /// From the start of the next frame on.
    samples: Vec<f32>,
    /// Samples between the last frame and the next that have not come yet, where frames lie further apart
    /// than they are long.
    gap: usize,
    /// How many samples came before, for errors.
    seen_samples: usize,
    /// Frames without deltas: the first `emitted` have been given out and are kept as context, the others not yet.
    statics: Vec<f32>,
    emitted: usize,
    /// Frames on their way into a stack.
    stack: Vec<f32>,
    /// Stacked frames so far, of which frame subsampling keeps one in `stride`.
    seen_stacks: usize,
}

impl FrontEnd {
    /// Starts to compute features of samples that come in piece by piece, at the front end's own rate.
    ///
    /// # Errors
    /// When the features of a frame depend on all that follow.
    pub fn live(&self) -> Result<LiveFrontEnd<'_>, NotLive> {
        if self.config.range_db > 0.0 {
            return Err(NotLive::Range);
        }
        let scaling = match (self.config.normalization, &self.global) {
            (Normalization::None, _) => None,
            (Normalization::Utterance, _) => return Err(NotLive::UtteranceNormalization),
            (Normalization::Speaker, _) => return Err(NotLive::SpeakerNormalization),
            (Normalization::Global, Some(scaling)) => Some(scaling),
            (Normalization::Global, None) => return Err(NotLive::MissingStats),
        };
        Ok(LiveFrontEnd {
            front_end: self,
            scaling,
            samples: Vec::new(),
            gap: 0,
            seen_samples: 0,
            statics: Vec::new(),
            emitted: 0,
            stack: Vec::new(),
            seen_stacks: 0,
        })
    }
}

impl LiveFrontEnd<'_> {
    /// Takes samples and gives the output frames `[frames, dims]` that are known now and were not before.
    ///
    /// # Errors
    /// When a sample is no amplitude.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>, FrontEndError> {
        if let Some(index) = samples.iter().position(|&x| !is_amplitude(x)) {
            return Err(FrontEndError::BadSample {
                index: self.seen_samples + index,
                value: samples[index],
            });
        }
        self.seen_samples += samples.len();
        let passed = self.gap.min(samples.len());
        self.gap -= passed;
        self.samples.extend_from_slice(&samples[passed..]);
        let frames = self.front_end.geometry.frames(self.samples.len());
        if frames > 0 {
            let overrides = self.front_end.overrides(None);
            let seen_samples = self.front_end.frames(&self.samples, frames, &overrides);
            self.statics.extend(seen_samples.data);
            let begun = frames * self.front_end.geometry.shift;
            self.gap = begun.saturating_sub(self.samples.len());
            self.samples.drain(..begun.min(self.samples.len()));
        }
        Ok(self.known(false))
    }

    /// The frames that are left when nothing follows; what comes next is another utterance's.
    pub fn finish(&mut self) -> Vec<f32> {
        let mut data = self.known(true);
        let (dims, stack) = (self.front_end.geometry.dims, self.front_end.config.stack);
        if !self.stack.is_empty() {
            // The last stack repeats the last frame.
            while self.stack.len() < dims * stack {
                self.stack.extend_from_within(self.stack.len() - dims..);
            }
            let last = std::mem::take(&mut self.stack);
            data.extend(self.subsampled(&last));
        }
        self.samples.clear();
        self.statics.clear();
        (self.gap, self.seen_samples, self.emitted, self.seen_stacks) = (0, 0, 0, 0);
        data
    }

    /// What is known: all frames whose deltas do not reach beyond the last one.
    fn known(&mut self, is_over: bool) -> Vec<f32> {
        let dims = self.front_end.geometry.statics;
        let orders = self.front_end.config.deltas;
        let reach = deltas::reach(orders);
        let frames = self.statics.len() / dims;
        let known = if is_over {
            frames
        } else {
            frames.saturating_sub(reach)
        };
        if known <= self.emitted {
            return Vec::new();
        }
        let held = Features {
            frames,
            dims,
            data: std::mem::take(&mut self.statics),
        };
        let mut rows = if orders == 0 {
            held.data.clone()
        } else {
            deltas::append(&held, orders).data
        };
        let whole = dims * (orders + 1);
        rows.truncate(known * whole);
        rows.drain(..self.emitted * whole);
        // Later frames see so many before them.
        let kept = known.min(reach);
        self.statics = held.data;
        self.statics.drain(..(known - kept) * dims);
        self.emitted = kept;

        if let Some(scaling) = self.scaling {
            scaling.apply_to(&mut rows);
        }
        let width = whole * self.front_end.config.stack;
        self.stack.append(&mut rows);
        let full = self.stack.len() / width * width;
        let whole: Vec<f32> = self.stack.drain(..full).collect();
        self.subsampled(&whole)
    }

    /// Those of `seen_stacks`, the next of all, that are kept.
    fn subsampled(&mut self, seen_stacks: &[f32]) -> Vec<f32> {
        let stride = self.front_end.config.stride;
        let mut kept = Vec::with_capacity(seen_stacks.len().div_ceil(stride));
        for stack in seen_stacks.chunks_exact(self.front_end.dims()) {
            if self.seen_stacks.is_multiple_of(stride) {
                kept.extend_from_slice(stack);
            }
            self.seen_stacks += 1;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audio::Audio,
        features::{FeatureKind, FeaturesConfig},
        front_end::GlobalStats,
        random::Stream,
    };

    fn noise(samples: usize) -> Audio {
        let mut stream = Stream::new(3, &[samples as u64]);
        Audio {
            sample_rate: 8000,
            samples: (0..samples)
                .map(|_| stream.between(-0.4, 0.5) as f32)
                .collect(),
        }
    }

    fn configs() -> Vec<FeaturesConfig> {
        let base = FeaturesConfig {
            sample_rate: 8000,
            mel_bins: 20,
            normalization: Normalization::None,
            ..FeaturesConfig::default()
        };
        let mut configs = Vec::new();
        for deltas in 0..=2 {
            for (stack, stride) in [(1, 1), (3, 1), (1, 4), (2, 3)] {
                configs.push(FeaturesConfig {
                    deltas,
                    stack,
                    stride,
                    ..base.clone()
                });
            }
        }
        // Frames of 25 ms with gaps between them, which blocks of samples may end in.
        for shift_ms in [26.0, 36.0, 60.5, 310.0] {
            configs.push(FeaturesConfig {
                shift_ms,
                deltas: 1,
                ..base.clone()
            });
        }
        configs.push(FeaturesConfig {
            kind: FeatureKind::Mfcc,
            use_energy: true,
            normalization: Normalization::Global,
            deltas: 2,
            ..base
        });
        configs
    }

    #[test]
    fn live_features_are_those_of_the_whole_recording_however_it_is_cut() {
        for config in configs() {
            let dims = FrontEnd::new(&config, None).unwrap().geometry.dims;
            let stats = GlobalStats {
                frames: 10,
                mean: (0..dims).map(|n| n as f64 * 0.1).collect(),
                variance: (0..dims).map(|n| 1.0 + n as f64).collect(),
            };
            let is_global = config.normalization == Normalization::Global;
            let front_end = FrontEnd::new(&config, is_global.then_some(&stats)).unwrap();
            let mut live = front_end.live().unwrap();
            for samples in [200, 280, 281, 1234, 4000] {
                let audio = noise(samples);
                let wanted = front_end.features(&audio).unwrap().data;
                for cut in [1, 37, 80, 999, 5000] {
                    let mut found = Vec::new();
                    for samples in audio.samples.chunks(cut) {
                        found.extend(live.push(samples).unwrap());
                    }
                    found.extend(live.finish());
                    assert_eq!(
                        found, wanted,
                        "{config:?}, {samples} samples, {cut} at once"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_held_that_is_not_needed() {
        let config = configs().pop().unwrap();
        let config = FeaturesConfig {
            normalization: Normalization::None,
            ..config
        };
        let front_end = FrontEnd::new(&config, None).unwrap();
        let mut live = front_end.live().unwrap();
        for _ in 0..50 {
            live.push(&noise(4000).samples).unwrap();
        }
        assert!(live.samples.len() < 4000 && live.statics.len() <= 8 * front_end.geometry.statics);
        assert!(live.samples.capacity() + live.statics.capacity() < 40_000);
    }

    #[test]
    fn what_depends_on_the_end_cannot_be_heard_live() {
        let refused = |config: FeaturesConfig| {
            let front_end = FrontEnd::new(&config, None).unwrap();
            front_end.live().err()
        };
        let config = FeaturesConfig::default();
        assert_eq!(
            refused(config.clone()),
            Some(NotLive::UtteranceNormalization)
        );
        let speaker = FeaturesConfig {
            normalization: Normalization::Speaker,
            ..config.clone()
        };
        assert_eq!(refused(speaker), Some(NotLive::SpeakerNormalization));
        let bounded = FeaturesConfig {
            range_db: 40.0,
            ..config
        };
        assert_eq!(refused(bounded), Some(NotLive::Range));
    }

    #[test]
    fn a_bad_sample_is_named_by_its_place_in_the_utterance() {
        let config = configs().remove(0);
        let front_end = FrontEnd::new(&config, None).unwrap();
        let mut live = front_end.live().unwrap();
        live.push(&[0.0; 100]).unwrap();
        let message = live.push(&[0.0, f32::NAN]).unwrap_err().to_string();
        assert!(
            message.starts_with("sample 101 of the audio is NaN"),
            "{message}"
        );
    }
}
