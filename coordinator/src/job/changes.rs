//! What may differ between the job that a run was begun with and the one that it goes on with. It decides
//! for every key whether a change of it reaches the weights, only makes the run longer or shorter, ends the
//! promise of equal bits, or cannot be made in a run at all. It opens no file: whether data are the same is
//! found out by their digests when the run is prepared.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use super::Job;
use crate::{schedule::ScheduleKind, trainer::optimizer::OptimizerConfig};

/// A key whose value differs. Absent values stand for keys that are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The key with its section: `section.key`.
    pub key: String,
    /// The value before, as TOML, cut off where it is long; absent where the key was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value from now on, as TOML, cut off where it is long; absent where the key is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// What follows from a change for a run that goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No bit of the weights: how often checkpoints are written, how much is borne before the run fails.
    None,
    /// It names data, which are compared by their contents once they are read.
    Data,
    /// More or fewer epochs whose steps so far are the same.
    Length,
    /// The steps from here on are others: no undisturbed run gives the same bits.
    Steps(&'static str),
    /// What the run has computed so far cannot be used with it.
    Impossible(&'static str),
}

/// Why a run does not go on with a changed job.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ChangeError {
    #[error(
        "{} cannot change in a run that goes on: {why}; give the job as it was, or begin a new run (`--init-from RUN/final` begins it with a model's weights)",
        listed(changes)
    )]
    Impossible {
        changes: Vec<Change>,
        why: &'static str,
    },
    #[error(
        "{} differs from the job that the run was begun with, and {why}; give the job as it was, or go on all the same with `--allow-change`, after which the report says `bit_identity: false`, or begin a new run",
        listed(changes)
    )]
    NotAllowed {
        changes: Vec<Change>,
        why: &'static str,
    },
}

/// Bytes of a value that are shown.
const MAX_SHOWN_BYTES: usize = 120;
/// Changes that a message names.
const MAX_NAMED_CHANGES: usize = 5;

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.now, &self.before) {
            (Some(now), Some(before)) => write!(f, "{} = {now} (before: {before})", self.key),
            (Some(now), None) => write!(f, "{} = {now} (before: left out)", self.key),
            (None, Some(before)) => write!(f, "{} left out (before: {before})", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// Changes as a list for a sentence.
pub fn listed(changes: &[Change]) -> String {
    let named = changes.iter().take(MAX_NAMED_CHANGES);
    let mut named: Vec<String> = named.map(ToString::to_string).collect();
    if changes.len() > MAX_NAMED_CHANGES {
        named.push(format!("{} more", changes.len() - MAX_NAMED_CHANGES));
    }
    named.join(", ")
}

/// The keys that differ between two jobs, each with what follows, in the order of their names.
pub fn changes(before: &Job, now: &Job) -> Vec<(Change, Effect)> {
    let (old, new) = (flat(before), flat(now));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let differ = keys
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key));
    differ
        .map(|key| {
            let change = Change {
                key: key.clone(),
                before: old.get(key).map(shown),
                now: new.get(key).map(shown),
            };
            (change, effect(key, before, now))
        })
        .collect()
}

/// Whether a run may go on with these changes; those that end the promise of equal bits need `allowed`.
///
/// # Errors
/// The changes that stand in the way.
pub fn check(changes: &[(Change, Effect)], allowed: bool) -> Result<(), ChangeError> {
    let of = |wanted: fn(Effect) -> Option<&'static str>| {
        let found = changes.iter();
        let found = found.filter_map(|(change, effect)| Some((change.clone(), wanted(*effect)?)));
        let (changes, reasons): (Vec<Change>, Vec<&'static str>) = found.unzip();
        Some((changes, *reasons.first()?))
    };
    let impossible = of(|effect| match effect {
        Effect::Impossible(why) => Some(why),
        _ => None,
    });
    if let Some((changes, why)) = impossible {
        return Err(ChangeError::Impossible { changes, why });
    }
    let other = of(|effect| match effect {
        Effect::Steps(why) => Some(why),
        _ => None,
    });
    match other {
        Some((changes, why)) if !allowed => Err(ChangeError::NotAllowed { changes, why }),
        _ => Ok(()),
    }
}

/// Whether a run that has reached its end has more to do with these changes.
pub fn prolong(before: &Job, now: &Job) -> bool {
    now.train.epochs > before.train.epochs || now.select.patience != before.select.patience
}

impl Effect {
    /// Whether an undisturbed run of the changed job would give other bits.
    pub const fn ends_promise(self) -> bool {
        matches!(self, Self::Steps(_) | Self::Impossible(_))
    }

    /// Whether a run of the job before the change is a run of the job after it.
    pub const fn is_same_job(self) -> bool {
        matches!(self, Self::None | Self::Data)
    }
}

fn effect(key: &str, before: &Job, now: &Job) -> Effect {
    const OTHER_STEPS: &str = "the steps from here on would be others";
    const OTHER_INPUTS: &str = "the weights so far are those of other inputs or outputs";
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    match (section, rest) {
        ("name" | "decode", _) => Effect::None,
        ("compute_class", _) => Effect::Steps("other machines give other bits"),
        ("corpus", rest) if rest.starts_with("synthetic") => {
            Effect::Impossible("it makes other speech to train on")
        }
        ("corpus", _) | ("train", "init") => Effect::Data,
        ("train", "checkpoint_every" | "keep_checkpoints" | "max_quarantined" | "audit") => {
            Effect::None
        }
        ("train", "epochs") => match now.schedule.kind {
            ScheduleKind::Cosine => Effect::Steps(
                "`schedule.kind = \"cosine\"` spans all epochs, so that another number of them is another learning rate in every step, those already made included",
            ),
            _ => Effect::Length,
        },
        ("train", "batch") => Effect::Impossible("steps are counted in batches of this size"),
        ("train", "ema") if before.train.ema.is_none() => {
            Effect::Impossible("a moving average has to be kept from the first step on")
        }
        ("optimizer", _) if vectors(&before.optimizer) != vectors(&now.optimizer) => {
            Effect::Impossible("the optimizer's state so far is another optimizer's")
        }
        ("select", "by") => Effect::Impossible("the epochs so far were compared by another figure"),
        ("model", "dropout") => Effect::Steps(OTHER_STEPS),
        ("features" | "text" | "model", _) => Effect::Impossible(OTHER_INPUTS),
        ("select", _) => {
            Effect::Steps("the epochs that the final model is made of would be others")
        }
        _ => Effect::Steps(OTHER_STEPS),
    }
}

fn vectors(config: &OptimizerConfig) -> &'static [&'static str] {
    config.vectors()
}

/// Every key of a job with its value. A job is always a table of TOML; one that is none has no keys.
fn flat(job: &Job) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    if let Ok(Value::Table(table)) = Value::try_from(job) {
        flatten("", table, &mut found);
    }
    found
}

fn flatten(prefix: &str, table: Table, found: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let path = match prefix {
            "" => key,
            prefix => format!("{prefix}.{key}"),
        };
        match value {
            Value::Table(inner) => flatten(&path, inner, found),
            value => {
                found.insert(path, value);
            }
        }
    }
}

/// A value for people: control characters of a string are escaped as TOML does.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN_BYTES) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn job(sets: &[&str]) -> Job {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let text = "name = \"a\"\n[corpus]\ntrain = \"/x/train.jsonl\"\nvalid = \"/x/valid.jsonl\"";
        Job::parse(text, Path::new("job.toml"), &sets).unwrap()
    }

    fn effects(before: &[&str], now: &[&str]) -> Vec<(String, Effect)> {
        let found = changes(&job(before), &job(now));
        found
            .into_iter()
            .map(|(change, effect)| (change.key, effect))
            .collect()
    }

    #[test]
    fn what_reaches_no_bit_may_change() {
        for set in [
            "name=\"b\"",
            "train.checkpoint_every=7",
            "train.keep_checkpoints=9",
            "train.max_quarantined=99",
            "train.audit=0.5",
            "corpus.train=\"/y/train.jsonl\"",
        ] {
            let found = changes(&job(&[]), &job(&[set]));
            assert_eq!(found.len(), 1, "{set}");
            assert!(found[0].1.is_same_job(), "{set}: {found:?}");
            check(&found, false).unwrap();
        }
        assert_eq!(changes(&job(&[]), &job(&[])), []);
    }

    #[test]
    fn epochs_may_change_where_the_schedule_does_not_span_them() {
        for kind in ["constant", "step", "exponential", "plateau"] {
            let kind = format!("schedule.kind=\"{kind}\"");
            let found = effects(&[&kind], &[&kind, "train.epochs=12"]);
            assert_eq!(found, [("train.epochs".to_owned(), Effect::Length)]);
        }
        let cosine = "schedule.kind=\"cosine\"";
        let found = changes(&job(&[cosine]), &job(&[cosine, "train.epochs=12"]));
        let error = check(&found, false).unwrap_err().to_string();
        assert!(error.contains("train.epochs = 12 (before: 10)"), "{error}");
        assert!(
            error.contains("cosine") && error.contains("--allow-change"),
            "{error}"
        );
        check(&found, true).unwrap();
        assert!(found[0].1.ends_promise());
    }

    #[test]
    fn other_steps_need_permission_and_other_inputs_are_refused() {
        for set in [
            "optimizer.learning_rate=0.5",
            "optimizer.weight_decay=0.5",
            "optimizer.kind=\"adamw\"",
            "schedule.warmup_steps=3",
            "clip.max_norm=0.5",
            "train.micro_batch=2",
            "train.wire=\"bf16\"",
            "train.seed=2",
            "augment.freq_masks=1",
            "compute_class=\"any\"",
            "model.dropout=0.1",
            "select.patience=3",
        ] {
            let found = changes(&job(&[]), &job(&[set]));
            let error = check(&found, false).unwrap_err();
            assert!(
                matches!(error, ChangeError::NotAllowed { .. }),
                "{set}: {error}"
            );
            check(&found, true).unwrap();
            assert!(found.iter().any(|(_, effect)| effect.ends_promise()));
        }
        for set in [
            "model.hidden=7",
            "features.mel_bins=20",
            "text.case=\"upper\"",
            "train.batch=7",
            "train.ema=0.9",
            "optimizer.kind=\"sgd\"",
            "select.by=\"loss\"",
        ] {
            let best = "select.keep=\"best\"";
            let found = changes(&job(&[best]), &job(&[best, set]));
            for allowed in [false, true] {
                let error = check(&found, allowed).unwrap_err();
                assert!(
                    matches!(error, ChangeError::Impossible { .. }),
                    "{set}: {error}"
                );
            }
        }
    }

    #[test]
    fn long_values_and_long_lists_are_cut_off() {
        let long = format!("corpus.train=\"/{}\"", "é".repeat(500));
        let found = changes(&job(&[]), &job(&[&long]));
        assert!(found[0].0.now.as_ref().unwrap().chars().count() <= MAX_SHOWN_BYTES + 1);
        let many: Vec<Change> = (0..20).map(|_| found[0].0.clone()).collect();
        assert!(listed(&many).ends_with("15 more"));
    }
}
