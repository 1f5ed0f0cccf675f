//! Playing a recording faster or slower, as a tape is: a band-limited interpolation (Smith & Gossett 1984)
//! at the positions of the new samples. Factors are fractions of a thousandth, so that positions repeat and
//! the filter of each is made once. It does not depend on why.

use crate::features::spectrum::{LANES, dot};

/// Zero crossings of the filter to either side, at the lower of the two rates.
const ZERO_CROSSINGS: f64 = 24.0;
/// Where the filter has fallen to half, as a part of the lower Nyquist frequency.
const EDGE: f64 = 0.95;
/// The shape of the Kaiser window: stopband 80 dB down.
const BETA: f64 = 8.0;

/// The filters of one factor.
#[derive(Debug)]
pub(super) struct SpeedFilter {
    /// New samples lie `step / unit` old ones apart.
    step: usize,
    unit: usize,
    /// `[unit, taps]`, for each of the places that a new sample can have between old ones.
    filters: Vec<f32>,
    taps: usize,
}

impl SpeedFilter {
    /// `None` where nothing changes. `factor` is rounded to a thousandth.
    pub(super) fn new(factor: f64) -> Option<Self> {
        let thousandths = (factor * 1000.0).round() as usize;
        if thousandths == 1000 {
            return None;
        }
        let divisor = gcd(thousandths, 1000);
        let (step, unit) = (thousandths / divisor, 1000 / divisor);
        let band = EDGE * (unit as f64 / step as f64).min(1.0);
        let reach = ZERO_CROSSINGS / band;
        let taps = (2.0 * reach).ceil() as usize;
        let taps = taps.next_multiple_of(LANES);
        let half = (taps / 2) as f64;
        let mut filters = Vec::with_capacity(unit * taps);
        for place in 0..unit {
            let between = place as f64 / unit as f64;
            // The tap in the middle lies on the old sample at or before the new one.
            let weights: Vec<f64> = (0..taps)
                .map(|tap| {
                    let distance = tap as f64 - (half - 1.0) - between;
                    sinc(band * distance) * kaiser(distance / half)
                })
                .collect();
            // A constant stays what it is.
            let total: f64 = weights.iter().sum();
            filters.extend(weights.iter().map(|weight| (weight / total) as f32));
        }
        Some(Self {
            step,
            unit,
            filters,
            taps,
        })
    }

    /// How many samples are left of `samples`: rounded up.
    pub(super) fn length(&self, samples: usize) -> usize {
        (samples * self.unit).div_ceil(self.step)
    }

    pub(super) fn play(&self, samples: &[f32]) -> Vec<f32> {
        let half = self.taps / 2;
        // Silence before and after.
        let mut padded = vec![0.0; samples.len() + 2 * self.taps];
        padded[half - 1..half - 1 + samples.len()].copy_from_slice(samples);
        (0..self.length(samples.len()))
            .map(|index| {
                let at = index * self.step;
                let (first, place) = (at / self.unit, at % self.unit);
                let filter = &self.filters[place * self.taps..(place + 1) * self.taps];
                dot(&padded[first..first + self.taps], filter)
            })
            .collect()
    }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle == 0.0 {
        1.0
    } else {
        angle.sin() / angle
    }
}

/// Zero beyond the ends, -1 and 1.
fn kaiser(x: f64) -> f64 {
    if x.abs() >= 1.0 {
        return 0.0;
    }
    bessel(BETA * (1.0 - x * x).sqrt()) / bessel(BETA)
}

/// The modified Bessel function of the first kind of order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..64 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(frequency: f64, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| (std::f64::consts::TAU * frequency * n as f64).sin() as f32)
            .collect()
    }

    #[test]
    fn once_as_fast_is_no_change() {
        assert!(SpeedFilter::new(1.0).is_none());
        assert!(SpeedFilter::new(1.0004).is_none());
    }

    #[test]
    fn the_length_is_divided_by_the_factor() {
        for (factor, samples, wanted) in [
            (0.9, 9000, 10_000),
            (1.1, 1100, 1000),
            (1.1, 1101, 1001),
            (0.5, 3, 6),
            (2.0, 0, 0),
        ] {
            let speed = SpeedFilter::new(factor).expect("a change");
            assert_eq!(speed.length(samples), wanted);
            assert_eq!(speed.play(&vec![0.5; samples]).len(), wanted);
        }
    }

    #[test]
    fn a_tone_rises_by_the_factor_and_nothing_else_is_heard() {
        for factor in [0.5, 0.87, 0.9, 1.1, 1.237, 2.0] {
            let speed = SpeedFilter::new(factor).expect("a change");
            for frequency in [0.01, 0.11, 0.2] {
                let played = speed.play(&sine(frequency, 4000));
                let wanted = sine(frequency * factor, played.len());
                let inner = 200..played.len() - 200;
                let error: f64 = inner
                    .clone()
                    .map(|n| f64::from(played[n] - wanted[n]).powi(2))
                    .sum::<f64>()
                    / inner.len() as f64;
                let noise_db = 10.0 * (error / 0.5).log10();
                assert!(noise_db < -70.0, "{factor}, {frequency}: {noise_db} dB");
            }
        }
    }

    #[test]
    fn what_would_rise_beyond_the_nyquist_frequency_is_gone() {
        let speed = SpeedFilter::new(1.5).expect("a change");
        let played = speed.play(&sine(0.4, 4000));
        let power = played[200..2000].iter().map(|x| x * x).sum::<f32>() / 1800.0;
        assert!(power < 1e-6, "{power}");
    }
}
