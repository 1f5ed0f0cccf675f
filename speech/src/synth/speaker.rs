//! Who speaks: the vocal tract, the voice and the habits that one speaker keeps in every utterance. It
//! knows nothing of what is said or how it is recorded.
//!
//! Tract lengths and pitches span the men, women and children of Peterson & Barney (1952); voice
//! qualities span the ranges that Klatt & Klatt (1990), JASA 87(2), give for modal to breathy voices.

use super::phoneme::Phone;
use crate::random::Stream;

/// The three groups of Peterson & Barney.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceType {
    /// A man's vocal tract and pitch.
    Man,
    /// A woman's vocal tract and pitch.
    Woman,
    /// A child's vocal tract and pitch.
    Child,
}

impl VoiceType {
    /// Two men, two women and a child in every five, so that a small set of speakers has all three.
    pub fn of(number: u64) -> Self {
        match number % 5 {
            0 | 2 => Self::Man,
            1 | 3 => Self::Woman,
            _ => Self::Child,
        }
    }
}

/// A speaker, drawn once and kept.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Factors on F1, F2, F3 and on everything above.
    pub(super) tract: [f64; 4],
    /// Factors on each sound's formants: the accent.
    pub(super) accent: [[f64; 3]; Phone::COUNT],
    pub(super) bandwidth: f64,
    /// How far vowels shrink towards the neutral one, 0 to 1.
    pub(super) centralising: f64,
    /// How much of an r is left after a vowel, 0 to 1.
    pub(super) rhotic: f64,
    pub(super) lax_zero: bool,
    /// The share of final stops that are released.
    pub(super) releases: f64,
    /// Factor on durations.
    pub(super) pace: f64,
    pub(super) pitch_hz: f64,
    /// Factor on the movements of pitch.
    pub(super) liveliness: f64,
    /// The part of a period in which the glottis is open.
    pub(super) open_quotient: f64,
    /// Coefficient of the one-pole low-pass behind the glottis, for a rate of 16 kHz.
    pub(super) tilt: f64,
    /// Aspiration that goes with voicing, relative to it.
    pub(super) breath: f64,
    pub(super) jitter: f64,
    pub(super) shimmer: f64,
    /// Factor on friction and bursts.
    pub(super) hiss: f64,
}

/// A factor whose logarithm is normal, cut at two deviations: nobody has half a vocal tract.
pub(super) fn factor(stream: &mut Stream, deviation: f64) -> f64 {
    (deviation * stream.normal().clamp(-2.0, 2.0)).exp()
}

impl Speaker {
    /// A speaker of the given group: a function of the stream.
    pub fn draw(voice: VoiceType, stream: &mut Stream) -> Self {
        let (tract, spread, pitch, pitch_spread) = match voice {
            VoiceType::Man => (1.0, 0.045, 118.0, 0.17),
            VoiceType::Woman => (1.165, 0.045, 205.0, 0.13),
            VoiceType::Child => (1.31, 0.06, 265.0, 0.12),
        };
        let tract = tract * factor(stream, spread);
        let tract = [0.03, 0.03, 0.02, 0.02].map(|spread| tract * factor(stream, spread));
        let mut accent = [[1.0; 3]; Phone::COUNT];
        for formants in &mut accent {
            *formants = [0.09, 0.08, 0.05].map(|spread| factor(stream, spread));
        }
        Self {
            tract,
            accent,
            bandwidth: stream.between(0.8, 1.5),
            centralising: stream.between(0.0, 0.35),
            rhotic: stream.between(0.1, 1.0),
            lax_zero: stream.uniform() < 0.5,
            releases: stream.between(0.5, 1.0),
            pace: factor(stream, 0.18),
            pitch_hz: pitch * factor(stream, pitch_spread),
            liveliness: stream.between(0.4, 1.6),
            open_quotient: stream.between(0.45, 0.8),
            tilt: stream.between(0.0, 0.72),
            breath: decibels(stream.between(-40.0, -20.0)),
            jitter: stream.between(0.003, 0.015),
            shimmer: stream.between(0.01, 0.07),
            hiss: decibels(stream.between(-6.0, 5.0)),
        }
    }
}

/// The amplitude of a level.
pub(super) fn decibels(level: f64) -> f64 {
    (level * (std::f64::consts::LN_10 / 20.0)).exp()
}
