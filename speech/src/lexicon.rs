//! The words that a recogniser may output: distinct and sorted, from transcripts or from a file with a word a
//! line. It decides what a word is.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    error_class::{self, Class, Classify},
    regular_file,
    text_file::{self, BYTE_ORDER_MARK},
};

pub(crate) mod spellings;

/// Longest word in bytes.
const MAX_WORD: usize = 1 << 12;

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
    #[error("{}:{line}: {problem}; a lexicon has one word a line", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        problem: &'static str,
    },
    #[error("{}: the lexicon has no words", path.display())]
    Empty { path: PathBuf },
}

impl Classify for LexiconError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
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
        let unreadable = |source| LexiconError::Read {
            path: path.to_owned(),
            source,
        };
        let file = regular_file::open(path).map_err(unreadable)?;
        let mut reader = text_file::utf8(BufReader::new(file)).map_err(unreadable)?;
        let mut words = BTreeSet::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let limit = MAX_WORD as u64 + 1;
            let mut limited = (&mut reader).take(limit);
            if limited.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
                break;
            }
            let wrong = |problem| LexiconError::Line {
                path: path.to_owned(),
                line,
                problem,
            };
            if bytes.len() > MAX_WORD {
                return Err(wrong("the line is too long for a word"));
            }
            let text = std::str::from_utf8(&bytes).map_err(|_| wrong("the line is not UTF-8"))?;
            let word = text.trim_start_matches(BYTE_ORDER_MARK).trim();
            if word.contains(char::is_whitespace) {
                return Err(wrong("the line has more than one word"));
            }
            if !word.is_empty() {
                words.insert(word.to_owned());
            }
        }
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
