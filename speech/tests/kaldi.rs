//! The front end against kaldi_native_fbank, whose output lies in `testdata/` with the script that made it,
//! and the properties that hold for any audio.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use speech::audio::{self, Audio};
use speech::features::{FeatureKind, Features, FeaturesConfig, Normalization};
use speech::front_end::{FrontEnd, FrontEndError, GlobalStats, SpeakerStats, StatsAccumulator};
use speech::random::Stream;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

fn golden(name: &str) -> Vec<Vec<f32>> {
    let text = std::fs::read_to_string(testdata(name)).expect("a golden");
    let row = |line: &str| {
        line.split_whitespace()
            .map(|value| value.parse().expect("a number"))
            .collect()
    };
    text.lines().map(row).collect()
}

fn raw(config: FeaturesConfig) -> FeaturesConfig {
    FeaturesConfig {
        normalization: Normalization::None,
        ..config
    }
}

/// Fails unless the features of `audio` are those of `name`, within the tolerance that is promised.
fn compare(config: FeaturesConfig, audio: &str, name: &str) {
    let front_end = FrontEnd::new(&raw(config), None).expect("a valid configuration");
    let audio = audio::read(&testdata(audio)).expect("a recording");
    let features = front_end.features(&audio).expect("long enough");
    alike(&features, name);
}

fn alike(features: &Features, name: &str) {
    let wanted = golden(name);
    assert_eq!(
        (features.frames, features.dims),
        (wanted.len(), wanted[0].len())
    );
    for (frame, (row, wanted)) in features.rows().zip(&wanted).enumerate() {
        for (dim, (value, wanted)) in row.iter().zip(wanted).enumerate() {
            let difference = (value - wanted).abs();
            assert!(
                difference < 1e-3,
                "{name}, frame {frame}, dimension {dim}: {value}, not {wanted}"
            );
        }
    }
}

#[test]
fn log_mel_is_kaldis_at_16_khz() {
    compare(
        FeaturesConfig::default(),
        "speechlike-16k.wav",
        "log-mel-40-16k.txt",
    );
}

#[test]
fn log_mel_is_kaldis_at_8_khz() {
    let config = FeaturesConfig {
        sample_rate: 8000,
        ..FeaturesConfig::default()
    };
    compare(config, "speechlike-8k.wav", "log-mel-40-8k.txt");
}

#[test]
fn band_edges_are_kaldis_with_a_high_edge_counted_from_nyquist() {
    let config = FeaturesConfig {
        mel_bins: 24,
        low_hz: 100.0,
        high_hz: -400.0,
        ..FeaturesConfig::default()
    };
    compare(
        config,
        "speechlike-16k.wav",
        "log-mel-24-100-to-minus-400.txt",
    );
}

#[test]
fn mfcc_is_kaldis_with_energy_and_with_c0() {
    for (use_energy, name) in [(true, "mfcc-energy.txt"), (false, "mfcc-c0.txt")] {
        let config = FeaturesConfig {
            kind: FeatureKind::Mfcc,
            mel_bins: 23,
            use_energy,
            ..FeaturesConfig::default()
        };
        compare(config, "speechlike-16k.wav", name);
    }
}

#[test]
fn deltas_are_kaldis() {
    let config = FeaturesConfig {
        kind: FeatureKind::Mfcc,
        mel_bins: 23,
        deltas: 2,
        ..FeaturesConfig::default()
    };
    compare(config, "speechlike-16k.wav", "mfcc-c0-deltas.txt");
}

/// The bands of `band_edges_are_kaldis_with_a_high_edge_counted_from_nyquist`, normalised.
fn normalised(normalization: Normalization) -> FrontEnd {
    let config = FeaturesConfig {
        mel_bins: 24,
        low_hz: 100.0,
        high_hz: -400.0,
        normalization,
        ..FeaturesConfig::default()
    };
    FrontEnd::new(&config, None).expect("a valid configuration")
}

#[test]
fn an_utterance_is_normalised_as_by_kaldis_cmvn() {
    let audio = audio::read(&testdata("speechlike-16k.wav")).expect("a recording");
    let features = normalised(Normalization::Utterance).features(&audio);
    alike(
        &features.expect("long enough"),
        "log-mel-cmvn-utterance.txt",
    );
}

#[test]
fn a_speakers_utterances_are_normalised_as_by_kaldis_cmvn() {
    let whole = audio::read(&testdata("speechlike-16k.wav")).expect("a recording");
    let half = Audio {
        sample_rate: whole.sample_rate,
        samples: whole.samples[3200..].to_vec(),
    };
    let front_end = normalised(Normalization::Speaker);
    let mut sums = SpeakerStats::new();
    for (speaker, audio) in [("a", &whole), ("a", &half), ("b", &noise(16_000, 9000, 1))] {
        let features = front_end.raw_features(audio).expect("long enough");
        sums.add(speaker, &features);
    }
    let stats = sums.finish();
    assert_eq!(stats.keys().collect::<Vec<_>>(), ["a", "b"]);
    let scaling = front_end.scaling(&stats["a"]).expect("of these features");
    let features = front_end.features_of(&half, Some(&scaling));
    alike(&features.expect("long enough"), "log-mel-cmvn-speaker.txt");

    // For a stranger, the utterance is all there is.
    let alone = front_end.features(&half).expect("long enough");
    let utterance = normalised(Normalization::Utterance).features(&half);
    assert_eq!(alone, utterance.expect("long enough"));
    let narrow = GlobalStats {
        mean: vec![0.0; 23],
        variance: vec![1.0; 23],
        frames: 1,
    };
    let error = front_end.scaling(&narrow).expect_err("23 is not 24");
    assert!(error.to_string().contains("23 means"), "{error}");
}

#[test]
fn nothing_lies_further_below_the_loudest_than_the_range() {
    let audio = audio::read(&testdata("speechlike-16k.wav")).expect("a recording");
    let config = raw(FeaturesConfig::default());
    let bounded = FeaturesConfig {
        range_db: 40.0,
        ..config.clone()
    };
    let features = |config| {
        let front_end = FrontEnd::new(config, None).expect("valid");
        front_end.features(&audio).expect("long enough").data
    };
    let (plain, bounded) = (features(&config), features(&bounded));
    let loudest = plain.iter().copied().fold(f32::MIN, f32::max);
    let floor = loudest - 4.0 * std::f32::consts::LN_10;
    assert!(plain.iter().any(|&x| x < floor));
    for (plain, bounded) in plain.iter().zip(&bounded) {
        assert!((bounded - plain.max(floor)).abs() < 1e-5);
    }
}

fn noise(rate: u32, samples: usize, seed: u64) -> Audio {
    let mut stream = Stream::new(seed, &[]);
    // Loudness changes, so that every dimension varies.
    let mut level = 0.1;
    let mut sample = |n: usize| {
        if n.is_multiple_of(400) {
            level = stream.between(0.001, 0.3);
        }
        (level * stream.normal()) as f32
    };
    Audio {
        sample_rate: rate,
        samples: (0..samples).map(&mut sample).collect(),
    }
}

fn column_moments(features: &Features, dim: usize) -> (f64, f64) {
    let column: Vec<f64> = features.rows().map(|row| f64::from(row[dim])).collect();
    let mean = column.iter().sum::<f64>() / column.len() as f64;
    let variance =
        column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / column.len() as f64;
    (mean, variance)
}

#[test]
fn global_statistics_of_a_set_normalise_that_set() {
    let config = FeaturesConfig {
        normalization: Normalization::Global,
        deltas: 2,
        ..FeaturesConfig::default()
    };
    let set: Vec<Audio> = (0..4)
        .map(|n| noise(16_000, 8000 + 1000 * n, n as u64))
        .collect();
    let bare = FrontEnd::new(&config, None).expect("valid");
    assert!(matches!(
        bare.features(&set[0]),
        Err(FrontEndError::MissingStats)
    ));

    let mut accumulator = StatsAccumulator::new();
    for audio in &set {
        accumulator.add(&bare.raw_features(audio).expect("long enough"));
    }
    let stats = accumulator.finish();
    assert_eq!(stats.mean.len(), 120);
    let front_end = FrontEnd::new(&config, Some(&stats)).expect("fitting statistics");
    let all: Vec<Features> = set
        .iter()
        .map(|audio| front_end.features(audio).expect("long enough"))
        .collect();
    let joined = Features {
        frames: all.iter().map(|features| features.frames).sum(),
        dims: 120,
        data: all.into_iter().flat_map(|features| features.data).collect(),
    };
    assert_eq!(joined.frames as u64, stats.frames);
    for dim in 0..120 {
        let (mean, variance) = column_moments(&joined, dim);
        assert!(
            mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3,
            "{dim}: {mean}, {variance}"
        );
    }
}

#[test]
fn statistics_of_other_features_are_refused() {
    let config = FeaturesConfig {
        normalization: Normalization::Global,
        ..FeaturesConfig::default()
    };
    let stats = GlobalStats {
        mean: vec![0.0; 39],
        variance: vec![1.0; 39],
        frames: 1,
    };
    let error = FrontEnd::new(&config, Some(&stats)).expect_err("39 is not 40");
    assert!(error.to_string().contains("39 means"), "{error}");
}

#[test]
fn audio_that_cannot_be_used_says_what_to_do() {
    let front_end = FrontEnd::new(&FeaturesConfig::default(), None).expect("valid");
    let error = front_end
        .features(&noise(16_000, 399, 1))
        .expect_err("one sample short");
    assert!(
        error
            .to_string()
            .contains("399 samples at 16000 Hz, and 400 are needed"),
        "{error}"
    );
    let mut broken = noise(16_000, 800, 1);
    broken.samples[7] = f32::NAN;
    let error = front_end.features(&broken).expect_err("NaN");
    assert!(
        error
            .to_string()
            .starts_with("sample 7 of the audio is NaN"),
        "{error}"
    );

    let config = FeaturesConfig {
        resample: false,
        ..FeaturesConfig::default()
    };
    let strict = FrontEnd::new(&config, None).expect("valid");
    let error = strict
        .features(&noise(8000, 8000, 1))
        .expect_err("another rate");
    assert!(
        error
            .to_string()
            .contains("8000 Hz and features.sample_rate is 16000 Hz"),
        "{error}"
    );
}

#[test]
fn too_many_mel_bands_are_refused_by_name() {
    let config = FeaturesConfig {
        sample_rate: 8000,
        mel_bins: 200,
        ..FeaturesConfig::default()
    };
    let error = FrontEnd::new(&config, None).expect_err("200 bands in 128 bins");
    assert!(
        error
            .to_string()
            .starts_with("features.mel_bins is 200, too many"),
        "{error}"
    );
}

#[test]
fn a_sound_has_the_same_features_at_another_rate() {
    // Kept below 3.4 kHz, which both rates carry.
    let config = raw(FeaturesConfig {
        sample_rate: 8000,
        high_hz: 3400.0,
        mel_bins: 30,
        ..FeaturesConfig::default()
    });
    let front_end = FrontEnd::new(&config, None).expect("valid");
    let narrow = noise(8000, 16_000, 3);
    let wide = audio::resample(&narrow, 48_000).expect("rates in range");
    let (a, b) = (
        front_end.features(&narrow).expect("long enough"),
        front_end.features(&wide).expect("long enough"),
    );
    assert_eq!(a.frames, b.frames);
    let difference: f32 = a
        .data
        .iter()
        .zip(&b.data)
        .map(|(a, b)| (a - b).abs())
        .sum::<f32>()
        / a.data.len() as f32;
    assert!(difference < 0.05, "{difference}");
}

#[test]
fn threads_that_share_a_front_end_get_the_same_bits() {
    let front_end = FrontEnd::new(&FeaturesConfig::default(), None).expect("valid");
    let set: Vec<Audio> = (0..6)
        .map(|n| noise(16_000, 9000 + 77 * n, n as u64))
        .collect();
    let features = |audio: &Audio| -> Features { front_end.features(audio).expect("long enough") };
    let alone: Vec<Features> = set.iter().map(features).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| set.iter().map(features).collect::<Vec<_>>()))
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), alone);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_frames_foretold_are_the_frames_made(
        samples in 0usize..6000,
        rate in prop::sample::select(vec![8000u32, 11_025, 16_000, 44_100]),
        sample_rate in prop::sample::select(vec![8000u32, 16_000]),
        stack in 1usize..5,
        stride in 1usize..4,
        deltas in 0usize..3,
    ) {
        let config = FeaturesConfig { sample_rate, stack, stride, deltas, mel_bins: 20, ..FeaturesConfig::default() };
        let front_end = FrontEnd::new(&config, None).expect("valid");
        let foretold = front_end.output_frames(samples as u64, rate);
        match front_end.features(&noise(rate, samples, 1)) {
            Ok(features) => {
                prop_assert_eq!(features.frames, foretold);
                prop_assert_eq!(features.dims, front_end.dims());
                prop_assert_eq!(features.dims, 20 * (deltas + 1) * stack);
                prop_assert_eq!(features.data.len(), features.frames * features.dims);
                prop_assert!(features.data.iter().all(|x| x.is_finite()));
            }
            Err(FrontEndError::TooShort { .. }) => prop_assert_eq!(foretold, 0),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn normalised_utterances_have_zero_mean_and_unit_variance(samples in 2000usize..20_000, seed: u64) {
        let front_end = FrontEnd::new(&FeaturesConfig::default(), None).expect("valid");
        let features = front_end.features(&noise(16_000, samples, seed)).expect("long enough");
        for dim in 0..features.dims {
            let (mean, variance) = column_moments(&features, dim);
            prop_assert!(mean.abs() < 1e-4, "{}: mean {}", dim, mean);
            prop_assert!((variance - 1.0).abs() < 1e-3, "{}: variance {}", dim, variance);
        }
    }
}
