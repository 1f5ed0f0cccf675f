//! `docs/job-reference.md` and the tables of `docs/file-formats.md` are what the types say, and what they say of a
//! job's keys is true. `BLESS_DOCS=1` writes the pages anew.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use coordinator::{
    job::{Job, reference},
    records::{
        audit_log::AuditRecord,
        events::{Event, StepMetrics},
        report::Report,
    },
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Compares a page with what it should be, or writes it.
fn check(name: &str, expected: &str) {
    let path = page(name);
    if std::env::var_os("BLESS_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found
        .lines()
        .zip(expected.lines())
        .find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/{name} is out of date at {differs:?}: run this test with BLESS_DOCS=1"
    );
}

#[test]
fn the_job_reference_is_up_to_date() {
    check("job-reference.md", &reference::markdown());
}

#[test]
fn every_key_has_a_meaning_and_an_example() {
    let sections = reference::sections();
    let keys: usize = sections.iter().map(|section| section.keys.len()).sum();
    assert!(keys > 100, "{keys} keys");
    for section in &sections {
        assert!(!section.meaning.is_empty(), "[{}]", section.name);
        for key in &section.keys {
            let path = format!("{}.{}", section.name, key.name);
            assert!(!key.meaning.is_empty(), "{path} has no meaning");
            assert!(!key.kind.is_empty(), "{path} has no type");
            assert!(!key.example.is_empty(), "{path} has no example");
            assert_ne!(Some(&key.example), key.default.as_ref(), "{path}");
            let silent = key.choices.iter().find(|(_, meaning)| meaning.is_empty());
            assert_eq!(silent, None, "a choice of {path} has no meaning");
        }
    }
}

/// Choices beside which every key of a job has an effect, one set or another.
const CHOICES: [&[&str]; 24] = [
    &[],
    &["model.head=ctc"],
    &["model.head=ctc", "text.units=bytepair"],
    &["model.head=ctc", "text.size=256"],
    &[
        "model.head=ctc",
        "decode.language_model=train",
        "decode.hot_words=[\"A\"]",
    ],
    &["model.kind=cnn", "model.pooling=mean"],
    &["model.kind=dnn", "model.pooling=mean"],
    &["model.kind=gru", "model.dense=[8]"],
    &["optimizer.kind=sgd"],
    &["optimizer.kind=sgd", "optimizer.momentum=0.9"],
    &["schedule.kind=step"],
    &["schedule.kind=cosine"],
    &["schedule.kind=plateau"],
    &["clip.policy=value"],
    &["clip.policy=norm"],
    &["clip.threshold=percentile"],
    &["clip.threshold=median"],
    &["clip.threshold=z-score"],
    &["clip.threshold=moving-average"],
    &["clip.threshold=weight-ratio"],
    &["features.kind=mfcc"],
    &[
        "augment.freq_masks=1",
        "augment.time_masks=1",
        "augment.noise=0.5",
        "augment.reverb=0.5",
    ],
    &["select.keep=best"],
    &["select.keep=best", "model.head=ctc"],
];

const MANIFESTS: &str = "[corpus]\ntrain = \"train.jsonl\"\nvalid = \"valid.jsonl\"\n";

/// Whether a job with `set` is read beside one of the choices, or else what was said against it.
fn parse(set: &str) -> Result<(), BTreeSet<String>> {
    let synthetic = "[corpus.synthetic]\ntask = \"digits\"\n";
    let mut errors = BTreeSet::new();
    for choices in CHOICES {
        for corpus in [MANIFESTS, synthetic] {
            let sets = choices.iter().copied().chain([set]).map(str::to_owned);
            let sets: Vec<String> = sets.collect();
            let path = Path::new("job.toml");
            let job = Job::parse(corpus, path, &sets);
            match job.and_then(|job| job.check_written(corpus, path, &sets)) {
                Ok(()) => return Ok(()),
                Err(error) => errors.insert(error.to_string()),
            };
        }
    }
    Err(errors)
}

#[test]
fn every_example_is_a_value_that_the_key_may_have() {
    for section in reference::sections() {
        for key in section.keys {
            let table = if section.name.is_empty() {
                String::new()
            } else {
                format!("{}.", section.name)
            };
            let set = format!("{table}{}={}", key.name, key.example);
            assert_eq!(parse(&set), Ok(()), "{set}");
        }
    }
}

/// Values beside the bounds of a key, as TOML.
fn beyond(bounds: &str, is_integer: bool) -> Vec<String> {
    let number = |text: &str| text.parse::<f64>().unwrap();
    let written = |value: f64| {
        if is_integer {
            format!("{value}")
        } else {
            format!("{value:?}")
        }
    };
    let step = |bound: f64| {
        if is_integer {
            1.0
        } else {
            (bound.abs() * 1e-3).max(1e-3)
        }
    };
    let below = |bound: f64| written(bound - step(bound));
    let above = |bound: f64| written(bound + step(bound));
    if let Some((least, most)) = bounds.split_once(" to ") {
        return vec![below(number(least)), above(number(most))];
    }
    let mut found = Vec::new();
    for part in bounds.split(", ") {
        let (sign, bound) = part.split_once(' ').unwrap();
        found.push(match sign {
            "≥" => below(number(bound)),
            "≤" => above(number(bound)),
            "<" | ">" => written(number(bound)),
            other => panic!("{other}"),
        });
    }
    found
}

#[test]
fn values_beyond_the_bounds_are_refused() {
    let mut tried = 0;
    for section in reference::sections() {
        for key in section.keys.iter().filter(|key| !key.bounds.is_empty()) {
            let is_integer = key.kind.contains("integer");
            for value in beyond(&key.bounds, is_integer) {
                let value = match key.kind.as_str() {
                    list if list.starts_with("list of 2") => format!("[{value}, {value}]"),
                    list if list.starts_with("list") => format!("[{value}]"),
                    _ => value,
                };
                let set = format!("{}.{}={value}", section.name, key.name);
                let Err(errors) = parse(&set) else {
                    panic!("{set} was accepted, and its bounds are {}", key.bounds);
                };
                assert!(
                    errors.iter().any(|error| error.contains(&key.name)),
                    "{set}: {errors:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried} values");
}

/// Tables of the fields of a file, each type that occurs in it after the first.
struct Tables {
    text: String,
    /// Types whose tables stand in the page already.
    written: BTreeSet<String>,
}

impl Tables {
    fn of<T: JsonSchema>(&mut self) -> String {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let schema = settings.into_generator().into_root_schema_for::<T>();
        let schema = schema.as_object().unwrap();
        self.text = String::new();
        if schema.contains_key("properties") {
            self.fields(schema);
        } else {
            self.events(schema);
        }
        let types = schema.get("$defs").and_then(Value::as_object);
        for (name, schema) in types.into_iter().flatten() {
            let schema = schema.as_object().unwrap();
            if schema.contains_key("properties") && self.written.insert(name.clone()) {
                let _ = write!(self.text, "\n### {name}\n\n{}\n\n", described(schema));
                self.fields(schema);
            }
        }
        std::mem::take(&mut self.text)
    }

    fn fields(&mut self, schema: &Map<String, Value>) {
        self.text
            .push_str("| field | type | meaning |\n|---|---|---|\n");
        let required = schema.get("required").and_then(Value::as_array);
        for (name, field) in schema["properties"].as_object().unwrap() {
            let field = field.as_object().unwrap();
            let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
            let kind = kind(field);
            let kind = match is_required {
                true => kind,
                // What has no value is left out, and never `null`.
                false => format!("{}, may be absent", kind.trim_end_matches(" or null")),
            };
            let meaning = described(field);
            assert!(!meaning.is_empty(), "`{name}` has no meaning");
            let _ = writeln!(self.text, "| `{name}` | {kind} | {meaning} |");
        }
    }

    fn events(&mut self, schema: &Map<String, Value>) {
        self.text
            .push_str("| event | meaning | fields |\n|---|---|---|\n");
        for event in schema["oneOf"].as_array().unwrap() {
            let event = event.as_object().unwrap();
            let properties = event["properties"].as_object().unwrap();
            let name = properties["event"]["const"].as_str().unwrap();
            let mut fields = Vec::new();
            for (field, schema) in properties.iter().filter(|(field, _)| *field != "event") {
                let schema = schema.as_object().unwrap();
                let meaning = described(schema);
                assert!(!meaning.is_empty(), "`{field}` of {name} has no meaning");
                fields.push(format!("`{field}` ({}): {meaning}", kind(schema)));
            }
            let _ = writeln!(
                self.text,
                "| `{name}` | {} | {} |",
                described(event),
                fields.join("<br>")
            );
        }
    }
}

fn described(schema: &Map<String, Value>) -> String {
    let text = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(schema: &Map<String, Value>) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap();
        return match name {
            "JobState" | "Class" | "Set" | "Reason" => "word".to_owned(),
            name => format!("[{name}](#{})", name.to_lowercase()),
        };
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let one = any[0].as_object().unwrap();
        return kind(one);
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(|one| one.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    };
    match types.as_slice() {
        ["array"] => format!("list of {}", kind(schema["items"].as_object().unwrap())),
        types => types.join(" or "),
    }
}

#[test]
fn the_tables_of_file_formats_are_up_to_date() {
    let mut tables = Tables {
        text: String::new(),
        written: BTreeSet::new(),
    };
    let text = fs::read_to_string(page("file-formats.md")).unwrap();
    let mut expected = String::new();
    let mut rest = text.as_str();
    for (name, table) in [
        ("metrics", tables.of::<StepMetrics>()),
        ("events", tables.of::<Event>()),
        ("report", tables.of::<Report>()),
        ("audit", tables.of::<AuditRecord>()),
    ] {
        let (begin, end) = (
            format!("<!-- begin {name} -->\n"),
            format!("<!-- end {name} -->\n"),
        );
        let (before, after) = rest.split_once(&begin).unwrap();
        let (_, after) = after.split_once(&end).unwrap();
        let _ = write!(expected, "{before}{begin}{table}{end}");
        rest = after;
    }
    expected.push_str(rest);
    check("file-formats.md", &expected);
}
