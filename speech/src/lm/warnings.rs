//! What is unusual about the single words of a model that was read: scores may be better than it is.

use super::{BEGIN_WORD, END_WORD, NgramModel};

/// Probabilities of single words sum to no more than this, but for what their digits leave out.
const MAX_PROBABILITY_SUM: f64 = 1.05;

/// A sentence for each of it.
pub(super) fn of_words(model: &NgramModel) -> Vec<String> {
    let mut remarks = Vec::new();
    for (mark, effect) in [
        (
            BEGIN_WORD,
            "the first word of a sentence is scored as one within it",
        ),
        (
            END_WORD,
            "ends of sentences cost nothing, and perplexities are lower for it",
        ),
    ] {
        if model.find(mark).is_none() {
            remarks.push(format!("`{mark}` is not among the 1-grams: {effect}"));
        }
    }
    let logs = &model.log[model.levels[1]..model.levels[2]];
    let begin = model.find(BEGIN_WORD);
    let mass: f64 = (0..)
        .zip(logs)
        .filter(|&(word, _)| Some(word) != begin)
        .map(|(_, &log)| 10f64.powf(f64::from(log)))
        .sum();
    if mass > MAX_PROBABILITY_SUM {
        remarks.push(format!(
            "the probabilities of the 1-grams sum to {mass:.2} and not to 1: perplexities are lower than they should be"
        ));
    }
    remarks
}
