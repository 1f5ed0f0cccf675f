//! The synthetic corpus as others see it: files, bytes, and what is refused.

use speech::audio;
use speech::manifest::Manifest;
use speech::random::Stream;
use speech::synth::{
    Digit, Speaker, SynthError, SyntheticConfig, Task, VoiceType, generate, generate_unless, say,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn small() -> SyntheticConfig {
    SyntheticConfig {
        train: 40,
        valid: 20,
        speakers: 5,
        valid_speakers: 3,
        ..SyntheticConfig::default()
    }
}

/// The bytes of every sound file and of the manifests, by name.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    [dir.to_owned(), dir.join("wav")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let bytes = fs::read(&path).expect("a file");
            let name = path.strip_prefix(dir).expect("below").to_owned();
            (name, bytes)
        })
        .collect()
}

#[test]
fn the_same_configuration_gives_the_same_bytes_on_any_number_of_threads() {
    let on = |threads, config: &SyntheticConfig| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let made = pool.install(|| generate(config, dir.path())).unwrap();
        (contents(dir.path()), made.summary.digest)
    };
    for task in [Task::Digits, Task::DigitStrings] {
        let config = SyntheticConfig { task, ..small() };
        let one = on(1, &config);
        assert_eq!(one.0.len(), 63);
        assert_eq!(one, on(4, &config));
        assert_eq!(one, on(1, &config));
        let other = on(4, &SyntheticConfig { seed: 2, ..config });
        assert_ne!(one.1, other.1);
        for (name, bytes) in one.0.iter().filter(|(name, _)| name.starts_with("wav")) {
            assert_ne!(bytes, &other.0[name]);
        }
    }
}

#[test]
fn durations_and_levels_are_those_of_recorded_digits_and_nothing_clips() {
    for sample_rate in [8000, 11_025, 16_000, 48_000] {
        let dir = tempfile::tempdir().unwrap();
        let config = SyntheticConfig {
            sample_rate,
            ..small()
        };
        let made = generate(&config, dir.path()).unwrap();
        for utterance in &Manifest::read(&made.train).unwrap().utterances {
            let audio = audio::read(&utterance.audio).unwrap();
            assert_eq!(audio.sample_rate, sample_rate);
            let seconds = audio.samples.len() as f64 / f64::from(sample_rate);
            assert!((seconds - utterance.duration).abs() < 1e-6);
            assert!((0.35..2.2).contains(&seconds), "{seconds} s");
            let peak = audio.samples.iter().fold(0f32, |peak, x| peak.max(x.abs()));
            assert!((0.02..=0.951).contains(&peak), "{peak}");
            let square: f64 = audio.samples.iter().map(|&x| f64::from(x).powi(2)).sum();
            let level = 10.0 * (square / audio.samples.len() as f64).log10();
            assert!((-42.0..-15.0).contains(&level), "{level} dB");
            let mean: f64 = audio.samples.iter().map(|&x| f64::from(x)).sum();
            assert!(mean * mean < 0.02 * square * audio.samples.len() as f64);
        }
    }
}

#[test]
fn the_manifests_say_who_says_what_and_share_no_speaker() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&small(), dir.path()).unwrap();
    let words: BTreeSet<&str> = Digit::all().map(Digit::word).collect();
    let mut seconds = 0.0;
    let mut speakers = |path: &Path, count| -> BTreeSet<String> {
        let utterances = Manifest::read(path).unwrap().utterances;
        assert_eq!(utterances.len(), count);
        utterances
            .into_iter()
            .map(|utterance| {
                assert!(words.contains(utterance.text.as_str()));
                assert!(utterance.audio.is_file());
                seconds += utterance.duration;
                utterance.speaker.unwrap()
            })
            .collect()
    };
    let (train, valid) = (speakers(&made.train, 40), speakers(&made.valid, 20));
    assert_eq!((train.len(), valid.len()), (5, 3));
    assert!(train.is_disjoint(&valid));
    let summary = &made.summary;
    assert_eq!((summary.train.utterances, summary.train.speakers), (40, 5));
    assert_eq!((summary.valid.utterances, summary.valid.speakers), (20, 3));
    assert!((summary.train.seconds + summary.valid.seconds - seconds).abs() < 1e-3);
}

#[test]
fn strings_are_longer_than_digits_and_spelled_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let config = SyntheticConfig {
        task: Task::DigitStrings,
        min_digits: 3,
        max_digits: 4,
        ..small()
    };
    let made = generate(&config, dir.path()).unwrap();
    for utterance in Manifest::read(&made.valid).unwrap().utterances {
        let words = utterance.text.split(' ').count();
        assert!((3..=4).contains(&words), "{}", utterance.text);
        assert!((0.7..5.0).contains(&utterance.duration));
    }
}

/// Frame energies in eight bands, as a crude picture of an utterance: the mean and its movement.
fn picture(samples: &[f32]) -> Vec<f64> {
    let frames: Vec<Vec<f64>> = samples
        .chunks_exact(samples.len() / 12)
        .map(|frame| {
            // Goertzel's recursion at eight frequencies.
            [250.0, 500.0, 800.0, 1200.0, 1700.0, 2300.0, 3000.0, 5000.0]
                .map(|hz: f64| {
                    let turn = 2.0 * (std::f64::consts::TAU * hz / 16_000.0).cos();
                    let (mut a, mut b) = (0.0, 0.0);
                    for &x in frame {
                        (b, a) = (a, f64::from(x) + turn * a - b);
                    }
                    (1e-6 + a * a + b * b - turn * a * b).ln()
                })
                .to_vec()
        })
        .collect();
    frames.concat()
}

#[test]
fn every_digit_differs_from_every_other_more_than_from_itself() {
    let distance =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let speaker = Speaker::draw(VoiceType::Man, &mut Stream::new(3, &[]));
    let said = |take: u64| -> Vec<Vec<f64>> {
        Digit::all()
            .map(|digit| {
                let mut stream = Stream::new(take, &[u64::from(digit.value())]);
                picture(&say(&[digit], &speaker, 16_000, &mut stream).samples)
            })
            .collect()
    };
    // The nearest among many takes of all digits is nearly always a take of the same digit.
    let library: Vec<Vec<Vec<f64>>> = (0..12).map(said).collect();
    let mut right = 0;
    for take in 20..25 {
        for (digit, heard) in said(take).iter().enumerate() {
            let (_, nearest) = library
                .iter()
                .flat_map(|take| take.iter().enumerate())
                .map(|(index, known)| (distance(heard, known), index))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap();
            right += usize::from(nearest == digit);
        }
    }
    assert!(right >= 44, "{right} of 50");
}

#[test]
fn a_complete_corpus_is_reused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&small(), dir.path()).unwrap();
    assert!(!made.reused);
    let wav = dir.path().join("wav/train-000000.wav");
    let written = fs::metadata(&wav).unwrap().modified().unwrap();
    let again = generate(&small(), dir.path()).unwrap();
    assert!(again.reused);
    assert_eq!(again.summary, made.summary);
    assert_eq!(fs::metadata(&wav).unwrap().modified().unwrap(), written);
}

#[test]
fn a_corpus_can_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let made = generate(&small(), &here).unwrap();
    fs::rename(&here, &there).unwrap();
    let moved = generate(&small(), &there).unwrap();
    assert!(moved.reused);
    assert_eq!(moved.summary, made.summary);
    for utterance in Manifest::read(&moved.valid).unwrap().utterances {
        assert!(utterance.audio.starts_with(&there) && utterance.audio.is_file());
    }
}

#[test]
fn an_interrupted_corpus_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&small(), dir.path()).unwrap();
    // As it is found after a kill: the marker was never renamed into place, and a file is torn.
    fs::rename(
        dir.path().join("synthetic.json"),
        dir.path().join("synthetic.incomplete.json"),
    )
    .unwrap();
    fs::write(dir.path().join("wav/train-000003.wav"), b"RIFF").unwrap();
    let again = generate(&small(), dir.path()).unwrap();
    assert!(!again.reused);
    assert_eq!(again.summary, made.summary);
    assert!(!dir.path().join("synthetic.incomplete.json").exists());
}

#[test]
fn a_folder_with_anything_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
    match generate(&small(), dir.path()) {
        Err(SynthError::Occupied { found, .. }) => assert_eq!(found, "thesis.txt"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn another_configuration_is_refused_and_the_field_named() {
    let dir = tempfile::tempdir().unwrap();
    generate(&small(), dir.path()).unwrap();
    let other = SyntheticConfig {
        snr_db: [10.0, 20.0],
        ..small()
    };
    let error = generate(&other, dir.path()).unwrap_err();
    assert!(matches!(&error, SynthError::Different { field, .. } if field == "snr_db"));
    let text = error.to_string();
    assert!(
        text.contains("[10.0,30.0]") && text.contains("[10.0,20.0]"),
        "{text}"
    );
}

#[test]
fn an_altered_manifest_or_marker_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&small(), dir.path()).unwrap();
    fs::write(&made.valid, "").unwrap();
    let error = generate(&small(), dir.path()).unwrap_err();
    assert!(matches!(&error, SynthError::Altered { path } if *path == made.valid));
    fs::write(dir.path().join("synthetic.json"), "{}").unwrap();
    let error = generate(&small(), dir.path()).unwrap_err();
    assert!(matches!(error, SynthError::Marker { .. }));
}

#[test]
fn a_wrong_configuration_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("corpus");
    let config = SyntheticConfig {
        speakers: 0,
        ..small()
    };
    let error = generate(&config, &target).unwrap_err();
    assert!(error.to_string().contains("`speakers` is 0"), "{error}");
    assert!(!target.exists());
}

#[test]
fn a_corpus_that_is_given_up_is_not_made_and_is_made_by_the_next_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let config = SyntheticConfig {
        train: 40,
        valid: 2,
        speakers: 2,
        valid_speakers: 1,
        ..SyntheticConfig::default()
    };
    let given_up = generate_unless(&AtomicBool::new(true), &config, dir.path());
    assert!(matches!(given_up, Err(SynthError::Abandoned)));
    let made = fs::read_dir(dir.path().join("wav")).unwrap().count();
    assert_eq!(made, 0);
    let whole = generate(&config, dir.path()).unwrap();
    assert_eq!((whole.summary.train.utterances, whole.reused), (40, false));
}

#[test]
fn more_sound_than_a_disk_should_take_is_refused_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let config = SyntheticConfig {
        task: Task::DigitStrings,
        train: 900_000,
        max_digits: 50,
        sample_rate: 48_000,
        ..SyntheticConfig::default()
    };
    let refused = generate(&config, dir.path()).unwrap_err().to_string();
    assert!(refused.contains("GiB"), "{refused}");
    assert!(config.bytes() > 1 << 40);
    SyntheticConfig {
        train: 900_000,
        ..SyntheticConfig::default()
    }
    .validate()
    .unwrap();
}
