//! From samples to the power spectrum of one frame: offset, pre-emphasis, Povey window, real FFT.
//! Everything that does not depend on the samples is computed once. Knows one frame, and no mel.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::Geometry;

/// Kaldi works on the scale of 16-bit samples.
const SCALE: f32 = 32_768.0;

/// Values summed side by side, so that sums are vector instructions and their order does not depend on
/// the machine.
pub(crate) const LANES: usize = 8;

pub(crate) struct Spectrum {
    frame: usize,
    half: usize,
    preemphasis: f32,
    /// The Povey window times [`SCALE`]: a power of two, so that no bit differs from scaling first.
    window: Vec<f32>,
    /// `exp(-2 pi i k / fft)` for k below a quarter of the FFT, rounded up.
    twiddles: Vec<Complex32>,
    fft: Arc<dyn Fft<f32>>,
}

/// Working memory for [`Spectrum::power`]; one per thread.
pub(crate) struct Scratch {
    signal: Vec<f32>,
    packed: Vec<Complex32>,
    fft: Vec<Complex32>,
    /// The power in bins 0 up to and without the Nyquist frequency, then [`LANES`] zeros, so that a band's
    /// weights may be read in whole lanes.
    pub(crate) power: Vec<f32>,
}

impl Spectrum {
    pub(crate) fn new(geometry: &Geometry, preemphasis: f64) -> Self {
        let Geometry { frame, fft, .. } = *geometry;
        let half = fft / 2;
        let step = std::f64::consts::TAU / (frame - 1) as f64;
        let povey = |n: usize| (0.5 - 0.5 * (step * n as f64).cos()).powf(0.85);
        let twiddle = |k: usize| {
            let angle = -std::f64::consts::TAU * k as f64 / fft as f64;
            Complex32::new(angle.cos() as f32, angle.sin() as f32)
        };
        Self {
            frame,
            half,
            preemphasis: preemphasis as f32,
            window: (0..frame).map(|n| povey(n) as f32 * SCALE).collect(),
            twiddles: (0..half.div_ceil(2)).map(twiddle).collect(),
            fft: FftPlanner::new().plan_fft_forward(half),
        }
    }

    pub(crate) fn scratch(&self) -> Scratch {
        Scratch {
            signal: vec![0.0; 2 * self.half],
            packed: vec![Complex32::ZERO; self.half],
            fft: vec![Complex32::ZERO; self.fft.get_inplace_scratch_len()],
            power: vec![0.0; self.half + LANES],
        }
    }

    /// The energy of `samples` (one frame) without its offset, on the 16-bit scale.
    pub(crate) fn energy(&self, samples: &[f32]) -> f32 {
        let mean = sum(samples, |x| x) / self.frame as f32;
        sum(samples, |x| (x - mean) * (x - mean)) * (SCALE * SCALE)
    }

    /// Fills `scratch.power` from `samples` (one frame).
    pub(crate) fn power(&self, samples: &[f32], scratch: &mut Scratch) {
        let mean = sum(samples, |x| x) / self.frame as f32;
        // The first sample precedes itself.
        let signal = &mut scratch.signal[..self.frame];
        signal[0] = self.emphasised(samples[0] - mean, samples[0] - mean) * self.window[0];
        let pairs = samples[..self.frame - 1].iter().zip(&samples[1..]);
        for ((out, (&before, &now)), &weight) in
            signal[1..].iter_mut().zip(pairs).zip(&self.window[1..])
        {
            *out = self.emphasised(now - mean, before - mean) * weight;
        }

        // A real FFT as a complex one of half the size: even samples are real parts, odd ones imaginary.
        for (packed, pair) in scratch
            .packed
            .iter_mut()
            .zip(scratch.signal.chunks_exact(2))
        {
            *packed = Complex32::new(pair[0], pair[1]);
        }
        self.fft
            .process_with_scratch(&mut scratch.packed, &mut scratch.fft);
        self.unpack(&scratch.packed, &mut scratch.power);
    }

    fn emphasised(&self, now: f32, before: f32) -> f32 {
        now - self.preemphasis * before
    }

    /// |X[k]|² from the spectrum Z of the packed signal: with E and O the spectra of the even and the odd
    /// samples, X[k] = E[k] + w^k O[k] and conj(X[half-k]) = E[k] - w^k O[k].
    fn unpack(&self, packed: &[Complex32], power: &mut [f32]) {
        let half = self.half;
        let sum = packed[0].re + packed[0].im;
        power[0] = sum * sum;
        power[half / 2] = packed[half / 2].norm_sqr();
        for k in 1..self.twiddles.len() {
            let (z, mirrored) = (packed[k], packed[half - k]);
            // Twice E and O; the squares are divided by four.
            let even = Complex32::new(z.re + mirrored.re, z.im - mirrored.im);
            let odd = Complex32::new(z.im + mirrored.im, mirrored.re - z.re);
            let turned = self.twiddles[k] * odd;
            power[k] = 0.25 * (even + turned).norm_sqr();
            power[half - k] = 0.25 * (even - turned).norm_sqr();
        }
    }
}

/// The sum of `value` over `items`, in [`LANES`] running sums.
fn sum(items: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = items.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &item) in lanes.iter_mut().zip(chunk) {
            *lane += value(item);
        }
    }
    for (lane, &item) in lanes.iter_mut().zip(rest) {
        *lane += value(item);
    }
    fold(lanes)
}

/// Both lengths are multiples of [`LANES`].
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    fold(lanes)
}

fn fold(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeaturesConfig;
    use crate::random::Stream;

    /// The definition, in f64: slow and plain.
    fn naive(samples: &[f32], geometry: &Geometry, preemphasis: f64) -> Vec<f64> {
        let n = geometry.frame;
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let centred: Vec<f64> = samples
            .iter()
            .map(|&x| f64::from(x) * 32768.0 - mean * 32768.0)
            .collect();
        let windowed: Vec<f64> = (0..n)
            .map(|i| {
                let angle = std::f64::consts::TAU * i as f64 / (n - 1) as f64;
                let before = centred[i.saturating_sub(1)];
                (centred[i] - preemphasis * before) * (0.5 - 0.5 * angle.cos()).powf(0.85)
            })
            .collect();
        (0..geometry.fft / 2)
            .map(|k| {
                let (mut re, mut im) = (0.0, 0.0);
                for (i, x) in windowed.iter().enumerate() {
                    let angle = std::f64::consts::TAU * (i * k) as f64 / geometry.fft as f64;
                    re += x * angle.cos();
                    im -= x * angle.sin();
                }
                re * re + im * im
            })
            .collect()
    }

    #[test]
    fn the_power_spectrum_is_the_naive_transforms() {
        // 8 samples make an FFT of 8 (odd corner of the unpacking), 9 one of 16; 400 is the usual frame.
        for frame_ms in [1.0, 1.2, 10.0, 25.0] {
            let config = FeaturesConfig {
                sample_rate: 8000,
                frame_ms,
                ..FeaturesConfig::default()
            };
            let geometry = config.geometry().expect("in bounds");
            let mut stream = Stream::new(1, &[geometry.frame as u64]);
            let samples: Vec<f32> = (0..geometry.frame)
                .map(|_| stream.between(-0.5, 0.6) as f32)
                .collect();
            let spectrum = Spectrum::new(&geometry, 0.97);
            let mut scratch = spectrum.scratch();
            spectrum.power(&samples, &mut scratch);
            let wanted = naive(&samples, &geometry, 0.97);
            let loudest = wanted.iter().fold(0f64, |a, &b| a.max(b));
            for (k, &power) in wanted.iter().enumerate() {
                let difference = (f64::from(scratch.power[k]) - power).abs();
                assert!(
                    difference < 1e-6 * loudest,
                    "{frame_ms} ms, bin {k}: {difference}"
                );
            }
            assert_eq!(scratch.power[geometry.fft / 2..], [0.0; LANES]);
        }
    }

    #[test]
    fn energy_ignores_the_offset() {
        let geometry = FeaturesConfig::default().geometry().expect("defaults hold");
        let spectrum = Spectrum::new(&geometry, 0.97);
        let square = |offset: f32| -> Vec<f32> {
            (0..400)
                .map(|n| offset + if n % 2 == 0 { 0.25 } else { -0.25 })
                .collect()
        };
        let wanted = 400.0 * 8192.0 * 8192.0;
        for offset in [0.0, 0.5] {
            let energy = spectrum.energy(&square(offset));
            assert!((energy / wanted - 1.0).abs() < 1e-6, "{energy}");
        }
    }
}
