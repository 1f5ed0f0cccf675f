//! Pronunciations and forced alignment: what `lexicon check`, `align` and `corpus cut` make of good and of bad input.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::fixture::{Ended, Head, json_lines, run, tiny_job};

const LEXICON: &str = "zero Z IH R OW\nzero(2) Z IY R OW\none W AH N\ntwo T UW\nthree TH R IY\nfour F AO R\nfive F AY V\n\
    six S IH K S\nseven S EH V AH N\neight EY T\nnine N AY N\n";

fn at(dir: &Path, line: &str) -> Ended {
    run(dir, line.split_whitespace())
}

/// A tiny CTC model in `run/final`, and synthetic digit strings in `made`.
fn model(dir: &Path) {
    tiny_job(dir, Head::Ctc);
    let train = "train tiny.toml --workers 1 --device cpu --out run --set train.epochs=12";
    at(dir, train).expect(0);
    let made = "corpus synthesize --out made --task digit-strings --train 2 --valid 8 --speakers 1 --valid-speakers 2 \
        --sample-rate 8000";
    at(dir, made).expect(0);
}

/// The lines of time-marked words, by their first field.
fn recordings(ctm: &str) -> BTreeMap<&str, Vec<Vec<&str>>> {
    let mut found: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in ctm.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        found.entry(fields[0]).or_default().push(fields);
    }
    found
}

#[test]
fn a_lexicon_is_checked_against_transcripts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    at(
        dir,
        "corpus synthesize --out made --task digit-strings --train 2 --valid 20 --speakers 2 --valid-speakers 2",
    )
    .expect(0);
    fs::write(dir.join("good.dic"), LEXICON).unwrap();
    let check = |lexicon: &str| {
        at(
            dir,
            &format!("lexicon check --lexicon {lexicon} --manifest made/valid.jsonl -o json"),
        )
    };
    let good = check("good.dic").expect(0).json();
    assert_eq!(
        (&good["format"], &good["lexicon_words"]),
        (&"sphinx".into(), &10.into())
    );
    assert_eq!(good["missing"], Value::Array(Vec::new()));
    let text = at(
        dir,
        "lexicon check --lexicon good.dic --manifest made/valid.jsonl",
    )
    .expect(0);
    assert!(text.stdout.contains("11 pronunciations"), "{text:?}");

    // The last word is missing, in another case; a phone is mistyped.
    let bad = LEXICON.replace("nine N AY N", "NINE N AY N\nate EY T\nten T EH NN");
    fs::write(dir.join("bad.dic"), bad).unwrap();
    let ended = check("bad.dic").expect(78);
    let found: Value = ended.json();
    assert_eq!(found["missing"][0]["word"], "nine");
    assert_eq!(found["missing"][0]["other_case"], "NINE");
    assert!(found["missing"][0]["count"].as_u64().unwrap() > 0);
    assert!(
        found["missing"][0]["utterance"]
            .as_str()
            .unwrap()
            .starts_with("valid-")
    );
    assert_eq!(
        found["homophones"][0]["words"],
        serde_json::json!(["ate", "eight"])
    );
    assert!(
        found["unseen_phones"]
            .as_array()
            .unwrap()
            .contains(&"NN".into())
    );
    assert!(ended.stderr.contains("another case"), "{ended:?}");

    fs::write(dir.join("broken.dic"), "one W AH N\ntwo\n").unwrap();
    let told = check("broken.dic").expect(78).stderr;
    assert!(told.contains("broken.dic:2: two has no phones"), "{told}");
    let told = check("none.dic").expect(78).stderr;
    assert!(told.contains("none.dic"), "{told}");
}

#[test]
fn transcripts_are_aligned_alike_on_any_number_of_threads_and_words_are_cut_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    model(dir);
    let align = |more: &str| {
        at(
            dir,
            &format!("align --model run/final --manifest made/valid.jsonl --device cpu {more}"),
        )
    };
    let one = align("--threads 1").expect(0);
    assert_eq!(one.stdout, align("--threads 4").expect(0).stdout);
    let words: usize = json_lines(&dir.join("made/valid.jsonl"))
        .iter()
        .map(|line| line["text"].as_str().unwrap().split(' ').count())
        .sum();
    assert!(
        one.stderr
            .contains(&format!("aligned 8 of 8 utterances: {words} words")),
        "{one:?}"
    );
    assert_eq!(recordings(&one.stdout).len(), 8);

    // All three forms have the same words at the same times.
    align("-o jsonl --units --out words.jsonl").expect(0);
    align("-o textgrid --units --out praat").expect(0);
    align("--out words.ctm").expect(0);
    assert_eq!(
        fs::read_to_string(dir.join("words.ctm")).unwrap(),
        one.stdout
    );
    for line in json_lines(&dir.join("words.jsonl")) {
        let id = line["id"].as_str().unwrap();
        assert!(line["log_likelihood"].as_f64().unwrap() < 0.0);
        let marked = &recordings(&one.stdout)[id];
        let grid = fs::read_to_string(dir.join(format!("praat/{id}.TextGrid"))).unwrap();
        let parts = line["words"].as_array().unwrap();
        assert_eq!(parts.len(), marked.len());
        for (part, fields) in parts.iter().zip(marked) {
            assert_eq!(part["text"], fields[4]);
            let start: f64 = fields[2].parse().unwrap();
            assert!((part["start"].as_f64().unwrap() - start).abs() < 0.001);
            assert!(grid.contains(&format!("xmin = {}\n", fields[2])), "{grid}");
            let units = part["units"].as_array().unwrap().iter();
            let spelled: String = units.map(|unit| unit["text"].as_str().unwrap()).collect();
            assert_eq!(spelled, fields[4]);
        }
    }
    // All boundaries move, as far as the utterance reaches.
    let moved = align("--shift -100").expect(0).stdout;
    let starts = |ctm: &str| -> Vec<f64> {
        let fields = ctm.lines().map(|line| line.split(' ').nth(2).unwrap());
        fields.map(|field| field.parse().unwrap()).collect()
    };
    for (before, behind) in starts(&one.stdout).into_iter().zip(starts(&moved)) {
        assert!(
            ((before - 0.1f64).max(0.0) - behind).abs() < 0.0015,
            "{before} {behind}"
        );
    }
    let told = align("-o textgrid").expect(2).stderr;
    assert!(told.contains("--out"), "{told}");
    let input = align("--out made/valid.jsonl").expect(2);
    assert!(input.stderr.contains("would be overwritten"), "{input:?}");

    // Segments of the same recordings, which can be trained on.
    let cut = "corpus cut --align words.ctm --manifest made/valid.jsonl --padding 20";
    let made = at(
        dir,
        &format!("{cut} --words ONE,two --out cut.jsonl -o json"),
    )
    .expect(0)
    .json();
    let segments = json_lines(&dir.join("cut.jsonl"));
    assert_eq!(made["utterances"], segments.len());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &segments {
        *counts.entry(line["text"].as_str().unwrap()).or_default() += 1;
        assert!(line["duration"].as_f64().unwrap() > 0.0);
    }
    for (word, count) in counts {
        assert_eq!(made["words"][word], count);
    }
    at(dir, &format!("{cut} --out every.jsonl")).expect(0);
    assert_eq!(json_lines(&dir.join("every.jsonl")).len(), words);
    at(dir, "corpus inspect every.jsonl").expect(0);
    let none = at(dir, &format!("{cut} --words eleven --out none.jsonl")).expect(78);
    assert!(none.stderr.contains("is wanted"), "{none:?}");
    assert!(!dir.join("none.jsonl").exists());
    at(dir, &format!("{cut} --words one,ONE --out none.jsonl")).expect(2);

    // Another alignment's words, and lines that are none, are named.
    fs::write(
        dir.join("other.ctm"),
        "valid-000000 1 0.1 0.2 one\nstranger 1 0 1 one\n",
    )
    .unwrap();
    let other = "corpus cut --align other.ctm --manifest made/valid.jsonl --out other.jsonl";
    let told = at(dir, &format!("{other} --max-bad 0")).expect(78).stderr;
    assert!(
        told.contains("other.ctm:2: the manifest has no utterance stranger"),
        "{told}"
    );
    at(dir, &format!("{other} --max-bad 1")).expect(0);
    fs::write(dir.join("other.ctm"), "valid-000000 1 soon 0.2 one\n").unwrap();
    let told = at(dir, other).expect(78).stderr;
    assert!(told.contains("other.ctm:1: the start soon"), "{told}");

    // What does not fit is left out by name.
    let manifest = fs::read_to_string(dir.join("made/valid.jsonl")).unwrap();
    let mut lines: Vec<Value> = manifest
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[0]["text"] = "one ".repeat(200).trim().into();
    lines[1]["text"] = "one € two".into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("made/misfits.jsonl"), text).unwrap();
    let misfits = "align --model run/final --manifest made/misfits.jsonl --device cpu --out m.ctm";
    let told = at(dir, misfits).expect(0).stderr;
    assert!(
        told.contains("utterance valid-000001 is left out"),
        "{told}"
    );
    let ended = at(dir, &format!("{misfits} --max-bad 2")).expect(0);
    assert!(
        ended
            .stderr
            .contains("utterance valid-000000 is left out: its transcript needs"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains(
            "2 of 8 utterances were left out (1 too short for the transcript, 1 with characters"
        ),
        "{ended:?}"
    );
    let marked = fs::read_to_string(dir.join("m.ctm")).unwrap();
    assert_eq!(recordings(&marked).len(), 6);
    at(dir, &format!("{misfits} --max-bad 1")).expect(78);
}

#[test]
fn a_keyword_model_has_no_alignment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    at(
        dir,
        "train tiny.toml --workers 1 --device cpu --out run --set train.epochs=1",
    )
    .expect(0);
    at(
        dir,
        "corpus synthesize --out made --train 2 --valid 2 --speakers 1 --valid-speakers 1",
    )
    .expect(0);
    let told = at(dir, "align --model run/final --manifest made/valid.jsonl")
        .expect(78)
        .stderr;
    assert!(told.contains("has no alignment"), "{told}");
}
