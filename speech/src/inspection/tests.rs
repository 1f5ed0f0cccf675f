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
        channel: None,
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

/// What is found in one manifest.
fn inspect_one(manifest: &Manifest) -> Inspection {
    let (mut found, shared) = inspect(&[("m.jsonl", manifest)]);
    assert_eq!(shared, []);
    found.remove(0)
}

#[test]
fn each_suspect_is_found_and_nobody_else() {
    let folder = TempDir::new().unwrap();
    let good = write(folder.path(), "good.wav", tone(3, 0.5));
    let loud = write(folder.path(), "loud.wav", tone(5, 1.4));
    let faint = write(folder.path(), "faint.wav", tone(7, 0.001));
    let other = write(folder.path(), "other.wav", tone(9, 0.5));
    let missing = folder.path().join("missing.wav");
    let found = inspect_one(&manifest(vec![
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
        ..utterance(&format!("{speaker} {text}"), Path::new("a.wav"), 1.0, text)
    };
    let train = [of("ann", "yes"), of("bob", "the cat sat on it")];
    let valid = [of("ann", "no"), of("cy", "The  cat sat on it")];
    let test = [of("dan", "yes")];
    // Nobody listened.
    let found = shared(
        &[
            ("train.jsonl", &train[..]),
            ("valid.jsonl", &valid),
            ("test.jsonl", &test),
        ]
        .map(|(name, utterances)| InspectedManifest {
            name,
            utterances,
            sounds: &[],
        }),
    );
    let why: Vec<&str> = found.iter().map(|one| one.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "train.jsonl and valid.jsonl share 1 speakers: \"ann\"",
            "train.jsonl and valid.jsonl share 1 sentences: \"the cat sat on it\"",
        ]
    );
}

#[test]
fn recordings_that_two_manifests_share_are_found_whatever_they_are_called() {
    let folder = TempDir::new().unwrap();
    let nobody = |id: &str, audio: &Path, offset: f64, duration: f64| Utterance {
        offset,
        speaker: None,
        ..utterance(id, audio, duration, "yes")
    };
    let [one, two, three, four] =
        [3, 5, 7, 9].map(|seed| write(folder.path(), &format!("{seed}.wav"), tone(seed, 0.5)));
    let copy = folder.path().join("copy.wav");
    std::fs::copy(&two, &copy).unwrap();
    let train = manifest(vec![
        nobody("a", &one, 0.0, 1.0),
        nobody("b", &two, 0.2, 0.4),
        nobody("c", &two, 0.1, 0.1),
        nobody("d", &three, 0.0, 0.4),
    ]);
    let valid = manifest(vec![
        nobody("other a", &one, 0.0, 1.0),
        nobody("v", &copy, 0.5, 0.3),
        nobody("w", &copy, 0.61, 0.3),
        nobody("d", &four, 0.0, 1.0),
        nobody("x", &four, 0.0, 0.5),
    ]);
    let (_, found) = inspect(&[("t", &train), ("v", &valid)]);
    let told: Vec<(Suspicion, &str)> = found
        .iter()
        .map(|one| (one.suspicion, one.why.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                Suspicion::SharedRecordings,
                "t and v share 1 recordings (the same samples): \"other a\""
            ),
            (
                Suspicion::OverlappingSegments,
                "t and v share 1 parts of recordings (segments that overlap): \"v\""
            ),
            (
                Suspicion::SplitRecordings,
                "t and v share 1 recordings, of which each has other segments: \"w\""
            ),
            (
                Suspicion::SharedIds,
                "t and v share 1 ids, of other recordings: \"d\""
            ),
        ]
    );
    assert_eq!(
        shared_files(&[("t", &train.utterances), ("v", &valid.utterances)]),
        [format!(
            "t and v share 1 recordings, of which each has utterances: {:?}",
            one.display().to_string()
        )]
    );
}

#[test]
fn durations_that_were_rounded_down_are_told_and_segments_are_not() {
    let folder = TempDir::new().unwrap();
    let lasting = |name: &str, frames: usize| {
        write(
            folder.path(),
            name,
            tone(3, 0.5)
                .chain(tone(3, 0.5))
                .chain(tone(3, 0.5))
                .take(frames),
        )
    };
    // 1.3, 1.7 and 2.4 s.
    let files = [("a", 10_400), ("b", 13_600), ("c", 19_200)]
        .map(|(name, frames)| lasting(&format!("{name}.wav"), frames));
    let found = |durations: [f64; 3]| {
        let utterances = files.iter().zip(durations).zip(["a", "b", "c"]);
        let utterances =
            utterances.map(|((file, duration), id)| utterance(id, file, duration, "yes"));
        let found = inspect_one(&manifest(utterances.collect()));
        let found = found.suspects.into_iter();
        found
            .filter(|one| one.suspicion == Suspicion::CutEnds)
            .map(|one| one.why)
            .next()
    };
    let whole = found([1.0, 1.0, 2.0]).unwrap();
    assert_eq!(
        whole,
        "every duration is a number of whole seconds, and 3 of 3 recordings go on behind it, for 0.47 s on average and \
         0.70 s at most, which is cut off: \"a\", \"b\", \"c\""
    );
    assert!(
        found([1.2, 1.6, 2.3])
            .unwrap()
            .starts_with("durations seem to be rounded down: 3 of 3")
    );
    assert_eq!(found([1.3, 1.7, 2.4]), None);
    assert_eq!(found([1.26, 1.66, 2.36]), None);
    assert_eq!(found([1.3, 1.5, 2.4]), None);
    // One segment of each, from the beginning.
    assert_eq!(found([0.2, 0.3, 0.5]), None);
}

#[test]
fn transcripts_that_look_the_same_are_told() {
    let texts = BTreeMap::from([
        ("seven", 3),
        ("seven ", 2),
        ("caf\u{e9}", 1),
        ("cafe\u{301}", 1),
        ("o\u{a0}ne", 1),
        ("o ne", 1),
        ("o\u{200b} ne", 1),
        ("Seven", 1),
        ("eight", 9),
    ]);
    let found = lookalikes::find(&texts);
    let told: Vec<&str> = found
        .iter()
        .map(|one| one.why.split_once(": ").unwrap().1)
        .collect();
    assert_eq!(
        told,
        [
            "\"cafe\\u{301}\" (1), \"café\" (1)",
            "\"o ne\" (1), \"o\\u{a0}ne\" (1), \"o\\u{200b} ne\" (1)",
            "\"seven\" (3), \"seven \" (2)",
            "\"Seven\" (1), \"seven\" (3)",
        ]
    );
    assert_eq!(
        found[3].why.split_once(':').unwrap().0,
        "transcripts differ in case alone"
    );
    // Sentences, each of them once.
    let sentences = BTreeMap::from([("Go on.", 1), ("go on.", 1), ("Stop.", 1)]);
    assert_eq!(lookalikes::find(&sentences), []);
    let many: Vec<String> = (0..15)
        .flat_map(|n| [format!("{n}"), format!("{n} ")])
        .collect();
    let many = lookalikes::find(&many.iter().map(|text| (text.as_str(), 1)).collect());
    assert_eq!(many.len(), 11);
    assert!(many[10].why.ends_with(": 5 more"));
}
