//! Changing the sampling rate with rubato's synchronous FFT resampler: linear phase, no delay left in,
//! the same output for the same input. It does not depend on where the audio came from.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::{Audio, AudioError, RATES};

/// Samples per block at the lower of the two rates, at least. Longer blocks bring the anti-aliasing
/// filter's edge closer to the Nyquist frequency: here to 98.6 % of it.
const BLOCK: usize = 1024;

/// The length of `samples` samples at `old` Hz after resampling to `new` Hz: rounded up.
pub fn resampled_len(samples: u64, old: u32, new: u32) -> u64 {
    let exact = (u128::from(samples) * u128::from(new)).div_ceil(u128::from(old.max(1)));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// The same sound at `rate` Hz, [`resampled_len`] samples of it.
pub fn resample(audio: &Audio, rate: u32) -> Result<Audio, AudioError> {
    let (old, new) = (audio.sample_rate, rate);
    let failed = |reason: String| AudioError::Resample {
        from: old,
        to: new,
        reason,
    };
    for hz in [old, new] {
        if !RATES.contains(&hz) {
            return Err(failed(format!(
                "{hz} Hz is outside {}..={} Hz",
                RATES.start(),
                RATES.end()
            )));
        }
    }
    if old == new || audio.samples.is_empty() {
        return Ok(Audio {
            sample_rate: new,
            samples: audio.samples.clone(),
        });
    }
    let divisor = gcd(old, new);
    let (unit_in, unit_out) = ((old / divisor) as usize, (new / divisor) as usize);
    // An even number of units makes both block lengths even, and so the delay (half a block) whole.
    let units = BLOCK.div_ceil(unit_in.min(unit_out)).next_multiple_of(2);
    let mut resampler = Fft::<f32>::new_custom(
        old as usize,
        new as usize,
        units * unit_in,
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .map_err(|error| failed(error.to_string()))?;

    let length = audio.samples.len();
    let input = InterleavedSlice::new(&audio.samples[..], 1, length)
        .map_err(|error| failed(error.to_string()))?;
    let capacity = resampler.process_all_needed_output_len(length);
    let mut samples = vec![0.0; capacity];
    let mut output = InterleavedSlice::new_mut(&mut samples[..], 1, capacity)
        .map_err(|error| failed(error.to_string()))?;
    resampler
        .process_all_into_buffer(&input, &mut output, length, None)
        .map_err(|error| failed(error.to_string()))?;
    // Counted in integers: rubato's own count goes through a rounded ratio and can be one too many.
    samples.truncate(resampled_len(length as u64, old, new) as usize);
    Ok(Audio {
        sample_rate: new,
        samples,
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn sine(hz: f64, rate: u32, length: usize) -> Audio {
        let sample = |n: usize| (TAU * hz * n as f64 / f64::from(rate)).sin() as f32 * 0.5;
        Audio {
            sample_rate: rate,
            samples: (0..length).map(sample).collect(),
        }
    }

    #[test]
    fn a_sine_stays_that_sine_in_phase_and_amplitude() {
        for (old, new) in [
            (8000, 16000),
            (44100, 16000),
            (48000, 16000),
            (16000, 8000),
            (22050, 16000),
            (11025, 8000),
            (16001, 16000),
        ] {
            let input = sine(440.0, old, old as usize);
            let output = resample(&input, new).expect("rates in range");
            let wanted = sine(440.0, new, new as usize);
            assert_eq!(output.samples.len(), wanted.samples.len());
            // The filter rings where the sine starts and stops: 50 ms at each end are left out.
            let edge = new as usize / 20;
            for n in edge..wanted.samples.len() - edge {
                let difference = (output.samples[n] - wanted.samples[n]).abs();
                assert!(
                    difference < 1e-4,
                    "{old} to {new}, sample {n}: {difference}"
                );
            }
        }
    }

    #[test]
    fn what_the_new_rate_cannot_carry_is_removed_and_not_folded_back() {
        let output = resample(&sine(5000.0, 16000, 16000), 8000).expect("rates in range");
        let loudest = output.samples[400..7600]
            .iter()
            .fold(0f32, |a, x| a.max(x.abs()));
        assert!(loudest < 1e-3, "{loudest}");
    }

    #[test]
    fn a_rate_out_of_range_is_an_error_that_names_it() {
        let error = resample(&sine(1.0, 16000, 10), 7).expect_err("7 Hz");
        assert!(error.to_string().contains("7 Hz is outside"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_length_is_the_exact_ratio_rounded_up(
            length in 1usize..5000,
            old in prop::sample::select(vec![8000u32, 11025, 16000, 22050, 44100, 48000, 7999]),
            new in prop::sample::select(vec![8000u32, 16000, 11025, 44100]),
        ) {
            let input = sine(200.0, old, length);
            let output = resample(&input, new).expect("rates in range");
            let wanted = (length as u64 * u64::from(new)).div_ceil(u64::from(old));
            prop_assert_eq!(output.samples.len() as u64, wanted);
            prop_assert_eq!(&resample(&input, new).expect("again").samples, &output.samples);
        }
    }
}
