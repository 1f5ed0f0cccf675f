//! A small corpus with one of each thing that is suspicious, and nothing else.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::audio::{Audio, write_wav};

fn write(folder: &Path, name: &str, samples: impl Iterator<Item = f32>) -> PathBuf {
    let path = folder.join(name);
    let audio = Audio {
        sample_rate: 8000,
        samples: samples.collect(),
    };
    write_wav(&path, &audio).unwrap();
    path
}

fn tone(seed: usize, loud: f32) -> impl Iterator<Item = f32> {
    (0..8000).map(move |at| ((at * seed) as f32 * 0.01).sin() * loud)
}

fn utterance(id: &str, audio: &Path, duration: f64, text: &str) -> Utterance {
    Utterance {
        id: id.to_owned(),
        audio: audio.to_owned(),
        offset: 0.0,
        duration,
        text: text.to_owned(),
        speaker: Some(format!("speaker-{}", id.len())),
    }
}

fn manifest(utterances: Vec<Utterance>) -> Manifest {
    Manifest {
        utterances,
        digest: "0".to_owned(),
    }
}

#[test]
fn each_suspect_is_found_and_nobody_else() {
    let folder = TempDir::new().unwrap();
    let good = write(folder.path(), "good.wav", tone(3, 0.5));
    let loud = write(folder.path(), "loud.wav", tone(5, 1.4));
    let faint = write(folder.path(), "faint.wav", tone(7, 0.001));
    let other = write(folder.path(), "other.wav", tone(9, 0.5));
    let missing = folder.path().join("missing.wav");
    let found = inspect(&manifest(vec![
        utterance("good", &good, 1.0, "a good one"),
        utterance("clipped", &loud, 1.0, "a loud one"),
        utterance("silent", &faint, 1.0, "a faint one"),
        utterance("empty", &other, 0.5, " "),
        utterance("again", &good, 1.0, "a good one"),
        Utterance {
            offset: 0.5,
            ..utterance("long", &other, 0.25, "far too much text for so little")
        },
        utterance("short", &other, 3.0, "one"),
        utterance("missing", &missing, 1.0, "one"),
    ]));
    let suspects: Vec<(Suspicion, &str)> = found
        .suspects
        .iter()
        .map(|one| (one.suspicion, one.utterance.as_deref().unwrap()))
        .collect();
    assert_eq!(
        suspects,
        [
            (Suspicion::Clipped, "clipped"),
            (Suspicion::Silent, "silent"),
            (Suspicion::Empty, "empty"),
            (Suspicion::Duplicate, "again"),
            (Suspicion::TooLong, "long"),
        ]
    );
    assert_eq!(
        found.suspects[1].why,
        "nothing in it is louder than -60 dB of full scale"
    );
    assert_eq!(found.suspects[3].why, "it has the same samples as \"good\"");
    assert_eq!(found.suspects[4].why, "25 characters in 0.25 s");
    assert_eq!(found.problems.len(), 2);
    assert!(
        found.problems[0].ends_with("other.wav: lasts 1.00 s and not 3.00 s as the manifest says")
    );
    assert!(found.problems[1].contains("missing.wav: no such file"));
    assert_eq!(found.sample_rates, BTreeMap::from([(8000, 7)]));
    assert_eq!(found.frequent_words[0], ("one".to_owned(), 6));
    assert_eq!(found.words, 3 * 4 + 7 + 2);
}

#[test]
fn lengths_fall_into_at_most_twelve_bins_of_a_round_width() {
    let bins = histogram(&[0.3, 0.3, 1.1, 5.9]);
    assert_eq!(bins.len(), 12);
    assert_eq!(
        (bins[0].from, bins[0].to, bins[0].utterances),
        (0.0, 0.5, 2)
    );
    assert_eq!((bins[2].from, bins[2].utterances), (1.0, 1));
    assert_eq!(bins.iter().map(|bin| bin.utterances).sum::<usize>(), 4);
    for longest in [0.001, 0.12, 1.0, 35.0, 86_400.0] {
        let bins = histogram(&[longest]);
        assert!((1..=12).contains(&bins.len()), "{longest}");
        assert_eq!(bins.last().unwrap().utterances, 1, "{longest}");
    }
}

#[test]
fn what_two_manifests_share_is_told_once() {
    let of = |speaker: &str, text: &str| Utterance {
        speaker: Some(speaker.to_owned()),
        ..utterance(text, Path::new("a.wav"), 1.0, text)
    };
    let train = [of("ann", "yes"), of("bob", "the cat sat on it")];
    let valid = [of("ann", "no"), of("cy", "The  cat sat on it")];
    let test = [of("dan", "yes")];
    let found = shared(&[
        ("train.jsonl", &train),
        ("valid.jsonl", &valid),
        ("test.jsonl", &test),
    ]);
    let why: Vec<&str> = found.iter().map(|one| one.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "train.jsonl and valid.jsonl share 1 speakers: \"ann\"",
            "train.jsonl and valid.jsonl share 1 sentences: \"the cat sat on it\"",
        ]
    );
}
