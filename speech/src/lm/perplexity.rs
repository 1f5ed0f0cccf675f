//! How well a model knows a text.

use serde::Serialize;

use super::{NgramModel, UNKNOWN, sentence_words};

/// What a model says of a text. Perplexities count the ends of sentences among the words, as SRILM and
/// KenLM do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Perplexity {
    /// The number of sentences.
    pub sentences: u64,
    /// Without the ends of sentences.
    pub words: u64,
    /// Words that the model lacks.
    pub oov: u64,
    /// The base-10 logarithm of the text's probability, and the part of it that words have which the
    /// model lacks.
    pub log10: f64,
    /// The part of `log10` that words have which the model lacks.
    pub log10_oov: f64,
}

impl Perplexity {
    /// Adds a sentence, whose words are those of [`sentence_words`].
    pub fn add(&mut self, model: &NgramModel, sentence: &str) {
        let mut state = model.begin();
        for word in sentence_words(sentence) {
            let known = model.find(word);
            let (log, next) = model.score(state, known.unwrap_or(UNKNOWN));
            state = next;
            self.words += 1;
            self.log10 += log;
            if known.is_none_or(|word| word == UNKNOWN) {
                self.oov += 1;
                self.log10_oov += log;
            }
        }
        self.log10 += model.end(state);
        self.sentences += 1;
    }

    /// With words that the model lacks at what it gives the unknown word; none for no text.
    pub fn with_oov(&self) -> Option<f64> {
        perplexity(self.log10, self.words + self.sentences)
    }

    /// Without the words that the model lacks: SRILM's `ppl`.
    pub fn without_oov(&self) -> Option<f64> {
        let events = self.words + self.sentences - self.oov;
        perplexity(self.log10 - self.log10_oov, events)
    }
}

fn perplexity(log10: f64, events: u64) -> Option<f64> {
    (events > 0).then(|| 10f64.powf(-log10 / events as f64))
}
