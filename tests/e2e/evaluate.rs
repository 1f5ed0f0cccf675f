//! `evaluate` and `compare`: figures, the page, and whether one model is better than another.

use std::fs;

use serde_json::Value;

use crate::{
    fixture::{Head, json_lines, run, tiny_job, train},
    run::find,
};

#[test]
fn an_evaluation_says_how_sure_it_is_and_leaves_a_page_that_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Ctc);
    train(dir, "a", "1", &[]);
    train(dir, "b", "1", &["train.seed=7"]);
    let valid = find(&dir.join("a"), "valid.jsonl");
    let valid = valid.to_str().unwrap();
    let evaluate = |model: &str, utterances: &str, page: &str| {
        let args = [
            "evaluate",
            "--model",
            model,
            "--manifest",
            valid,
            "--html",
            page,
            "--utterances",
            utterances,
            "-o",
            "json",
        ];
        run(dir, args).expect(0).json()
    };
    let evaluated = evaluate("a/final", "a.jsonl", "a.html");
    evaluate("b/final", "b.jsonl", "b.html");
    let details = &evaluated["details"];
    assert_eq!(details["all"]["rate"], evaluated["wer"]);
    assert_eq!(details["characters"]["rate"], evaluated["cer"]);
    let interval = &details["characters"]["interval"];
    let cer = evaluated["cer"].as_f64().unwrap();
    assert!(interval["low"].as_f64().unwrap() <= cer && cer <= interval["high"].as_f64().unwrap());
    let errors = |rates: &Value| -> u64 {
        let rates = rates.as_array().unwrap().iter();
        rates.map(|rate| rate["errors"].as_u64().unwrap()).sum()
    };
    assert_eq!(
        errors(&details["speakers"]),
        details["all"]["errors"].as_u64().unwrap()
    );
    assert_eq!(
        errors(&details["lengths"]),
        details["all"]["errors"].as_u64().unwrap()
    );
    let model = fs::metadata(dir.join("a/final/model.safetensors"))
        .unwrap()
        .len();
    assert_eq!(evaluated["model_bytes"], model);
    assert!(evaluated["peak_memory_bytes"].as_u64().unwrap() > model);

    let page = fs::read_to_string(dir.join("a.html")).unwrap();
    for part in [
        "95 %",
        "real-time factor",
        "By speaker",
        "image/svg+xml",
        "data:image/png",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let foreign = ["<script", "http://", "https://", "src=\"/", "href="];
    assert!(foreign.iter().all(|part| !page.contains(part)));
    assert_eq!(json_lines(&dir.join("a.jsonl")).len(), 12);

    let compare = |first: &str, second: &str| {
        let args = ["compare", first, second, "--manifest", valid, "-o", "json"];
        run(dir, args).expect(0).json()
    };
    let measured = compare("a/final", "b/final");
    let read = compare("a.jsonl", "b.jsonl");
    assert_eq!(measured["first"]["rate"], evaluated["wer"]);
    for part in ["test", "difference", "significant"] {
        assert_eq!(measured[part], read[part], "{part}");
    }
    let same = compare("a/final", "a.jsonl");
    assert_eq!(same["test"]["p_value"], 1.0);
    assert_eq!(
        (&same["difference"]["value"], &same["significant"]),
        (&0.0.into(), &false.into())
    );

    run(dir, ["compare", "a/final", "b/final"]).expect(2);
    let lines = fs::read_to_string(dir.join("b.jsonl")).unwrap();
    let (first, _) = lines.split_once('\n').unwrap();
    fs::write(dir.join("short.jsonl"), first).unwrap();
    run(dir, ["compare", "a.jsonl", "short.jsonl"]).expect(78);
    fs::write(dir.join("bad.jsonl"), "{}\n").unwrap();
    let refused = run(dir, ["compare", "a.jsonl", "bad.jsonl"]).expect(78);
    assert!(
        refused.stderr.contains("bad.jsonl: line 1"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_training_adds_to_the_likelihood_has_the_same_bits_on_any_number_of_workers() {
    for (head, sets) in [
        (
            Head::Keyword,
            ["train.class_balance=weights", "select.keep=best"],
        ),
        (Head::Ctc, ["train.ascending_epochs=1", "select.average=2"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        tiny_job(dir.path(), head);
        let mut all = vec!["train.label_smoothing=0.1", "train.ema=0.8"];
        all.extend(sets);
        let train = |out: &str, workers: &str, sets: &[&str]| {
            let report = train(dir.path(), out, workers, sets);
            report["weights_sha256"].as_str().unwrap().to_owned()
        };
        let [alone, together] = ["1", "2"].map(|workers| train(workers, workers, &all));
        assert_eq!(alone, together);
        let mut without = vec![train("plain", "1", &[])];
        for left_out in 0..2 {
            let mut sets = all.clone();
            sets.remove(if left_out == 0 { 0 } else { 2 });
            without.push(train(&format!("without-{left_out}"), "1", &sets));
        }
        assert!(
            without.iter().all(|hash| *hash != alone),
            "each reaches the bits"
        );
    }
}
