//! What of a manifest takes no part in a job: counted by reason, the first ones named for the run's events, and
//! bounded by the job's `corpus.max_bad`.

use std::path::{Path, PathBuf};

use speech::{
    left_out::{LeftOut, Reason},
    tolerance::MaxBad,
};

use super::CorpusError;
use crate::records::events::Set;

/// An utterance that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUtterance {
    /// Its id in the manifest.
    pub utterance: String,
    /// Why its recording cannot be used, for a person.
    pub reason: String,
}

/// What is left out of one of a job's two manifests before anything is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Excluded {
    /// Which of the two manifests it is.
    pub set: Set,
    /// The path of the manifest.
    pub manifest: PathBuf,
    /// The most that the job allows to be left out.
    pub bound: MaxBad,
    /// How many were left out, as the report counts them.
    pub summary: LeftOut,
    /// The first [`Excluded::MAX_NAMED`] of them, for the run's events.
    pub named: Vec<NamedUtterance>,
}

impl Excluded {
    /// A corpus of a million utterances may lose most of them to a setting; nobody reads so many lines.
    pub const MAX_NAMED: usize = 1000;

    /// Nothing, of a manifest of `of` utterances.
    pub fn none(set: Set, manifest: &Path, bound: MaxBad, of: usize) -> Self {
        Self {
            set,
            manifest: manifest.to_owned(),
            bound,
            summary: LeftOut::of(of),
            named: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, utterance: &str, reason: Reason, told: String) {
        self.summary.add(utterance, reason, &told);
        if self.named.len() < Self::MAX_NAMED {
            self.named.push(NamedUtterance {
                utterance: utterance.to_owned(),
                reason: told,
            });
        }
    }

    /// See [`Excluded::judge`].
    pub(super) fn check(&self, kept: usize) -> Result<(), CorpusError> {
        self.judge(&self.summary, kept)
    }

    /// # Errors
    /// When more than the bound allows is left out by `summary`, or when it leaves out all: none is `kept`.
    pub fn judge(&self, summary: &LeftOut, kept: usize) -> Result<(), CorpusError> {
        summary
            .check(self.bound)
            .map_err(|source| CorpusError::TooManyLeftOut {
                path: self.manifest.clone(),
                source,
            })?;
        match summary.examples.first() {
            Some(first) if kept == 0 => Err(CorpusError::NothingLeft {
                path: self.manifest.clone(),
                of: summary.of,
                purpose: match self.set {
                    Set::Train => "trained on",
                    Set::Valid => "evaluated",
                },
                utterance: first.utterance.clone(),
                reason: first.reason.clone(),
            }),
            _ => Ok(()),
        }
    }
}
