//! Recorded speech, where it lies beside the project; by name when it does not.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{json_lines, report, root, run, skip};

/// `../shared/corpora/NAME`, or a word on its absence.
fn corpus(name: &str, what: &str) -> Option<PathBuf> {
    let path = root().join("../shared/corpora").join(name);
    if path.is_dir() {
        return Some(path.canonicalize().unwrap());
    }
    skip(what, &format!("{name} is not in ../shared/corpora"));
    None
}

fn import(dir: &Path, format: &str, source: &Path, rule: &str) -> Value {
    let hold_out = format!("{rule}=valid.jsonl");
    let args = [
        "corpus",
        "import",
        "--format",
        format,
        source.to_str().unwrap(),
        "--out",
        "train.jsonl",
        "--hold-out",
        &hold_out,
        "-o",
        "json",
    ];
    run(dir, args).expect(0).json()
}

#[test]
fn fsdd_is_imported_and_trained_on_with_the_same_bits_from_one_worker_and_two() {
    let Some(source) = corpus("fsdd", "training on FSDD") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let written = import(dir, "fsdd", &source, "index:5-9");
    assert_eq!(written[0]["utterances"], 2400);
    assert_eq!(written[1]["utterances"], 300);
    assert_eq!(json_lines(&dir.join("valid.jsonl")).len(), 300);

    // A small part, so that it takes seconds.
    import(dir, "fsdd", &source, "fraction:0.95");
    let job = root().join("examples/fsdd.toml");
    let hashes = ["1", "2"].map(|workers| {
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
            "corpus.train=train.jsonl",
            "--set",
            "corpus.valid=",
            "--set",
            "train.epochs=1",
            "--set",
            "model.hidden=16",
            "--set",
            "clip.max_norm=0.05",
        ];
        run(dir, args).expect(0);
        let report = report(&dir.join(out));
        assert!(
            report["clipped_share"].as_f64().unwrap() > 0.0,
            "{report:#}"
        );
        assert_eq!(report["synthetic"], false);
        report["weights_sha256"].clone()
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn an4_is_imported_with_ten_speakers_held_out() {
    let Some(source) = corpus("an4", "importing AN4") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let rule = "speaker:msjm,msjr,mskh,msmn,msrb,mtcv,mtje,mtos,mtxj,mwhw";
    let written = import(dir.path(), "an4", &source, rule);
    let counts =
        [&written[0]["utterances"], &written[1]["utterances"]].map(|count| count.as_u64().unwrap());
    assert_eq!(counts[0] + counts[1], 948);
    assert!(counts[1] > 100);
    let inspected = run(
        dir.path(),
        ["corpus", "inspect", "valid.jsonl", "-o", "json"],
    )
    .expect(0);
    let inspected = inspected.json();
    assert_eq!(inspected["speakers"].as_object().unwrap().len(), 10);
    assert_eq!(inspected["sample_rates"]["16000"], counts[1]);
}
