//! NIST's time-marked words (CTM): lines of a recording, a channel, a start, a duration, a word and, perhaps, a
//! confidence. White space separates the fields, so that names with white space are written with `_`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    error_class::{self, Class, Classify},
    escape::escape_within,
    regular_file,
    text_file::{self, BYTE_ORDER_MARK},
};

/// Longest line in bytes.
const MAX_LINE: usize = 1 << 14;
/// Most words of a file: what is held in memory.
const MAX_WORDS: usize = 1 << 26;
/// The longest recording that times are taken from, in seconds: a year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;
/// Characters of a field that an error shows.
const SHOWN: usize = 60;

/// A word in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct CtmWord {
    /// What the file calls the recording or utterance.
    pub recording: String,
    /// The channel's name, as `1` or `A`.
    pub channel: String,
    /// Seconds from the beginning of the recording.
    pub start: f64,
    /// Its length in seconds, which may be 0.
    pub duration: f64,
    /// The word; `@` for none.
    pub word: String,
    /// From 0 to 1, where the file has it.
    pub confidence: Option<f64>,
    /// The line of the file, from 1.
    pub line: u64,
}

/// What is wrong with a file of time-marked words.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum CtmError {
    #[error("cannot read the time-marked words {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        problem: String,
    },
    #[error("{}: there are no time-marked words", path.display())]
    Empty { path: PathBuf },
}

impl Classify for CtmError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// Reads time-marked words from a file that gzip may have packed. Comments (`;;`) and blank lines are passed over.
///
/// # Errors
/// Names the line that is wrong.
pub fn read(path: &Path) -> Result<Vec<CtmWord>, CtmError> {
    let file = regular_file::open(path).map_err(|source| CtmError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(BufReader::new(file), path)
}

/// [`read`] from `reader`; `path` stands in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(reader: impl BufRead, path: &Path) -> Result<Vec<CtmWord>, CtmError> {
    let unreadable = |source| CtmError::Read {
        path: path.to_owned(),
        source,
    };
    let mut reader = text_file::utf8(reader).map_err(unreadable)?;
    let mut words = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut limited = (&mut reader).take(MAX_LINE as u64 + 1);
        if limited.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let wrong = |problem: &str| CtmError::Line {
            path: path.to_owned(),
            line,
            problem: problem.to_owned(),
        };
        if bytes.len() > MAX_LINE {
            return Err(wrong("the line is too long"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("the line is not UTF-8"))?;
        let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
        if text.is_empty() || text.starts_with(";;") {
            continue;
        }
        if words.len() == MAX_WORDS {
            return Err(wrong("the file has too many words"));
        }
        words.push(word(text, line).map_err(|problem| wrong(&problem))?);
    }
    if words.is_empty() {
        return Err(CtmError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(words)
}

fn word(text: &str, line: u64) -> Result<CtmWord, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [recording, channel, start, duration, word, rest @ ..] = fields.as_slice() else {
        return Err(format!(
            "the line has {} fields, and a word has five or six: recording, channel, start, duration, word, confidence",
            fields.len()
        ));
    };
    let shown = |text: &str| escape_within(text, SHOWN);
    if *start == "*" || word.starts_with("<ALT") {
        return Err(
            "the line marks alternatives, which are not read: leave one of them".to_owned(),
        );
    }
    let seconds = |name: &str, text: &str| match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(seconds),
        _ => Err(format!(
            "the {name} {} is no number of seconds from 0 up",
            shown(text)
        )),
    };
    let confidence = match rest {
        // sclite takes NA for none; a seventh and eighth field are a kind and a speaker.
        [] | ["NA", ..] => None,
        [text, ..] => match text.parse::<f64>() {
            Ok(confidence) if (0.0..=1.0).contains(&confidence) => Some(confidence),
            _ => return Err(format!("the confidence {} is not from 0 to 1", shown(text))),
        },
    };
    Ok(CtmWord {
        recording: (*recording).to_owned(),
        channel: (*channel).to_owned(),
        start: seconds("start", start)?,
        duration: seconds("duration", duration)?,
        word: (*word).to_owned(),
        confidence,
        line,
    })
}

/// The line of a word, with thousandths of a second, without its end.
pub fn line(recording: &str, start: f64, end: f64, word: &str, confidence: Option<f64>) -> String {
    // Rounded both, so that words that touch each other still do.
    let thousandths = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
    let start = thousandths(start);
    let duration = (thousandths(end) - start).max(0.0);
    let confidence = confidence.map_or(String::new(), |it| format!(" {it:.3}"));
    format!(
        "{} 1 {start:.3} {duration:.3} {}{confidence}",
        field(recording),
        field(word)
    )
}

/// `text` as a field: white space and control characters are `_`, and so is the beginning of a comment.
pub fn field(text: &str) -> String {
    let is_field = |c: char| !c.is_whitespace() && !c.is_control() && c != BYTE_ORDER_MARK;
    let text: String = text
        .chars()
        .map(|c| if is_field(c) { c } else { '_' })
        .collect();
    match text.strip_prefix(';') {
        Some(rest) => format!("_{rest}"),
        None if text.is_empty() => "_".to_owned(),
        None => text,
    }
}

/// What the file calls each of some utterances: its id as a [`field`]; where that is another one's already, with a number
/// behind it. It depends on the ids and their order alone.
pub fn recordings<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<String> = ids.into_iter().map(field).collect();
    let mut taken: BTreeSet<String> = names.iter().cloned().collect();
    let mut seen = BTreeSet::new();
    let mut distinct = Vec::with_capacity(names.len());
    for name in names {
        if seen.insert(name.clone()) {
            distinct.push(name);
            continue;
        }
        let mut number = 2u64;
        let mut other = format!("{name}-{number}");
        while !taken.insert(other.clone()) {
            number += 1;
            other = format!("{name}-{number}");
        }
        distinct.push(other);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<CtmWord>, CtmError> {
        parse(text.as_bytes(), Path::new("a.ctm"))
    }

    fn told(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        let text = format!(
            "\u{feff};; a comment\r\n{}\r\n\n{}\nb A 0 0.5 YES NA lex\n",
            line("a b", 0.25, 1.0004, "GO ON", Some(0.75)),
            line(";x", 1.0004, 1.0001, "", None)
        );
        let words = read(&text).unwrap();
        let first = CtmWord {
            recording: "a_b".to_owned(),
            channel: "1".to_owned(),
            start: 0.25,
            duration: 0.75,
            word: "GO_ON".to_owned(),
            confidence: Some(0.75),
            line: 2,
        };
        assert_eq!(words[0], first);
        assert_eq!(
            (words[1].recording.as_str(), words[1].word.as_str()),
            ("_x", "_")
        );
        assert_eq!(
            (words[1].start, words[1].duration, words[1].line),
            (1.0, 0.0, 4)
        );
        assert_eq!(
            (words[2].channel.as_str(), words[2].confidence),
            ("A", None)
        );
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        assert!(told("a 1 0 1 W\na 1 0 1\n").starts_with("a.ctm:2: the line has 4 fields"));
        for start in ["-1", "NaN", "inf", "x", "1e99"] {
            let told = told(&format!("a 1 {start} 1 W\n"));
            assert!(
                told.starts_with("a.ctm:1: the start") && told.contains(start),
                "{told}"
            );
        }
        assert!(told("a 1 0 -0.5 W\n").contains("the duration -0.5"));
        assert!(told("a 1 0 0.5 W 1.5\n").contains("the confidence 1.5 is not from 0 to 1"));
        assert!(told("a 1 * * <ALT_BEGIN>\n").contains("alternatives"));
        assert!(told(&format!("a 1 0 1 {}\n", "x".repeat(20_000))).contains("too long"));
        assert_eq!(
            told(";; nothing\n\n"),
            "a.ctm: there are no time-marked words"
        );
        let bad = parse(&b"a 1 0 1 \xff\n"[..], Path::new("a.ctm")).unwrap_err();
        assert_eq!(bad.to_string(), "a.ctm:1: the line is not UTF-8");
    }

    #[test]
    fn utterances_have_names_that_differ() {
        let names = recordings(["a b", "a_b", "a\tb", "a_b-2", "c"]);
        assert_eq!(names, ["a_b", "a_b-3", "a_b-4", "a_b-2", "c"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(bytes.as_slice(), Path::new("a.ctm"));
        }

        #[test]
        fn any_fields_are_read_or_refused(text in "([a-c;@ .0-9*NA-]{0,20}\n){0,6}") {
            for word in read(&text).unwrap_or_default() {
                prop_assert!(word.start >= 0.0 && word.duration >= 0.0);
            }
        }

        #[test]
        fn what_is_written_is_read_again(recording in ".{0,12}", word in ".{0,12}", start in 0.0..1e5f64) {
            let text = line(&recording, start, start + 1.0, &word, Some(0.5));
            let words = read(&text).expect("it was written");
            prop_assert_eq!(words.len(), 1);
            prop_assert_eq!(&words[0].word, &field(&word));
            prop_assert_eq!(&words[0].recording, &field(&recording));
            prop_assert!((words[0].start - start).abs() < 0.0006);
        }
    }
}
