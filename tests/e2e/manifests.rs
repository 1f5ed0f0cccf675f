//! Manifests as other programs leave them, through training and evaluation: white space around keywords, lines
//! that cannot be used, numbers as speakers, and recordings that training and validation share.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::fixture::{json_lines, run};

const JOB: &str = r#"
[corpus]
train = "train.jsonl"
valid = "valid.jsonl"
[features]
sample_rate = 8000
mel_bins = 20
stack = 3
[model]
head = "keyword"
layers = 1
hidden = 8
[train]
epochs = 1
batch = 16
micro_batch = 8
"#;

/// The lines of a synthetic corpus in `dir`.
fn lines(dir: &Path) -> [Vec<Value>; 2] {
    let args = "corpus synthesize --out made --train 60 --valid 12 --speakers 3 --valid-speakers 2 --sample-rate 8000";
    run(dir, args.split(' ')).expect(0);
    ["train", "valid"].map(|name| {
        let mut lines = json_lines(&dir.join(format!("made/{name}.jsonl")));
        for line in &mut lines {
            let audio = format!("made/{}", line["audio_filepath"].as_str().unwrap());
            line["audio_filepath"] = json!(audio);
        }
        lines
    })
}

fn write(path: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

#[test]
fn a_keyword_manifest_with_slips_trains_to_its_classes_and_each_slip_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [mut train, mut valid] = lines(dir);
    for (number, line) in train.iter_mut().enumerate() {
        let padded = format!(
            "{}{}",
            line["text"].as_str().unwrap(),
            " ".repeat(number % 2)
        );
        line["text"] = json!(padded);
        line["speaker"] = json!(number % 3);
    }
    train[40]["text"] = json!(" \t");
    train[40]["id"] = json!("wordless");
    train[41]["duration"] = json!(-1);
    // Three recordings are trained on as well, one under another name.
    valid.extend([3, 4, 5].map(|place| train[place].clone()));
    valid[12]["id"] = json!("again");
    write(&dir.join("train.jsonl"), &train);
    write(&dir.join("valid.jsonl"), &valid);
    fs::write(dir.join("job.toml"), JOB).unwrap();
    let args = "train job.toml --workers 1 --threads 1 --device cpu --out run -o json";
    let ended = run(dir, args.split(' ')).expect(0);
    for told in ["wordless", "line 42", "3 of 15", "\"again\""] {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
    let args = "evaluate --model run/final --manifest train.jsonl --device cpu -o json";
    let evaluated = run(dir, args.split(' ')).expect(0).json();
    let classes = evaluated["confusion"]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 10, "{classes:?}");
    assert!(
        classes
            .iter()
            .all(|one| !one.as_str().unwrap().contains(' ')),
        "{classes:?}"
    );
    assert_eq!(evaluated["left_out"]["utterances"], 2, "{evaluated:#}");
    assert_eq!(evaluated["utterances"], 58, "{evaluated:#}");
    // Nothing may be left out.
    let strict = args.split(' ').chain(["--max-bad", "0"]);
    let ended = run(dir, strict).expect(78);
    assert!(ended.stderr.contains("train.jsonl:42"), "{ended:?}");

    let ended = run(
        dir,
        [
            "corpus",
            "inspect",
            "train.jsonl",
            "valid.jsonl",
            "-o",
            "json",
        ],
    )
    .expect(78);
    let inspected = ended.json();
    let shared = inspected["suspects"][0]["suspicion"].as_str();
    assert_eq!(shared, Some("shared-recordings"), "{inspected:#}");
}
