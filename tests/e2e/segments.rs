//! Many utterances in one long recording: the same bits as from a file for each.

use std::{fs, path::Path};

use serde_json::{Value, json};
use speech::audio::{self, Audio};

use crate::fixture::{json_lines, report, root, run};

/// The recordings of a manifest behind one another in `long.wav`, and a manifest of its segments.
fn join(dir: &Path, manifest: &str, joined: &str) {
    let lines = json_lines(&dir.join(manifest));
    let mut long: Option<Audio> = None;
    let segments: Vec<String> = lines
        .iter()
        .map(|line| {
            let path = line["audio_filepath"].as_str().unwrap();
            let one = audio::read(&dir.join(path)).unwrap();
            let long = long.get_or_insert_with(|| Audio {
                sample_rate: one.sample_rate,
                // So that no segment begins where the recording does.
                samples: vec![0.25; 1000],
            });
            let rate = f64::from(one.sample_rate);
            let mut segment = line.clone();
            segment["audio_filepath"] = Value::from("long.wav");
            segment["offset"] = json!(long.samples.len() as f64 / rate);
            segment["duration"] = json!(one.samples.len() as f64 / rate);
            long.samples.extend(one.samples);
            segment.to_string()
        })
        .collect();
    audio::write_wav(&dir.join("long.wav"), &long.unwrap()).unwrap();
    fs::write(dir.join(joined), segments.join("\n")).unwrap();
}

#[test]
fn segments_of_a_long_recording_train_to_the_bits_of_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let synthesize = [
        "corpus",
        "synthesize",
        "--train",
        "24",
        "--valid",
        "4",
        "--speakers",
        "6",
        "--valid-speakers",
        "2",
        "--out",
        ".",
    ];
    run(dir, synthesize).expect(0);
    join(dir, "train.jsonl", "joined.jsonl");
    let job = root().join("examples/digits.toml");
    let hashes = [("train.jsonl", "1"), ("joined.jsonl", "2")].map(|(manifest, workers)| {
        let out = format!("run-{workers}");
        let args = [
            "train",
            job.to_str().unwrap(),
            "--workers",
            workers,
            "--device",
            "cpu",
            "--out",
            &out,
            "--set",
            &format!("corpus={{train=\"{manifest}\"}}"),
            "--set",
            "train.epochs=2",
            "--set",
            "model.hidden=16",
        ];
        run(dir, args).expect(0);
        report(&dir.join(out))["weights_sha256"].clone()
    });
    assert_eq!(hashes[0], hashes[1]);
}
