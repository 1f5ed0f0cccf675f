//! The second-order sections of Klatt (1980), section II, and the decimator behind them. It knows
//! rates and coefficients, not speech.

use std::f64::consts::{PI, TAU};

/// Poles closer to the Nyquist frequency than this would ring at it.
const HIGHEST: f64 = 0.48;

/// Pole radius and the two feedback coefficients of a resonance at `hz`, `bandwidth` wide (eq. 2).
fn poles(hz: f64, bandwidth: f64, rate: f64) -> (f64, f64, f64) {
    let hz = hz.min(HIGHEST * rate);
    let radius = (-PI * bandwidth / rate).exp();
    (
        radius,
        2.0 * radius * (TAU * hz / rate).cos(),
        -radius * radius,
    )
}

/// A formant of the cascade: two poles, gain one at 0 Hz.
#[derive(Clone, Debug, Default)]
pub(super) struct Resonator {
    gain: f64,
    b: f64,
    c: f64,
    y1: f64,
    y2: f64,
}

impl Resonator {
    pub(super) fn tune(&mut self, hz: f64, bandwidth: f64, rate: f64) {
        let (_, b, c) = poles(hz, bandwidth, rate);
        (self.gain, self.b, self.c) = (1.0 - b - c, b, c);
    }

    pub(super) fn next(&mut self, x: f64) -> f64 {
        let y = self.gain * x + self.b * self.y1 + self.c * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

/// The zero of a nasal tract: the inverse of a [`Resonator`], gain one at 0 Hz.
#[derive(Clone, Debug, Default)]
pub(super) struct AntiResonator {
    scale: f64,
    b: f64,
    c: f64,
    x1: f64,
    x2: f64,
}

impl AntiResonator {
    pub(super) fn tune(&mut self, hz: f64, bandwidth: f64, rate: f64) {
        let (_, b, c) = poles(hz, bandwidth, rate);
        (self.scale, self.b, self.c) = ((1.0 - b - c).recip(), b, c);
    }

    pub(super) fn next(&mut self, x: f64) -> f64 {
        let y = self.scale * (x - self.b * self.x1 - self.c * self.x2);
        (self.x2, self.x1) = (self.x1, x);
        y
    }
}

/// A branch of the parallel bank: gain one at its centre, zeros at 0 Hz and at the Nyquist frequency,
/// so that branches add up without filling each other's valleys.
#[derive(Clone, Debug, Default)]
pub(super) struct BandPass {
    gain: f64,
    b: f64,
    c: f64,
    x1: f64,
    x2: f64,
    y1: f64,
    y2: f64,
}

impl BandPass {
    pub(super) fn tune(&mut self, hz: f64, bandwidth: f64, rate: f64) {
        let (radius, b, c) = poles(hz, bandwidth, rate);
        (self.gain, self.b, self.c) = ((1.0 - radius * radius) / 2.0, b, c);
    }

    pub(super) fn next(&mut self, x: f64) -> f64 {
        let y = self.gain * (x - self.x2) + self.b * self.y1 + self.c * self.y2;
        (self.x2, self.x1) = (self.x1, x);
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

/// Half the rate: a Hamming-windowed sinc that passes 0.45 of the new rate and stops half of it.
pub(super) fn halve(samples: &[f64]) -> Vec<f64> {
    const REACH: i64 = 48;
    const CUTOFF: f64 = 0.2325;
    let tap = |n: i64| {
        let n = n as f64;
        let sinc = if n == 0.0 {
            2.0 * CUTOFF
        } else {
            (TAU * CUTOFF * n).sin() / (PI * n)
        };
        sinc * (0.54 + 0.46 * (PI * n / (REACH as f64 + 1.0)).cos())
    };
    let mut taps: Vec<f64> = (-REACH..=REACH).map(tap).collect();
    let total: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= total);
    (0..samples.len().div_ceil(2))
        .map(|out| {
            let first = 2 * out as i64 - REACH;
            let skipped = (-first).max(0) as usize;
            let start = first.max(0) as usize;
            taps.iter()
                .skip(skipped)
                .zip(samples.iter().skip(start))
                .map(|(tap, x)| tap * x)
                .sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gain of a filter for a long sine at `hz`.
    fn gain(hz: f64, rate: f64, mut filter: impl FnMut(f64) -> f64) -> f64 {
        let n = rate as usize;
        let mut power = 0.0;
        for i in 0..2 * n {
            let y = filter((TAU * hz * i as f64 / rate).sin());
            if i >= n {
                power += y * y * 2.0 / n as f64;
            }
        }
        power.sqrt()
    }

    #[test]
    fn a_resonator_passes_low_frequencies_and_peaks_at_its_formant() {
        let at = |hz| {
            let mut resonator = Resonator::default();
            resonator.tune(500.0, 80.0, 16_000.0);
            gain(hz, 16_000.0, |x| resonator.next(x))
        };
        assert!((at(5.0) - 1.0).abs() < 0.01);
        // For a narrow resonance the peak is about F/B.
        assert!((at(500.0) - 500.0 / 80.0).abs() < 0.2, "{}", at(500.0));
        assert!(at(2000.0) < 0.1);
    }

    #[test]
    fn an_anti_resonator_undoes_a_resonator() {
        let (mut zero, mut pole) = (AntiResonator::default(), Resonator::default());
        zero.tune(450.0, 100.0, 16_000.0);
        pole.tune(450.0, 100.0, 16_000.0);
        for i in 0..1000 {
            let x = f64::from((i * 7919) % 101) - 50.0;
            assert!((zero.next(pole.next(x)) - x).abs() < 1e-9);
        }
    }

    #[test]
    fn a_band_pass_has_gain_one_at_its_centre() {
        let at = |hz| {
            let mut band = BandPass::default();
            band.tune(3000.0, 300.0, 16_000.0);
            gain(hz, 16_000.0, |x| band.next(x))
        };
        assert!((at(3000.0) - 1.0).abs() < 0.01, "{}", at(3000.0));
        assert!(at(200.0) < 0.02 && at(7800.0) < 0.1);
    }

    #[test]
    fn halving_keeps_the_pass_band_and_removes_what_would_fold() {
        let at = |hz: f64| {
            let sine: Vec<f64> = (0..16_000)
                .map(|i| (TAU * hz * f64::from(i) / 16_000.0).sin())
                .collect();
            let out = halve(&sine);
            assert_eq!(out.len(), 8000);
            let middle = &out[1000..7000];
            (middle.iter().map(|y| y * y).sum::<f64>() * 2.0 / middle.len() as f64).sqrt()
        };
        assert!((at(1000.0) - 1.0).abs() < 0.01);
        assert!((at(3500.0) - 1.0).abs() < 0.05, "{}", at(3500.0));
        assert!(at(4100.0) < 0.02 && at(5000.0) < 0.005, "{}", at(4100.0));
    }
}
