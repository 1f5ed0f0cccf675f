//! ARPA files: backoff models as text, the way Doug Paul laid them out and SRILM, KenLM and others write
//! them. `\data\`, a line `ngram LENGTH=COUNT` for each length, then a section a length, in which a line
//! is the base-10 logarithm of a probability, the n-gram, and the base-10 logarithm of a backoff weight
//! (0 where it is left out); then `\end\`. What stands before `\data\` and behind `\end\` is passed over.
//! The file may be packed with gzip.
//!
//! Decides what a file must hold, and names the line that does not. What KenLM refuses and can be read all
//! the same is remarked on. Memory follows what has been read, never what a header announces.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    NgramModel, UNKNOWN, UNKNOWN_WORD, WordId, WordTable, other_formats,
    sentence::canonical,
    trie::{Growing, NgramEntry},
    warnings,
};
use crate::{
    corpus_roots::CorpusRoots,
    error_class::{self, Class, Classify},
    text_file::{self, BYTE_ORDER_MARK},
};

/// Longer n-grams than these are not read.
pub const MAX_ORDER: usize = 16;
/// Longest line in bytes.
const MAX_LINE: usize = 1 << 16;
/// The probability's logarithm that an unknown word has in a model that does not say; KenLM's.
const MIN_LOG10: f32 = -100.0;

/// What is wrong with a file of n-grams.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum LmError {
    #[error("cannot read the language model {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the language model {} is {what} and no ARPA file: {advice}", path.display())]
    Foreign {
        path: PathBuf,
        what: &'static str,
        advice: &'static str,
    },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        problem: ArpaLineError,
    },
}

impl Classify for LmError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl LmError {
    /// The message without the words of the file.
    pub fn without_contents(&self) -> String {
        match self {
            Self::Line {
                path,
                line,
                problem,
            } => format!("{}:{line}: {}", path.display(), problem.without_contents()),
            Self::Read { .. } | Self::Foreign { .. } => self.to_string(),
        }
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ArpaLineError {
    #[error("the line is longer than {MAX_LINE} bytes; an n-gram has a line of its own")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("there is no line `\\data\\`; this is not an ARPA file")]
    NoData,
    #[error(
        "expected `ngram {length}=COUNT` or `\\1-grams:`, and found {found:?}; lengths are announced in order, from 1"
    )]
    Header { length: usize, found: String },
    #[error("n-grams of {0} words are announced, and at most {MAX_ORDER} are read")]
    TooLongNgrams(usize),
    #[error("expected {expected}, and found {found:?}")]
    Section { expected: String, found: String },
    #[error("the file ends here and `\\end\\` is missing; copy it again")]
    CutShort,
    #[error("there are {found} {length}-grams, and the header announced {announced}")]
    Count {
        length: usize,
        announced: u64,
        found: u64,
    },
    #[error(
        "a {length}-gram has a logarithm, {length} words and perhaps a backoff weight; this line has {found} fields"
    )]
    Fields { length: usize, found: usize },
    #[error("{0:?} is not a logarithm of a probability: a number up to 0")]
    Logarithm(String),
    #[error("{0:?} is not a logarithm of a backoff weight")]
    Backoff(String),
    #[error("{0:?} is not among the 1-grams")]
    UnknownWord(String),
    #[error("the n-gram is already that of line {first}")]
    Repeated { first: u64 },
    #[error("the n-gram's words but the last, {context:?}, are not among the {}-grams", context.split(' ').count())]
    NoContext { context: String },
    #[error("there are more n-grams than can be numbered")]
    TooMany,
}

impl ArpaLineError {
    /// The message without the words of the line.
    fn without_contents(&self) -> String {
        match self {
            Self::Header { length, .. } => {
                format!("expected `ngram {length}=COUNT` or `\\1-grams:`")
            }
            Self::Section { expected, .. } => format!("expected {expected}"),
            Self::Logarithm(_) => "a number up to 0 is missing: the logarithm".to_owned(),
            Self::Backoff(_) => "the backoff weight is not a logarithm".to_owned(),
            Self::UnknownWord(_) => "a word is not among the 1-grams".to_owned(),
            Self::NoContext { .. } => {
                "the n-gram's words but the last are not among the shorter n-grams".to_owned()
            }
            Self::TooLong
            | Self::NotUtf8
            | Self::NoData
            | Self::TooLongNgrams(_)
            | Self::CutShort
            | Self::Count { .. }
            | Self::Fields { .. }
            | Self::Repeated { .. }
            | Self::TooMany => self.to_string(),
        }
    }
}

impl NgramModel {
    /// Reads the ARPA file at `path`.
    ///
    /// # Errors
    /// Names the line that is not what it must be, or the form of a file that is none.
    pub fn read(path: &Path) -> Result<Self, LmError> {
        Self::read_beneath(&CorpusRoots::anywhere(), path)
    }

    /// As [`Self::read`], of a file that lies beneath `roots`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_beneath(roots: &CorpusRoots, path: &Path) -> Result<Self, LmError> {
        let file = roots.open(path).map_err(|source| LmError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::read_from(file, path)
    }

    /// Reads an ARPA file from `reader`; `path` stands in errors only.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_from(reader: impl Read, path: &Path) -> Result<Self, LmError> {
        let path = || path.to_owned();
        let unreadable = |source| LmError::Read {
            path: path(),
            source,
        };
        let reader = BufReader::with_capacity(1 << 16, reader);
        let mut reader = text_file::utf8(reader).map_err(unreadable)?;
        let mut start = Vec::new();
        let mut look = (&mut reader).take(other_formats::SNIFF_BYTES);
        look.read_to_end(&mut start).map_err(unreadable)?;
        if let Some(other_formats::Foreign { what, advice }) = other_formats::recognise(&start) {
            return Err(LmError::Foreign {
                path: path(),
                what,
                advice,
            });
        }
        let mut lines = LineReader {
            reader: Cursor::new(start).chain(reader),
            number: 0,
            bytes: Vec::new(),
            remarks: Vec::new(),
            weight_of_longest: None,
            weight_of_zero: None,
        };
        read(&mut lines).map_err(|stopped| match stopped {
            ReadStop::Io(source) => LmError::Read {
                path: path(),
                source,
            },
            ReadStop::At(line, problem) => LmError::Line {
                path: path(),
                line,
                problem,
            },
        })
    }
}

enum ReadStop {
    Io(io::Error),
    At(u64, ArpaLineError),
}

struct LineReader<R> {
    reader: R,
    number: u64,
    bytes: Vec<u8>,
    remarks: Vec<String>,
    /// The first line of the longest n-grams with a backoff weight, which means nothing there, and the
    /// first line with one of zero.
    weight_of_longest: Option<u64>,
    weight_of_zero: Option<u64>,
}

impl<R: BufRead> LineReader<R> {
    fn fail<T>(&self, problem: ArpaLineError) -> Result<T, ReadStop> {
        Err(ReadStop::At(self.number, problem))
    }

    /// The next line that is not blank, without space around it; none at the end of the file.
    fn next(&mut self) -> Result<Option<&str>, ReadStop> {
        loop {
            self.bytes.clear();
            let limit = MAX_LINE as u64 + 1;
            let read = (&mut self.reader)
                .take(limit)
                .read_until(b'\n', &mut self.bytes);
            if read.map_err(ReadStop::Io)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.bytes.len() > MAX_LINE {
                return self.fail(ArpaLineError::TooLong);
            }
            let Ok(line) = std::str::from_utf8(&self.bytes) else {
                return self.fail(ArpaLineError::NotUtf8);
            };
            if !without_mark(line).is_empty() {
                break;
            }
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(line) => Ok(Some(without_mark(line))),
            Err(_) => self.fail(ArpaLineError::NotUtf8),
        }
    }

    /// Takes note of a backoff weight that is not what it should be.
    fn weigh(&mut self, back: f32, is_longest: bool) {
        if is_longest && back != 0.0 {
            self.weight_of_longest.get_or_insert(self.number);
        } else if back <= MIN_LOG10 {
            self.weight_of_zero.get_or_insert(self.number);
        }
    }

    /// Tells of what stands behind the model.
    fn end(&mut self) -> Result<(), ReadStop> {
        let found = match self.next() {
            Err(ReadStop::Io(error)) => return Err(ReadStop::Io(error)),
            Ok(None) => return Ok(()),
            Err(ReadStop::At(..)) => String::new(),
            Ok(Some(line)) => format!(" ({:?})", shortened(line)),
        };
        let told = format!(
            "line {} stands behind `\\end\\` and is passed over{found}",
            self.number
        );
        self.remarks.push(told);
        Ok(())
    }
}

/// A line without white space around it and without a byte order mark.
fn without_mark(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_ascii_whitespace())
        .trim_start_matches(BYTE_ORDER_MARK)
        .trim_matches(|c: char| c.is_ascii_whitespace())
}

fn read<R: BufRead>(lines: &mut LineReader<R>) -> Result<NgramModel, ReadStop> {
    let announced = header(lines)?;
    let mut growing = unigrams(lines, &announced)?;
    for length in 2..=announced.len() {
        let entries = section(lines, &announced, length, &growing)?;
        if growing.lengthen(&entries).is_err() {
            return lines.fail(ArpaLineError::TooMany);
        }
    }
    lines.end()?;
    let mut model = growing.finish();
    let of_file = std::mem::take(&mut lines.remarks).into_iter();
    let of_longest = lines.weight_of_longest.map(|line| {
        format!(
            "line {line} has a backoff weight for an n-gram of the longest: longer ones seem to have been \
             cut off"
        )
    });
    let of_zero = lines.weight_of_zero.map(|line| {
        format!(
            "line {line} has a backoff weight of zero, which counts as the logarithm {MIN_LOG10}"
        )
    });
    let of_weights = of_longest.into_iter().chain(of_zero);
    model.remarks = of_file
        .chain(of_weights)
        .chain(warnings::of_words(&model))
        .collect();
    Ok(model)
}

/// The counts that the header announces, and the line `\1-grams:` behind them.
fn header<R: BufRead>(lines: &mut LineReader<R>) -> Result<Vec<u64>, ReadStop> {
    let mut before = None;
    loop {
        match lines.next()? {
            Some("\\data\\") => break,
            Some(line) if line.starts_with('#') => {}
            Some(_) => before = before.or(Some(lines.number)),
            None => return lines.fail(ArpaLineError::NoData),
        }
    }
    if let Some(line) = before {
        let told = format!("line {line} stands before `\\data\\` and is passed over");
        lines.remarks.push(told);
    }
    let mut announced = Vec::new();
    loop {
        let length = announced.len() + 1;
        let Some(line) = lines.next()? else {
            return lines.fail(ArpaLineError::CutShort);
        };
        if line == "\\1-grams:" && length > 1 {
            return Ok(announced);
        }
        let count = line.strip_prefix("ngram ").and_then(|rest| {
            let (of, count) = rest.split_once('=')?;
            let count = count.trim().parse().ok()?;
            (of.trim().parse() == Ok(length)).then_some(count)
        });
        match count {
            Some(_) if length > MAX_ORDER => {
                return lines.fail(ArpaLineError::TooLongNgrams(length));
            }
            Some(count) => announced.push(count),
            None => {
                let found = shortened(line);
                return lines.fail(ArpaLineError::Header { length, found });
            }
        }
    }
}

/// An n-gram's line: logarithm, words and the backoff weight's logarithm.
fn fields(line: &str, length: usize) -> Result<(f32, Vec<&str>, f32), ArpaLineError> {
    let fields: Vec<&str> = line
        .split([' ', '\t'])
        .filter(|field| !field.is_empty())
        .take(length + 3)
        .collect();
    if fields.len() != length + 1 && fields.len() != length + 2 {
        let found = fields.len();
        return Err(ArpaLineError::Fields { length, found });
    }
    let number = |text: &str| text.parse::<f32>().ok().filter(|value| !value.is_nan());
    // Some programs write a probability of 0 as -inf.
    let log = number(fields[0])
        .filter(|&log| log <= 0.0)
        .ok_or_else(|| ArpaLineError::Logarithm(shortened(fields[0])))?
        .max(MIN_LOG10);
    let back = match fields.get(length + 1) {
        None => 0.0,
        Some(text) => number(text)
            .filter(|&back| back < f32::INFINITY)
            .ok_or_else(|| ArpaLineError::Backoff(shortened(text)))?
            .max(MIN_LOG10),
    };
    Ok((log, fields[1..=length].to_vec(), back))
}

/// The line that ends a section: the next one's first, or `\end\`.
fn end_of(announced: &[u64], length: usize) -> String {
    if length == announced.len() {
        "\\end\\".to_owned()
    } else {
        format!("\\{}-grams:", length + 1)
    }
}

/// Whether `line` ends the section of n-grams of `length` words, `found` of which there were.
fn ends(line: &str, announced: &[u64], length: usize, found: u64) -> Result<bool, ArpaLineError> {
    if !line.starts_with('\\') {
        return Ok(false);
    }
    let expected = end_of(announced, length);
    // A word may begin so, but a logarithm does not.
    if line != expected {
        let (expected, found) = (format!("a {length}-gram or `{expected}`"), shortened(line));
        return Err(ArpaLineError::Section { expected, found });
    }
    let announced = announced[length - 1];
    if found == announced {
        return Ok(true);
    }
    Err(ArpaLineError::Count {
        length,
        announced,
        found,
    })
}

fn unigrams<R: BufRead>(lines: &mut LineReader<R>, announced: &[u64]) -> Result<Growing, ReadStop> {
    let mut words = WordTable::default();
    words.add(UNKNOWN_WORD);
    let mut values = vec![(MIN_LOG10, 0.0)];
    let mut seen: HashMap<WordId, u64> = HashMap::new();
    let mut found = 0;
    loop {
        let Some(line) = lines.next()? else {
            return lines.fail(ArpaLineError::CutShort);
        };
        let parsed = ends(line, announced, 1, found).and_then(|ended| {
            if ended {
                return Ok(None);
            }
            let (log, word, back) = fields(line, 1)?;
            Ok(Some((log, canonical(word[0]), back)))
        });
        match parsed {
            Ok(None) => break,
            Ok(Some((log, UNKNOWN_WORD, back))) => {
                values[UNKNOWN as usize] = (log, back);
                if let Some(first) = seen.insert(UNKNOWN, lines.number) {
                    return lines.fail(ArpaLineError::Repeated { first });
                }
            }
            Ok(Some((log, word, back))) => match words.add(word) {
                Some(word) => {
                    values.push((log, back));
                    seen.insert(word, lines.number);
                }
                None => {
                    let first = words.find(word).and_then(|word| seen.get(&word).copied());
                    let first = first.unwrap_or_default();
                    return lines.fail(ArpaLineError::Repeated { first });
                }
            },
            Err(problem) => return lines.fail(problem),
        }
        found += 1;
        let back = values.last().map_or(0.0, |&(_, back)| back);
        lines.weigh(back, announced.len() == 1);
    }
    if !seen.contains_key(&UNKNOWN) {
        lines.remarks.push(format!(
            "`{UNKNOWN_WORD}` is not among the 1-grams: a word that the model lacks has the logarithm {MIN_LOG10}"
        ));
    }
    match Growing::new(words, &values) {
        Ok(growing) => Ok(growing),
        Err(_) => lines.fail(ArpaLineError::TooMany),
    }
}

/// The n-grams of two words or more, sorted.
fn section<R: BufRead>(
    lines: &mut LineReader<R>,
    announced: &[u64],
    length: usize,
    growing: &Growing,
) -> Result<Vec<NgramEntry>, ReadStop> {
    let mut entries: Vec<NgramEntry> = Vec::new();
    loop {
        let Some(line) = lines.next()? else {
            return lines.fail(ArpaLineError::CutShort);
        };
        let parsed = ends(line, announced, length, entries.len() as u64).and_then(|ended| {
            if ended {
                Ok(None)
            } else {
                entry(line, length, growing).map(Some)
            }
        });
        match parsed {
            Ok(None) => break,
            Ok(Some(entry)) => {
                let line = lines.number;
                lines.weigh(entry.back, length == announced.len());
                entries.push(NgramEntry { line, ..entry });
            }
            Err(problem) => return lines.fail(problem),
        }
    }
    entries.sort_unstable_by_key(|entry| (entry.context, entry.word, entry.line));
    let same =
        |pair: &&[NgramEntry]| (pair[0].context, pair[0].word) == (pair[1].context, pair[1].word);
    match entries
        .windows(2)
        .filter(same)
        .min_by_key(|pair| pair[1].line)
    {
        None => Ok(entries),
        Some(pair) => Err(ReadStop::At(
            pair[1].line,
            ArpaLineError::Repeated {
                first: pair[0].line,
            },
        )),
    }
}

fn entry(line: &str, length: usize, growing: &Growing) -> Result<NgramEntry, ArpaLineError> {
    let (log, names, back) = fields(line, length)?;
    let mut words = [0; MAX_ORDER];
    for (word, name) in words.iter_mut().zip(&names) {
        *word = growing
            .words()
            .find(canonical(name))
            .ok_or_else(|| ArpaLineError::UnknownWord(shortened(name)))?;
    }
    let context = growing
        .find(&words[..length - 1])
        .ok_or_else(|| ArpaLineError::NoContext {
            context: names[..length - 1].join(" "),
        })?;
    Ok(NgramEntry {
        context,
        word: words[length - 1],
        log,
        back,
        line: 0,
    })
}

/// So much of what was found as a message has room for.
fn shortened(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
