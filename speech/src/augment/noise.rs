//! Noise at a given distance below the speech: hiss, a falling spectrum, other speakers. It decides what
//! noise is, and measures it before it is added, so that the ratio is what was asked for. It does not depend on
//! who the other speakers are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// The kind of noise that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    /// White noise.
    White,
    /// Pink noise: equal power in every octave.
    Pink,
    /// Babble: other utterances of the same micro-batch together; pink noise where there is none.
    Babble,
}

/// The most voices of babble.
const MAX_BABBLE_SPEAKERS: u64 = 6;

/// Adds noise to `samples`, whose mean square becomes the noise's times `10^(snr_db / 10)`. Into silence
/// nothing is added. `others` are recordings at the same rate.
pub(super) fn add(
    samples: &mut [f32],
    kind: NoiseKind,
    snr_db: f64,
    others: &[&[f32]],
    stream: &mut Stream,
) {
    let noise = match kind {
        NoiseKind::White => white(samples.len(), stream),
        NoiseKind::Pink => pink(samples.len(), stream),
        NoiseKind::Babble => {
            babble(samples.len(), others, stream).unwrap_or_else(|| pink(samples.len(), stream))
        }
    };
    let (speech, loud) = (mean_square(samples), mean_square(&noise));
    if loud == 0.0 {
        return;
    }
    let scale = (speech / loud / 10f64.powf(snr_db / 10.0)).sqrt() as f32;
    for (sample, noise) in samples.iter_mut().zip(&noise) {
        *sample += scale * noise;
    }
}

pub(super) fn mean_square(samples: &[f32]) -> f64 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sum / samples.len().max(1) as f64
}

/// Four uniform numbers added: near enough to Gaussian for noise, at a tenth of the price.
fn white(samples: usize, stream: &mut Stream) -> Vec<f32> {
    let sample = |_| {
        let bits = stream.next_u64();
        let quarters = (0..4).map(|n| (bits >> (16 * n)) & 0xffff).sum::<u64>();
        quarters as f32 * (1.0 / 65_536.0) - 2.0
    };
    (0..samples).map(sample).collect()
}

/// White noise through a filter that falls by 3 dB an octave (Smith, Spectral Audio Signal Processing,
/// 2011: poles and zeros by turns).
fn pink(samples: usize, stream: &mut Stream) -> Vec<f32> {
    const ZEROS: [f64; 4] = [0.049922035, -0.095993537, 0.050612699, -0.004408786];
    const POLES: [f64; 3] = [-2.494956002, 2.017265875, -0.522189400];
    /// Until the filter has forgotten that there was silence before.
    const BEGIN: usize = 1500;
    let white = white(BEGIN + samples, stream);
    let (mut before, mut given) = ([0.0; 3], [0.0; 3]);
    let mut noise = Vec::with_capacity(white.len());
    for &x in &white {
        let x = f64::from(x);
        let mut y = ZEROS[0] * x;
        for n in 0..3 {
            y += ZEROS[n + 1] * before[n] - POLES[n] * given[n];
        }
        before = [x, before[0], before[1]];
        given = [y, given[0], given[1]];
        noise.push(y as f32);
    }
    noise.split_off(BEGIN)
}

/// Some of `others`, equally loud, from anywhere in each and over again where it ends.
fn babble(samples: usize, others: &[&[f32]], stream: &mut Stream) -> Option<Vec<f32>> {
    let audible: Vec<&[f32]> = others
        .iter()
        .copied()
        .filter(|other| mean_square(other) > 0.0)
        .collect();
    if audible.is_empty() {
        return None;
    }
    let mut noise = vec![0.0; samples];
    for _ in 0..1 + stream.below(MAX_BABBLE_SPEAKERS) {
        let voice = audible[stream.below(audible.len() as u64) as usize];
        let scale = 1.0 / mean_square(voice).sqrt() as f32;
        let start = stream.below(voice.len() as u64) as usize;
        let endless = voice.iter().cycle().skip(start);
        for (noise, voice) in noise.iter_mut().zip(endless) {
            *noise += scale * voice;
        }
    }
    Some(noise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(samples: usize) -> Vec<f32> {
        (0..samples).map(|n| 0.1 * (n as f32 * 0.3).sin()).collect()
    }

    #[test]
    fn the_ratio_is_the_one_that_was_asked_for() {
        let other = tone(700);
        for kind in [NoiseKind::White, NoiseKind::Pink, NoiseKind::Babble] {
            for snr_db in [-5.0, 0.0, 17.5, 60.0] {
                let clean = tone(4000);
                let mut noisy = clean.clone();
                add(
                    &mut noisy,
                    kind,
                    snr_db,
                    &[&other],
                    &mut Stream::new(1, &[]),
                );
                let noise: Vec<f32> = noisy.iter().zip(&clean).map(|(a, b)| a - b).collect();
                let reached = 10.0 * (mean_square(&clean) / mean_square(&noise)).log10();
                assert!(
                    (reached - snr_db).abs() < 0.01,
                    "{kind:?}: {reached} dB, not {snr_db}"
                );
            }
        }
    }

    #[test]
    fn silence_stays_silent_and_silent_others_are_no_babble() {
        let mut silence = vec![0.0; 100];
        add(
            &mut silence,
            NoiseKind::White,
            0.0,
            &[],
            &mut Stream::new(1, &[]),
        );
        assert_eq!(silence, [0.0; 100]);
        let mut noisy = tone(100);
        add(
            &mut noisy,
            NoiseKind::Babble,
            0.0,
            &[&[0.0; 50], &[]],
            &mut Stream::new(1, &[]),
        );
        assert!(noisy.iter().all(|x| x.is_finite()));
        assert_ne!(noisy, tone(100));
    }

    /// Mean power at `frequency` (cycles a sample), by a plain transform of 512 samples at a time.
    fn power(noise: &[f32], frequency: f64) -> f64 {
        let of_block = |block: &[f32]| {
            let (mut re, mut im) = (0.0, 0.0);
            for (n, &x) in block.iter().enumerate() {
                let angle = std::f64::consts::TAU * frequency * n as f64;
                let window = 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / 512.0).cos();
                re += window * f64::from(x) * angle.cos();
                im += window * f64::from(x) * angle.sin();
            }
            re * re + im * im
        };
        noise.chunks_exact(512).map(of_block).sum()
    }

    #[test]
    fn white_noise_is_level_and_pink_falls_by_three_decibels_an_octave() {
        let samples = 512 * 1000;
        let (white, pink) = (
            white(samples, &mut Stream::new(1, &[])),
            pink(samples, &mut Stream::new(2, &[])),
        );
        for octave in 2..6 {
            let (low, high) = (0.4 / f64::from(1 << octave), 0.8 / f64::from(1 << octave));
            let fall = |noise: &[f32]| 10.0 * (power(noise, low) / power(noise, high)).log10();
            assert!(fall(&white).abs() < 0.7, "{octave}: {}", fall(&white));
            assert!(
                (fall(&pink) - 3.01).abs() < 1.0,
                "{octave}: {}",
                fall(&pink)
            );
        }
        let mean: f64 = white.iter().map(|&x| f64::from(x)).sum::<f64>() / samples as f64;
        assert!(mean.abs() < 0.01);
        assert!((mean_square(&white) - 1.0 / 3.0).abs() < 0.01);
    }
}
