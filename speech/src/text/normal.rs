//! How transcripts are written before anything is learned from them or scored: the `[text]` section's
//! Unicode, digits, case and punctuation, in that order. It decides what counts as the same text, and
//! refuses to know units. As it is by default, text is left as the corpus writes it.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::numbers;

/// The `[text]` section of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// What a CTC model says one after the other. A keyword model says whole transcripts.
    pub units: Units,
    /// How many units there are, one for each character that occurs included; with words, how many of the
    /// most frequent are known. 0: all words, and no answer for byte pairs.
    pub size: usize,
    pub unicode: Unicode,
    pub digits: Digits,
    /// What digits are spelled in: "en" is known.
    pub language: String,
    pub case: Case,
    pub punctuation: Punctuation,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            units: Units::Characters,
            size: 0,
            unicode: Unicode::Keep,
            digits: Digits::Keep,
            language: "en".to_owned(),
            case: Case::Keep,
            punctuation: Punctuation::Keep,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    Characters,
    /// Runs of characters within a word that occur often (Sennrich et al. 2016).
    Bytepair,
    Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unicode {
    Keep,
    /// Compatibility decomposition, then canonical composition: one way to write what looks the same.
    Nfkc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Digits {
    Keep,
    /// As words; see [`numbers`](super::numbers).
    Spell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    Keep,
    Upper,
    Lower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Punctuation {
    Keep,
    /// A space in its place, but for apostrophes within words; runs of spaces become one.
    Strip,
}

/// A field of `[text]` that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("text.{field} {reason}")]
pub struct TextConfigError {
    pub field: &'static str,
    pub reason: String,
}

impl TextConfig {
    pub fn check(&self) -> Result<(), TextConfigError> {
        let refuse = |field, reason| Err(TextConfigError { field, reason });
        if self.digits == Digits::Spell && self.language != "en" {
            let reason = format!(
                "is {:?}, and digits are spelled in \"en\" alone: write them out in the transcripts, \
                 or set text.digits = \"keep\"",
                self.language
            );
            return refuse("language", reason);
        }
        match (self.units, self.size) {
            (Units::Bytepair, 0) => refuse(
                "size",
                "is missing: say how many units there are to be, for instance 256".to_owned(),
            ),
            (Units::Characters, 1..) => refuse(
                "size",
                "stands beside characters, which are all that occur: leave it out, or set text.units"
                    .to_owned(),
            ),
            (_, size) if size > MOST_UNITS => {
                refuse("size", format!("is {size}, but has to be at most {MOST_UNITS}"))
            }
            _ => Ok(()),
        }
    }

    /// `text` as it is learned and scored.
    pub fn normalize(&self, text: &str) -> String {
        let composed = |text: &str| match self.unicode {
            Unicode::Keep => text.to_owned(),
            Unicode::Nfkc => text.nfkc().collect(),
        };
        let mut text = composed(text);
        if self.digits == Digits::Spell {
            text = numbers::spell(&text);
        }
        match self.case {
            Case::Keep => {}
            Case::Upper => text = text.to_uppercase(),
            Case::Lower => text = text.to_lowercase(),
        }
        if self.punctuation == Punctuation::Strip {
            text = strip(&text);
        }
        // A mark may stand behind another letter now.
        composed(&text)
    }
}

/// A model's last layer has a row for each.
const MOST_UNITS: usize = 100_000;

fn strip(text: &str) -> String {
    let of_word = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    let mut stripped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let kept = match character {
            c if of_word(c) => c,
            // As it is typed, and as it is set.
            '\'' | '\u{2019}'
                if of_word(before) && characters.peek().is_some_and(|&c| of_word(c)) =>
            {
                '\''
            }
            _ => ' ',
        };
        if kept != ' ' || before != ' ' {
            stripped.push(kept);
        }
        before = kept;
    }
    stripped.truncate(stripped.trim_end().len());
    stripped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> TextConfig {
        TextConfig {
            unicode: Unicode::Nfkc,
            digits: Digits::Spell,
            case: Case::Lower,
            punctuation: Punctuation::Strip,
            ..TextConfig::default()
        }
    }

    #[test]
    fn by_default_text_is_as_the_corpus_writes_it() {
        let text = "  It's 5 o'Clock, ﬁne…\t";
        assert_eq!(TextConfig::default().normalize(text), text);
    }

    #[test]
    fn each_key_does_one_thing() {
        let with = |change: fn(&mut TextConfig), text: &str| {
            let mut config = TextConfig::default();
            change(&mut config);
            config.normalize(text)
        };
        assert_eq!(
            with(|c| c.unicode = Unicode::Nfkc, "ﬁve\u{a0}① e\u{301}"),
            "five 1 é"
        );
        assert_eq!(with(|c| c.case = Case::Upper, "Straße, é"), "STRASSE, É");
        assert_eq!(with(|c| c.case = Case::Lower, "ÉT 4"), "ét 4");
        assert_eq!(
            with(|c| c.digits = Digits::Spell, "I have 21."),
            "I have twenty one."
        );
        let strip = |text| with(|c| c.punctuation = Punctuation::Strip, text);
        assert_eq!(
            strip("«Well-known», isn’t it?  'Tis -- the dogs' "),
            "Well known isn't it Tis the dogs"
        );
        assert_eq!(strip("नमस्ते, दुनिया।"), "नमस्ते दुनिया");
        assert_eq!(strip("…"), "");
    }

    #[test]
    fn together_they_meet_what_people_write() {
        assert_eq!(
            all().normalize("On the 3rd, Dr. O’Hara paid $1,250.50 – 20% off!"),
            "on the third dr o'hara paid one thousand two hundred fifty point five zero twenty percent off"
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = |change: fn(&mut TextConfig)| {
            let mut config = TextConfig::default();
            change(&mut config);
            config.check().expect_err("refused").to_string()
        };
        assert_eq!(all().check(), Ok(()));
        assert!(refused(|c| c.units = Units::Bytepair).starts_with("text.size is missing"));
        assert!(refused(|c| c.size = 30).starts_with("text.size stands beside characters"));
        let language = refused(|c| {
            c.digits = Digits::Spell;
            c.language = "de".to_owned();
        });
        assert!(
            language.starts_with("text.language is \"de\""),
            "{language}"
        );
        let size = refused(|c| {
            c.units = Units::Words;
            c.size = 100_001;
        });
        assert!(size.starts_with("text.size is 100001"));
    }

    proptest! {
        #[test]
        fn normalised_text_is_normal(text in any::<String>()) {
            let once = all().normalize(&text);
            prop_assert_eq!(all().normalize(&once), once.clone());
            prop_assert!(!once.contains("  ") && once.trim() == once);
        }

        #[test]
        fn of_usual_text_too(text in "[a-zA-Z0-9 .,'%$-]{0,40}") {
            let once = all().normalize(&text);
            prop_assert_eq!(all().normalize(&once), once.clone());
            prop_assert!(once.chars().all(|c| c.is_ascii_lowercase() || c == ' ' || c == '\''), "{}", once);
        }
    }
}
