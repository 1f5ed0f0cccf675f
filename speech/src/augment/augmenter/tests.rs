//! What befalls a recording: the same on the same occasion, another on another, and nothing unasked.

use super::*;
use crate::audio::Audio;
use crate::features::Normalization;

const RATE: u32 = 8000;

fn features_config() -> FeaturesConfig {
    FeaturesConfig {
        sample_rate: RATE,
        mel_bins: 30,
        normalization: Normalization::None,
        ..FeaturesConfig::default()
    }
}

fn front_end() -> FrontEnd {
    FrontEnd::new(&features_config(), None).expect("valid")
}

fn augmenter(config: &AugmentConfig) -> Augmenter {
    Augmenter::new(config, &features_config(), 7).expect("valid")
}

/// Pulses through a falling resonance: something like a vowel.
fn voice(samples: usize) -> Vec<f32> {
    let mut stream = Stream::new(1, &[]);
    (0..samples)
        .map(|n| {
            let pulse = (n % 71) as f32;
            0.3 * (-0.05 * pulse).exp() * (pulse * 0.6).sin() + 1e-3 * stream.normal() as f32
        })
        .collect()
}

fn clean(samples: &[f32]) -> Features {
    let audio = Audio {
        sample_rate: RATE,
        samples: samples.to_vec(),
    };
    front_end().features(&audio).expect("long enough")
}

fn on(epoch: u32, utterance: u32) -> Occasion {
    Occasion { epoch, utterance }
}

fn recording<'a>(samples: &'a [f32], others: &'a [&'a [f32]]) -> AugmentInput<'a> {
    AugmentInput {
        samples,
        speaker: None,
        others,
    }
}

fn heard(augmenter: &Augmenter, samples: &[f32], on: Occasion) -> Features {
    augmenter
        .features(&front_end(), recording(samples, &[&voice(900)]), on, 1)
        .expect("long enough")
}

fn everything() -> AugmentConfig {
    AugmentConfig {
        speed: vec![0.9, 1.0, 1.1],
        tempo: [0.8, 1.25],
        vtlp: [0.8, 1.2],
        gain_db: [-6.0, 6.0],
        noise: 0.5,
        reverb: 0.5,
        ..AugmentConfig::default()
    }
}

#[test]
fn what_changes_nothing_gives_the_same_bits() {
    let samples = voice(4000);
    let still = AugmentConfig {
        speed: vec![1.0],
        ..AugmentConfig::default()
    };
    for config in [AugmentConfig::default(), still] {
        let augmenter = augmenter(&config);
        assert!(!augmenter.changes_sound());
        for epoch in 0..4 {
            assert_eq!(heard(&augmenter, &samples, on(epoch, 3)), clean(&samples));
        }
    }
}

#[test]
fn an_occasion_gives_the_same_bits_in_any_order_and_another_gives_others() {
    let samples = voice(4000);
    let (first, second) = (augmenter(&everything()), augmenter(&everything()));
    let forwards: Vec<Features> = (0..20).map(|n| heard(&first, &samples, on(n, 5))).collect();
    for n in (0..20).rev() {
        assert_eq!(heard(&second, &samples, on(n, 5)), forwards[n as usize]);
    }
    for n in 1..20 {
        assert_ne!(forwards[0], forwards[n]);
        assert_ne!(heard(&first, &samples, on(0, 5 + n as u32)), forwards[0]);
    }
    let other = Augmenter::new(&everything(), &features_config(), 8).expect("valid");
    assert_ne!(heard(&other, &samples, on(0, 5)), forwards[0]);
}

#[test]
fn one_kind_of_change_does_not_move_anothers_draws() {
    let samples = voice(4000);
    let only_speed = AugmentConfig {
        speed: vec![0.9, 1.1],
        ..AugmentConfig::default()
    };
    let with_noise = AugmentConfig {
        noise: 1.0,
        ..only_speed.clone()
    };
    let (alone, noisy) = (augmenter(&only_speed), augmenter(&with_noise));
    for epoch in 0..20 {
        let frames = |augmenter| heard(augmenter, &samples, on(epoch, 0)).frames;
        assert_eq!(frames(&alone), frames(&noisy));
    }
}

#[test]
fn speed_and_tempo_change_the_number_of_frames_as_they_say() {
    let samples = voice(8000);
    let frames = |config: AugmentConfig| -> Vec<usize> {
        let augmenter = augmenter(&config);
        (0..300)
            .map(|epoch| heard(&augmenter, &samples, on(epoch, 0)).frames)
            .collect()
    };
    let speed = frames(AugmentConfig {
        speed: vec![0.8, 1.25],
        ..AugmentConfig::default()
    });
    // 10,000 and 6,400 samples; frames of 200, 80 apart.
    for wanted in [1 + 9800 / 80, 1 + 6200 / 80] {
        let share = speed.iter().filter(|&&frames| frames == wanted).count();
        assert!((100..200).contains(&share), "{wanted} frames {share} times");
    }
    let tempo = frames(AugmentConfig {
        tempo: [0.8, 1.25],
        ..AugmentConfig::default()
    });
    assert!(
        tempo
            .iter()
            .all(|frames| (1 + 7800 / 100..=1 + 7800 / 64).contains(frames))
    );
    assert!(tempo.iter().min() < Some(&82) && tempo.iter().max() > Some(&118));
}

#[test]
fn speech_too_short_for_its_transcript_keeps_its_pace() {
    let samples = voice(4000);
    let fast = AugmentConfig {
        speed: vec![1.5],
        tempo: [1.5, 1.5],
        ..AugmentConfig::default()
    };
    let augmenter = augmenter(&fast);
    let frames = |needed| {
        let features = augmenter.features(&front_end(), recording(&samples, &[]), on(0, 0), needed);
        features.expect("long enough").frames
    };
    let (whole, hurried) = (clean(&samples).frames, 1 + (2667 - 200) / 120);
    assert_eq!(frames(hurried), hurried);
    assert_eq!(frames(hurried + 1), whole);
    assert_eq!(frames(whole + 100), whole);
    // Two frames' worth, which would be none.
    let short = augmenter.features(&front_end(), recording(&voice(280), &[]), on(0, 0), 0);
    assert_eq!(short.expect("long enough").frames, 2);
}

#[test]
fn warps_move_formants_and_reach_both_ends_of_their_range() {
    let samples: Vec<f32> = (0..4000)
        .map(|n| (std::f32::consts::TAU * 1000.0 / 8000.0 * n as f32).sin())
        .collect();
    let loudest = |features: &Features| -> usize {
        let row = features.rows().next().expect("a frame");
        (0..row.len())
            .max_by(|&a, &b| row[a].total_cmp(&row[b]))
            .expect("a band")
    };
    let middle = loudest(&clean(&samples));
    let warped = AugmentConfig {
        vtlp: [0.8, 1.2],
        ..AugmentConfig::default()
    };
    let augmenter = augmenter(&warped);
    let bands: Vec<usize> = (0..500)
        .map(|epoch| loudest(&heard(&augmenter, &samples, on(epoch, 0))))
        .collect();
    let (least, most) = (bands.iter().min().unwrap(), bands.iter().max().unwrap());
    // 1000 Hz lies where 833 Hz and 1250 Hz were: on the mel scale 12 % and 13 % away, of 31 bands.
    assert!(
        (2..=3).contains(&(middle - least)) && (2..=3).contains(&(most - middle)),
        "{least} {middle} {most}"
    );
    let untouched =
        (0..500).filter(|&epoch| heard(&augmenter, &samples, on(epoch, 0)) == clean(&samples));
    // One of the 41 warps is none.
    assert!((3..30).contains(&untouched.count()));
}

#[test]
fn a_warp_too_strong_for_the_bands_is_refused() {
    let config = AugmentConfig {
        vtlp: [0.5, 1.0],
        ..AugmentConfig::default()
    };
    let features = FeaturesConfig {
        mel_bins: 60,
        ..features_config()
    };
    assert!(FrontEnd::new(&features, None).is_ok());
    let error = Augmenter::new(&config, &features, 1).expect_err("too narrow");
    assert!(
        error.to_string().starts_with("augment.vtlp reaches 0.5"),
        "{error}"
    );
}

#[test]
fn gain_and_shares_are_those_of_the_section() {
    let samples = voice(4000);
    let plain = clean(&samples);
    let changed = |config: AugmentConfig| {
        let augmenter = augmenter(&config);
        let changed = |&epoch: &u32| heard(&augmenter, &samples, on(epoch, 1)) != plain;
        (0..200).filter(changed).count()
    };
    let noisy = AugmentConfig {
        noise: 0.25,
        ..AugmentConfig::default()
    };
    let reverberant = AugmentConfig {
        reverb: 0.5,
        ..AugmentConfig::default()
    };
    assert!((30..70).contains(&changed(noisy)));
    assert!((75..125).contains(&changed(reverberant)));

    let louder = AugmentConfig {
        gain_db: [6.0, 6.0],
        ..AugmentConfig::default()
    };
    let features = heard(&augmenter(&louder), &samples, on(0, 0));
    let gain = 0.6 * std::f32::consts::LN_10;
    for (louder, plain) in features.data.iter().zip(&plain.data) {
        assert!((louder - plain - gain).abs() < 2e-3, "{louder} {plain}");
    }
}

#[test]
fn threads_that_share_an_augmenter_get_the_same_bits() {
    let samples = voice(4000);
    let alone: Vec<Features> = {
        let augmenter = augmenter(&everything());
        (0..30)
            .map(|n| heard(&augmenter, &samples, on(n, 2)))
            .collect()
    };
    let shared = augmenter(&everything());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Vec<Features> {
                    (0..30)
                        .map(|n| heard(&shared, &samples, on(n, 2)))
                        .collect()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), alone);
        }
    });
}
