//! An evaluation taken apart: how sure its rates are, how they differ between speakers and lengths, and which
//! words were taken for which. It does not depend on where hypotheses come from and how they are shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Edit,
    bootstrap::{self, Interval, Sample},
    char_errors, word_edits, word_errors,
};

/// An utterance that was recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognised {
    /// The utterance's id in the manifest.
    pub id: String,
    /// The speaker's name, where the manifest has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// The utterance's duration in seconds.
    pub seconds: f64,
    /// The transcript of the manifest, normalised.
    pub reference: String,
    /// The transcript that was recognised.
    pub hypothesis: String,
}

/// What is counted as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorUnit {
    /// Words, as spaces separate them (WER).
    Words,
    /// Characters, spaces included (CER).
    Characters,
    /// The whole utterance is right or wrong: keywords.
    Utterances,
}

impl ErrorUnit {
    /// The errors of one utterance.
    pub fn sample(self, one: &Recognised) -> Sample {
        let (reference, hypothesis) = (&one.reference, &one.hypothesis);
        let counts = match self {
            Self::Words => word_errors(reference, hypothesis),
            Self::Characters => char_errors(reference, hypothesis),
            Self::Utterances => {
                return Sample {
                    errors: u64::from(reference != hypothesis),
                    reference: 1,
                };
            }
        };
        Sample {
            errors: counts.errors(),
            reference: counts.reference,
        }
    }

    /// The errors of each utterance, in order.
    pub fn samples(self, all: &[Recognised]) -> Vec<Sample> {
        all.iter().map(|one| self.sample(one)).collect()
    }
}

/// A line of what `evaluate --utterances` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtteranceRecord {
    /// The utterance with its reference and hypothesis.
    #[serde(flatten)]
    pub recognised: Recognised,
    /// What its errors are counted in; absent in files that were written before units were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ErrorUnit>,
}

/// An error rate and how sure it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The speaker, or the lengths; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The number of utterances.
    pub utterances: u64,
    /// The number of errors.
    pub errors: u64,
    /// Words, characters or decisions of the references.
    pub reference: u64,
    /// Errors by the size of the references; `None` where they are empty.
    pub rate: Option<f64>,
    /// The 95 % confidence interval.
    pub interval: Option<Interval>,
}

/// A confusion: what was recognised in place of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// The word or class of the reference; empty where a word was inserted.
    pub reference: String,
    /// The word or class of the hypothesis; empty where a word was deleted.
    pub hypothesis: String,
    /// How often it occurred.
    pub count: u64,
}

/// An evaluation in its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What errors are counted in.
    pub unit: ErrorUnit,
    /// The rate over all utterances.
    pub all: Rate,
    /// In characters, for transcripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<Rate>,
    /// Where the manifest names speakers; the worst first.
    pub speakers: Vec<Rate>,
    /// From short to long.
    pub lengths: Vec<Rate>,
    /// The commonest first.
    pub substituted: Vec<Taken>,
    /// Words that were deleted, the commonest first.
    pub deleted: Vec<Taken>,
    /// Words that were inserted, the commonest first.
    pub inserted: Vec<Taken>,
}

/// Upper ends of the classes of length, in seconds; each is twice the one before.
const LENGTHS: [f64; 7] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Confusions of each kind that are told.
const LISTED_CONFUSIONS: usize = 20;

impl Details {
    /// The details of utterances whose errors are counted in `unit`.
    pub fn new(all: &[Recognised], unit: ErrorUnit) -> Self {
        let group = |name: &str, ones: &[&Recognised], unit: ErrorUnit| {
            let samples: Vec<Sample> = ones.iter().map(|one| unit.sample(one)).collect();
            rate(name, &samples)
        };
        let every: Vec<&Recognised> = all.iter().collect();
        let mut by_speaker: BTreeMap<&str, Vec<&Recognised>> = BTreeMap::new();
        for one in all {
            if let Some(speaker) = &one.speaker {
                by_speaker.entry(speaker).or_default().push(one);
            }
        }
        let by_speaker = by_speaker.into_iter();
        let mut speakers: Vec<Rate> = by_speaker
            .map(|(name, ones)| group(name, &ones, unit))
            .collect();
        let worst = |rate: &Rate| rate.rate.unwrap_or(-1.0);
        speakers.sort_by(|a, b| worst(b).total_cmp(&worst(a)).then(a.name.cmp(&b.name)));
        let mut by_length: BTreeMap<usize, Vec<&Recognised>> = BTreeMap::new();
        for one in all {
            let class = LENGTHS.iter().take_while(|&&end| one.seconds > end).count();
            by_length.entry(class).or_default().push(one);
        }
        let by_length = by_length.into_iter();
        let lengths = by_length
            .map(|(class, ones)| group(&span(class), &ones, unit))
            .collect();
        let [substituted, deleted, inserted] = match unit {
            ErrorUnit::Utterances => [whole(all), Vec::new(), Vec::new()],
            ErrorUnit::Words | ErrorUnit::Characters => taken(all),
        };
        Self {
            unit,
            all: group("", &every, unit),
            characters: (unit == ErrorUnit::Words)
                .then(|| group("", &every, ErrorUnit::Characters)),
            speakers,
            lengths,
            substituted,
            deleted,
            inserted,
        }
    }
}

fn rate(name: &str, samples: &[Sample]) -> Rate {
    Rate {
        name: name.to_owned(),
        utterances: samples.len() as u64,
        errors: samples.iter().map(|sample| sample.errors).sum(),
        reference: samples.iter().map(|sample| sample.reference).sum(),
        rate: bootstrap::rate(samples),
        interval: bootstrap::interval(samples),
    }
}

fn span(class: usize) -> String {
    match (
        class.checked_sub(1).map(|below| LENGTHS[below]),
        LENGTHS.get(class),
    ) {
        (None, Some(end)) => format!("up to {end} s"),
        (Some(begin), Some(end)) => format!("{begin} to {end} s"),
        (begin, None) => format!("over {} s", begin.unwrap_or_default()),
    }
}

/// Words substituted, deleted and inserted.
fn taken(all: &[Recognised]) -> [Vec<Taken>; 3] {
    let mut counts: [BTreeMap<(&str, &str), u64>; 3] = Default::default();
    for one in all {
        for edit in word_edits(&one.reference, &one.hypothesis) {
            let (kind, pair) = match edit {
                Edit::Kept(_) => continue,
                Edit::Substituted(reference, hypothesis) => (0, (reference, hypothesis)),
                Edit::Deleted(word) => (1, (word, "")),
                Edit::Inserted(word) => (2, ("", word)),
            };
            *counts[kind].entry(pair).or_default() += 1;
        }
    }
    counts.map(commonest)
}

/// Whole utterances taken for others.
fn whole(all: &[Recognised]) -> Vec<Taken> {
    let mut counts = BTreeMap::new();
    for one in all.iter().filter(|one| one.reference != one.hypothesis) {
        *counts
            .entry((one.reference.as_str(), one.hypothesis.as_str()))
            .or_default() += 1;
    }
    commonest(counts)
}

fn commonest(counts: BTreeMap<(&str, &str), u64>) -> Vec<Taken> {
    let taken = |((reference, hypothesis), count): ((&str, &str), u64)| Taken {
        reference: reference.to_owned(),
        hypothesis: hypothesis.to_owned(),
        count,
    };
    let mut all: Vec<Taken> = counts.into_iter().map(taken).collect();
    // Stable: of equally common ones, in the order of the words.
    all.sort_by_key(|taken| std::cmp::Reverse(taken.count));
    all.truncate(LISTED_CONFUSIONS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(speaker: &str, seconds: f64, reference: &str, hypothesis: &str) -> Recognised {
        Recognised {
            id: format!("{speaker}-{seconds}"),
            speaker: (!speaker.is_empty()).then(|| speaker.to_owned()),
            seconds,
            reference: reference.to_owned(),
            hypothesis: hypothesis.to_owned(),
        }
    }

    #[test]
    fn errors_are_counted_by_speaker_and_length_and_add_up() {
        let all = [
            recognised("ada", 0.7, "one two", "one too"),
            recognised("ada", 3.0, "three", "three"),
            recognised("bob", 0.8, "four five", "five five six"),
            recognised("", 40.0, "a b c", ""),
        ];
        let details = Details::new(&all, ErrorUnit::Words);
        assert_eq!((details.all.errors, details.all.reference), (6, 8));
        let names = |rates: &[Rate]| -> Vec<(String, u64, u64)> {
            let row = |rate: &Rate| (rate.name.clone(), rate.errors, rate.reference);
            rates.iter().map(row).collect()
        };
        let speakers = [("bob".to_owned(), 2, 2), ("ada".to_owned(), 1, 3)];
        assert_eq!(names(&details.speakers), speakers);
        let lengths = [
            ("0.5 to 1 s".to_owned(), 3, 4),
            ("2 to 4 s".to_owned(), 0, 1),
            ("over 32 s".to_owned(), 3, 3),
        ];
        assert_eq!(names(&details.lengths), lengths);
        assert_eq!(
            details.speakers[0].interval, None,
            "one utterance says nothing"
        );
        let deleted: Vec<&str> = details.deleted.iter().map(|it| &*it.reference).collect();
        assert_eq!(deleted, ["a", "b", "c"]);
        let substituted = details.substituted.iter().find(|it| it.reference == "two");
        assert_eq!(
            substituted.map(|it| (&*it.hypothesis, it.count)),
            Some(("too", 1))
        );
        assert_eq!(details.inserted[0].hypothesis, "six");
        let json = serde_json::to_string(&details).unwrap();
        assert_eq!(serde_json::from_str::<Details>(&json).unwrap(), details);
    }

    #[test]
    fn keywords_are_right_or_wrong_as_a_whole() {
        let all = [
            recognised("ada", 1.0, "on", "off"),
            recognised("ada", 1.0, "on", "on"),
            recognised("ada", 1.0, "up down", "up"),
        ];
        let details = Details::new(&all, ErrorUnit::Utterances);
        assert_eq!((details.all.errors, details.all.reference), (2, 3));
        assert_eq!(details.characters, None);
        assert_eq!(details.substituted.len(), 2);
        assert!(details.deleted.is_empty() && details.inserted.is_empty());
    }
}
