//! Triangular bands, evenly spaced and half overlapping on the mel scale, after Kaldi's `MelBanks`.
//! Weights are made in `f32` and in Kaldi's order of operations: a band's edge then falls between the same
//! bins. Knows power spectra and no samples.

use super::Geometry;
use super::spectrum::{LANES, dot};

/// Log energies are not below the logarithm of this (Kaldi's floor: digital silence stays finite).
pub(crate) const FLOOR: f32 = f32::EPSILON;

/// Where a warped axis begins to bend back, unless the share of the Nyquist frequency is lower: above the
/// formants, as in the paper, which has 4800 Hz at 16 kHz.
const BEND_HZ: f64 = 4800.0;
const BEND_SHARE: f64 = 0.8;

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
        Self::placed(geometry, sample_rate, bands, |edge| edge)
    }

    /// Bands on a frequency axis that is stretched by `warp` and bent so that the Nyquist frequency stays
    /// (Jaitly & Hinton 2013): what lies at `f` is heard in the band that `f / warp` belongs to.
    pub(crate) fn warped(
        geometry: &Geometry,
        sample_rate: u32,
        bands: usize,
        warp: f64,
    ) -> Result<Self, usize> {
        let nyquist = f64::from(sample_rate) / 2.0;
        let bend = BEND_HZ.min(BEND_SHARE * nyquist) * warp.min(1.0);
        let moved = |hz: f64| {
            if hz <= bend / warp {
                hz * warp
            } else {
                nyquist - (nyquist - bend) / (nyquist - bend / warp) * (nyquist - hz)
            }
        };
        Self::placed(geometry, sample_rate, bands, |edge| {
            let hz = 700.0 * ((f64::from(edge) / 1127.0).exp() - 1.0);
            mel(moved(hz) as f32)
        })
    }

    /// Bands whose edges and centres, in mel, are where `place` puts them.
    fn placed(
        geometry: &Geometry,
        sample_rate: u32,
        bands: usize,
        place: impl Fn(f32) -> f32,
    ) -> Result<Self, usize> {
        let width = sample_rate as f32 / geometry.fft as f32;
        let low = mel(geometry.low_hz as f32);
        let high = mel(geometry.high_hz as f32);
        let step = (high - low) / (bands + 1) as f32;
        let make = |band: usize| {
            let left = place(low + band as f32 * step);
            let center = place(low + (band + 1) as f32 * step);
            let right = place(low + (band + 2) as f32 * step);
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
    fn a_warped_axis_moves_centres_by_the_factor_and_keeps_its_end() {
        let geometry = FeaturesConfig::default().geometry().expect("in bounds");
        let centre = |band: &Band| {
            let total: f32 = band.weights.iter().sum();
            let moment: f32 = (0..).zip(&band.weights).map(|(n, w)| n as f32 * w).sum();
            f64::from(band.first as f32 + moment / total) * 16_000.0 / 512.0
        };
        let plain = bank(&FeaturesConfig::default()).expect("40 bands");
        for warp in [0.8, 0.9, 1.1, 1.2] {
            let warped = MelBank::warped(&geometry, 16_000, 40, warp).expect("40 bands");
            for (band, plain) in warped.bands.iter().zip(&plain.bands).skip(12) {
                let (found, from) = (centre(band), centre(plain));
                if from < 4800.0 * warp.min(1.0) / warp * 0.9 {
                    assert!(
                        (found / from / warp - 1.0).abs() < 0.02,
                        "{warp}: {from} to {found} Hz"
                    );
                }
                assert!(found < 8000.0);
            }
        }
        let straight = MelBank::warped(&geometry, 16_000, 40, 1.0).expect("40 bands");
        for (a, b) in straight.bands.iter().zip(&plain.bands) {
            assert!((centre(a) - centre(b)).abs() < 1e-2);
        }
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
