//! The reference of a job's keys, taken from the job's own types: for each key its type, bounds, default, an
//! example and its meaning. `docs/job-reference.md` and `unisono explain` are made of it. It decides how they are
//! written, and holds no text of its own about a key: meanings are the doc comments of the types.

use std::{collections::BTreeMap, fmt::Write as _};

use schemars::{Schema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value};
use speech::decode::{DecodeConfig, WordSource};

use super::{Job, unused_keys::unused};
use crate::trainer::{clip::ClipPolicy, optimizer::OptimizerKind};

/// A table of a job's file. The keys outside of all tables are a section without a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The table's name, such as `model.conv`; empty for the keys before the first table.
    pub name: String,
    /// The meaning of the section.
    pub meaning: String,
    /// The keys in alphabetical order.
    pub keys: Vec<Key>,
}

/// A key of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The key without its section.
    pub name: String,
    /// The type of its value: `integer`, `list of numbers`, `word` (one of [`Key::choices`]).
    pub kind: String,
    /// The bounds of the value, or of each element of a list; empty where there are none.
    pub bounds: String,
    /// The default as TOML, or `None` where the key has no value when it is left out.
    pub default: Option<String>,
    /// A value as TOML that differs from the default.
    pub example: String,
    /// The meaning of the key.
    pub meaning: String,
    /// The words that the value may be, each with its meaning.
    pub choices: Vec<(String, String)>,
    /// The choice of another key without which this one has no effect and is refused.
    pub only_with: Option<&'static str>,
}

/// The JSON schema of a job (draft 2020-12), as editors use it to complete and check keys in TOML.
pub fn schema() -> Schema {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Job>()
}

/// Every section of a job with its keys, as [`schema`] has them.
pub fn sections() -> Vec<Section> {
    let schema = schema();
    let empty = Map::new();
    let root = schema.as_object().unwrap_or(&empty);
    let mut found = Vec::new();
    collect("", root, &belongings(), &mut found);
    found
}

/// All of `docs/job-reference.md`.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for section in sections() {
        let title = match section.name.as_str() {
            "" => "Top level".to_owned(),
            name => format!("`[{name}]`"),
        };
        let _ = write!(page, "\n## {title}\n\n");
        if !section.name.is_empty() {
            let _ = write!(page, "{}\n\n", section.meaning);
        }
        page.push_str("| key | type | default | example | meaning |\n|---|---|---|---|---|\n");
        for key in &section.keys {
            let default = key.default.as_ref().map(|value| format!("`{value}`"));
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | `{}` | {} |",
                key.name,
                key.type_and_bounds(),
                default.unwrap_or_else(|| "none".to_owned()),
                key.example,
                key.full_meaning("<br>"),
            );
        }
    }
    page
}

const HEAD: &str = "\
# Job reference

Every key of a job file: type and bounds, default, an example, and meaning. This page is generated from the types that
read the file ([`coordinator/src/job.rs`](../coordinator/src/job.rs)); `unisono explain KEY` prints the same in a
terminal, and `unisono explain --schema` a JSON schema for editors. A test fails when the page is out of date;
`BLESS_DOCS=1 cargo test --release -p coordinator --test documents` writes it anew.

An unknown key is an error that names the nearest known one, and so is a key that the job's other choices leave without
effect (`clip.max_value` beside `policy = \"global-norm\"`). Any key can be changed on the command line:
`--set train.epochs=5`. Relative paths in a job file lie beside it, those of `--set` in the working directory.
[`examples/`](../examples/README.md) has jobs that run as they are.
";

impl Key {
    /// `integer, 1 to 16`.
    pub fn type_and_bounds(&self) -> String {
        match self.bounds.as_str() {
            "" => self.kind.clone(),
            bounds => format!("{}, {bounds}", self.kind),
        }
    }

    /// The meaning, then each choice and what the key needs, with `between` before each.
    pub fn full_meaning(&self, between: &str) -> String {
        let mut text = self.meaning.clone();
        for (choice, meaning) in &self.choices {
            let _ = match meaning.as_str() {
                "" => write!(text, "{between}`\"{choice}\"`"),
                meaning => write!(text, "{between}`\"{choice}\"`: {meaning}"),
            };
        }
        if let Some(choice) = self.only_with {
            let _ = write!(text, "{between}Only with {choice}.");
        }
        text
    }
}

/// For `section.key` the choice that the key belongs to. Found by asking the rule itself about jobs that choose
/// otherwise.
fn belongings() -> BTreeMap<String, &'static str> {
    let job = |change: fn(&mut Job)| {
        let mut job = Job::default();
        change(&mut job);
        job
    };
    let jobs = [
        job(|_| {}),
        job(|job| job.optimizer.kind = OptimizerKind::Sgd),
        job(|job| job.clip.policy = ClipPolicy::None),
        job(|job| {
            job.decode = Some(DecodeConfig {
                language_model: WordSource::None,
                ..DecodeConfig::default()
            });
        }),
    ];
    let all = jobs.iter().flat_map(unused);
    all.map(|unused| {
        (
            format!("{}.{}", unused.section, unused.key),
            unused.belongs_to,
        )
    })
    .collect()
}

fn collect(
    name: &str,
    schema: &Map<String, Value>,
    belongings: &BTreeMap<String, &'static str>,
    found: &mut Vec<Section>,
) {
    let place = found.len();
    found.push(Section {
        name: name.to_owned(),
        meaning: headline(schema),
        keys: Vec::new(),
    });
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, schema) in properties.into_iter().flatten() {
        let path = match name {
            "" => key.clone(),
            section => format!("{section}.{key}"),
        };
        let Some(field) = schema.as_object() else {
            continue;
        };
        let value = without_null(field);
        if value.contains_key("properties") {
            collect(&path, value, belongings, found);
            continue;
        }
        let choices = choices(value);
        let kind = kind(value);
        let default = field.get("default").filter(|value| !value.is_null());
        found[place].keys.push(Key {
            name: key.clone(),
            bounds: bounds(
                value
                    .get("items")
                    .and_then(Value::as_object)
                    .unwrap_or(value),
            ),
            default: default.map(ToString::to_string),
            example: example(field, &kind, default, &choices),
            meaning: text(field),
            kind,
            choices,
            only_with: belongings.get(&path).copied(),
        });
    }
}

/// The doc comment of a section without its first words, which say that it is one.
fn headline(schema: &Map<String, Value>) -> String {
    let text = text(schema);
    let rest = text
        .strip_prefix("The `[")
        .and_then(|rest| rest.split_once(": "));
    let rest = rest.map_or(text.as_str(), |(_, rest)| rest);
    let mut characters = rest.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

/// A doc comment as a paragraph.
fn text(schema: &Map<String, Value>) -> String {
    let text = schema
        .get("description")
        .or_else(|| without_null(schema).get("description"));
    let text = text.and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The schema of an optional value without the `null`.
fn without_null(schema: &Map<String, Value>) -> &Map<String, Value> {
    let any = schema.get("anyOf").and_then(Value::as_array);
    let mut any = any.into_iter().flatten().filter_map(Value::as_object);
    any.find(|one| one.get("type").and_then(Value::as_str) != Some("null"))
        .unwrap_or(schema)
}

fn types(schema: &Map<String, Value>) -> Vec<&str> {
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    types.into_iter().filter(|&one| one != "null").collect()
}

fn kind(schema: &Map<String, Value>) -> String {
    if !choices(schema).is_empty() && !schema.contains_key("items") {
        return "word".to_owned();
    }
    match types(schema).as_slice() {
        ["array"] => {
            let items = schema.get("items").and_then(Value::as_object);
            let each = items.map_or_else(String::new, kind);
            match schema.get("minItems") {
                Some(count) => format!("list of {count} {each}s"),
                None => format!("list of {each}s"),
            }
        }
        [one] => (*one).to_owned(),
        several => several.join(" or "),
    }
}

/// The words that a value, or each element of a list, may be.
fn choices(schema: &Map<String, Value>) -> Vec<(String, String)> {
    let schema = schema
        .get("items")
        .and_then(Value::as_object)
        .unwrap_or(schema);
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let mut found = Vec::new();
    if let Some(plain) = schema.get("enum").and_then(Value::as_array) {
        found.extend(
            plain
                .iter()
                .filter_map(word)
                .map(|word| (word, String::new())),
        );
    }
    let one_of = schema.get("oneOf").and_then(Value::as_array);
    for one in one_of.into_iter().flatten().filter_map(Value::as_object) {
        if let Some(word) = one.get("const").and_then(word) {
            found.push((word, text(one)));
        } else {
            found.extend(choices(one));
        }
    }
    found
}

fn bounds(schema: &Map<String, Value>) -> String {
    let bound = |key| schema.get(key).and_then(Value::as_f64);
    let least = bound("minimum").map(|bound| format!("≥ {bound}"));
    let least = bound("exclusiveMinimum")
        .map(|bound| format!("> {bound}"))
        .or(least);
    match (bound("minimum"), bound("maximum"), least) {
        (Some(least), Some(most), _) => format!("{least} to {most}"),
        (None, Some(most), Some(least)) => format!("{least}, ≤ {most}"),
        (None, Some(most), None) => format!("≤ {most}"),
        (_, None, least) => {
            let most = bound("exclusiveMaximum").map(|bound| format!("< {bound}"));
            let both: Vec<String> = least.into_iter().chain(most).collect();
            both.join(", ")
        }
    }
}

/// The schema's own example, or else another value than the default.
fn example(
    schema: &Map<String, Value>,
    kind: &str,
    default: Option<&Value>,
    choices: &[(String, String)],
) -> String {
    let given = schema.get("examples").and_then(Value::as_array);
    if let Some(given) = given.and_then(|examples| examples.first()) {
        return given.to_string();
    }
    if kind == "boolean" {
        return (default != Some(&Value::Bool(true))).to_string();
    }
    let other = choices
        .iter()
        .map(|(choice, _)| Value::from(choice.as_str()));
    let mut other = other.filter(|choice| Some(choice) != default);
    other
        .next()
        .map_or_else(String::new, |choice| choice.to_string())
}
