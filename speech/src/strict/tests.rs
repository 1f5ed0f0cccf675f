//! What a typo, a wrong type and a bad `--set` are told.

use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    name: String,
    #[serde(default)]
    corpus: Corpus,
    train: Train,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Corpus {
    train: String,
    valid: String,
    synthetic: Option<Synthetic>,
    speeds: Vec<f64>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Synthetic {
    speakers: usize,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    epochs: usize,
    #[serde(default)]
    clip: Clip,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Clip {
    #[default]
    None,
    GlobalNorm,
}

const JOB: &str = "name = \"a\"\n\n[corpus]\ntrain = \"t.jsonl\"\n\n[train]\nepochs = 3\n";

fn read(text: &str) -> Result<Job, StrictError> {
    parse(text, Path::new("job.toml"))
}

fn message(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn with(overrides: &[&str]) -> Result<Job, StrictError> {
    let overrides: Vec<String> = overrides
        .iter()
        .map(|&argument| argument.to_owned())
        .collect();
    parse_with(JOB, Path::new("job.toml"), &overrides)
}

#[test]
fn an_unknown_key_is_named_with_its_line_its_section_and_its_neighbour() {
    let text = JOB.replace("epochs", "epoch");
    assert_eq!(
        message(&text),
        "job.toml:7: unknown key `epoch` in [train]; did you mean `epochs`? (known: epochs, clip)"
    );
    let text = format!("nmae = 1\n{JOB}");
    assert_eq!(
        message(&text),
        "job.toml:1: unknown key `nmae` in the top of the file; did you mean `name`? (known: name, corpus, train)"
    );
    assert_eq!(
        message(&JOB.replace("[train]", "[training]")),
        "job.toml:6: unknown key `training` in the top of the file; did you mean `train`? (known: name, corpus, train)"
    );
}

#[test]
fn a_key_unlike_any_other_gets_the_list_alone() {
    let error = read(&JOB.replace("epochs", "zzz")).unwrap_err();
    assert!(
        matches!(&error, StrictError::UnknownKey { known, .. } if known.nearest.is_none() && known.names.len() == 2)
    );
    assert!(
        error
            .to_string()
            .ends_with("in [train]; known: epochs, clip"),
        "{error}"
    );
}

#[test]
fn sections_inside_a_line_are_named_too() {
    let text = JOB.replace("train = \"t.jsonl\"", "synthetic = { speaker = 4 }");
    assert_eq!(
        message(&text),
        "job.toml:4: unknown key `speaker` in [corpus.synthetic]; did you mean `speakers`? (known: speakers)"
    );
}

#[test]
fn a_wrong_type_says_which_key_and_what_was_expected() {
    assert_eq!(
        message(&JOB.replace("= 3", "= \"many\"")),
        "job.toml:7: `train.epochs`: invalid type: string \"many\", expected usize"
    );
    assert_eq!(
        message(&JOB.replace("= 3", "= -3")),
        "job.toml:7: `train.epochs`: invalid value: integer `-3`, expected usize"
    );
    assert_eq!(
        message(&JOB.replace("train = \"t.jsonl\"", "speeds = [\n  1.0,\n  \"fast\",\n]")),
        "job.toml:6: `corpus.speeds.1`: invalid type: string \"fast\", expected f64"
    );
    assert!(
        message("name = 1\ntrain = 4\n")
            .starts_with("job.toml:1: `name`: invalid type: integer `1`")
    );
    assert!(
        message("name = \"\"\ntrain = 4\n")
            .starts_with("job.toml:2: `train`: invalid type: integer `4`")
    );
}

#[test]
fn a_value_that_is_none_of_a_few_is_named_with_its_neighbour() {
    assert_eq!(
        message(&format!("{JOB}clip = \"global_norm\"\n")),
        "job.toml:8: `train.clip` cannot be `global_norm`; did you mean `global-norm`? (known: none, global-norm)"
    );
}

#[test]
fn a_missing_key_names_its_section() {
    assert_eq!(
        message(&JOB.replace("epochs = 3", "")),
        "job.toml:6: [train] lacks the key `epochs`"
    );
    let error = message(&JOB.replace("name", "# name"));
    assert!(
        error.ends_with("the top of the file lacks the key `name`"),
        "{error}"
    );
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    assert!(message(&JOB.replace("= 3", "= = 3")).starts_with("job.toml:7: this is not TOML: "));
    assert!(
        message("name = \"a\"\nname = \"b\"\n")
            .starts_with("job.toml:2: this is not TOML: duplicate key")
    );
}

#[test]
fn overrides_are_values_of_toml_or_else_strings() {
    let job = with(&[
        "train.epochs=9",
        "name=two words",
        "corpus.train=2026-01-02",
        "corpus.synthetic.speakers = 4",
    ])
    .unwrap();
    assert_eq!(
        (
            job.train.epochs,
            job.name.as_str(),
            job.corpus.train.as_str()
        ),
        (9, "two words", "2026-01-02")
    );
    assert_eq!(job.corpus.synthetic, Some(Synthetic { speakers: 4 }));
    let job = with(&[
        "corpus.train=",
        "name=\"3\"",
        "train.epochs=1",
        "train.epochs=2",
        "corpus.speeds=[0.9, 1.1]",
    ])
    .unwrap();
    assert_eq!(
        (
            job.train.epochs,
            job.name.as_str(),
            job.corpus.train.as_str()
        ),
        (2, "3", "")
    );
    assert_eq!(job.corpus.speeds, [0.9, 1.1]);
    assert_eq!(
        with(&["corpus.valid=\"\"", "corpus.train=a=b.jsonl"])
            .unwrap()
            .corpus
            .train,
        "a=b.jsonl"
    );
    assert_eq!(with(&["corpus.train=a\nname = \"b\""]).unwrap().name, "a");
}

#[test]
fn an_override_that_says_nothing_is_explained() {
    let problem = |argument: &str| with(&[argument]).unwrap_err().to_string();
    assert_eq!(
        problem("train.epochs"),
        "`--set train.epochs`: a value is missing; write it as section.key=value"
    );
    assert_eq!(
        problem("train.=3"),
        "`--set train.=3`: a part of the key is empty; write it as section.key=value"
    );
    assert_eq!(
        problem("tr ain.x=3"),
        "`--set tr ain.x=3`: `tr ain` is not a key; write it as section.key=value"
    );
    assert_eq!(
        problem("name.x=3"),
        "`--set name.x=3`: `name` is a value (string) and has no keys below it"
    );
    assert_eq!(
        problem("train=3"),
        "`--set train=3`: `train` is a section; set one of its keys"
    );
}

#[test]
fn an_error_that_an_override_made_names_it_and_others_their_line() {
    let problem = |overrides: &[&str]| with(overrides).unwrap_err().to_string();
    assert_eq!(
        problem(&["name=b", "train.epoch=3"]),
        "--set train.epoch=3: unknown key `epoch` in [train]; did you mean `epochs`? (known: epochs, clip)"
    );
    assert_eq!(
        problem(&["train.epochs=1", "train.epochs=few"]),
        "--set train.epochs=few: `train.epochs`: invalid type: string \"few\", expected usize"
    );
    assert_eq!(
        problem(&["trains.epochs=1"]),
        "--set trains.epochs=1: unknown key `trains` in the top of the file; did you mean `train`? (known: name, corpus, train)"
    );
    let text = JOB.replace("= 3", "= \"many\"");
    let error =
        parse_with::<Job>(&text, Path::new("job.toml"), &["name=b".to_owned()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "job.toml:7: `train.epochs`: invalid type: string \"many\", expected usize"
    );
}
