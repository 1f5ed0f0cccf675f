//! Forced alignment with a CTC model: where the words and units of a known transcript lie, how probable each is in its
//! frames, and how well the transcript fits.

use std::ops::Range;

use thiserror::Error;

use super::{BLANK, align, words};
use crate::{
    hmm::{Graph, Scores, sums},
    text::{TextError, UnitKind, Vocabulary},
};

/// A unit of the model in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignedUnit {
    /// The unit as the model writes it.
    pub text: String,
    /// The frames in which the most probable alignment has it: CTC recognises a unit in few frames, which may lie
    /// anywhere within its sound.
    pub frames: Range<usize>,
    /// The mean posterior probability of the unit in its frames, given the sound and the transcript.
    pub posterior: f64,
}

/// A word in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct AlignedWord {
    /// The word.
    pub text: String,
    /// Its frames; see [`forced_alignment`].
    pub frames: Range<usize>,
    /// The mean posterior probability of its units in their frames.
    pub posterior: f64,
    /// Its units, in order.
    pub units: Vec<AlignedUnit>,
}

/// A transcript in its places.
#[derive(Clone, Debug, PartialEq)]
pub struct ForcedAlignment {
    /// Its words, in order.
    pub words: Vec<AlignedWord>,
    /// How many frames the utterance has.
    pub frames: usize,
    /// The natural logarithm of the transcript's probability, over all alignments.
    pub log_likelihood: f64,
}

/// Why a transcript cannot be aligned.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ForcedAlignmentError {
    #[error("a model of classes has no alignment: it names a recording as a whole")]
    Classes,
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("its transcript needs {needed} frames of the model, and it has {frames}")]
    TooFewFrames { needed: usize, frames: usize },
    #[error("no alignment of its transcript has a probability above 0")]
    NoPath,
}

/// Aligns `text`, written as the model's transcripts are, with the log-probabilities `[frames, outputs]` of a CTC model
/// with this vocabulary.
///
/// A word begins with the first frame of its first unit and ends behind the last frame of its last one, and then grows
/// into the blanks around it: two words share the blanks between them (and the space, where that is a unit) equally, and
/// take no more than `reach` frames of them each.
///
/// # Errors
/// When the model has classes or cannot write the text, and when no alignment is possible.
pub fn forced_alignment(
    vocabulary: &Vocabulary,
    text: &str,
    log_probs: &[f32],
    reach: usize,
) -> Result<ForcedAlignment, ForcedAlignmentError> {
    if vocabulary.kind == UnitKind::Classes {
        return Err(ForcedAlignmentError::Classes);
    }
    let labels = vocabulary.encode(text)?;
    let graph = Graph::ctc(&labels, BLANK);
    let scores = Scores::new(log_probs, vocabulary.outputs());
    let frames = scores.frames();
    let needed = graph.least_frames().unwrap_or(usize::MAX);
    if frames < needed {
        return Err(ForcedAlignmentError::TooFewFrames { needed, frames });
    }
    let path = sums::viterbi(&graph, scores).ok_or(ForcedAlignmentError::NoPath)?;
    let mut sums = vec![0.0; labels.len()];
    let log_likelihood = sums::forward_backward(&graph, scores, |frame, state, posterior| {
        if state % 2 == 1 && path.states[frame] == state {
            sums[state as usize / 2] += posterior;
        }
    });
    let spans = align::spans_of(&path.states, labels.len());
    let pieces: Vec<String> = (0..vocabulary.outputs() as u32)
        .map(|label| vocabulary.text_of(label).to_owned())
        .collect();
    let mut found = Vec::new();
    for (word, places) in words::split(&labels, &pieces) {
        let units: Vec<AlignedUnit> = places
            .clone()
            .map(|place| AlignedUnit {
                text: pieces[labels[place] as usize].trim().to_owned(),
                frames: spans[place].clone(),
                posterior: sums[place] / spans[place].len() as f64,
            })
            .collect();
        let held: usize = units.iter().map(|unit| unit.frames.len()).sum();
        found.push(AlignedWord {
            text: word,
            frames: spans[places.start].start..spans[places.end - 1].end,
            posterior: sums[places].iter().sum::<f64>() / held as f64,
            units,
        });
    }
    grow(&mut found, frames, reach);
    // A model of words has one unit for all that it does not know.
    let said: Vec<&str> = text.split_whitespace().collect();
    if said.len() == found.len() {
        for (word, said) in found.iter_mut().zip(said) {
            said.clone_into(&mut word.text);
        }
    }
    Ok(ForcedAlignment {
        words: found,
        frames,
        log_likelihood,
    })
}

/// Has words share the frames between them.
fn grow(words: &mut [AlignedWord], frames: usize, reach: usize) {
    let count = words.len();
    if let Some(first) = words.first_mut() {
        first.frames.start -= reach.min(first.frames.start);
    }
    for place in 1..count {
        let (end, start) = (words[place - 1].frames.end, words[place].frames.start);
        let gap = start.saturating_sub(end);
        words[place - 1].frames.end += reach.min(gap / 2);
        words[place].frames.start -= reach.min(gap.div_ceil(2));
    }
    if let Some(last) = words.last_mut() {
        last.frames.end += reach.min(frames - last.frames.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(texts: &[&str]) -> Vocabulary {
        Vocabulary::characters(texts).unwrap()
    }

    /// Log-probabilities in which each frame has one of the labels at 0.9 and shares the rest.
    fn rows(path: &[u32], outputs: usize) -> Vec<f32> {
        let mut rows = Vec::new();
        for &label in path {
            let mut row = vec![0.1 / (outputs as f32 - 1.0); outputs];
            row[label as usize] = 0.9;
            rows.extend(row.into_iter().map(f32::ln));
        }
        rows
    }

    #[test]
    fn words_and_units_lie_where_they_were_heard() {
        // Units are " ", "A" and "B", labels 1, 2 and 3.
        let vocabulary = vocabulary(&["A B"]);
        let path = [0, 0, 0, 2, 0, 3, 3, 0, 1, 0, 0, 2, 0];
        let log_probs = rows(&path, 4);
        let found = forced_alignment(&vocabulary, "AB A", &log_probs, 0).unwrap();
        let words = found
            .words
            .iter()
            .map(|word| (word.text.as_str(), word.frames.clone()));
        assert_eq!(words.collect::<Vec<_>>(), [("AB", 3..7), ("A", 11..12)]);
        let units = &found.words[0].units;
        assert_eq!(
            (units[0].text.as_str(), units[0].frames.clone()),
            ("A", 3..4)
        );
        assert_eq!(
            (units[1].text.as_str(), units[1].frames.clone()),
            ("B", 5..7)
        );
        assert!(
            units
                .iter()
                .all(|unit| unit.posterior > 0.7 && unit.posterior <= 1.0)
        );
        assert_eq!(found.frames, 13);
        // The best path alone has 13 frames of 0.9.
        assert!(found.log_likelihood > 13.0 * 0.9f64.ln() - 1e-6 && found.log_likelihood < 0.0);

        let frames = |reach| {
            let found = forced_alignment(&vocabulary, "AB A", &log_probs, reach).unwrap();
            let words = found.words.into_iter();
            words.map(|word| word.frames).collect::<Vec<_>>()
        };
        assert_eq!(frames(1), [2..8, 10..13]);
        assert_eq!(frames(100), [0..9, 9..13]);
    }

    #[test]
    fn a_transcript_that_does_not_fit_is_refused_with_the_reason() {
        let vocabulary = vocabulary(&["A B"]);
        let log_probs = rows(&[2, 0], 4);
        let refused =
            |text: &str, rows: &[f32]| forced_alignment(&vocabulary, text, rows, 0).unwrap_err();
        let few = ForcedAlignmentError::TooFewFrames {
            needed: 3,
            frames: 2,
        };
        assert_eq!(refused("AA", &log_probs), few);
        assert!(matches!(
            refused("AC", &log_probs),
            ForcedAlignmentError::Text(_)
        ));
        let nothing = vec![f32::NEG_INFINITY; 8];
        assert_eq!(refused("A", &nothing), ForcedAlignmentError::NoPath);
        let silence = forced_alignment(&vocabulary, "", &log_probs, 0).unwrap();
        assert!(silence.words.is_empty() && silence.log_likelihood < 0.0);
        let classes = Vocabulary::classes(["A", "B"]).unwrap();
        let refused = forced_alignment(&classes, "A", &[0.0, 0.0], 0);
        assert_eq!(refused, Err(ForcedAlignmentError::Classes));
    }
}
