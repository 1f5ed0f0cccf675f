//! The words that a recogniser may output: distinct and sorted, from transcripts or from a file with a word a
//! line. It decides what a word is. How words are pronounced is in [`pronunciations`], and how a lexicon of
//! pronunciations fits transcripts in [`coverage`].

use std::{
    collections::BTreeSet,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    corpus_roots::CorpusRoots,
    error_class::{self, Class, Classify},
};

pub mod coverage;
mod lines;
pub mod pronunciations;
pub(crate) mod spellings;

use lines::{LineProblem, each_line};

/// A set of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    words: Vec<String>,
}

/// What is wrong with a file of words.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum LexiconError {
    #[error("cannot read the lexicon {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        problem: String,
    },
    #[error("{}: the lexicon has no words", path.display())]
    Empty { path: PathBuf },
}

impl Classify for LexiconError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl LexiconError {
    fn of(path: &Path, problem: LineProblem) -> Self {
        let path = path.to_owned();
        match problem {
            LineProblem::Read(source) => Self::Read { path, source },
            LineProblem::Line(line, problem) => Self::Line {
                path,
                line,
                problem,
            },
        }
    }
}

fn open(roots: &CorpusRoots, path: &Path) -> Result<BufReader<std::fs::File>, LexiconError> {
    let file = roots.open(path).map_err(|source| LexiconError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(BufReader::new(file))
}

impl Lexicon {
    /// A lexicon of words in any order, which may repeat themselves.
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        let words: BTreeSet<String> = words.into_iter().collect();
        Self {
            words: words.into_iter().collect(),
        }
    }

    /// The words of transcripts: what white space separates.
    pub fn of_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut words = BTreeSet::new();
        for text in texts {
            for word in text.as_ref().split_whitespace() {
                if !words.contains(word) {
                    words.insert(word.to_owned());
                }
            }
        }
        Self {
            words: words.into_iter().collect(),
        }
    }

    /// Reads a word a line, from a file that gzip may have packed. Blank lines and words that were there
    /// already are passed over.
    ///
    /// # Errors
    /// Names the line that is not a word.
    pub fn read(path: &Path) -> Result<Self, LexiconError> {
        Self::read_beneath(&CorpusRoots::anywhere(), path)
    }

    /// As [`Self::read`], of a file that lies beneath `roots`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_beneath(roots: &CorpusRoots, path: &Path) -> Result<Self, LexiconError> {
        let mut words = BTreeSet::new();
        each_line(open(roots, path)?, |_, word| {
            if word.contains(char::is_whitespace) {
                let told =
                    "the line has more than one word; a lexicon of words has one word a line";
                return Err(told.to_owned());
            }
            if !words.contains(word) {
                words.insert(word.to_owned());
            }
            Ok(())
        })
        .map_err(|problem| LexiconError::of(path, problem))?;
        if words.is_empty() {
            return Err(LexiconError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            words: words.into_iter().collect(),
        })
    }

    /// As [`read`](Self::read) reads it.
    pub fn to_text(&self) -> String {
        let mut text = self.words.join("\n");
        text.push('\n');
        text
    }

    /// Sorted by Unicode scalar values.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_sorted_and_read_back_as_written() {
        let lexicon = Lexicon::of_texts(["go on", " on  and on", "été"]);
        assert_eq!(lexicon.words(), ["and", "go", "on", "été"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lexicon.txt");
        std::fs::write(&path, lexicon.to_text()).unwrap();
        assert_eq!(Lexicon::read(&path).unwrap(), lexicon);
        std::fs::write(&path, "\u{feff}on\r\n\ngo\non\n").unwrap();
        assert_eq!(Lexicon::read(&path).unwrap().words(), ["go", "on"]);
    }

    #[test]
    fn a_line_that_is_not_a_word_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lexicon.txt");
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Lexicon::read(&path).unwrap_err().to_string()
        };
        assert!(message(b"go\ngo on\n").contains("lexicon.txt:2: the line has more than one word"));
        assert!(message(b"go\n\n\xff\n").contains("lexicon.txt:3: the line is not UTF-8"));
        assert!(message(&[b'x'; 5000]).contains("lexicon.txt:1: the line is too long"));
        assert!(message(b"\n\n").contains("has no words"));
        let missing = Lexicon::read(&folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("cannot read the lexicon"));
    }
}
