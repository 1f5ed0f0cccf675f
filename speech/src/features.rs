//! The `[features]` section of a job with its bounds, and the feature matrix. The numbers follow Kaldi's
//! conventions; the parts that make them are the submodules, composed by [`front_end`](crate::front_end). It does
//! not depend on files and models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) mod cepstra;
pub(crate) mod deltas;
pub(crate) mod mel;
pub(crate) mod spectrum;

use crate::audio::RATES;

/// The kind of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// Log mel filter bank energies.
    LogMel,
    /// Mel-frequency cepstral coefficients.
    Mfcc,
}

/// What features are normalised over (CMVN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// No normalisation.
    None,
    /// Zero mean and unit variance over each utterance.
    Utterance,
    /// Zero mean and unit variance over all utterances of a speaker in the manifest (per-speaker CMVN); over
    /// the utterance where the speaker is unknown.
    Speaker,
    /// Zero mean and unit variance over the training set.
    Global,
}

/// The `[features]` section of a job: the front end, after Kaldi's conventions. Equal settings give equal features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeaturesConfig {
    /// The kind of features.
    pub kind: FeatureKind,
    /// The sampling rate in Hz at which features are computed.
    #[schemars(range(min = 1000, max = 192000), example = 8000)]
    pub sample_rate: u32,
    /// Whether audio of another sampling rate is resampled; `false` refuses it.
    pub resample: bool,
    /// The number of mel filter bands.
    #[schemars(range(min = 1, max = 256), example = 80)]
    pub mel_bins: usize,
    /// The number of cepstral coefficients of an MFCC frame, at most `mel_bins`.
    #[schemars(range(min = 1, max = 256), example = 20)]
    pub cepstra: usize,
    /// The length of a frame in milliseconds, at least 8 samples.
    #[schemars(range(min = 1, max = 1000), example = 32.0)]
    pub frame_ms: f64,
    /// The time from one frame's start to the next one's in milliseconds, at least a sample.
    #[schemars(range(min = 0.1, max = 1000), example = 12.5)]
    pub shift_ms: f64,
    /// The lower edge of the first mel band in Hz, at most the Nyquist frequency.
    #[schemars(range(min = 0), example = 60.0)]
    pub low_hz: f64,
    /// The upper edge of the last mel band in Hz; 0: the Nyquist frequency; negative: so far below it.
    #[schemars(example = 3800.0)]
    pub high_hz: f64,
    /// The coefficient of the pre-emphasis filter.
    #[schemars(range(min = 0, max = 1), example = 0.95)]
    pub preemphasis: f64,
    /// The dynamic range floor in decibels: log mel energies that lie farther below the utterance's loudest are
    /// raised to it, which hides differences of the recordings' noise. 0: no floor but Kaldi's.
    #[schemars(range(min = 0, max = 200), example = 60.0)]
    pub range_db: f64,
    /// Whether the frame's log energy replaces the first cepstral coefficient.
    pub use_energy: bool,
    /// The orders of time derivatives appended to each frame.
    #[schemars(range(min = 0, max = 2), example = 2)]
    pub deltas: usize,
    /// Frame stacking: so many consecutive frames are joined into one. 1: no stacking.
    #[schemars(range(min = 1, max = 64), example = 3)]
    pub stack: usize,
    /// Frame subsampling: one in so many of the (stacked) frames is kept, beginning with the first. 1: all.
    #[schemars(range(min = 1, max = 64), example = 3)]
    pub stride: usize,
    /// Mean and variance normalisation of the features (CMVN).
    pub normalization: Normalization,
}

impl Default for FeaturesConfig {
    fn default() -> Self {
        Self {
            kind: FeatureKind::LogMel,
            sample_rate: 16_000,
            resample: true,
            mel_bins: 40,
            cepstra: 13,
            frame_ms: 25.0,
            shift_ms: 10.0,
            low_hz: 20.0,
            high_hz: 0.0,
            preemphasis: 0.97,
            range_db: 0.0,
            use_energy: false,
            deltas: 0,
            stack: 1,
            stride: 1,
            normalization: Normalization::Utterance,
        }
    }
}

/// A field of `[features]` that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("features.{field} {reason}")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct FeaturesError {
    pub field: &'static str,
    pub reason: String,
}

/// `frames` rows of `dims` values, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Rows: one for each frame.
    pub frames: usize,
    /// Values of a frame.
    pub dims: usize,
    /// Frames one after the other, row-major `[frames, dims]`.
    pub data: Vec<f32>,
}

impl Features {
    /// The frames in order, `dims` values each.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dims)
    }
}

/// A checked configuration in samples and dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    /// Samples in a frame, and from one frame's start to the next one's.
    pub(crate) frame: usize,
    pub(crate) shift: usize,
    /// The frame's length padded to a power of two.
    pub(crate) fft: usize,
    pub(crate) low_hz: f64,
    pub(crate) high_hz: f64,
    /// Values of a frame before deltas, and with them.
    pub(crate) statics: usize,
    pub(crate) dims: usize,
}

impl Geometry {
    /// Whole frames in `samples` samples; the rest is left out (Kaldi's `snip_edges`).
    pub(crate) fn frames(&self, samples: usize) -> usize {
        match samples.checked_sub(self.frame) {
            Some(room) => 1 + room / self.shift,
            None => 0,
        }
    }
}

impl FeaturesConfig {
    pub(crate) fn geometry(&self) -> Result<Geometry, FeaturesError> {
        within("sample_rate", self.sample_rate, 1_000, 192_000)?;
        within("mel_bins", self.mel_bins, 1, 256)?;
        within("frame_ms", self.frame_ms, 1.0, 1_000.0)?;
        within("shift_ms", self.shift_ms, 0.1, 1_000.0)?;
        within("preemphasis", self.preemphasis, 0.0, 1.0)?;
        within("deltas", self.deltas, 0, 2)?;
        within("stack", self.stack, 1, 64)?;
        within("stride", self.stride, 1, 64)?;
        within("range_db", self.range_db, 0.0, 200.0)?;
        let statics = match self.kind {
            FeatureKind::LogMel => self.mel_bins,
            FeatureKind::Mfcc => {
                if self.cepstra > self.mel_bins {
                    return refuse(
                        "cepstra",
                        format!(
                            "is {}, but there are only {} mel bands: lower it or raise mel_bins",
                            self.cepstra, self.mel_bins
                        ),
                    );
                }
                within("cepstra", self.cepstra, 1, 256)?;
                self.cepstra
            }
        };

        let frame = self.samples_in(self.frame_ms);
        if frame < 8 {
            return refuse(
                "frame_ms",
                format!(
                    "is {}, which is {frame} samples at {} Hz: at least 8 are needed",
                    self.frame_ms, self.sample_rate
                ),
            );
        }
        let shift = self.samples_in(self.shift_ms);
        if shift == 0 {
            return refuse(
                "shift_ms",
                format!(
                    "is {}, which is less than a sample at {} Hz",
                    self.shift_ms, self.sample_rate
                ),
            );
        }

        let nyquist = f64::from(self.sample_rate) / 2.0;
        within("low_hz", self.low_hz, 0.0, nyquist)?;
        within("high_hz", self.high_hz, -nyquist, nyquist)?;
        let high_hz = if self.high_hz > 0.0 {
            self.high_hz
        } else {
            nyquist + self.high_hz
        };
        if high_hz <= self.low_hz {
            return refuse(
                "high_hz",
                format!(
                    "is {}, which means {high_hz} Hz at a sample rate of {} Hz: not above low_hz ({} Hz)",
                    self.high_hz, self.sample_rate, self.low_hz
                ),
            );
        }
        Ok(Geometry {
            frame,
            shift,
            fft: frame.next_power_of_two(),
            low_hz: self.low_hz,
            high_hz,
            statics,
            dims: statics * (self.deltas + 1),
        })
    }

    fn samples_in(&self, ms: f64) -> usize {
        // Truncated as Kaldi does; the slack keeps decimal milliseconds from losing a sample to rounding.
        (f64::from(self.sample_rate) * ms / 1000.0 + 1e-6) as usize
    }
}

// Every rate that features are computed at is one that audio can be resampled to.
const _: () = assert!(*RATES.start() <= 1_000 && *RATES.end() >= 192_000);

fn refuse<T>(field: &'static str, reason: String) -> Result<T, FeaturesError> {
    Err(FeaturesError { field, reason })
}

/// NaN is within no bounds.
fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    low: T,
    high: T,
) -> Result<(), FeaturesError> {
    if value >= low && value <= high {
        return Ok(());
    }
    refuse(
        field,
        format!("is {value}, but has to be between {low} and {high}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut FeaturesConfig)) -> String {
        let mut config = FeaturesConfig::default();
        change(&mut config);
        config.geometry().expect_err("out of bounds").to_string()
    }

    #[test]
    fn the_defaults_are_kaldis_frames() {
        let geometry = FeaturesConfig::default().geometry().expect("defaults hold");
        assert_eq!(
            (geometry.frame, geometry.shift, geometry.fft),
            (400, 160, 512)
        );
        assert_eq!((geometry.low_hz, geometry.high_hz), (20.0, 8000.0));
        assert_eq!((geometry.statics, geometry.dims), (40, 40));
        assert_eq!(
            [0, 399, 400, 559, 560, 16000].map(|samples| geometry.frames(samples)),
            [0, 0, 1, 1, 2, 98]
        );
    }

    #[test]
    fn a_refused_value_is_named_with_its_bounds() {
        assert_eq!(
            refused(|c| c.sample_rate = 0),
            "features.sample_rate is 0, but has to be between 1000 and 192000"
        );
        assert!(refused(|c| c.mel_bins = 0).starts_with("features.mel_bins is 0"));
        assert!(refused(|c| c.mel_bins = 1_000_000).starts_with("features.mel_bins"));
        assert!(refused(|c| c.frame_ms = f64::NAN).starts_with("features.frame_ms is NaN"));
        assert!(refused(|c| c.frame_ms = 1e9).starts_with("features.frame_ms"));
        assert!(refused(|c| c.shift_ms = 0.0).starts_with("features.shift_ms"));
        assert!(refused(|c| c.preemphasis = 1.5).starts_with("features.preemphasis"));
        assert!(refused(|c| c.low_hz = -1.0).starts_with("features.low_hz"));
        assert!(refused(|c| c.low_hz = 8000.0).starts_with("features.high_hz"));
        assert!(refused(|c| c.high_hz = 8000.5).starts_with("features.high_hz"));
        assert!(refused(|c| c.high_hz = -7990.0).starts_with("features.high_hz is -7990"));
        assert!(refused(|c| c.deltas = 3).starts_with("features.deltas is 3"));
        assert!(refused(|c| c.stack = 0).starts_with("features.stack is 0"));
        assert!(refused(|c| c.stride = 0).starts_with("features.stride is 0"));
        assert!(refused(|c| c.range_db = -1.0).starts_with("features.range_db is -1"));
        let cepstra = refused(|c| {
            c.kind = FeatureKind::Mfcc;
            c.mel_bins = 12;
        });
        assert!(cepstra.starts_with("features.cepstra is 13, but there are only 12"));
        let short = refused(|c| {
            c.sample_rate = 1000;
            c.frame_ms = 7.0;
        });
        assert!(short.starts_with("features.frame_ms is 7, which is 7 samples"));
    }

    #[test]
    fn a_section_is_read_with_defaults_and_without_strangers() {
        let config: FeaturesConfig =
            toml::from_str("kind = \"mfcc\"\nnormalization = \"global\"\nmel_bins = 23")
                .expect("valid");
        assert_eq!(config.kind, FeatureKind::Mfcc);
        assert_eq!(config.normalization, Normalization::Global);
        assert_eq!((config.mel_bins, config.cepstra), (23, 13));
        let error = toml::from_str::<FeaturesConfig>("mel_bin = 23").expect_err("a typo");
        assert!(error.to_string().contains("mel_bin"), "{error}");
    }
}
