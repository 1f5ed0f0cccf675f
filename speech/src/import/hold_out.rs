//! Which utterances are kept out of training. A rule is a function of an utterance alone, so that
//! the same corpus is always cut the same way, whatever else is in it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use super::{Imported, fsdd};
use crate::{
    error_class::{Class, Classify},
    manifest::Utterance,
};

/// Which utterances to hold out.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldOut {
    /// `index:5-9`, `index:0,3-4`: by the index in the id of an FSDD recording.
    Index(Vec<RangeInclusive<u32>>),
    /// `speaker:A,B`.
    Speaker(BTreeSet<String>),
    /// `fraction:0.1`: about this share, chosen by a hash of the id, or of the recording's where it has several
    /// utterances: segments of one recording are on the same side. Several fractions are disjoint.
    Fraction(f64),
    /// `id:PREFIX`: what starts so, such as AN4's own test part, `id:an4test_clstk/`.
    Id(String),
    /// `split:NAME`: the part of the corpus that its publisher calls so.
    Split(String),
}

/// What rules are about.
pub trait Cut {
    /// The utterance that the rules are about.
    fn utterance(&self) -> &Utterance;

    /// The part of the corpus that its publisher put it in.
    fn split(&self) -> Option<&str>;

    /// What a share of the corpus is chosen by: utterances for which it is the same stay together.
    fn unit(&self) -> &str {
        &self.utterance().id
    }
}

impl Cut for Utterance {
    fn utterance(&self) -> &Utterance {
        self
    }

    fn split(&self) -> Option<&str> {
        None
    }
}

impl Cut for Imported {
    fn utterance(&self) -> &Utterance {
        &self.utterance
    }

    fn split(&self) -> Option<&str> {
        self.split.as_deref()
    }

    fn unit(&self) -> &str {
        self.recording.as_deref().unwrap_or(&self.utterance.id)
    }
}

/// Why a corpus could not be cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum HoldOutError {
    #[error(
        "hold-out rule {rule:?}: {problem}; the rules are index:5-9, speaker:A,B, fraction:0.1, id:PREFIX and split:NAME"
    )]
    Rule { rule: String, problem: String },
    #[error("hold-out rule {rule:?}: the utterance {id:?} has no index; only FSDD's do")]
    NoIndex { rule: String, id: String },
    #[error("hold-out rule {rule:?}: no utterance is by {}; the speakers are {}", unknown.join(", "), known.join(", "))]
    UnknownSpeakers {
        rule: String,
        unknown: Vec<String>,
        known: Vec<String>,
    },
    #[error("hold-out rule {rule:?}: the corpus has no such split; its publisher made {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    UnknownSplit { rule: String, known: Vec<String> },
    #[error(
        "hold-out rule {rule:?} holds out nothing: no utterance matches it, or the rules before it took them all"
    )]
    Nothing { rule: String },
    #[error("the hold-out rules leave nothing to train on")]
    NothingLeft,
    #[error("the fractions of the hold-out rules add up to more than 1")]
    Fractions,
}

impl Classify for HoldOutError {
    fn class(&self) -> Class {
        match self {
            Self::Rule { .. } | Self::Fractions => Class::Usage,
            _ => Class::Data,
        }
    }
}

impl HoldOut {
    /// Reads a rule as it is typed.
    pub fn parse(rule: &str) -> Result<Self, HoldOutError> {
        let wrong = |problem: &str| HoldOutError::Rule {
            rule: rule.to_owned(),
            problem: problem.to_owned(),
        };
        let (kind, value) = rule
            .split_once(':')
            .ok_or_else(|| wrong("a rule is KIND:VALUE"))?;
        if value.is_empty() {
            return Err(wrong("nothing follows the colon"));
        }
        match kind {
            "index" => value
                .split(',')
                .map(range)
                .collect::<Option<_>>()
                .map(Self::Index)
                .ok_or_else(|| {
                    wrong("an index is a number, or two with a hyphen, the lower first")
                }),
            "speaker" => {
                let speakers: BTreeSet<String> = value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect();
                if speakers.contains("") {
                    Err(wrong("a speaker's name is empty"))
                } else {
                    Ok(Self::Speaker(speakers))
                }
            }
            "fraction" => match value.parse() {
                Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(Self::Fraction(fraction)),
                _ => Err(wrong("a fraction is a number between 0 and 1")),
            },
            "id" => Ok(Self::Id(value.to_owned())),
            "split" => Ok(Self::Split(value.to_owned())),
            _ => Err(wrong("its kind is unknown")),
        }
    }
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(ranges) => {
                let ranges: Vec<String> = ranges
                    .iter()
                    .map(|range| match (range.start(), range.end()) {
                        (first, last) if first == last => first.to_string(),
                        (first, last) => format!("{first}-{last}"),
                    })
                    .collect();
                write!(f, "index:{}", ranges.join(","))
            }
            Self::Speaker(speakers) => {
                write!(
                    f,
                    "speaker:{}",
                    speakers
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }
            Self::Fraction(fraction) => write!(f, "fraction:{fraction}"),
            Self::Id(prefix) => write!(f, "id:{prefix}"),
            Self::Split(name) => write!(f, "split:{name}"),
        }
    }
}

/// The utterances that no rule matches, and those of each rule; an utterance goes to the first rule
/// that matches it, and all keep their order.
pub fn split<T: Cut>(
    utterances: Vec<T>,
    rules: &[HoldOut],
) -> Result<(Vec<T>, Vec<Vec<T>>), HoldOutError> {
    let mut tests = Vec::with_capacity(rules.len());
    let mut below = 0.0;
    for rule in rules {
        tests.push(CheckedRule::new(rule, &mut below, &utterances)?);
    }
    let mut rest = Vec::new();
    let mut held: Vec<Vec<T>> = rules.iter().map(|_| Vec::new()).collect();
    for utterance in utterances {
        match tests.iter().position(|test| test.matches(&utterance)) {
            Some(rule) => held[rule].push(utterance),
            None => rest.push(utterance),
        }
    }
    if let Some((rule, _)) = rules.iter().zip(&held).find(|(_, held)| held.is_empty()) {
        return Err(HoldOutError::Nothing {
            rule: rule.to_string(),
        });
    }
    if rest.is_empty() {
        return Err(HoldOutError::NothingLeft);
    }
    Ok((rest, held))
}

/// A rule that was checked against the corpus.
enum CheckedRule<'a> {
    Index(&'a [RangeInclusive<u32>]),
    Speaker(&'a BTreeSet<String>),
    /// The share of the hash's range that is this rule's own.
    Share(f64, f64),
    Id(&'a str),
    Split(&'a str),
}

impl<'a> CheckedRule<'a> {
    /// `below` is the part of the hash's range that the fractions before this rule have taken.
    fn new<T: Cut>(
        rule: &'a HoldOut,
        below: &mut f64,
        utterances: &[T],
    ) -> Result<Self, HoldOutError> {
        match rule {
            HoldOut::Index(ranges) => match utterances
                .iter()
                .map(Cut::utterance)
                .find(|utterance| index(utterance).is_none())
            {
                Some(utterance) => Err(HoldOutError::NoIndex {
                    rule: rule.to_string(),
                    id: utterance.id.clone(),
                }),
                None => Ok(Self::Index(ranges)),
            },
            HoldOut::Speaker(speakers) => {
                let known: BTreeSet<&String> = utterances
                    .iter()
                    .filter_map(|it| it.utterance().speaker.as_ref())
                    .collect();
                let unknown: Vec<String> = speakers
                    .iter()
                    .filter(|it| !known.contains(it))
                    .cloned()
                    .collect();
                if unknown.is_empty() {
                    return Ok(Self::Speaker(speakers));
                }
                let known = known.into_iter().cloned().collect();
                Err(HoldOutError::UnknownSpeakers {
                    rule: rule.to_string(),
                    unknown,
                    known,
                })
            }
            HoldOut::Fraction(fraction) => {
                let start = *below;
                *below += fraction;
                if *below > 1.0 {
                    Err(HoldOutError::Fractions)
                } else {
                    Ok(Self::Share(start, *below))
                }
            }
            HoldOut::Id(prefix) => Ok(Self::Id(prefix)),
            HoldOut::Split(name) => {
                let known: BTreeSet<&str> = utterances.iter().filter_map(Cut::split).collect();
                if known.contains(name.as_str()) {
                    return Ok(Self::Split(name));
                }
                Err(HoldOutError::UnknownSplit {
                    rule: rule.to_string(),
                    known: known.into_iter().map(str::to_owned).collect(),
                })
            }
        }
    }

    fn matches(&self, cut: &impl Cut) -> bool {
        let utterance = cut.utterance();
        match self {
            Self::Index(ranges) => index(utterance)
                .is_some_and(|index| ranges.iter().any(|range| range.contains(&index))),
            Self::Speaker(speakers) => utterance
                .speaker
                .as_ref()
                .is_some_and(|speaker| speakers.contains(speaker)),
            Self::Share(start, end) => (*start..*end).contains(&place(cut.unit())),
            Self::Id(prefix) => utterance.id.starts_with(prefix),
            Self::Split(name) => cut.split() == Some(*name),
        }
    }
}

fn index(utterance: &Utterance) -> Option<u32> {
    fsdd::RecordingName::parse(&utterance.id).map(|name| name.index)
}

/// Where the hash of a name lies in `[0, 1)`.
fn place(name: &str) -> f64 {
    let hash = blake3::hash(name.as_bytes());
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has more than eight bytes");
    (u64::from_le_bytes(*first) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
