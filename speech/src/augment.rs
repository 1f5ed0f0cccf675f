//! Augmentation of training recordings: the `[augment]` section and its bounds. Sound and spectrum are changed by
//! [`Augmenter`], masks laid over features by [`spec_augment`]. Everything that is drawn follows from (seed,
//! epoch, utterance), never from who computes it. It does not depend on when it is applied: training, never
//! scoring.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod augmenter;
mod masks;
mod noise;
mod room;
mod speed;

pub use augmenter::{AugmentInput, Augmenter, Occasion};
pub use masks::spec_augment;
pub use noise::NoiseKind;

/// The `[augment]` section of a job: changes to the training set's recordings and features, drawn anew for each
/// (seed, epoch, utterance). By default nothing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// The number of frequency masks (SpecAugment, Park et al. 2019): each covers neighbouring mel bands.
    #[schemars(range(max = 100), example = 1)]
    pub freq_masks: usize,
    /// The most mel bands that a frequency mask covers.
    #[schemars(example = 8)]
    pub freq_width: usize,
    /// The number of time masks (SpecAugment): each covers neighbouring frames.
    #[schemars(range(max = 100), example = 2)]
    pub time_masks: usize,
    /// The largest share of an utterance's frames that a time mask covers.
    #[schemars(range(min = 0, max = 1), example = 0.1)]
    pub time_fraction: f64,
    /// Speed factors, one of which is drawn for each utterance (Ko et al. 2015). Speed changes pace, pitch and
    /// formants together. Empty: no change. At most 100 factors.
    #[schemars(inner(range(min = 0.5, max = 2)), example = vec![0.9, 1.0, 1.1])]
    pub speed: Vec<f64>,
    /// The range `[low, high]` of the tempo factor: pace alone, by frames that lie farther apart.
    #[schemars(inner(range(min = 0.5, max = 2)), example = vec![0.9, 1.1])]
    pub tempo: [f64; 2],
    /// The range `[low, high]` of the vocal tract length perturbation (Jaitly & Hinton 2013): a warp of the
    /// frequency axis in steps of 0.01, formants alone.
    #[schemars(inner(range(min = 0.5, max = 2)), example = vec![0.8, 1.2])]
    pub vtlp: [f64; 2],
    /// The range `[low, high]` of the gain in decibels.
    #[schemars(inner(range(min = -60, max = 60)), example = vec![-6.0, 6.0])]
    pub gain_db: [f64; 2],
    /// The share of utterances that noise is added to.
    #[schemars(range(min = 0, max = 1), example = 0.5)]
    pub noise: f64,
    /// The range `[low, high]` of the signal-to-noise ratio in decibels, over the whole utterance.
    #[schemars(inner(range(min = -30, max = 100)), example = vec![5.0, 20.0])]
    pub noise_snr_db: [f64; 2],
    /// The kinds of noise, one of which is drawn for each utterance that gets noise.
    #[schemars(example = vec!["babble"])]
    pub noise_kinds: Vec<NoiseKind>,
    /// The share of utterances that are convolved with the impulse response of a simulated room.
    #[schemars(range(min = 0, max = 1), example = 0.3)]
    pub reverb: f64,
    /// The range `[low, high]` of the simulated rooms' reverberation time (T60) in seconds.
    #[schemars(inner(range(min = 0.02, max = 1)), example = vec![0.2, 0.6])]
    pub reverb_seconds: [f64; 2],
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            freq_masks: 0,
            freq_width: 27,
            time_masks: 0,
            time_fraction: 0.05,
            speed: Vec::new(),
            tempo: [1.0, 1.0],
            vtlp: [1.0, 1.0],
            gain_db: [0.0, 0.0],
            noise: 0.0,
            noise_snr_db: [10.0, 30.0],
            noise_kinds: vec![NoiseKind::White, NoiseKind::Pink, NoiseKind::Babble],
            reverb: 0.0,
            reverb_seconds: [0.1, 0.4],
        }
    }
}

/// A field of `[augment]` that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("augment.{field} {reason}")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct AugmentError {
    pub field: &'static str,
    pub reason: String,
}

fn refuse<T>(field: &'static str, reason: String) -> Result<T, AugmentError> {
    Err(AugmentError { field, reason })
}

impl AugmentConfig {
    /// Whether anything is changed before features are there. Masks alone are laid over features.
    pub fn changes_sound(&self) -> bool {
        let moves = |[low, high]: [f64; 2], rest: f64| low != rest || high != rest;
        self.speed.iter().any(|&factor| factor != 1.0)
            || moves(self.tempo, 1.0)
            || moves(self.vtlp, 1.0)
            || moves(self.gain_db, 0.0)
            || self.noise > 0.0
            || self.reverb > 0.0
    }

    /// Whether the values can be used; [`spec_augment`] and [`Augmenter`] trust them.
    pub fn check(&self) -> Result<(), AugmentError> {
        for (field, masks) in [
            ("freq_masks", self.freq_masks),
            ("time_masks", self.time_masks),
        ] {
            if masks > 100 {
                return refuse(field, format!("is {masks}, but has to be at most 100"));
            }
        }
        for (field, share) in [
            ("time_fraction", self.time_fraction),
            ("noise", self.noise),
            ("reverb", self.reverb),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(field, format!("is {share}, but has to be between 0 and 1"));
            }
        }
        if self.speed.len() > 100 {
            let reason = format!("has {} factors, and 100 are allowed", self.speed.len());
            return refuse("speed", reason);
        }
        for &factor in &self.speed {
            if !(0.5..=2.0).contains(&factor) {
                let reason = format!("has {factor}, but a factor has to be between 0.5 and 2");
                return refuse("speed", reason);
            }
        }
        for (field, [low, high], least, most) in [
            ("tempo", self.tempo, 0.5, 2.0),
            ("vtlp", self.vtlp, 0.5, 2.0),
            ("gain_db", self.gain_db, -60.0, 60.0),
            ("noise_snr_db", self.noise_snr_db, -30.0, 100.0),
            ("reverb_seconds", self.reverb_seconds, 0.02, 1.0),
        ] {
            if !(least <= low && low <= high && high <= most) {
                let reason = format!(
                    "is [{low}, {high}], but has to be a range [low, high] between {least} and {most}"
                );
                return refuse(field, reason);
            }
        }
        if self.noise > 0.0 && self.noise_kinds.is_empty() {
            let reason = "is empty: name kinds, or leave `noise` at 0".to_owned();
            return refuse("noise_kinds", reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_values_are_named() {
        let refused = |change: fn(&mut AugmentConfig)| {
            let mut config = AugmentConfig::default();
            change(&mut config);
            config.check().expect_err("refused").to_string()
        };
        assert_eq!(AugmentConfig::default().check(), Ok(()));
        assert!(
            refused(|c| c.time_fraction = f64::NAN).starts_with("augment.time_fraction is NaN")
        );
        assert!(refused(|c| c.time_masks = 101).starts_with("augment.time_masks is 101"));
        assert!(refused(|c| c.speed = vec![1.0, 0.0]).starts_with("augment.speed has 0"));
        assert!(refused(|c| c.speed = vec![f64::NAN]).starts_with("augment.speed has NaN"));
        assert!(refused(|c| c.tempo = [1.1, 0.9]).starts_with("augment.tempo is [1.1, 0.9]"));
        assert!(refused(|c| c.vtlp = [0.1, 1.0]).starts_with("augment.vtlp is [0.1, 1]"));
        assert!(refused(|c| c.gain_db = [0.0, f64::INFINITY]).starts_with("augment.gain_db"));
        assert!(refused(|c| c.noise = 2.0).starts_with("augment.noise is 2"));
        assert!(refused(|c| c.noise_snr_db = [0.0, f64::NAN]).starts_with("augment.noise_snr_db"));
        assert!(refused(|c| c.reverb = -0.1).starts_with("augment.reverb is -0.1"));
        assert!(refused(|c| c.reverb_seconds = [0.0, 0.1]).starts_with("augment.reverb_seconds"));
        let kinds = refused(|c| {
            c.noise = 0.5;
            c.noise_kinds.clear();
        });
        assert!(kinds.starts_with("augment.noise_kinds is empty"));
    }

    #[test]
    fn a_section_says_whether_sound_is_touched() {
        let read = |text: &str| toml::from_str::<AugmentConfig>(text).expect("valid");
        for text in [
            "",
            "freq_masks = 2\ntime_masks = 1",
            "speed = [1.0]\nnoise_snr_db = [0.0, 5.0]",
        ] {
            assert!(!read(text).changes_sound(), "{text}");
        }
        for text in [
            "speed = [0.9, 1.0]",
            "tempo = [1.0, 1.1]",
            "vtlp = [0.8, 1.2]",
            "gain_db = [-6.0, 0.0]",
            "noise = 0.5\nnoise_kinds = [\"pink\"]",
            "reverb = 0.1",
        ] {
            assert!(read(text).changes_sound(), "{text}");
        }
        assert!(toml::from_str::<AugmentConfig>("vtlp = [0.9]").is_err());
    }
}
