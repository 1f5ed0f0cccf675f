//! Text as the network sees it: the units of a vocabulary and their indices. It decides which characters, runs of
//! them or words a model can say. How text is written before is the submodule `normal`'s.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error_class::{self, Class, Classify};

mod boundaries;
mod bytepair;
mod composition;
mod label;
mod language;
mod marked;
mod normal;
pub mod numbers;

pub use label::class_label;
pub use normal::{Case, Digits, Punctuation, TextConfig, TextConfigError, Unicode, Units};

/// The units that a model can say, and their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "VocabularyFile")]
pub struct Vocabulary {
    /// Whether units are classes, characters, byte pairs or words.
    pub kind: UnitKind,
    /// Distinct; sorted by Unicode scalar values, but byte pairs, which are in the order in which they were
    /// found. A unit's label is its position here for classes, and one more for all others, whose label 0
    /// is CTC's blank.
    pub units: Vec<String>,
    /// Positions of the units in the order of their scalar values.
    #[serde(skip)]
    sorted: Vec<u32>,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// A character: a transcript is a sequence of them. For CTC.
    Characters,
    /// A run of characters within a word; the first of a word has the space before it. For CTC.
    Bytepair,
    /// A word with the space before it, or [`UNKNOWN`] for any other. For CTC.
    Words,
    /// A whole transcript: an utterance is one of them. For keywords.
    Classes,
}

impl UnitKind {
    /// The name of the kind, as files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Bytepair => "bytepair",
            Self::Words => "words",
            Self::Classes => "classes",
        }
    }
}

/// In a vocabulary of words, the unit of all words that it lacks.
pub const UNKNOWN: &str = " <unk>";

/// What is wrong with a vocabulary, or with a text for one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum TextError {
    #[error(
        "{text:?} has characters that the model's vocabulary lacks: {}; correct the transcript, or train on transcripts that have them",
        code_points(characters)
    )]
    UnknownCharacters { text: String, characters: Vec<char> },
    #[error(
        "{text:?} is none of the model's {} classes ({}); correct the transcript, or train on utterances that have it",
        classes.len(), shortened(classes)
    )]
    UnknownClass { text: String, classes: Vec<String> },
    #[error("there is no transcript with text in it to take a vocabulary from")]
    Empty,
    #[error(
        "an utterance has an empty transcript, which cannot be a class: give it a word of its own, such as \"silence\""
    )]
    EmptyClass,
    #[error(
        "the transcripts have {characters} characters, and `text.size` is {size}: it counts them too"
    )]
    TooFewUnits { characters: usize, size: usize },
    #[error("`units` of a vocabulary is out of order or repeats itself at {0:?}")]
    Disordered(String),
    #[error("`units` of a vocabulary of {kind} has {unit:?}, which is none")]
    NotAUnit { kind: &'static str, unit: String },
    #[error("`units` of a vocabulary of words lacks {UNKNOWN:?}")]
    NoUnknown,
    #[error("`units` of a character vocabulary has {0:?}, which is not one character")]
    NotACharacter(String),
}

impl Classify for TextError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl Vocabulary {
    /// The characters that occur in `transcripts`.
    pub fn characters<T: AsRef<str>>(
        transcripts: impl IntoIterator<Item = T>,
    ) -> Result<Self, TextError> {
        let mut characters = BTreeSet::new();
        for transcript in transcripts {
            characters.extend(transcript.as_ref().chars());
        }
        let units = characters.into_iter().map(String::from).collect();
        Self::checked(UnitKind::Characters, units)
    }

    /// The distinct transcripts, each a class.
    pub fn classes<T: AsRef<str>>(
        transcripts: impl IntoIterator<Item = T>,
    ) -> Result<Self, TextError> {
        let mut classes = BTreeSet::new();
        for transcript in transcripts {
            let transcript = transcript.as_ref();
            if !classes.contains(transcript) {
                classes.insert(transcript.to_owned());
            }
        }
        Self::checked(UnitKind::Classes, classes.into_iter().collect())
    }

    /// At most `size` units: characters, and runs of them that occur often in `transcripts`.
    pub fn bytepair<T: AsRef<str>>(
        transcripts: impl IntoIterator<Item = T>,
        size: usize,
    ) -> Result<Self, TextError> {
        let transcripts: Vec<T> = transcripts.into_iter().collect();
        let units = bytepair::train(transcripts.iter().map(AsRef::as_ref), size)
            .map_err(|characters| TextError::TooFewUnits { characters, size })?;
        Self::checked(UnitKind::Bytepair, units)
    }

    /// The `size` words that occur most often in `transcripts`, or all of them where it is 0, and one unit
    /// for all others.
    pub fn words<T: AsRef<str>>(
        transcripts: impl IntoIterator<Item = T>,
        size: usize,
    ) -> Result<Self, TextError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for transcript in transcripts {
            for word in bytepair::words(transcript.as_ref()) {
                *counts.entry(word).or_default() += 1;
            }
        }
        counts.remove(UNKNOWN);
        let mut frequent: Vec<(u64, String)> = counts
            .into_iter()
            .map(|(word, count)| (count, word))
            .collect();
        if frequent.is_empty() {
            return Err(TextError::Empty);
        }
        if size > 0 {
            // Stable: of words that occur as often, the first as text stay.
            frequent.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
            frequent.truncate(size);
        }
        let mut units: Vec<String> = frequent.into_iter().map(|(_, word)| word).collect();
        units.push(UNKNOWN.to_owned());
        units.sort();
        Self::checked(UnitKind::Words, units)
    }

    fn checked(kind: UnitKind, units: Vec<String>) -> Result<Self, TextError> {
        if units.is_empty() {
            return Err(TextError::Empty);
        }
        let mut sorted: Vec<u32> = (0..).take(units.len()).collect();
        // UTF-8 sorts as its scalar values do, so that comparing strings is enough.
        sorted.sort_by_key(|&at| &units[at as usize]);
        let repeats = |pair: &&[u32]| units[pair[0] as usize] == units[pair[1] as usize];
        let in_order = kind == UnitKind::Bytepair || sorted.is_sorted();
        if let Some(pair) = sorted.windows(2).find(repeats) {
            return Err(TextError::Disordered(units[pair[1] as usize].clone()));
        }
        if !in_order && let Some(pair) = units.windows(2).find(|pair| pair[0] > pair[1]) {
            return Err(TextError::Disordered(pair[1].clone()));
        }
        let spaced = |unit: &str| unit.starts_with(' ') && !unit[1..].contains(' ');
        for unit in &units {
            let is_unit = match kind {
                UnitKind::Characters if unit.chars().count() != 1 => {
                    return Err(TextError::NotACharacter(unit.clone()));
                }
                UnitKind::Classes if unit.is_empty() => return Err(TextError::EmptyClass),
                UnitKind::Characters | UnitKind::Classes => true,
                UnitKind::Bytepair => spaced(unit) || !unit.is_empty() && !unit.contains(' '),
                UnitKind::Words => unit.len() > 1 && spaced(unit),
            };
            if !is_unit {
                let (kind, unit) = (kind.name(), unit.clone());
                return Err(TextError::NotAUnit { kind, unit });
            }
        }
        let vocabulary = Self {
            kind,
            units,
            sorted,
        };
        if kind == UnitKind::Words && vocabulary.label(UNKNOWN).is_none() {
            return Err(TextError::NoUnknown);
        }
        Ok(vocabulary)
    }

    /// How many outputs a network has for it: a blank is counted, except for classes.
    pub fn outputs(&self) -> usize {
        self.units.len() + self.offset() as usize
    }

    /// The labels of `text`: those of its units, or one for the whole.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let unknown = |characters: BTreeSet<char>| TextError::UnknownCharacters {
            text: text.to_owned(),
            characters: characters.into_iter().collect(),
        };
        match self.kind {
            UnitKind::Characters => {
                let mut strangers = BTreeSet::new();
                let mut labels = Vec::with_capacity(text.len());
                for character in text.chars() {
                    match self.label(character.encode_utf8(&mut [0; 4])) {
                        Some(label) => labels.push(label),
                        None => drop(strangers.insert(character)),
                    }
                }
                if strangers.is_empty() {
                    return Ok(labels);
                }
                Err(unknown(strangers))
            }
            UnitKind::Bytepair => {
                let mut strangers = BTreeSet::new();
                let mut labels = Vec::new();
                for word in bytepair::words(text) {
                    match bytepair::cut(&word, |unit| self.label(unit)) {
                        Ok(found) => labels.extend(found),
                        Err(found) => strangers.extend(found),
                    }
                }
                if strangers.is_empty() {
                    return Ok(labels);
                }
                Err(unknown(strangers))
            }
            UnitKind::Words => Ok(bytepair::words(text)
                .filter_map(|word| self.label(&word).or_else(|| self.label(UNKNOWN)))
                .collect()),
            UnitKind::Classes => match self.label(text) {
                Some(label) => Ok(vec![label]),
                None => Err(TextError::UnknownClass {
                    text: text.to_owned(),
                    classes: self.units.clone(),
                }),
            },
        }
    }

    /// Whether a CTC model with these units can say `word`, which has no space in it.
    pub fn can_say(&self, word: &str) -> bool {
        let knows = |c: char| self.label(c.encode_utf8(&mut [0; 4])).is_some();
        match self.kind {
            UnitKind::Characters => word.chars().all(knows),
            // Every character is a unit, and the space before the word.
            UnitKind::Bytepair => knows(' ') && word.chars().all(knows),
            UnitKind::Words => self.label(&format!(" {word}")).is_some(),
            UnitKind::Classes => false,
        }
    }

    /// Whether a CTC model with these units can say one word behind another.
    pub fn can_say_phrases(&self) -> bool {
        self.kind != UnitKind::Characters || self.label(" ").is_some()
    }

    /// The text of `labels`, without blanks. A label that no unit has reads as U+FFFD.
    pub fn decode(&self, labels: &[u32]) -> String {
        let text = labels.iter().map(|&label| self.text_of(label));
        match self.kind {
            UnitKind::Characters => text.collect(),
            UnitKind::Bytepair | UnitKind::Words => {
                let text: String = text.collect();
                text.strip_prefix(' ').map_or(text.clone(), str::to_owned)
            }
            UnitKind::Classes => text.collect::<Vec<_>>().join(" "),
        }
    }

    /// What `label` adds to a text. The pieces of a CTC model's labels, one behind the other, are the text
    /// with a space between words; where units bring their own space there is one before the first word
    /// too. Nothing for the blank; U+FFFD for a label that no unit has.
    pub fn text_of(&self, label: u32) -> &str {
        match label.checked_sub(self.offset()) {
            None => "",
            Some(at) => {
                let unit = self.units.get(at as usize);
                unit.map_or("\u{fffd}", String::as_str)
            }
        }
    }

    fn label(&self, unit: &str) -> Option<u32> {
        let found = self
            .sorted
            .binary_search_by(|&at| self.units[at as usize].as_str().cmp(unit));
        Some(self.sorted[found.ok()?] + self.offset())
    }

    /// The first unit's label.
    fn offset(&self) -> u32 {
        match self.kind {
            UnitKind::Characters | UnitKind::Bytepair | UnitKind::Words => 1,
            UnitKind::Classes => 0,
        }
    }
}

/// A vocabulary as a file has it, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    kind: UnitKind,
    units: Vec<String>,
}

impl TryFrom<VocabularyFile> for Vocabulary {
    type Error = TextError;

    fn try_from(written: VocabularyFile) -> Result<Self, TextError> {
        Self::checked(written.kind, written.units)
    }
}

fn code_points(characters: &[char]) -> String {
    let named: Vec<String> = characters
        .iter()
        .map(|&character| format!("{character:?} (U+{:04X})", u32::from(character)))
        .collect();
    named.join(", ")
}

fn shortened(classes: &[String]) -> String {
    const SHOWN_UNITS: usize = 12;
    let mut shown = classes
        .iter()
        .take(SHOWN_UNITS)
        .map(|class| format!("{class:?}"))
        .collect::<Vec<_>>();
    if classes.len() > SHOWN_UNITS {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests;
