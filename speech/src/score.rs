//! Scoring of hypotheses: word and character error rates, accuracy, and confusions between classes. All are
//! counted over a whole set: errors of all utterances over words of all references, not a mean of rates. Case,
//! spelling and punctuation count as they are.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod alignment;
pub mod bootstrap;
mod confusion;
pub mod details;
pub mod significance;

pub use alignment::Edit;
pub use confusion::Confusion;

/// What turns references into hypotheses, and how long the references are; in words or characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorCounts {
    /// The number of substitutions.
    pub substitutions: u64,
    /// The number of deletions.
    pub deletions: u64,
    /// The number of insertions.
    pub insertions: u64,
    /// The number of words, or characters, of the references.
    pub reference: u64,
}

impl ErrorCounts {
    /// The least number of edits.
    pub fn errors(&self) -> u64 {
        self.substitutions + self.deletions + self.insertions
    }

    /// Errors over the references' length: above 1 where much is inserted, and none where there is
    /// no reference to err from, whatever was inserted.
    pub fn rate(&self) -> Option<f64> {
        (self.reference > 0).then(|| self.errors() as f64 / self.reference as f64)
    }
}

impl std::ops::AddAssign for ErrorCounts {
    fn add_assign(&mut self, other: Self) {
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
        self.reference += other.reference;
    }
}

impl std::iter::Sum for ErrorCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// Errors in words, which are what white space of any kind separates, as everywhere here. Equal to jiwer's
/// `process_words` where U+0020 is the only white space: jiwer takes a no-break space, a tab or U+3000
/// for part of a word.
pub fn word_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let words = |text| str::split_whitespace(text).collect::<Vec<_>>();
    alignment::errors(&words(reference), &words(hypothesis))
}

/// The edits that [`word_errors`] counts, in order.
pub fn word_edits<'a>(reference: &'a str, hypothesis: &'a str) -> Vec<Edit<&'a str>> {
    let words = |text: &'a str| text.split_whitespace().collect::<Vec<_>>();
    alignment::edits(&words(reference), &words(hypothesis))
}

/// Errors in characters (Unicode scalar values), spaces between words included and those around the
/// text not. Equal to jiwer's `process_characters`.
pub fn char_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let characters = |text: &str| text.trim().chars().collect::<Vec<_>>();
    alignment::errors(&characters(reference), &characters(hypothesis))
}

/// The result of an evaluation. Rates are fractions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The number of utterances that were scored.
    pub utterances: u64,
    /// The word error rate (CTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wer: Option<f64>,
    /// The character error rate (CTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cer: Option<f64>,
    /// The edits in words (CTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_errors: Option<ErrorCounts>,
    /// The edits in characters (CTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub char_errors: Option<ErrorCounts>,
    /// The share of utterances whose class is right (keyword).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The confusion matrix (keyword).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

/// Scores keywords: an utterance is right when its hypothesis is its reference.
pub fn keyword<R: AsRef<str>, H: AsRef<str>>(pairs: &[(R, H)], classes: &[String]) -> Score {
    let right = pairs
        .iter()
        .filter(|(reference, hypothesis)| reference.as_ref() == hypothesis.as_ref())
        .count();
    let texts = pairs.iter();
    let texts = texts.map(|(reference, hypothesis)| (reference.as_ref(), hypothesis.as_ref()));
    let confusion = Confusion::new(classes, texts);
    Score {
        utterances: pairs.len() as u64,
        accuracy: (!pairs.is_empty()).then(|| right as f64 / pairs.len() as f64),
        confusion: Some(confusion),
        ..Score::default()
    }
}

/// Scores transcripts by their words and by their characters.
pub fn transcripts<R: AsRef<str>, H: AsRef<str>>(pairs: &[(R, H)]) -> Score {
    let total = |count: fn(&str, &str) -> ErrorCounts| -> ErrorCounts {
        pairs
            .iter()
            .map(|(reference, hypothesis)| count(reference.as_ref(), hypothesis.as_ref()))
            .sum()
    };
    let (words, characters) = (total(word_errors), total(char_errors));
    Score {
        utterances: pairs.len() as u64,
        wer: words.rate(),
        cer: characters.rate(),
        word_errors: Some(words),
        char_errors: Some(characters),
        ..Score::default()
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} utterances", self.utterances)?;
        if let Some(accuracy) = self.accuracy {
            write!(f, "\naccuracy {:8.2} %", accuracy * 100.0)?;
        }
        for (name, unit, counts) in [
            ("WER", "words", &self.word_errors),
            ("CER", "characters", &self.char_errors),
        ] {
            let Some(counts) = counts else { continue };
            match counts.rate() {
                Some(rate) => write!(f, "\n{name} {:13.2} %", rate * 100.0)?,
                None => write!(f, "\n{name} {:>15}", "undefined")?,
            }
            write!(
                f,
                "  {} of {} {unit}: {} substituted, {} deleted, {} inserted",
                counts.errors(),
                counts.reference,
                counts.substitutions,
                counts.deletions,
                counts.insertions
            )?;
        }
        match &self.confusion {
            Some(confusion) => write!(f, "\n{confusion}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
