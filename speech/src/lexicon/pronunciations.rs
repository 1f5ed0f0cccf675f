//! How words are pronounced: dictionaries of CMU Sphinx (`WORD(2)` is another pronunciation of `WORD`) and Kaldi's
//! `lexicon.txt` and `lexiconp.txt`, which are told apart by their lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
    path::Path,
};

use serde::Serialize;

use super::{LexiconError, each_line, open};
use crate::{corpus_roots::CorpusRoots, escape::escape_within};

/// Most lines with a pronunciation: what is held in memory.
const MAX_PRONUNCIATIONS: usize = 1 << 22;
/// Characters of a field that an error shows.
const SHOWN: usize = 60;

/// How the file of a lexicon writes pronunciations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LexiconFormat {
    /// CMU Sphinx's: a word and its phones, and `WORD(2)` for its second pronunciation.
    Sphinx,
    /// Kaldi's `lexicon.txt`: a word and its phones; a word with several pronunciations has several lines.
    Kaldi,
    /// Kaldi's `lexiconp.txt`: a word, a probability and the phones.
    KaldiProbabilities,
}

impl LexiconFormat {
    /// The name of the format, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sphinx => "CMU Sphinx's dictionary",
            Self::Kaldi => "Kaldi's lexicon.txt",
            Self::KaldiProbabilities => "Kaldi's lexiconp.txt",
        }
    }
}

/// One way to say a word.
#[derive(Clone, Debug, PartialEq)]
pub struct Pronunciation {
    /// The numbers of its phones in [`Pronunciations::phones`]; at least one.
    pub phones: Vec<u32>,
    /// How probable it is among those of its word, above 0 and at most 1: what the file says, where it says so, and
    /// else the same for each of a word's pronunciations, with the sum 1. As in Kaldi, those of a file need not sum to 1.
    pub probability: f64,
    /// The line of the file that has it, from 1.
    pub line: u64,
}

/// A line that says what an earlier one has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateLine {
    /// The word.
    pub word: String,
    /// The line, from 1.
    pub line: u64,
    /// The line that was there before.
    pub first: u64,
}

/// Words that are pronounced alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Homophones {
    /// The phones, with spaces between them.
    pub phones: String,
    /// The words, sorted.
    pub words: Vec<String>,
}

/// Words and how they are pronounced.
#[derive(Clone, Debug, PartialEq)]
pub struct Pronunciations {
    format: LexiconFormat,
    phones: Vec<String>,
    words: BTreeMap<String, Vec<Pronunciation>>,
    duplicates: Vec<DuplicateLine>,
}

/// A line, taken apart.
struct Entry {
    line: u64,
    word: String,
    /// The number in round brackets behind the word.
    alternative: bool,
    /// What is behind the word.
    fields: Vec<String>,
}

impl Pronunciations {
    /// Reads a dictionary of Sphinx or Kaldi from a file that gzip may have packed. Lines that begin with `;;;`, and
    /// what stands behind a field `#`, are comments.
    ///
    /// # Errors
    /// Names the line that is wrong: without phones, with `WORD(2)` where no line has `WORD`, with a probability that is
    /// none, too long, or not UTF-8.
    pub fn read(path: &Path) -> Result<Self, LexiconError> {
        Self::parse(open(&CorpusRoots::anywhere(), path)?, path)
    }

    /// [`Self::read`] from `reader`; `path` stands in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(reader: impl BufRead, path: &Path) -> Result<Self, LexiconError> {
        let mut entries = Vec::new();
        each_line(reader, |line, text| {
            if !text.starts_with(";;;") {
                if entries.len() == MAX_PRONUNCIATIONS {
                    let told = format!("the lexicon has more than {MAX_PRONUNCIATIONS} lines");
                    return Err(told);
                }
                entries.push(Entry::of(line, text)?);
            }
            Ok(())
        })
        .map_err(|problem| LexiconError::of(path, problem))?;
        if entries.is_empty() {
            return Err(LexiconError::Empty {
                path: path.to_owned(),
            });
        }
        Self::of(entries).map_err(|(line, problem)| LexiconError::Line {
            path: path.to_owned(),
            line,
            problem,
        })
    }

    fn of(entries: Vec<Entry>) -> Result<Self, (u64, String)> {
        let has_probabilities = entries[0].probability().is_some();
        let plain: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| !entry.alternative)
            .map(|entry| entry.word.as_str())
            .collect();
        for entry in entries.iter().filter(|entry| entry.alternative) {
            if !plain.contains(entry.word.as_str()) {
                let word = escape_within(&entry.word, SHOWN);
                let told = format!(
                    "another pronunciation of {word}, which no line has without a number in brackets: add the line of \
                     its first pronunciation"
                );
                return Err((entry.line, told));
            }
        }
        let is_sphinx = entries.iter().any(|entry| entry.alternative);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut taken = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (probability, phones) = entry
                .taken(has_probabilities)
                .map_err(|told| (entry.line, told))?;
            names.extend(phones.iter().map(String::as_str));
            taken.push((probability, phones));
        }
        let numbers: BTreeMap<&str, u32> = names.iter().copied().zip(0..).collect();
        let mut words: BTreeMap<String, Vec<Pronunciation>> = BTreeMap::new();
        let mut duplicates = Vec::new();
        // By what was said, where it was said first.
        let mut known: BTreeMap<(&str, Vec<u32>), (u64, f64)> = BTreeMap::new();
        for (entry, (probability, phones)) in entries.iter().zip(taken) {
            let phones: Vec<u32> = phones.iter().map(|phone| numbers[phone.as_str()]).collect();
            let word = entry.word.as_str();
            if let Some((first, before)) = known.get(&(word, phones.clone())) {
                if *before != probability {
                    let told = format!(
                        "line {first} gives the same pronunciation of {} the probability {before}: leave one of them",
                        escape_within(word, SHOWN)
                    );
                    return Err((entry.line, told));
                }
                duplicates.push(DuplicateLine {
                    word: word.to_owned(),
                    line: entry.line,
                    first: *first,
                });
                continue;
            }
            known.insert((word, phones.clone()), (entry.line, probability));
            let of_word = match words.get_mut(word) {
                Some(of_word) => of_word,
                None => words.entry(word.to_owned()).or_default(),
            };
            of_word.push(Pronunciation {
                phones,
                probability,
                line: entry.line,
            });
        }
        let format = match (has_probabilities, is_sphinx) {
            (true, _) => LexiconFormat::KaldiProbabilities,
            (false, true) => LexiconFormat::Sphinx,
            (false, false) => LexiconFormat::Kaldi,
        };
        if !has_probabilities {
            for of_word in words.values_mut() {
                let share = 1.0 / of_word.len() as f64;
                for one in of_word {
                    one.probability = share;
                }
            }
        }
        Ok(Self {
            format,
            phones: names.into_iter().map(str::to_owned).collect(),
            words,
            duplicates,
        })
    }

    /// How the file writes them. A file in which no word has two pronunciations is the same in both programs, and counts
    /// as Kaldi's.
    pub const fn format(&self) -> LexiconFormat {
        self.format
    }

    /// The names of the phones, distinct and sorted by Unicode scalar values.
    pub fn phones(&self) -> &[String] {
        &self.phones
    }

    /// The words, sorted by Unicode scalar values.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.keys().map(String::as_str)
    }

    /// How `word` is pronounced, in the order of the lines; empty for a word that the lexicon lacks.
    pub fn of_word(&self, word: &str) -> &[Pronunciation] {
        self.words.get(word).map_or(&[], Vec::as_slice)
    }

    /// How many pronunciations there are.
    pub fn count(&self) -> usize {
        self.words.values().map(Vec::len).sum()
    }

    /// Lines that were passed over, since an earlier one says the same.
    pub fn duplicates(&self) -> &[DuplicateLine] {
        &self.duplicates
    }

    /// Words that are pronounced alike, in the order of their phones' numbers.
    pub fn homophones(&self) -> Vec<Homophones> {
        let mut alike: BTreeMap<&[u32], Vec<&str>> = BTreeMap::new();
        for (word, of_word) in &self.words {
            for one in of_word {
                alike.entry(&one.phones).or_default().push(word);
            }
        }
        let several = alike.into_iter().filter(|(_, words)| words.len() > 1);
        let homophones = several.map(|(phones, words)| Homophones {
            phones: self.spelled(phones),
            words: words.into_iter().map(str::to_owned).collect(),
        });
        homophones.collect()
    }

    /// Phones that stand in one line alone, which are often mistyped ones: the phone, and the line.
    pub fn rare_phones(&self) -> Vec<(&str, u64)> {
        let mut lines: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); self.phones.len()];
        for one in self.words.values().flatten() {
            for &phone in &one.phones {
                if lines[phone as usize].len() < 2 {
                    lines[phone as usize].insert(one.line);
                }
            }
        }
        let named = self.phones.iter().zip(&lines);
        named
            .filter(|(_, lines)| lines.len() == 1)
            .filter_map(|(phone, lines)| Some((phone.as_str(), *lines.first()?)))
            .collect()
    }

    fn spelled(&self, phones: &[u32]) -> String {
        let names = phones
            .iter()
            .map(|&phone| self.phones[phone as usize].as_str());
        names.collect::<Vec<_>>().join(" ")
    }
}

impl Entry {
    fn of(line: u64, text: &str) -> Result<Self, String> {
        let mut fields = text.split_whitespace();
        let written = fields.next().unwrap_or_default();
        let fields: Vec<String> = fields
            .take_while(|field| *field != "#")
            .map(str::to_owned)
            .collect();
        if fields.is_empty() {
            return Err(format!(
                "{} has no phones: write them behind the word, with spaces between them",
                escape_within(written, SHOWN)
            ));
        }
        let (word, alternative) = match without_number(written) {
            Some(word) => (word, true),
            None => (written, false),
        };
        Ok(Self {
            line,
            word: word.to_owned(),
            alternative,
            fields,
        })
    }

    /// The number behind the word, in front of phones.
    fn probability(&self) -> Option<f64> {
        let number = self.fields[0].parse().ok()?;
        let is_number =
            self.fields[0].starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        (self.fields.len() > 1 && is_number).then_some(number)
    }

    /// The probability and the phones, in a lexicon that has probabilities or has none.
    fn taken(&self, has_probabilities: bool) -> Result<(f64, &[String]), String> {
        let shown = |text: &str| escape_within(text, SHOWN);
        match (has_probabilities, self.probability()) {
            (true, None) => Err(format!(
                "{} has no probability and phones behind it, as lines before it have",
                shown(&self.word)
            )),
            // A probability of 0 is a pronunciation that is none.
            (true, Some(probability)) if probability > 0.0 && probability <= 1.0 => {
                Ok((probability, &self.fields[1..]))
            }
            (true, Some(_)) => Err(format!(
                "the probability {} of {} is not above 0 and at most 1",
                shown(&self.fields[0]),
                shown(&self.word)
            )),
            (false, Some(_)) if self.fields[0].contains('.') => Err(format!(
                "{} has the probability {}, and lines before it have none",
                shown(&self.word),
                shown(&self.fields[0])
            )),
            (false, _) => Ok((1.0, &self.fields)),
        }
    }
}

/// The word of `WORD(2)`; `None` for what has no number in brackets.
fn without_number(written: &str) -> Option<&str> {
    let (word, number) = written.strip_suffix(')')?.rsplit_once('(')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Pronunciations, LexiconError> {
        Pronunciations::parse(text.as_bytes(), Path::new("a.dic"))
    }

    fn told(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    fn said(lexicon: &Pronunciations, word: &str) -> Vec<(String, f64)> {
        let of_word = lexicon.of_word(word).iter();
        of_word
            .map(|one| (lexicon.spelled(&one.phones), one.probability))
            .collect()
    }

    fn ways(ways: &[(&str, f64)]) -> Vec<(String, f64)> {
        ways.iter()
            .map(|&(phones, probability)| (phones.to_owned(), probability))
            .collect()
    }

    #[test]
    fn the_three_formats_are_told_apart_by_their_lines() {
        let text = "\u{feff};;; a comment\r\nA  AH\r\nA(2)\tEY # the letter\r\n\r\nON AA N\r\n";
        let sphinx = parse(text).unwrap();
        assert_eq!(sphinx.format(), LexiconFormat::Sphinx);
        assert_eq!(said(&sphinx, "A"), ways(&[("AH", 0.5), ("EY", 0.5)]));
        assert_eq!(sphinx.of_word("A")[1].line, 3);
        assert_eq!(sphinx.phones(), ["AA", "AH", "EY", "N"]);
        assert_eq!(said(&sphinx, "ON"), ways(&[("AA N", 1.0)]));
        assert_eq!(said(&sphinx, "A(2)"), []);

        let kaldi = parse("<SIL> SIL\na ah\na ey\n").unwrap();
        assert_eq!(kaldi.format(), LexiconFormat::Kaldi);
        assert_eq!(said(&kaldi, "a"), ways(&[("ah", 0.5), ("ey", 0.5)]));

        let weighed = parse("a 1.0 ah\na 0.25 ey\n(x) 1e-3 ks\n").unwrap();
        assert_eq!(weighed.format(), LexiconFormat::KaldiProbabilities);
        assert_eq!(said(&weighed, "a"), ways(&[("ah", 1.0), ("ey", 0.25)]));
        assert_eq!(said(&weighed, "(x)"), ways(&[("ks", 0.001)]));
        assert_eq!(weighed.count(), 3);
        // A single digit may be a phone.
        assert_eq!(parse("a 1\n").unwrap().phones(), ["1"]);
        assert_eq!(parse("b ah\na 5 ah\n").unwrap().phones(), ["5", "ah"]);
    }

    #[test]
    fn alike_words_double_lines_and_rare_phones_are_found() {
        let text = "TO T UW\nTWO T UW\nTOO T UW\nTO(2) T AX\nTWO T UW\nZOO Z UW\n";
        let lexicon = parse(text).unwrap();
        let homophones = lexicon.homophones();
        assert_eq!(homophones.len(), 1);
        assert_eq!(homophones[0].words, ["TO", "TOO", "TWO"]);
        assert_eq!(homophones[0].phones, "T UW");
        let double = &lexicon.duplicates()[0];
        assert_eq!(
            (double.word.as_str(), double.line, double.first),
            ("TWO", 5, 2)
        );
        assert_eq!(lexicon.rare_phones(), [("AX", 4), ("Z", 6)]);
        assert_eq!(lexicon.of_word("TWO").len(), 1);
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        assert_eq!(
            told("A AH\nB\n"),
            "a.dic:2: B has no phones: write them behind the word, with spaces between them"
        );
        assert!(told("A AH\nB # no phones\n").starts_with("a.dic:2: B has no phones"));
        let alone = told("A AH\nB(2) B IY\nC S IY\n");
        assert!(
            alone.starts_with("a.dic:2: another pronunciation of B, which no line has"),
            "{alone}"
        );
        for probability in ["1.5", "0", "-0.5", "0.0", "NaN", "inf"] {
            let told = told(&format!("a 1.0 ah\nb {probability} b\n"));
            assert!(told.starts_with("a.dic:2: "), "{told}");
        }
        let above = told("a 1.5 ah\n");
        assert_eq!(
            above,
            "a.dic:1: the probability 1.5 of a is not above 0 and at most 1"
        );
        assert!(told("a 0.5 ah\nb b iy\n").contains("a.dic:2: b has no probability"));
        assert!(told("b b iy\na 0.5 ah\n").contains("a.dic:2: a has the probability 0.5"));
        assert!(told("a 0.5 ah\na 0.25 ah\n").contains("a.dic:2: line 1 gives the same"));
        assert!(
            told(&format!("A AH\nB {}\n", "AH ".repeat(2000)))
                .contains("a.dic:2: the line is too long")
        );
        assert!(parse(&format!("A AH\nB {}\n", "AH ".repeat(1300))).is_ok());
        assert_eq!(told("\n;;; nothing\n"), "a.dic: the lexicon has no words");
        let bad = Pronunciations::parse(&b"A AH\n\xff AH\n"[..], Path::new("a.dic"));
        assert_eq!(
            bad.unwrap_err().to_string(),
            "a.dic:2: the line is not UTF-8"
        );
        assert!(told("A AH\n\u{1b}[2J\n").contains("\\u{1b}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Pronunciations::parse(bytes.as_slice(), Path::new("a.dic"));
        }

        #[test]
        fn any_lines_are_read_or_refused(text in "([AB(2) .10#;]{0,12}\n){0,8}") {
            let Ok(lexicon) = parse(&text) else { return Ok(()) };
            for word in lexicon.words() {
                for one in lexicon.of_word(word) {
                    prop_assert!(!one.phones.is_empty());
                    prop_assert!(one.probability > 0.0 && one.probability <= 1.0);
                }
            }
            prop_assert!(lexicon.count() > 0);
        }
    }
}
