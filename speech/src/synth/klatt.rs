//! The synthesiser: control parameters in, samples out. It knows a voice and a rate, not words.
//!
//! Klatt (1980): voicing and aspiration run through a cascade of formants with a nasal pole and zero,
//! friction through resonators side by side. Two things are newer than the paper: the glottal pulse is
//! the polynomial of KLGLOTT88 (Klatt & Klatt 1990), and formants above the fifth are added up to the
//! top of the band, as in a uniform tube, so that the spectrum's slope does not depend on the rate.

use super::filter::{AntiResonator, BandPass, Resonator};
use super::phoneme::NASAL_POLE;
use super::speaker::Speaker;
use super::track::{Controls, FRAME};
use crate::random::Stream;

/// F4, F5 and their bandwidths (Klatt's table I), then F6 of the friction branch.
const HIGH: [(f64, f64); 2] = [(3300.0, 250.0), (3750.0, 200.0)];
const FRICTION_TOP: (f64, f64) = (4900.0, 1000.0);
/// Noise is as dense per hertz at any rate as at this one.
const NOISE_RATE: f64 = 16_000.0;
const ASPIRATION_GAIN: f64 = 0.6;
const FRICTION_GAIN: f64 = 1.0;

/// The pulses of the vocal folds.
struct Glottis {
    /// Samples since the period began, and the period's length.
    position: f64,
    period: f64,
    strength: f64,
}

impl Glottis {
    /// The derivative of the flow: `2x - 3x^2` while open, with its closing spike of -1, then nothing.
    /// Also says whether the folds are open.
    fn next(
        &mut self,
        pitch: f64,
        rate: f64,
        speaker: &Speaker,
        stream: &mut Stream,
    ) -> (f64, bool) {
        self.position += 1.0;
        if self.position >= self.period {
            self.position -= self.period;
            let jitter = speaker.jitter * stream.normal().clamp(-3.0, 3.0);
            let shimmer = speaker.shimmer * stream.normal().clamp(-3.0, 3.0);
            self.period = rate / pitch * (1.0 + jitter);
            self.strength = 1.0 + shimmer;
        }
        let x = self.position / (self.period * speaker.open_quotient);
        if x < 1.0 {
            (self.strength * x * (2.0 - 3.0 * x), true)
        } else {
            (0.0, false)
        }
    }
}

/// White noise of variance one.
fn noise(stream: &mut Stream) -> f64 {
    (stream.uniform() - 0.5) * 12f64.sqrt()
}

/// The sound of `frames` in the voice of `speaker`, at `rate` samples a second.
pub(super) fn synthesize(
    frames: &[Controls],
    speaker: &Speaker,
    rate: f64,
    stream: &mut Stream,
) -> Vec<f64> {
    let high = speaker.tract[3];
    let mut upper = upper_formants(high, rate);
    let mut lower: [Resonator; 3] = Default::default();
    let (mut nasal_zero, mut nasal_pole) = (AntiResonator::default(), Resonator::default());
    let nasal_hz = NASAL_POLE * speaker.tract[0];
    nasal_pole.tune(nasal_hz, 100.0, rate);
    let mut bank: [BandPass; 5] = Default::default();
    for (band, (hz, width)) in bank[2..].iter_mut().zip([HIGH[0], HIGH[1], FRICTION_TOP]) {
        band.tune(hz * high, width * high, rate);
    }
    let mut glottis = Glottis {
        position: 0.0,
        period: 0.0,
        strength: 1.0,
    };
    // The tilt is a pole at the same frequency, whatever the rate.
    let tilt = (speaker.tilt.max(1e-9).ln() * NOISE_RATE / rate).exp();
    let density = (rate / NOISE_RATE).sqrt();
    let mut tilted = 0.0;
    let mut samples = Vec::with_capacity((frames.len() as f64 * FRAME * rate) as usize + 1);
    for (index, controls) in frames.iter().enumerate() {
        for (k, formant) in lower.iter_mut().enumerate() {
            formant.tune(controls.formants[k], controls.bandwidths[k], rate);
        }
        nasal_zero.tune(controls.nasal_zero, 100.0, rate);
        for (k, band) in bank[..2].iter_mut().enumerate() {
            band.tune(controls.formants[k + 1], controls.bandwidths[k + 1], rate);
        }
        let end = ((index + 1) as f64 * FRAME * rate) as usize;
        while samples.len() < end {
            let (pulse, open) = glottis.next(controls.pitch_hz, rate, speaker, stream);
            tilted += (1.0 - tilt) * (pulse - tilted);
            let breath = density * noise(stream) * ASPIRATION_GAIN;
            let breath = breath
                * (controls.aspiration
                    + if open {
                        speaker.breath * controls.voicing
                    } else {
                        0.0
                    });
            let mut voice = tilted * controls.voicing + breath;
            voice = nasal_pole.next(nasal_zero.next(voice));
            for formant in upper.iter_mut().chain(lower.iter_mut().rev()) {
                voice = formant.next(voice);
            }

            let mut hiss = density * noise(stream) * speaker.hiss * FRICTION_GAIN;
            // The folds chop the air that feeds the friction of v and z.
            if controls.voicing > 0.0 && !open {
                hiss *= 0.5;
            }
            // Neighbouring branches are in opposite phase, or they would cancel between their peaks.
            let mut friction = controls.friction[5] * hiss;
            for (k, band) in bank.iter_mut().enumerate() {
                let y = controls.friction[k] * band.next(hiss);
                friction += if k % 2 == 0 { y } else { -y };
            }
            samples.push(voice + friction);
        }
    }
    samples
}

/// F4 and everything above it up to the top of the band.
fn upper_formants(scale: f64, rate: f64) -> Vec<Resonator> {
    let tube = (5..).map(|k| (f64::from(k) * 1000.0 - 300.0, 500.0));
    HIGH.into_iter()
        .chain(tube)
        .map(|(hz, width)| (hz * scale, width * scale))
        .take_while(|(hz, _)| *hz < 0.47 * rate)
        .map(|(hz, width)| {
            let mut formant = Resonator::default();
            formant.tune(hz, width, rate);
            formant
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::phoneme::{NASAL_POLE, Phone};
    use super::super::speaker::VoiceType;
    use super::*;
    use rustfft::{FftPlanner, num_complex::Complex};

    /// A speaker whose tract is the tables' and whose voice is regular.
    fn reference() -> Speaker {
        Speaker {
            tract: [1.0; 4],
            open_quotient: 0.5,
            tilt: 0.0,
            breath: 0.0,
            jitter: 0.0,
            shimmer: 0.0,
            hiss: 1.0,
            ..Speaker::draw(VoiceType::Man, &mut Stream::new(1, &[]))
        }
    }

    fn steady(phone: Phone, pitch_hz: f64) -> Controls {
        let targets = phone.targets();
        Controls {
            formants: targets.formants[0],
            bandwidths: targets.bandwidths,
            nasal_zero: NASAL_POLE,
            voicing: 1.0,
            pitch_hz,
            ..Controls::default()
        }
    }

    /// Power at whole hertz, from the last second of two.
    fn spectrum(controls: Controls, rate: usize) -> Vec<f64> {
        let frames = vec![controls; (2.0 / FRAME) as usize];
        let samples = synthesize(&frames, &reference(), rate as f64, &mut Stream::new(2, &[]));
        let mut buffer: Vec<Complex<f64>> = samples[samples.len() - rate..]
            .iter()
            .map(|&x| Complex::new(x, 0.0))
            .collect();
        FftPlanner::new()
            .plan_fft_forward(rate)
            .process(&mut buffer);
        buffer[..rate / 2].iter().map(|y| y.norm_sqr()).collect()
    }

    #[test]
    fn a_vowel_has_spectral_peaks_at_its_formants() {
        const PITCH: usize = 40;
        for rate in [16_000, 22_050] {
            for phone in [Phone::Ih, Phone::Eh, Phone::Ah, Phone::Ao] {
                let controls = steady(phone, PITCH as f64);
                let power = spectrum(controls, rate);
                let harmonics: Vec<f64> = (1..100).map(|k| power[k * PITCH]).collect();
                for (k, target) in controls.formants.into_iter().enumerate() {
                    // The strongest harmonic within a fifth of the target is a peak, and close to it.
                    let near = |hz: f64| (hz / PITCH as f64).round() as usize - 1;
                    let range = near(0.8 * target)..=near(1.2 * target);
                    let peak = range
                        .max_by(|&a, &b| harmonics[a].total_cmp(&harmonics[b]))
                        .unwrap();
                    assert!(harmonics[peak] > harmonics[peak - 1]);
                    assert!(harmonics[peak] > harmonics[peak + 1]);
                    let hz = ((peak + 1) * PITCH) as f64;
                    assert!(
                        (hz - target).abs() < 0.06 * target + PITCH as f64,
                        "{phone:?} at {rate} Hz: F{} is {target}, the peak {hz}",
                        k + 1
                    );
                }
            }
        }
    }

    #[test]
    fn a_voice_repeats_at_its_pitch() {
        let power = spectrum(steady(Phone::Ah, 125.0), 16_000);
        let total: f64 = power.iter().sum();
        let harmonic: f64 = power.iter().step_by(125).sum();
        assert!(harmonic > 0.98 * total, "{}", harmonic / total);
    }

    #[test]
    fn friction_lies_where_its_branch_is() {
        let mut controls = steady(Phone::S, 100.0);
        controls.voicing = 0.0;
        controls.friction = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let power = spectrum(controls, 16_000);
        let band = |low: usize, high: usize| power[low..high].iter().sum::<f64>();
        assert!(band(4000, 6000) > 0.75 * band(0, 8000));
        assert!(band(0, 1500) < 0.02 * band(0, 8000));
    }

    #[test]
    fn noise_is_as_dense_at_any_rate() {
        let mut controls = steady(Phone::F, 100.0);
        controls.voicing = 0.0;
        controls.friction = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        // A rate's periodogram of one second grows with the square of the rate.
        let density = |rate: usize| {
            let power = spectrum(controls, rate);
            power[500..7500].iter().sum::<f64>() / (rate * rate) as f64
        };
        let ratio = density(32_000) / density(16_000);
        assert!((ratio - 1.0).abs() < 0.1, "{ratio}");
    }

    #[test]
    fn silence_is_silent() {
        let silent = Controls {
            voicing: 0.0,
            ..steady(Phone::Pause, 100.0)
        };
        assert!(spectrum(silent, 16_000).iter().all(|&power| power == 0.0));
    }
}
