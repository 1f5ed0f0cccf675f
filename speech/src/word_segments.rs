//! Single words of utterances as utterances of their own, where time-marked words say they lie. No sound is opened: they are
//! segments of the same recordings.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::{
    ctm::{self, CtmWord},
    error_class::{Class, Classify},
    escape::escape_within,
    left_out::{LeftOut, Reason},
    manifest::Utterance,
};

/// What CTM has for no word.
const NO_WORD: &str = "@";
/// Characters of a name that a message shows.
const SHOWN: usize = 60;
/// Seconds by which a word may reach beyond its utterance: the times of both are rounded.
const ROUNDING: f64 = 0.01;

/// The words that are wanted, and how they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedWords {
    /// By what they are in lower case; empty for every word, as it is written.
    by_lowercase: BTreeMap<String, String>,
}

/// Words that cannot all be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum WantedWordsError {
    #[error("{0:?} is no word: name words without white space, with commas between them")]
    NotAWord(String),
    #[error("{0:?} and {1:?} are the same word, since the case of letters makes no difference")]
    Same(String, String),
}

impl Classify for WantedWordsError {
    fn class(&self) -> Class {
        Class::Usage
    }
}

impl WantedWords {
    /// These words, in any case; every word where there are none.
    ///
    /// # Errors
    /// When one is empty, has white space, or stands twice.
    pub fn new(words: &[String]) -> Result<Self, WantedWordsError> {
        let mut by_lowercase = BTreeMap::new();
        for word in words {
            if word.is_empty() || word.contains(char::is_whitespace) || word == NO_WORD {
                return Err(WantedWordsError::NotAWord(word.clone()));
            }
            if let Some(first) = by_lowercase.insert(word.to_lowercase(), word.clone()) {
                return Err(WantedWordsError::Same(first, word.clone()));
            }
        }
        Ok(Self { by_lowercase })
    }

    /// How `word` is to be written, if it is wanted.
    fn written<'a>(&'a self, word: &'a str) -> Option<&'a str> {
        if self.by_lowercase.is_empty() {
            return (word != NO_WORD).then_some(word);
        }
        self.by_lowercase
            .get(&word.to_lowercase())
            .map(String::as_str)
    }
}

/// What was cut out of utterances.
#[derive(Clone, Debug, PartialEq)]
pub struct WordSegments {
    /// A segment for each word, in the alignment's order.
    pub utterances: Vec<Utterance>,
    /// How many there are of each word that is wanted.
    pub counts: BTreeMap<String, u64>,
    /// Words of the alignment that lie in no utterance.
    pub left_out: LeftOut,
    /// What is wrong with each of the first of them, by the line.
    pub problems: Vec<(u64, String)>,
}

/// Most problems that are kept to be told; all are counted.
const MAX_PROBLEMS: usize = 1000;

/// The wanted words of `utterances`, each with so many seconds of padding at both ends, as far as its utterance reaches.
/// The recordings of `words` are the utterances as [`ctm::recordings`] names them, and their times are the utterances'.
///
/// A segment has its utterance's id with the word's number behind it, and its recording, channel and speaker.
pub fn cut(
    utterances: &[Utterance],
    words: &[CtmWord],
    wanted: &WantedWords,
    padding: f64,
) -> WordSegments {
    let names = ctm::recordings(utterances.iter().map(|it| it.id.as_str()));
    let by_name: BTreeMap<&str, &Utterance> =
        names.iter().map(String::as_str).zip(utterances).collect();
    let mut taken: BTreeSet<String> = utterances.iter().map(|it| it.id.clone()).collect();
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut found = WordSegments {
        utterances: Vec::new(),
        counts: BTreeMap::new(),
        left_out: LeftOut::of(words.len()),
        problems: Vec::new(),
    };
    for word in wanted.by_lowercase.values() {
        found.counts.insert(word.clone(), 0);
    }
    for one in words {
        let number = numbers.entry(&one.recording).or_default();
        *number += 1;
        let Some(written) = wanted.written(&one.word) else {
            continue;
        };
        let Some(utterance) = by_name.get(one.recording.as_str()) else {
            let name = escape_within(&one.recording, SHOWN);
            found.leave_out(one, format!("the manifest has no utterance {name}"));
            continue;
        };
        let end = one.start + one.duration;
        if end > utterance.duration + ROUNDING {
            let told = format!(
                "the word ends at {end:.3} s, and utterance {} after {:.3} s: was another manifest aligned?",
                escape_within(&utterance.id, SHOWN),
                utterance.duration
            );
            found.leave_out(one, told);
            continue;
        }
        let from = (one.start - padding).max(0.0);
        let to = (end + padding).min(utterance.duration);
        if to <= from {
            let told = "the word has no length: --padding MS takes sound around it".to_owned();
            found.leave_out(one, told);
            continue;
        }
        // An id that another utterance has already gets a dash more.
        let mut id = format!("{}-w{number:03}", utterance.id);
        while !taken.insert(id.clone()) {
            id.push('-');
        }
        match found.counts.get_mut(written) {
            Some(count) => *count += 1,
            None => drop(found.counts.insert(written.to_owned(), 1)),
        }
        found.utterances.push(Utterance {
            id,
            audio: utterance.audio.clone(),
            offset: microseconds(utterance.offset + from),
            duration: microseconds(to - from),
            channel: utterance.channel,
            text: written.to_owned(),
            speaker: utterance.speaker.clone(),
        });
    }
    found
}

impl WordSegments {
    fn leave_out(&mut self, word: &CtmWord, told: String) {
        let name = format!("line {}", word.line);
        self.left_out.add(&name, Reason::BadLine, &told);
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((word.line, told));
        }
    }
}

/// Rounded, so that manifests have no long decimals; never to 0.
fn microseconds(seconds: f64) -> f64 {
    let rounded = (seconds * 1e6).round() / 1e6;
    if rounded == 0.0 { seconds } else { rounded }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::manifest::Manifest;

    fn utterance(id: &str, offset: f64) -> Utterance {
        Utterance {
            id: id.to_owned(),
            audio: PathBuf::from("/a.wav"),
            offset,
            duration: 2.0,
            channel: Some(1),
            text: "ZERO ONE".to_owned(),
            speaker: Some("s".to_owned()),
        }
    }

    fn words(text: &str) -> Vec<CtmWord> {
        ctm::parse(text.as_bytes(), Path::new("a.ctm")).unwrap()
    }

    fn wanted(words: &[&str]) -> Result<WantedWords, WantedWordsError> {
        let words: Vec<String> = words.iter().map(|&it| it.to_owned()).collect();
        WantedWords::new(&words)
    }

    #[test]
    fn wanted_words_are_segments_of_their_utterances() {
        let utterances = [utterance("a b", 0.0), utterance("c", 10.5)];
        let text = "a_b 1 0.1 0.4 ZERO\na_b 1 0.5 0.25 STOP\nc 1 0.0 0.5 zero 0.9\nc 1 1.6 0.405 One\nc 1 0 2 @\n";
        let cut = cut(
            &utterances,
            &words(text),
            &wanted(&["zero", "one", "two"]).unwrap(),
            0.125,
        );
        let shown: Vec<_> = cut
            .utterances
            .iter()
            .map(|it| (it.id.as_str(), it.offset, it.duration, it.text.as_str()))
            .collect();
        let expected = [
            ("a b-w001", 0.0, 0.625, "zero"),
            ("c-w001", 10.5, 0.625, "zero"),
            ("c-w002", 11.975, 0.525, "one"),
        ];
        assert_eq!(shown, expected);
        let counts: Vec<_> = cut
            .counts
            .iter()
            .map(|(word, count)| (word.as_str(), *count))
            .collect();
        assert_eq!(counts, [("one", 1), ("two", 0), ("zero", 2)]);
        assert!(cut.left_out.is_empty());
        let first = &cut.utterances[0];
        assert_eq!(
            (first.channel, first.speaker.as_deref()),
            (Some(1), Some("s"))
        );
        assert!(Manifest::encode(Path::new("w.jsonl"), &cut.utterances).is_ok());
    }

    #[test]
    fn words_that_lie_in_no_utterance_are_named_by_their_lines() {
        let utterances = [utterance("a", 0.0)];
        let text = "a 1 0 1 GO\nb 1 0 1 GO\na 1 1.5 1 GO\na 1 1 0 GO\n";
        let every = cut(&utterances, &words(text), &WantedWords::default(), 0.0);
        assert_eq!(every.utterances.len(), 1);
        assert_eq!(every.left_out.utterances, 3);
        let lines: Vec<u64> = every.problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert!(every.problems[0].1.contains("no utterance b"));
        assert!(every.problems[1].1.contains("ends at 2.500 s"));
        assert!(every.problems[2].1.contains("--padding"));
        assert_eq!(every.counts["GO"], 1);
    }

    #[test]
    fn words_that_cannot_be_wanted_are_refused() {
        let told = |words: &[&str]| wanted(words).unwrap_err().to_string();
        assert!(told(&["go", "GO"]).contains("\"go\" and \"GO\""));
        assert!(told(&["go", ""]).contains("\"\" is no word"));
        assert!(told(&["new york"]).contains("\"new york\" is no word"));
    }

    #[test]
    fn ids_differ_from_those_of_the_utterances() {
        let utterances = [utterance("a", 0.0), utterance("a-w001", 0.0)];
        let text = "a 1 0 1 GO\na-w001 1 0 1 GO\n";
        let cut = cut(&utterances, &words(text), &WantedWords::default(), 0.0);
        let ids: Vec<&str> = cut.utterances.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["a-w001-", "a-w001-w001"]);
    }
}
