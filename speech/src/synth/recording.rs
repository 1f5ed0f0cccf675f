//! How an utterance is recorded: silence around it, a microphone that colours it, noise, and a level.
//! It knows nothing of speech.

use super::speaker::decibels;
use crate::random::Stream;
use std::f64::consts::TAU;

/// No sample is larger.
pub(super) const PEAK: f64 = 0.95;

/// The conditions of one recording.
#[derive(Clone, Debug)]
pub(super) struct RecordingConditions {
    /// Seconds of silence before and after.
    pub silence: [f64; 2],
    pub snr_db: f64,
    /// The share of pink among the noise; the rest is white.
    pub pink: f64,
    /// Decibels by which the microphone lifts what lies above its corner, and the corner in Hz.
    pub shelf: (f64, f64),
    /// Below this the microphone hears little, Hz.
    pub low_cut: f64,
    /// Root mean square of the speech, in dB below full scale.
    pub level_db: f64,
}

impl RecordingConditions {
    pub(super) fn draw(snr_db: [f64; 2], stream: &mut Stream) -> Self {
        Self {
            silence: [(); 2].map(|()| stream.between(0.06, 0.28)),
            snr_db: stream.between(snr_db[0], snr_db[1]),
            pink: stream.uniform(),
            shelf: (stream.between(-6.0, 6.0), stream.between(600.0, 2000.0)),
            low_cut: stream.between(40.0, 180.0),
            level_db: stream.between(-32.0, -20.0),
        }
    }

    /// `speech` as it is recorded at `rate`. Should it exceed [`PEAK`], the whole is made quieter.
    pub(super) fn take(&self, speech: &[f64], rate: f64, stream: &mut Stream) -> Vec<f32> {
        let [before, after] = self.silence.map(|seconds| (seconds * rate) as usize);
        let mut heard = vec![0.0; before];
        heard.extend_from_slice(speech);
        heard.resize(heard.len() + after, 0.0);
        self.colour(&mut heard, rate);
        let gain = decibels(self.level_db) / rms(&heard[before..before + speech.len()]).max(1e-12);
        let mut hum = Noise::default();
        let mut noise: Vec<f64> = heard.iter().map(|_| hum.next(self.pink, stream)).collect();
        let noise_gain = decibels(self.level_db - self.snr_db) / rms(&noise).max(1e-12);
        for (noise, heard) in noise.iter_mut().zip(&heard) {
            *noise = gain * heard + noise_gain * *noise;
        }
        let peak = noise.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
        let fit = if peak > PEAK { PEAK / peak } else { 1.0 };
        noise.iter().map(|x| (fit * x) as f32).collect()
    }

    /// A first-order high-pass, then a first-order shelf.
    fn colour(&self, samples: &mut [f64], rate: f64) {
        let cut = 1.0 - (-TAU * self.low_cut / rate).exp();
        let corner = 1.0 - (-TAU * self.shelf.1 / rate).exp();
        let lift = decibels(self.shelf.0) - 1.0;
        let (mut slow, mut low) = (0.0, 0.0);
        for sample in samples {
            slow += cut * (*sample - slow);
            let x = *sample - slow;
            low += corner * (x - low);
            *sample = x + lift * (x - low);
        }
    }
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|x| x * x).sum::<f64>() / samples.len().max(1) as f64).sqrt()
}

/// Noise between white and pink. The pink part is white noise through Paul Kellet's three one-poles,
/// which fall by 3 dB an octave within half a decibel.
#[derive(Default)]
struct Noise {
    poles: [f64; 3],
}

impl Noise {
    fn next(&mut self, pink: f64, stream: &mut Stream) -> f64 {
        const POLES: [(f64, f64); 3] = [
            (0.997_65, 0.099_046),
            (0.963, 0.296_516_4),
            (0.57, 1.052_691_3),
        ];
        let white = stream.uniform() - 0.5;
        let mut coloured = 0.1848 * white;
        for (state, (pole, gain)) in self.poles.iter_mut().zip(POLES) {
            *state = pole * *state + gain * white;
            coloured += *state;
        }
        // Kellet's output is about five times as strong as its input.
        (1.0 - pink) * white + pink * 0.2 * coloured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f64) -> Vec<f64> {
        (0..8000)
            .map(|i| amplitude * (TAU * 440.0 * f64::from(i) / 8000.0).sin())
            .collect()
    }

    fn plain(snr_db: f64, level_db: f64) -> RecordingConditions {
        RecordingConditions {
            silence: [1.0, 0.5],
            snr_db,
            pink: 0.5,
            shelf: (0.0, 1000.0),
            low_cut: 40.0,
            level_db,
        }
    }

    #[test]
    fn speech_and_noise_have_the_levels_that_were_asked_for() {
        for amplitude in [1e-3, 1.0, 1e3] {
            let heard = plain(20.0, -26.0).take(&tone(amplitude), 8000.0, &mut Stream::new(1, &[]));
            assert_eq!(heard.len(), 8000 + 8000 + 4000);
            let level = |part: &[f32]| {
                let part: Vec<f64> = part.iter().map(|&x| f64::from(x)).collect();
                20.0 * rms(&part).log10()
            };
            assert!((level(&heard[..8000]) + 46.0).abs() < 1.0);
            assert!((level(&heard[8000..16_000]) + 26.0).abs() < 0.3);
        }
    }

    #[test]
    fn what_would_clip_is_made_quieter_as_a_whole() {
        let heard = plain(60.0, 0.0).take(&tone(1.0), 8000.0, &mut Stream::new(1, &[]));
        let peak = heard.iter().fold(0f32, |peak, x| peak.max(x.abs()));
        assert!((f64::from(peak) - PEAK).abs() < 1e-6, "{peak}");
    }

    #[test]
    fn pink_noise_falls_and_white_noise_does_not() {
        let balance = |pink| {
            let (mut noise, mut stream) = (Noise::default(), Stream::new(3, &[]));
            let samples: Vec<f64> = (0..40_000).map(|_| noise.next(pink, &mut stream)).collect();
            let high: Vec<f64> = samples.windows(2).map(|w| w[1] - w[0]).collect();
            rms(&high) / rms(&samples)
        };
        assert!((balance(0.0) - 2f64.sqrt()).abs() < 0.05);
        assert!(balance(1.0) < 1.0);
    }
}
