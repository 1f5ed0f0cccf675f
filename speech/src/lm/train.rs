//! Counts a text's n-grams and makes a model of them: interpolated modified Kneser-Ney (Kneser & Ney
//! 1995; Chen & Goodman 1998), as ARPA files can say it. The same text gives the same bits.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::error_class::{Class, Classify};

use super::{
    BEGIN_WORD, Discounts, END_WORD, LOG10_ZERO, NgramModel, UNKNOWN, UNKNOWN_WORD, WordTable,
    counts::{Marks, Ngrams, Sentences},
    is_mark, sentence_words,
    trie::{Growing, NgramEntry, TooMany},
};

/// Longer n-grams than these are not trained.
pub const MAX_TRAINED_ORDER: usize = 6;

/// A model and how it was smoothed.
#[derive(Clone, Debug)]
pub struct TrainedLm {
    /// The trained model.
    pub model: NgramModel,
    /// For each length of n-grams, from 1.
    pub discounts: Vec<Discounts>,
    /// The number of sentences that were counted.
    pub sentences: u64,
    /// Without the marks.
    pub words: u64,
}

/// A text that no model can be made of.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum TrainError {
    #[error("the text has no words to make a language model of")]
    Empty,
    #[error("a language model's order is from 1 to {MAX_TRAINED_ORDER}, not {0}")]
    Order(usize),
    #[error(
        "sentence {sentence} has the word {word:?}, which language models keep for themselves; take it out"
    )]
    Mark { sentence: u64, word: String },
    #[error("the text has more words than can be numbered")]
    TooMany,
}

impl Classify for TrainError {
    fn class(&self) -> Class {
        match self {
            Self::Order(_) => Class::Usage,
            Self::Empty | Self::Mark { .. } | Self::TooMany => Class::Data,
        }
    }
}

impl From<TooMany> for TrainError {
    fn from(_: TooMany) -> Self {
        Self::TooMany
    }
}

/// Makes a model of sentences, whose words are those of [`sentence_words`]; blank ones are passed
/// over.
///
/// Probabilities are interpolated down to the uniform one over the words, the end of a sentence and
/// the unknown word, which so gets a little. Where an order's discounts cannot be estimated,
/// [`Discounts::FALLBACK`] stands in, and the result says so.
///
/// # Errors
/// When there is no text, a word is one of the marks, or `order` is not from 1 to
/// [`MAX_TRAINED_ORDER`].
pub fn train<T: AsRef<str>>(sentences: &[T], order: usize) -> Result<TrainedLm, TrainError> {
    if !(1..=MAX_TRAINED_ORDER).contains(&order) {
        return Err(TrainError::Order(order));
    }
    let (words, text, said) = number(sentences)?;
    let lengths: Vec<Ngrams> = (1..=order).map(|length| text.ngrams(length)).collect();
    let counts: Vec<Vec<u64>> = lengths
        .iter()
        .enumerate()
        .map(|(place, ngrams)| match lengths.get(place + 1) {
            Some(longer) => ngrams.continued(&text, longer),
            None => longest(ngrams, &text),
        })
        .collect();
    let discounts: Vec<Discounts> = counts
        .iter()
        .map(|counts| Discounts::estimate(counts.iter().copied()))
        .collect();

    let (level, unknown) = unigrams(
        &lengths[0],
        &text,
        &counts[0],
        &discounts[0],
        words.names.len(),
    );
    let mut levels = vec![level];
    for length in 1..order {
        let shorter = &lengths[length - 1];
        let level = lengthen(
            [shorter, &lengths[length]],
            &text,
            &counts[length],
            &discounts[length],
            &mut levels[length - 1],
        );
        levels.push(level);
    }
    let model = assemble(words, unknown, &text, &lengths, &levels)?;
    Ok(TrainedLm {
        model,
        discounts,
        sentences: said,
        words: text.words.len() as u64 - 2 * said,
    })
}

/// The probabilities of a length's n-grams and their backoff weights, in the n-grams' order.
struct OrderProbabilities {
    probabilities: Vec<f64>,
    /// What is left for words that were not seen after the n-gram; 1 where none was seen.
    backoffs: Vec<f64>,
}

/// Words are numbered in their order behind the three of every model.
fn number<T: AsRef<str>>(sentences: &[T]) -> Result<(WordTable, Sentences, u64), TrainError> {
    let mut sorted = BTreeSet::new();
    for (number, sentence) in (1..).zip(sentences) {
        for word in sentence_words(sentence.as_ref()) {
            if is_mark(word) {
                return Err(TrainError::Mark {
                    sentence: number,
                    word: word.to_owned(),
                });
            }
            sorted.insert(word);
        }
    }
    if sorted.is_empty() {
        return Err(TrainError::Empty);
    }
    let mut words = WordTable::default();
    words.add(UNKNOWN_WORD);
    let marks = Marks {
        begin: words.add(BEGIN_WORD).unwrap_or_default(),
        end: words.add(END_WORD).unwrap_or_default(),
    };
    for word in sorted {
        words.add(word);
    }
    let mut text = Sentences {
        words: Vec::new(),
        marks,
    };
    let mut said = 0;
    for sentence in sentences {
        let mut spoken = sentence_words(sentence.as_ref()).peekable();
        if spoken.peek().is_none() {
            continue;
        }
        said += 1;
        text.words.push(marks.begin);
        text.words
            .extend(spoken.filter_map(|word| words.find(word)));
        text.words.push(marks.end);
    }
    match u32::try_from(text.words.len()) {
        Ok(_) => Ok((words, text, said)),
        Err(_) => Err(TrainError::TooMany),
    }
}

/// The longest n-grams count as they occur; the start of a sentence is never predicted.
fn longest(ngrams: &Ngrams, text: &Sentences) -> Vec<u64> {
    let mut counts = ngrams.counts.clone();
    if let (1, Some(begin)) = (ngrams.length, ngrams.find(text, &[text.marks.begin])) {
        counts[begin] = 0;
    }
    counts
}

/// Those of single words, and the unknown one's probability: its share of what was taken. `words` is how
/// many words there are, the unknown one and the marks included.
fn unigrams(
    ngrams: &Ngrams,
    text: &Sentences,
    counts: &[u64],
    discounts: &Discounts,
    words: usize,
) -> (OrderProbabilities, f64) {
    let total = counts.iter().sum::<u64>() as f64;
    let taken: f64 = counts.iter().map(|&count| discounts.of(count)).sum();
    // All words but the start of a sentence.
    let uniform = taken / total / (words - 1) as f64;
    let probability = |(place, &count): (usize, &u64)| match ngrams.get(text, place) {
        [word] if *word == text.marks.begin => 0.0,
        _ => (count as f64 - discounts.of(count)) / total + uniform,
    };
    let level = OrderProbabilities {
        probabilities: counts.iter().enumerate().map(probability).collect(),
        backoffs: vec![1.0; ngrams.len()],
    };
    (level, uniform)
}

/// The level of n-grams one word longer than `shorter`'s, whose backoff weights follow from them.
fn lengthen(
    [contexts, ngrams]: [&Ngrams; 2],
    text: &Sentences,
    counts: &[u64],
    discounts: &Discounts,
    shorter: &mut OrderProbabilities,
) -> OrderProbabilities {
    let mut probabilities = Vec::with_capacity(ngrams.len());
    let mut place = 0;
    for (context, backoff) in shorter.backoffs.iter_mut().enumerate() {
        let words = contexts.get(text, context);
        let from = place;
        while place < ngrams.len() && ngrams.get(text, place).starts_with(words) {
            place += 1;
        }
        let total = counts[from..place].iter().sum::<u64>() as f64;
        if total == 0.0 {
            continue;
        }
        let taken: f64 = counts[from..place]
            .iter()
            .map(|&count| discounts.of(count))
            .sum();
        *backoff = taken / total;
        for (at, &count) in (from..).zip(&counts[from..place]) {
            let suffix = contexts.find(text, &ngrams.get(text, at)[1..]);
            let below = suffix.map_or(0.0, |suffix| shorter.probabilities[suffix]);
            probabilities.push((count as f64 - discounts.of(count)) / total + *backoff * below);
        }
    }
    OrderProbabilities {
        backoffs: vec![1.0; probabilities.len()],
        probabilities,
    }
}

fn assemble(
    words: WordTable,
    unknown: f64,
    text: &Sentences,
    lengths: &[Ngrams],
    levels: &[OrderProbabilities],
) -> Result<NgramModel, TooMany> {
    let log = |probability: f64| match probability {
        0.0 => LOG10_ZERO,
        probability => probability.log10() as f32,
    };
    let mut unigrams = vec![(0.0, 0.0); words.names.len()];
    unigrams[UNKNOWN as usize] = (log(unknown), 0.0);
    for (place, (&probability, &backoff)) in levels[0]
        .probabilities
        .iter()
        .zip(&levels[0].backoffs)
        .enumerate()
    {
        let word = lengths[0].get(text, place)[0];
        unigrams[word as usize] = (log(probability), log(backoff));
    }
    let mut growing = Growing::new(words, &unigrams)?;
    for (ngrams, level) in lengths.iter().zip(levels).skip(1) {
        let entries: Vec<NgramEntry> = (0..ngrams.len())
            .filter_map(|place| {
                let (&word, context) = ngrams.get(text, place).split_last()?;
                Some(NgramEntry {
                    context: growing.find(context)?,
                    word,
                    log: log(level.probabilities[place]),
                    back: log(level.backoffs[place]),
                    line: 0,
                })
            })
            .collect();
        growing.lengthen(&entries)?;
    }
    Ok(growing.finish())
}
