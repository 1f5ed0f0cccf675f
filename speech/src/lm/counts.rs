//! Which n-grams a text has, and how often: sorted, distinct, and counted both as they occur and as
//! Kneser-Ney counts them. It does not depend on probabilities.

use rayon::prelude::*;

use super::WordId;

/// The numbers that sentences are closed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) begin: WordId,
    pub(super) end: WordId,
}

/// Sentences one behind the other, each between its marks.
#[derive(Debug)]
pub(super) struct Sentences {
    pub(super) words: Vec<WordId>,
    pub(super) marks: Marks,
}

/// The distinct n-grams of a length, sorted by their words' numbers.
#[derive(Debug)]
pub(super) struct Ngrams {
    pub(super) length: usize,
    /// Where in the text each occurs for the first time, and how often it does.
    at: Vec<u32>,
    pub(super) counts: Vec<u64>,
}

impl Sentences {
    /// The n-grams of `length` words within sentences.
    pub(super) fn ngrams(&self, length: usize) -> Ngrams {
        let gram = |at: u32| &self.words[at as usize..at as usize + length];
        let mut starts: Vec<u32> = Vec::with_capacity(self.words.len());
        let mut left = 0;
        // From the text's end on, how many words are left of the sentence.
        for (at, &word) in self.words.iter().enumerate().rev() {
            left = if word == self.marks.end { 1 } else { left + 1 };
            if left >= length {
                starts.push(at as u32);
            }
        }
        starts.par_sort_unstable_by(|&a, &b| gram(a).cmp(gram(b)).then(a.cmp(&b)));
        let mut ngrams = Ngrams {
            length,
            at: Vec::new(),
            counts: Vec::new(),
        };
        for at in starts {
            match (ngrams.at.last(), ngrams.counts.last_mut()) {
                (Some(&last), Some(count)) if gram(last) == gram(at) => *count += 1,
                _ => {
                    ngrams.at.push(at);
                    ngrams.counts.push(1);
                }
            }
        }
        ngrams
    }
}

impl Ngrams {
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn get<'a>(&self, text: &'a Sentences, place: usize) -> &'a [WordId] {
        let at = self.at[place] as usize;
        &text.words[at..at + self.length]
    }

    /// The place of an n-gram that the text has.
    pub(super) fn find(&self, text: &Sentences, words: &[WordId]) -> Option<usize> {
        debug_assert_eq!(words.len(), self.length);
        self.at
            .binary_search_by(|&at| text.words[at as usize..at as usize + self.length].cmp(words))
            .ok()
    }

    /// Kneser-Ney's counts of n-grams that are not the longest: before how many different words each
    /// continues, except for those at the start of a sentence, before which there is nothing and
    /// whose occurrences count. The start by itself is never predicted and counts for nothing.
    pub(super) fn continued(&self, text: &Sentences, longer: &Self) -> Vec<u64> {
        let mut counts = vec![0; self.len()];
        for place in 0..longer.len() {
            if let Some(suffix) = self.find(text, &longer.get(text, place)[1..]) {
                counts[suffix] += 1;
            }
        }
        for (place, count) in counts.iter_mut().enumerate() {
            let starts = self.get(text, place)[0] == text.marks.begin;
            *count = match self.length {
                1 if starts => 0,
                _ if starts => self.counts[place],
                _ => *count,
            };
        }
        counts
    }
}
