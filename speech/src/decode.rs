//! Decoding of a network's outputs: greedy decoding and CTC prefix beam search, the best class for keywords, and
//! the number of frames that CTC needs for a target. [`Decoder`] and what is below it know the text of labels, the
//! rest labels alone (see [`crate::text`]).

mod align;
mod beam_search;
mod bundle;
mod config;
mod decoder;
mod fit;
mod forced;
mod hot;
mod shallow_fusion;
mod words;

pub use bundle::{BundleError, DecoderBundle};
pub use config::{DecodeConfig, DecodeError, WordSource};
pub use decoder::{Decoder, Hypothesis, LiveDecoder, Word, greedy_hypothesis};
pub use fit::Given;
pub use forced::{
    AlignedUnit, AlignedWord, ForcedAlignment, ForcedAlignmentError, forced_alignment,
};

/// CTC's blank (Graves et al. 2006); a vocabulary's units start behind it.
pub const BLANK: u32 = 0;

/// The best label of every frame, repeats collapsed and blanks dropped.
///
/// `log_probs` is row-major `[frames, classes]`; rows beyond `frames` are padding and are not read.
/// The lowest of equally good labels wins; a score that is not a number never does.
pub fn greedy(log_probs: &[f32], frames: usize, classes: usize) -> Vec<u32> {
    let mut labels = Vec::new();
    let mut previous = BLANK;
    for row in log_probs.chunks_exact(classes.max(1)).take(frames) {
        let best = argmax(row);
        if best != previous && best != BLANK {
            labels.push(best);
        }
        previous = best;
    }
    labels
}

/// The position of the greatest score; of equal ones the first, and 0 where there is none.
pub fn argmax(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (label, &score) in (0..).zip(scores) {
        if score > best.1 {
            best = (label, score);
        }
    }
    best.0
}

/// Frames that a CTC alignment of `labels` takes at least: one for each label, and a blank between
/// two equal ones in a row.
pub fn ctc_required_frames(labels: &[u32]) -> usize {
    let repeats = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
    labels.len() + repeats
}

#[cfg(test)]
mod tests;
