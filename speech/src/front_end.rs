//! The acoustic front end: resampling, frames, deltas, normalisation (CMVN), frame stacking and frame subsampling,
//! in that order.
//!
//! A configuration is checked here once, when a [`FrontEnd`] is made; windows, FFT plan, mel bands and DCT
//! are made with it. A `FrontEnd` is shared between threads and gives the same features on each. It
//! does not depend on utterances: errors say what is wrong with the audio, the caller knows whose it is.

use std::borrow::Cow;

use thiserror::Error;

mod live;
mod normalize;
mod stats;

pub use live::{LiveFrontEnd, NotLive};
pub use normalize::Scaling;
pub use stats::{GlobalStats, SpeakerStats, StatsAccumulator};

use crate::features::cepstra::Cepstra;
use crate::features::mel::{FLOOR, MelBank};
use crate::features::spectrum::Spectrum;
use crate::features::{
    FeatureKind, Features, FeaturesConfig, FeaturesError, Geometry, Normalization, deltas,
};
use crate::{
    audio::{Audio, AudioError, is_amplitude, resample, resampled_len},
    error_class::{self, Class, Classify},
};

#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum FrontEndError {
    #[error(transparent)]
    Config(#[from] FeaturesError),
    #[error(
        "the statistics do not fit the features: {reason}: compute them again with this configuration"
    )]
    Stats { reason: String },
    #[error(
        "features.normalization is \"global\", and there are no global statistics: compute them over the training set first"
    )]
    MissingStats,
    #[error(
        "the audio is too short for one frame: {samples} samples at {rate} Hz, and {needed} are needed ({frame_ms} ms): \
             leave it out, or lower features.frame_ms"
    )]
    TooShort {
        samples: usize,
        rate: u32,
        needed: usize,
        frame_ms: f64,
    },
    #[error(
        "the audio has {found} Hz and features.sample_rate is {wanted} Hz: set features.resample = true, or convert the audio"
    )]
    Rate { found: u32, wanted: u32 },
    #[error(
        "sample {index} of the audio is {value}, which is no amplitude: it has to be a finite number between -1 and 1"
    )]
    BadSample { index: usize, value: f32 },
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl Classify for FrontEndError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// The acoustic front end of a recipe: from audio to the features that a model takes.
pub struct FrontEnd {
    config: FeaturesConfig,
    geometry: Geometry,
    spectrum: Spectrum,
    bank: MelBank,
    cepstra: Option<Cepstra>,
    global: Option<Scaling>,
}

/// What replaces parts of the configuration for one utterance: augmentation's filter bank and frame shift, and the
/// speaker's normalisation.
#[derive(Clone, Copy)]
pub(crate) struct FeatureOverrides<'a> {
    /// In place of the front end's own bands.
    pub(crate) bank: Option<&'a MelBank>,
    /// Samples from one frame's start to the next one's.
    pub(crate) shift: usize,
    /// The statistics of the speaker whose voice it is.
    pub(crate) speaker: Option<&'a Scaling>,
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest is tables made from these.
        f.debug_struct("FrontEnd")
            .field("config", &self.config)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl FrontEnd {
    /// Checks `config`, and that `stats` are for its features.
    ///
    /// Without `stats` a front end with global normalisation gives [`raw_features`](Self::raw_features)
    /// only: those that the statistics are computed from.
    pub fn new(
        config: &FeaturesConfig,
        stats: Option<&GlobalStats>,
    ) -> Result<Self, FrontEndError> {
        let geometry = config.geometry()?;
        let bank = MelBank::new(&geometry, config.sample_rate, config.mel_bins).map_err(|band| {
            FeaturesError {
                field: "mel_bins",
                reason: format!(
                    "is {}, too many for frames of {} ms at {} Hz: band {} holds no bin of the spectrum; \
                     lower it or raise frame_ms",
                    config.mel_bins, config.frame_ms, config.sample_rate, band + 1
                ),
            }
        })?;
        let cepstra = match config.kind {
            FeatureKind::LogMel => None,
            FeatureKind::Mfcc => Some(Cepstra::new(config.cepstra, config.mel_bins)),
        };
        let global = match (config.normalization, stats) {
            (Normalization::Global, Some(stats)) => Some(stats.scaling(geometry.dims)?),
            _ => None,
        };
        Ok(Self {
            spectrum: Spectrum::new(&geometry, config.preemphasis),
            config: config.clone(),
            geometry,
            bank,
            cepstra,
            global,
        })
    }

    /// The `[features]` section that it computes by.
    pub fn config(&self) -> &FeaturesConfig {
        &self.config
    }

    /// Values of each output frame, deltas and stack included: the model's inputs.
    pub fn dims(&self) -> usize {
        self.geometry.dims * self.config.stack
    }

    /// Seconds from the start of an output frame to the next one's.
    pub fn frame_seconds(&self) -> f64 {
        let shift = self.geometry.shift as f64 / f64::from(self.config.sample_rate);
        shift * (self.config.stack * self.config.stride) as f64
    }

    /// Output frames of `samples` samples at `rate` Hz; 0 when they are too short for one.
    pub fn output_frames(&self, samples: u64, rate: u32) -> usize {
        let samples = resampled_len(samples, rate, self.config.sample_rate);
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        self.joined(self.geometry.frames(samples))
    }

    fn joined(&self, frames: usize) -> usize {
        frames
            .div_ceil(self.config.stack)
            .div_ceil(self.config.stride)
    }

    /// How a speaker's utterances are normalised whose statistics are `stats`.
    pub fn scaling(&self, stats: &GlobalStats) -> Result<Scaling, FrontEndError> {
        stats.scaling(self.geometry.dims)
    }

    /// What the model sees of `audio`: `[output_frames, dims]`, every value finite. Whose voice it is, is
    /// not known.
    pub fn features(&self, audio: &Audio) -> Result<Features, FrontEndError> {
        self.features_of(audio, None)
    }

    /// What the model sees of `audio`. `speaker` has the scaling of whose voice it is, where features are
    /// normalised by speakers; without one, this utterance stands for all of theirs.
    pub fn features_of(
        &self,
        audio: &Audio,
        speaker: Option<&Scaling>,
    ) -> Result<Features, FrontEndError> {
        let overrides = self.overrides(speaker);
        self.compute(&self.samples(audio)?, &overrides)
    }

    /// Frames before normalisation and stacking, deltas included: what statistics are made of.
    pub fn raw_features(&self, audio: &Audio) -> Result<Features, FrontEndError> {
        self.raw(&self.samples(audio)?, &self.overrides(None))
    }

    /// The samples that features are computed from: checked, and at `features.sample_rate`.
    pub fn samples<'a>(&self, audio: &'a Audio) -> Result<Cow<'a, [f32]>, FrontEndError> {
        if let Some(index) = audio.samples.iter().position(|&x| !is_amplitude(x)) {
            let value = audio.samples[index];
            return Err(FrontEndError::BadSample { index, value });
        }
        self.at_own_rate(audio)
    }

    pub(crate) fn overrides<'a>(&self, speaker: Option<&'a Scaling>) -> FeatureOverrides<'a> {
        FeatureOverrides {
            bank: None,
            shift: self.geometry.shift,
            speaker,
        }
    }

    /// Output frames of `samples` samples at the front end's own rate.
    pub(crate) fn frames_of(&self, samples: usize, overrides: &FeatureOverrides<'_>) -> usize {
        self.joined(self.framing(overrides).frames(samples))
    }

    /// What the model sees of `samples` at the front end's own rate.
    pub(crate) fn compute(
        &self,
        samples: &[f32],
        overrides: &FeatureOverrides<'_>,
    ) -> Result<Features, FrontEndError> {
        let mut features = self.raw(samples, overrides)?;
        match self.config.normalization {
            Normalization::None => {}
            Normalization::Utterance => Scaling::of(&features).apply(&mut features),
            Normalization::Speaker => match overrides.speaker {
                Some(scaling) => scaling.apply(&mut features),
                None => Scaling::of(&features).apply(&mut features),
            },
            Normalization::Global => match &self.global {
                Some(scaling) => scaling.apply(&mut features),
                None => return Err(FrontEndError::MissingStats),
            },
        }
        let joined = normalize::stack(features, self.config.stack);
        Ok(normalize::subsample(joined, self.config.stride))
    }

    fn framing(&self, overrides: &FeatureOverrides<'_>) -> Geometry {
        Geometry {
            shift: overrides.shift,
            ..self.geometry
        }
    }

    fn raw(
        &self,
        samples: &[f32],
        overrides: &FeatureOverrides<'_>,
    ) -> Result<Features, FrontEndError> {
        let frames = self.framing(overrides).frames(samples.len());
        if frames == 0 {
            return Err(FrontEndError::TooShort {
                samples: samples.len(),
                rate: self.config.sample_rate,
                needed: self.geometry.frame,
                frame_ms: self.config.frame_ms,
            });
        }
        let features = self.frames(samples, frames, overrides);
        Ok(match self.config.deltas {
            0 => features,
            orders => deltas::append(&features, orders),
        })
    }

    fn at_own_rate<'a>(&self, audio: &'a Audio) -> Result<Cow<'a, [f32]>, FrontEndError> {
        let (found, wanted) = (audio.sample_rate, self.config.sample_rate);
        if found == wanted {
            return Ok(Cow::Borrowed(&audio.samples));
        }
        if !self.config.resample {
            return Err(FrontEndError::Rate { found, wanted });
        }
        Ok(Cow::Owned(resample(audio, wanted)?.samples))
    }

    fn frames(&self, samples: &[f32], frames: usize, overrides: &FeatureOverrides<'_>) -> Features {
        let Geometry { frame, statics, .. } = self.geometry;
        let shift = overrides.shift;
        let bank = overrides.bank.unwrap_or(&self.bank);
        let bands = self.config.mel_bins;
        let mut log_mel = vec![0.0; frames * bands];
        let mut scratch = self.spectrum.scratch();
        for (n, out) in log_mel.chunks_exact_mut(bands).enumerate() {
            let samples = &samples[n * shift..n * shift + frame];
            self.spectrum.power(samples, &mut scratch);
            bank.log_energies(&scratch.power, out);
        }
        if self.config.range_db > 0.0 {
            raise(&mut log_mel, self.config.range_db);
        }
        let Some(cepstra) = &self.cepstra else {
            return Features {
                frames,
                dims: statics,
                data: log_mel,
            };
        };
        let mut data = vec![0.0; frames * statics];
        let rows = data.chunks_exact_mut(statics);
        for (n, (out, log_mel)) in rows.zip(log_mel.chunks_exact(bands)).enumerate() {
            cepstra.transform(log_mel, out);
            if self.config.use_energy {
                let samples = &samples[n * shift..n * shift + frame];
                out[0] = self.spectrum.energy(samples).max(FLOOR).ln();
            }
        }
        Features {
            frames,
            dims: statics,
            data,
        }
    }
}

/// Raises what lies more than `range_db` below the greatest of `log_energies` (natural logarithms).
fn raise(log_energies: &mut [f32], range_db: f64) {
    let range = (range_db / 10.0 * std::f64::consts::LN_10) as f32;
    let floor = log_energies.iter().copied().fold(f32::MIN, f32::max) - range;
    for energy in log_energies {
        *energy = energy.max(floor);
    }
}
