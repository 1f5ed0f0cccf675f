//! Which class was taken for which.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts of utterances by what was said and what was recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    pub classes: Vec<String>,
    /// `counts[reference][hypothesis]`, both in the order of `classes`.
    pub counts: Vec<Vec<u64>>,
    /// For each reference class, hypotheses that are none of the classes.
    pub outside: Vec<u64>,
    /// Utterances whose reference is none of the classes: no hypothesis can be right.
    pub unknown: u64,
}

/// Beyond this a matrix is too wide to read, and the commonest confusions are shown instead.
const WIDEST: usize = 16;

impl Confusion {
    pub(super) fn new(classes: &[String]) -> Self {
        Self {
            classes: classes.to_vec(),
            counts: vec![vec![0; classes.len()]; classes.len()],
            outside: vec![0; classes.len()],
            unknown: 0,
        }
    }

    pub(super) fn add(&mut self, reference: &str, hypothesis: &str) {
        let place = |text: &str| self.classes.iter().position(|class| class == text);
        match (place(reference), place(hypothesis)) {
            (Some(row), Some(column)) => self.counts[row][column] += 1,
            (Some(row), None) => self.outside[row] += 1,
            (None, _) => self.unknown += 1,
        }
    }

    /// What was taken for what and how often, the commonest first.
    pub fn mistakes(&self) -> Vec<(&str, &str, u64)> {
        let mut mistakes = Vec::new();
        for (row, (reference, counts)) in self.classes.iter().zip(&self.counts).enumerate() {
            for (column, (hypothesis, &count)) in self.classes.iter().zip(counts).enumerate() {
                if row != column && count > 0 {
                    mistakes.push((reference.as_str(), hypothesis.as_str(), count));
                }
            }
        }
        mistakes.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        mistakes
    }
}

impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.len() <= WIDEST {
            self.matrix(f)?;
        } else {
            f.write_str("commonest confusions (reference, hypothesis, utterances)")?;
            for (reference, hypothesis, count) in self.mistakes().into_iter().take(WIDEST) {
                write!(f, "\n  {reference} -> {hypothesis}: {count}")?;
            }
        }
        let others: BTreeMap<&str, u64> = self
            .classes
            .iter()
            .map(String::as_str)
            .zip(self.outside.iter().copied())
            .filter(|&(_, n)| n > 0)
            .collect();
        for (reference, count) in others {
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
        let cells = self.counts.iter().flatten().map(digits).max().unwrap_or(0);
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
        for (class, counts) in self.classes.iter().zip(&self.counts) {
            write!(f, "\n{class:<first$}")?;
            for (&count, &width) in counts.iter().zip(&widths) {
                let cell = if count == 0 {
                    ".".to_owned()
                } else {
                    count.to_string()
                };
                write!(f, "  {cell:>width$}")?;
            }
        }
        Ok(())
    }
}
