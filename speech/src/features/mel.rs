//! Triangular bands, evenly spaced and half overlapping on the mel scale, after Kaldi's `MelBanks`.
//! Weights are made in `f32` and in Kaldi's order of operations: a band's edge then falls between the same
//! bins. Knows power spectra and no samples.

use super::Geometry;
use super::spectrum::{LANES, fold};

/// Log energies are not below the logarithm of this (Kaldi's floor: digital silence stays finite).
pub(crate) const FLOOR: f32 = f32::EPSILON;

struct Band {
    first: usize,
    /// From bin `first` on, padded with zeros to whole lanes.
    weights: Vec<f32>,
}

pub(crate) struct MelBank {
    bands: Vec<Band>,
}

impl MelBank {
    /// Fails with the number of the first band that no FFT bin falls into.
    pub(crate) fn new(geometry: &Geometry, sample_rate: u32, bands: usize) -> Result<Self, usize> {
        let width = sample_rate as f32 / geometry.fft as f32;
        let low = mel(geometry.low_hz as f32);
        let high = mel(geometry.high_hz as f32);
        let step = (high - low) / (bands + 1) as f32;
        let make = |band: usize| {
            let left = low + band as f32 * step;
            let center = low + (band + 1) as f32 * step;
            let right = low + (band + 2) as f32 * step;
            let weight = |bin: usize| {
                let at = mel(width * bin as f32);
                if at <= left || at >= right {
                    None
                } else if at <= center {
                    Some((at - left) / (center - left))
                } else {
                    Some((right - at) / (right - center))
                }
            };
            // The Nyquist bin is left out, as in Kaldi.
            let bins = geometry.fft / 2;
            let first = (0..bins).find(|&bin| weight(bin).is_some()).ok_or(band)?;
            let mut weights: Vec<f32> = (first..bins).map_while(weight).collect();
            weights.resize(weights.len().next_multiple_of(LANES), 0.0);
            Ok(Band { first, weights })
        };
        let bands = (0..bands).map(make).collect::<Result<_, usize>>()?;
        Ok(Self { bands })
    }

    /// The log energies of `power` (padded as in `Scratch`) into `out`, one for each band.
    pub(crate) fn log_energies(&self, power: &[f32], out: &mut [f32]) {
        for (out, band) in out.iter_mut().zip(&self.bands) {
            let power = &power[band.first..band.first + band.weights.len()];
            *out = dot(power, &band.weights).max(FLOOR).ln();
        }
    }
}

/// Both lengths are multiples of [`LANES`].
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    fold(lanes)
}

fn mel(hz: f32) -> f32 {
    1127.0 * (1.0 + hz / 700.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeaturesConfig;

    fn bank(config: &FeaturesConfig) -> Result<MelBank, usize> {
        let geometry = config.geometry().expect("in bounds");
        MelBank::new(&geometry, config.sample_rate, config.mel_bins)
    }

    #[test]
    fn between_the_outer_centres_each_bin_is_shared_whole_by_two_bands() {
        let bank = bank(&FeaturesConfig::default()).expect("40 bands");
        let mut total = vec![0.0; 256 + LANES];
        for band in &bank.bands {
            for (n, weight) in band.weights.iter().enumerate() {
                total[band.first + n] += weight;
            }
        }
        // The centres of the first and the last band lie at bins 2.1 and 239.6.
        for (bin, total) in total.iter().enumerate().take(240).skip(3) {
            assert!((total - 1.0).abs() < 1e-4, "bin {bin}: {total}");
        }
        assert_eq!(total[0], 0.0);
    }

    #[test]
    fn silence_is_the_floor_and_not_minus_infinity() {
        let bank = bank(&FeaturesConfig::default()).expect("40 bands");
        let mut out = [0.0; 40];
        bank.log_energies(&[0.0; 256 + LANES], &mut out);
        assert_eq!(out, [f32::EPSILON.ln(); 40]);
    }

    #[test]
    fn more_bands_than_bins_are_refused() {
        let config = FeaturesConfig {
            mel_bins: 200,
            ..FeaturesConfig::default()
        };
        assert!(bank(&config).is_err());
    }
}
