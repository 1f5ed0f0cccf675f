//! Where labels lie in time: the most probable CTC alignment of a label sequence (Viterbi), and the total
//! log-probability of all of them (the forward score, Graves et al. 2006). CTC says when a label is recognised, not how
//! long its sound lasts: a label's frames are those of which it is the most probable reading.

use std::ops::Range;

use super::BLANK;
use crate::hmm::{Graph, Scores, sums};

/// The frames of each label in the most probable alignment: from its first to behind its last. None
/// where the frames are too few, or no alignment has a probability.
///
/// `rows` are the log-probabilities `[frames, classes]` of as many frames as there are.
pub(super) fn spans(rows: &[f32], classes: usize, labels: &[u32]) -> Option<Vec<Range<usize>>> {
    let graph = Graph::ctc(labels, BLANK);
    let path = sums::viterbi(&graph, Scores::new(rows, classes))?;
    Some(spans_of(&path.states, labels.len()))
}

/// The frames in which a path of [`Graph::ctc`] has each of so many labels.
pub(super) fn spans_of(path: &[u32], labels: usize) -> Vec<Range<usize>> {
    let mut spans = vec![0..0; labels];
    for (frame, &state) in path.iter().enumerate() {
        if state % 2 == 1 {
            let span: &mut Range<usize> = &mut spans[state as usize / 2];
            if span.end == 0 {
                span.start = frame;
            }
            span.end = frame + 1;
        }
    }
    spans
}

/// The CTC forward score: the total log-probability of `labels`, over all their alignments.
pub(super) fn forward_score(rows: &[f32], classes: usize, labels: &[u32]) -> f64 {
    let scores = Scores::new(rows, classes);
    if scores.frames() == 0 && labels.is_empty() {
        // Without a frame nothing is said for certain.
        return 0.0;
    }
    sums::forward(&Graph::ctc(labels, BLANK), scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lie_where_the_best_path_has_them() {
        let path = [0, 1, 1, 0, 1, 2, 2, 0];
        let mut rows = vec![-5.0f32; path.len() * 3];
        for (frame, &label) in path.iter().enumerate() {
            rows[frame * 3 + label] = -0.01;
        }
        assert_eq!(spans(&rows, 3, &[1, 1, 2]).unwrap(), [1..3, 4..5, 5..7]);
        assert_eq!(spans(&rows, 3, &[]).unwrap(), []);
        assert_eq!(spans(&rows, 3, &[1; 5]), None);
        assert_eq!(spans(&[], 3, &[1]), None);
        assert_eq!(forward_score(&[], 3, &[]), 0.0);
        assert_eq!(forward_score(&[], 3, &[1]), f64::NEG_INFINITY);
    }
}
