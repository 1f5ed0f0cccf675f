//! Text as the network sees it: the units of a vocabulary and their numbers. It decides which
//! characters or words a model can say, and refuses to know how often they occur or how they are
//! scored. Text is taken as it is written: case and spaces are the corpus's own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The units that a model can say, and their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Vocabulary {
    pub kind: Kind,
    /// Sorted by Unicode scalar values, distinct. A unit's label is its position here for classes,
    /// and one more for characters, whose label 0 is CTC's blank.
    pub units: Vec<String>,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A character: a transcript is a sequence of them. For CTC.
    Characters,
    /// A whole transcript: an utterance is one of them. For keywords.
    Classes,
}

/// What is wrong with a vocabulary, or with a text for one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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
    #[error("`units` of a vocabulary is out of order or repeats itself at {0:?}")]
    Disordered(String),
    #[error("`units` of a character vocabulary has {0:?}, which is not one character")]
    NotACharacter(String),
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
        Self::checked(Kind::Characters, units)
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
        Self::checked(Kind::Classes, classes.into_iter().collect())
    }

    fn checked(kind: Kind, units: Vec<String>) -> Result<Self, TextError> {
        if units.is_empty() {
            return Err(TextError::Empty);
        }
        // UTF-8 sorts as its scalar values do, so that comparing strings is enough.
        if let Some(pair) = units.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(TextError::Disordered(pair[1].clone()));
        }
        for unit in &units {
            match kind {
                Kind::Characters if unit.chars().count() != 1 => {
                    return Err(TextError::NotACharacter(unit.clone()));
                }
                Kind::Classes if unit.is_empty() => return Err(TextError::EmptyClass),
                Kind::Characters | Kind::Classes => {}
            }
        }
        Ok(Self { kind, units })
    }

    /// How many outputs a network has for it: a blank is counted for characters.
    pub fn outputs(&self) -> usize {
        self.units.len() + self.offset() as usize
    }

    /// The labels of `text`: one a character, or one for the whole.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match self.kind {
            Kind::Characters => {
                let mut unknown = BTreeSet::new();
                let mut labels = Vec::with_capacity(text.len());
                for character in text.chars() {
                    match self.label(character.encode_utf8(&mut [0; 4])) {
                        Some(label) => labels.push(label),
                        None => drop(unknown.insert(character)),
                    }
                }
                if unknown.is_empty() {
                    return Ok(labels);
                }
                let characters = unknown.into_iter().collect();
                Err(TextError::UnknownCharacters {
                    text: text.to_owned(),
                    characters,
                })
            }
            Kind::Classes => match self.label(text) {
                Some(label) => Ok(vec![label]),
                None => Err(TextError::UnknownClass {
                    text: text.to_owned(),
                    classes: self.units.clone(),
                }),
            },
        }
    }

    /// The text of `labels`, without blanks. A label that no unit has reads as U+FFFD.
    pub fn decode(&self, labels: &[u32]) -> String {
        let unit = |at: u32| {
            self.units
                .get(at as usize)
                .map_or("\u{fffd}", String::as_str)
        };
        let units: Vec<&str> = labels
            .iter()
            .filter_map(|label| label.checked_sub(self.offset()))
            .map(unit)
            .collect();
        match self.kind {
            Kind::Characters => units.concat(),
            Kind::Classes => units.join(" "),
        }
    }

    fn label(&self, unit: &str) -> Option<u32> {
        let at = self
            .units
            .binary_search_by(|known| known.as_str().cmp(unit))
            .ok()?;
        Some(u32::try_from(at).ok()? + self.offset())
    }

    /// The first unit's label.
    fn offset(&self) -> u32 {
        match self.kind {
            Kind::Characters => 1,
            Kind::Classes => 0,
        }
    }
}

/// A vocabulary as a file has it, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    units: Vec<String>,
}

impl TryFrom<Written> for Vocabulary {
    type Error = TextError;

    fn try_from(written: Written) -> Result<Self, TextError> {
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
    const SHOWN: usize = 12;
    let mut shown = classes
        .iter()
        .take(SHOWN)
        .map(|class| format!("{class:?}"))
        .collect::<Vec<_>>();
    if classes.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_sorted_behind_the_blank() {
        let vocabulary = Vocabulary::characters(["GO ON", "ÉGO", "𝄞"]).unwrap();
        assert_eq!(vocabulary.units, [" ", "G", "N", "O", "É", "𝄞"]);
        assert_eq!(vocabulary.outputs(), 7);
        let labels = vocabulary.encode("GO ÉON").unwrap();
        assert_eq!(labels, [2, 4, 1, 5, 4, 3]);
        assert_eq!(vocabulary.decode(&labels), "GO ÉON");
        assert_eq!(vocabulary.decode(&[0, 2, 0, 4]), "GO");
        assert_eq!(vocabulary.encode("").unwrap(), [0u32; 0]);
    }

    #[test]
    fn classes_are_whole_transcripts_from_zero() {
        let vocabulary = Vocabulary::classes(["two", "one", "two", "new york"]).unwrap();
        assert_eq!(vocabulary.units, ["new york", "one", "two"]);
        assert_eq!(vocabulary.outputs(), 3);
        assert_eq!(vocabulary.encode("one").unwrap(), [1]);
        assert_eq!(vocabulary.decode(&[0]), "new york");
    }

    #[test]
    fn what_a_vocabulary_lacks_is_listed_with_code_points() {
        let vocabulary = Vocabulary::characters(["ABC"]).unwrap();
        let message = vocabulary.encode("AéB\té").unwrap_err().to_string();
        assert!(
            message.contains("'\\t' (U+0009), 'é' (U+00E9)"),
            "{message}"
        );
        let message = Vocabulary::classes(["yes", "no"])
            .unwrap()
            .encode("maybe")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("\"maybe\" is none of the model's 2 classes (\"no\", \"yes\")"),
            "{message}"
        );
    }

    #[test]
    fn a_label_out_of_range_is_shown_and_does_not_panic() {
        let vocabulary = Vocabulary::characters(["AB"]).unwrap();
        assert_eq!(
            vocabulary.decode(&[1, 3, u32::MAX, 2]),
            "A\u{fffd}\u{fffd}B"
        );
        assert_eq!(Vocabulary::classes(["a"]).unwrap().decode(&[1]), "\u{fffd}");
    }

    #[test]
    fn nothing_to_say_is_an_error() {
        assert_eq!(Vocabulary::characters(["", ""]), Err(TextError::Empty));
        assert_eq!(Vocabulary::classes::<&str>([]), Err(TextError::Empty));
        assert_eq!(Vocabulary::classes(["", "a"]), Err(TextError::EmptyClass));
    }

    #[test]
    fn a_written_vocabulary_is_checked_when_it_is_read() {
        let vocabulary = Vocabulary::characters(["BA"]).unwrap();
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(json, r#"{"kind":"characters","units":["A","B"]}"#);
        assert_eq!(
            serde_json::from_str::<Vocabulary>(&json).unwrap(),
            vocabulary
        );
        let error = |json: &str| {
            serde_json::from_str::<Vocabulary>(json)
                .unwrap_err()
                .to_string()
        };
        assert!(error(r#"{"kind":"characters","units":["B","A"]}"#).contains("out of order"));
        assert!(error(r#"{"kind":"characters","units":["A","A"]}"#).contains("repeats"));
        assert!(error(r#"{"kind":"characters","units":["AB"]}"#).contains("not one character"));
        assert!(error(r#"{"kind":"words","units":["AB"]}"#).contains("`words`"));
        assert!(error(r#"{"kind":"classes","units":["a"],"unit":1}"#).contains("`unit`"));
    }
}
