//! Many utterances in one long recording, or each in a channel of one: the same bits as from a file for each.

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

/// The recordings of each two lines of a manifest as the two channels of one, and a manifest of these.
fn pair(dir: &Path, manifest: &str, paired: &str) {
    let mut lines = json_lines(&dir.join(manifest));
    for (number, pair) in lines.chunks_exact_mut(2).enumerate() {
        let [left, right] = [0, 1].map(|side: usize| {
            let path = pair[side]["audio_filepath"].as_str().unwrap();
            audio::read(&dir.join(path)).unwrap()
        });
        let name = format!("{paired}-{number}.wav");
        // Half a second longer than either: an end within some milliseconds of the recording's would mean its end,
        // because manifests round durations.
        let frames = left.samples.len().max(right.samples.len()) + left.sample_rate as usize / 2;
        let bytes = 4 * frames as u32;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + bytes).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
        file.extend(left.sample_rate.to_le_bytes());
        file.extend((4 * left.sample_rate).to_le_bytes());
        file.extend(b"\x04\0\x10\0data");
        file.extend(bytes.to_le_bytes());
        for at in 0..frames {
            for channel in [&left, &right] {
                let value = channel.samples.get(at).copied().unwrap_or_default();
                file.extend(((value * 32_768.0) as i16).to_le_bytes());
            }
        }
        fs::write(dir.join(&name), file).unwrap();
        let samples = [left.samples.len(), right.samples.len()];
        for (channel, line) in pair.iter_mut().enumerate() {
            line["audio_filepath"] = Value::from(name.as_str());
            line["channel"] = Value::from(channel);
            line["offset"] = json!(0.0);
            line["duration"] = json!(samples[channel] as f64 / f64::from(left.sample_rate));
        }
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(dir.join(paired), lines.join("\n")).unwrap();
}

#[test]
fn segments_and_channels_train_to_the_bits_of_files_of_their_own() {
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
    pair(dir, "train.jsonl", "paired.jsonl");
    pair(dir, "valid.jsonl", "paired-valid.jsonl");
    let job = root().join("examples/digits.toml");
    let hashes = [
        ("train.jsonl", "1"),
        ("joined.jsonl", "2"),
        ("paired.jsonl", "2"),
    ]
    .map(|(manifest, workers)| {
        let out = format!("run-{manifest}");
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
    assert_eq!(hashes[0], hashes[2]);

    let evaluated = ["valid.jsonl", "paired-valid.jsonl"].map(|manifest| {
        let out = format!("{manifest}.said");
        let args = [
            "evaluate",
            "--model",
            "run-train.jsonl/final",
            "--manifest",
            manifest,
            "--device",
            "cpu",
            "--utterances",
            &out,
        ];
        run(dir, args).expect(0);
        json_lines(&dir.join(out))
    });
    assert_eq!(evaluated[0], evaluated[1]);
}
