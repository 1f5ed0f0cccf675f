//! Word n-gram language models with backoff, from an ARPA file (`arpa`) or counted from text (`train`). It decides
//! how probable a word is in its context.
//!
//! A model is a trie over the words of its n-grams, in their order, laid out level by level in flat
//! arrays: an n-gram's continuations lie beside each other, sorted by word. Every node knows the longest
//! proper suffix of its n-gram that is in the model too, so that backing off is one load.

use std::collections::HashMap;

mod arpa;
mod counts;
mod discounts;
mod other_formats;
mod perplexity;
mod rename;
mod sentence;
mod train;
mod trie;
mod warnings;
mod write;

pub use arpa::{ArpaLineError, LmError, MAX_ORDER};
pub use discounts::Discounts;
pub use perplexity::Perplexity;
pub use sentence::{is_mark, reserved_word, sentence_words};
pub use train::{MAX_TRAINED_ORDER, TrainError, TrainedLm, train};

/// A word's number in a model.
pub type WordId = u32;

/// The word that stands for all others.
pub const UNKNOWN: WordId = 0;

/// The word that stands for all words that a model lacks.
pub const UNKNOWN_WORD: &str = "<unk>";
/// The mark of a sentence's beginning.
pub const BEGIN_WORD: &str = "<s>";
/// The mark of a sentence's end.
pub const END_WORD: &str = "</s>";

/// The base-10 logarithm that stands for a probability of zero, as in SRILM's files.
pub const LOG10_ZERO: f32 = -99.0;

/// What a model remembers of the words so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LmState(u32);

/// A backoff n-gram model.
#[derive(Clone, Debug)]
pub struct NgramModel {
    words: WordTable,
    /// Where the nodes of each length of n-gram start: 0 for the root, then 1, and behind the last
    /// length their number.
    levels: Vec<usize>,
    /// Each node's last word, and the base-10 logarithm of that word's probability after the
    /// ones before.
    word: Vec<WordId>,
    log: Vec<f32>,
    /// Each node's backoff link: the node of its n-gram's longest proper suffix which can be continued.
    link: Vec<u32>,
    /// For each node that can be continued (all but the longest n-grams): the base-10 logarithm of the
    /// backoff weight, and where its continuations start; theirs end where the next one's start.
    back: Vec<f32>,
    first: Vec<u32>,
    /// What is unusual about the file that it was read from.
    remarks: Vec<String>,
}

impl NgramModel {
    /// What is unusual about the file that the model was read from, a sentence each: KenLM would have
    /// refused it, or a score may be better than the model is.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The length of the longest n-grams.
    pub fn order(&self) -> usize {
        self.levels.len() - 2
    }

    /// How many n-grams of `length` words there are.
    pub fn ngrams(&self, length: usize) -> usize {
        match length {
            0 => 0,
            _ if length > self.order() => 0,
            _ => self.levels[length + 1] - self.levels[length],
        }
    }

    /// The number of `word`, if the model has it.
    pub fn find(&self, word: &str) -> Option<WordId> {
        self.words.find(word)
    }

    /// The words by their numbers; [`UNKNOWN_WORD`], [`BEGIN_WORD`] and [`END_WORD`] are among them.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.names.iter().map(AsRef::as_ref)
    }

    /// Before the first word of a sentence.
    pub fn begin(&self) -> LmState {
        match self.find(BEGIN_WORD) {
            Some(begin) => self.after(self.unigram(begin)),
            None => LmState::default(),
        }
    }

    /// The base-10 logarithm of the probability of `word` after `state`, and the state behind it.
    /// Katz' backoff as ARPA files mean it: the longest n-gram that is there, times the backoff weights
    /// of the contexts that were too long.
    pub fn score(&self, state: LmState, word: WordId) -> (f64, LmState) {
        let mut context = state.0;
        let mut weight = 0.0;
        loop {
            if let Some(node) = self.continuation(context, word) {
                let log = weight + f64::from(self.log[node as usize]);
                return (log, self.after(node));
            }
            if context == 0 {
                // A number that no word has: nothing is known of it.
                return (weight + f64::from(LOG10_ZERO), LmState::default());
            }
            weight += f64::from(self.back[context as usize]);
            context = self.link[context as usize];
        }
    }

    /// The base-10 logarithm of the probability that the sentence ends after `state`; 0 for a model
    /// without an end of sentences.
    pub fn end(&self, state: LmState) -> f64 {
        self.find(END_WORD)
            .map_or(0.0, |end| self.score(state, end).0)
    }

    const fn unigram(&self, word: WordId) -> u32 {
        1 + word
    }

    /// The state behind the n-gram of `node`: itself, or its longest suffix where nothing is longer.
    fn after(&self, node: u32) -> LmState {
        if (node as usize) < self.back.len() {
            LmState(node)
        } else {
            LmState(self.link[node as usize])
        }
    }

    fn continuation(&self, context: u32, word: WordId) -> Option<u32> {
        if context == 0 {
            let known = (word as usize) < self.words.names.len();
            return known.then(|| self.unigram(word));
        }
        let start = self.first[context as usize] as usize;
        let end = self.first[context as usize + 1] as usize;
        let found = self.word[start..end].binary_search(&word).ok()?;
        Some((start + found) as u32)
    }
}

/// Words and their numbers.
#[derive(Clone, Debug, Default)]
struct WordTable {
    names: Vec<Box<str>>,
    /// Only looked up in: its order reaches nothing.
    numbers: HashMap<Box<str>, WordId>,
}

impl WordTable {
    fn find(&self, word: &str) -> Option<WordId> {
        self.numbers.get(word).copied()
    }

    /// The number of a new word; none if it is there already.
    fn add(&mut self, word: &str) -> Option<WordId> {
        if self.numbers.contains_key(word) {
            return None;
        }
        let number = self.names.len() as WordId;
        self.names.push(word.into());
        self.numbers.insert(word.into(), number);
        Some(number)
    }
}

#[cfg(test)]
mod tests;
