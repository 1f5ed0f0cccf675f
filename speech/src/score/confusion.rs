//! The confusion matrix: which class was recognised in place of which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::details::Taken;

/// A confusion matrix: the number of utterances by class of the reference and of the hypothesis. Only what occurred is counted, so that
/// its size follows the number of utterances and not the square of the number of classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// The model's classes.
    pub classes: Vec<String>,
    /// The number of utterances by class of the reference, then by class of the hypothesis.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// The number of utterances by class of the reference, whose hypothesis is none of the classes.
    pub outside: BTreeMap<String, u64>,
    /// The number of utterances whose reference is none of the classes, so that no hypothesis can be right.
    pub unknown: u64,
}

/// Beyond this a matrix is too wide to read, and the commonest confusions are shown instead.
const MAX_COLUMN_CHARACTERS: usize = 16;

impl Confusion {
    /// Counts pairs of reference and hypothesis.
    pub(super) fn new<'a>(
        classes: &[String],
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let known: BTreeSet<&str> = classes.iter().map(String::as_str).collect();
        let mut counts: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        let mut outside: BTreeMap<&str, u64> = BTreeMap::new();
        let mut unknown = 0;
        for (reference, hypothesis) in pairs {
            match (known.contains(reference), known.contains(hypothesis)) {
                (true, true) => {
                    *counts
                        .entry(reference)
                        .or_default()
                        .entry(hypothesis)
                        .or_default() += 1;
                }
                (true, false) => *outside.entry(reference).or_default() += 1,
                (false, _) => unknown += 1,
            }
        }
        let counts = counts.into_iter();
        Self {
            classes: classes.to_vec(),
            counts: counts
                .map(|(reference, counts)| (reference.to_owned(), owned(counts)))
                .collect(),
            outside: owned(outside),
            unknown,
        }
    }

    /// How often `reference` was taken for `hypothesis`.
    pub fn count(&self, reference: &str, hypothesis: &str) -> u64 {
        let counts = self.counts.get(reference);
        let count = counts.and_then(|counts| counts.get(hypothesis));
        count.copied().unwrap_or_default()
    }

    /// What was taken for what and how often, the commonest first.
    pub fn mistakes(&self) -> Vec<(&str, &str, u64)> {
        let counts = self.counts.iter();
        let cells = counts.flat_map(|(reference, counts)| {
            let counts = counts.iter();
            counts.map(|(hypothesis, count)| (reference.as_str(), hypothesis.as_str(), *count))
        });
        let mut mistakes: Vec<_> = cells.filter(|cell| cell.0 != cell.1).collect();
        mistakes.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        mistakes
    }

    /// The `most` commonest of the mistakes.
    pub fn commonest(&self, most: usize) -> Vec<Taken> {
        let mistakes = self.mistakes().into_iter().take(most);
        mistakes
            .map(|(reference, hypothesis, count)| Taken {
                reference: reference.to_owned(),
                hypothesis: hypothesis.to_owned(),
                count,
            })
            .collect()
    }
}

fn owned(counts: BTreeMap<&str, u64>) -> BTreeMap<String, u64> {
    let counts = counts.into_iter();
    counts
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.len() <= MAX_COLUMN_CHARACTERS {
            self.matrix(f)?;
        } else {
            f.write_str("commonest confusions (reference, hypothesis, utterances)")?;
            for (reference, hypothesis, count) in
                self.mistakes().into_iter().take(MAX_COLUMN_CHARACTERS)
            {
                write!(f, "\n  {reference} -> {hypothesis}: {count}")?;
            }
        }
        for (reference, count) in &self.outside {
            write!(
                f,
                "\n{count} of {reference} recognised as none of the classes"
            )?;
        }
        if self.unknown > 0 {
            write!(
                f,
                "\n{} utterances whose reference is none of the classes",
                self.unknown
            )?;
        }
        Ok(())
    }
}

impl Confusion {
    /// A line for each reference, a column for each hypothesis; zeros are dots.
    fn matrix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |text: &str| text.chars().count();
        let digits = |count: &u64| count.to_string().len();
        let first = self
            .classes
            .iter()
            .map(|class| length(class))
            .max()
            .unwrap_or(0)
            .max(length("said"));
        let counts = self.counts.values().flat_map(BTreeMap::values);
        let cells = counts.map(digits).max().unwrap_or(1);
        let widths: Vec<usize> = self
            .classes
            .iter()
            .map(|class| length(class).max(cells))
            .collect();
        write!(f, "{:<first$}  recognised as", "said")?;
        write!(f, "\n{:first$}", "")?;
        for (class, &width) in self.classes.iter().zip(&widths) {
            write!(f, "  {class:>width$}")?;
        }
        for class in &self.classes {
            write!(f, "\n{class:<first$}")?;
            for (hypothesis, &width) in self.classes.iter().zip(&widths) {
                let cell = match self.count(class, hypothesis) {
                    0 => ".".to_owned(),
                    count => count.to_string(),
                };
                write!(f, "  {cell:>width$}")?;
            }
        }
        Ok(())
    }
}
