//! Where labels lie in time: the most probable CTC alignment of a label sequence (Viterbi), and the total
//! log-probability of all of them (the forward score, Graves et al. 2006). CTC says when a label is recognised, not how
//! long its sound lasts: a label's frames are those of which it is the most probable reading.

use std::ops::Range;

use super::{BLANK, beam_search::log_add};

/// The most bytes of Viterbi backpointers that are kept for all frames at once; for longer recordings they are kept
/// for a block of frames at a time.
const MAX_BACKPOINTER_BYTES: usize = 32 << 20;

/// The frames of each label in the most probable alignment: from its first to behind its last. None
/// where the frames are too few, or no alignment has a probability.
///
/// `rows` are the log-probabilities `[frames, classes]` of as many frames as there are.
pub(super) fn spans(rows: &[f32], classes: usize, labels: &[u32]) -> Option<Vec<Range<usize>>> {
    spans_within(MAX_BACKPOINTER_BYTES, rows, classes, labels)
}

/// [`spans`] with another limit on the bytes of backpointers for all frames. Backpointers grow with the square of a recording's
/// length. Beyond `max_bytes` the states' scores are kept at the first frame of each block of frames, and the backpointers of
/// a block are found once more when the way back comes to it.
fn spans_within(
    max_bytes: usize,
    rows: &[f32],
    classes: usize,
    labels: &[u32],
) -> Option<Vec<Range<usize>>> {
    let frames = rows.len() / classes.max(1);
    let states = 2 * labels.len() + 1;
    let mut best = start(rows.get(..classes)?, labels);
    let block = if frames.saturating_mul(states) <= max_bytes {
        frames
    } else {
        (frames as f64).sqrt().ceil() as usize
    };
    // From which state each was reached in the frames of a block: so many below.
    let mut backpointers = vec![0u8; block * states];
    // The scores before the first frame of each block but the first.
    let mut before: Vec<Vec<f64>> = Vec::new();
    let take = |frame: usize, best: &mut [f64], backpointers: &mut [u8]| {
        let row = &rows[frame * classes..(frame + 1) * classes];
        let backpointers = &mut backpointers[frame % block * states..][..states];
        // From the last state down, so that those below are still the frame's before.
        for state in (0..states).rev() {
            let mut from = (best[state], 0);
            for below in 1..=reach(labels, state) {
                if best[state - below] > from.0 {
                    from = (best[state - below], below as u8);
                }
            }
            best[state] = from.0 + at(row, label(labels, state));
            backpointers[state] = from.1;
        }
    };
    for frame in 1..frames {
        if frame.is_multiple_of(block) {
            before.push(best.clone());
        }
        take(frame, &mut best, &mut backpointers);
    }
    let last = states - 1;
    let mut state = if last > 0 && best[last - 1] > best[last] {
        last - 1
    } else {
        last
    };
    if best[state] == f64::NEG_INFINITY {
        return None;
    }
    let mut spans = vec![0..0; labels.len()];
    for frame in (0..frames).rev() {
        if state % 2 == 1 {
            let span: &mut Range<usize> = &mut spans[state / 2];
            *span = frame..span.end.max(frame + 1);
        }
        // Nothing comes before the first frame.
        if frame > 0 {
            state -= usize::from(backpointers[frame % block * states + state]);
        }
        if frame.is_multiple_of(block) && frame > 0 {
            let first = frame - block;
            let mut best = match first {
                0 => start(&rows[..classes], labels),
                _ => before[first / block - 1].clone(),
            };
            for frame in first.max(1)..frame {
                take(frame, &mut best, &mut backpointers);
            }
        }
    }
    Some(spans)
}

/// The CTC forward score: the total log-probability of `labels`, over all their alignments.
pub(super) fn forward_score(rows: &[f32], classes: usize, labels: &[u32]) -> f64 {
    let Some(first) = rows.get(..classes) else {
        // Without a frame nothing is said for certain.
        return if labels.is_empty() {
            0.0
        } else {
            f64::NEG_INFINITY
        };
    };
    let mut forward = start(first, labels);
    for row in rows.chunks_exact(classes).skip(1) {
        for state in (0..forward.len()).rev() {
            let sum = (1..=reach(labels, state)).fold(forward[state], |sum, below| {
                log_add(sum, forward[state - below])
            });
            forward[state] = sum + at(row, label(labels, state));
        }
    }
    let last = forward.len() - 1;
    match last {
        0 => forward[0],
        last => log_add(forward[last], forward[last - 1]),
    }
}

/// The first frame: a blank or the first label.
fn start(row: &[f32], labels: &[u32]) -> Vec<f64> {
    let mut states = vec![f64::NEG_INFINITY; 2 * labels.len() + 1];
    states[0] = at(row, BLANK);
    if let Some(&first) = labels.first() {
        states[1] = at(row, first);
    }
    states
}

/// Blanks lie before, between and behind the labels.
fn label(labels: &[u32], state: usize) -> u32 {
    if state.is_multiple_of(2) {
        BLANK
    } else {
        labels[state / 2]
    }
}

/// How far below a state may have been the frame before: a blank between two different labels may be
/// left out.
fn reach(labels: &[u32], state: usize) -> usize {
    let skips = state % 2 == 1 && state > 1 && labels[state / 2] != labels[state / 2 - 1];
    if skips { 2 } else { state.min(1) }
}

fn at(row: &[f32], label: u32) -> f64 {
    match row.get(label as usize) {
        Some(log) if !log.is_nan() => f64::from(*log),
        _ => f64::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_some_frames_at_a_time_lead_the_same_way_back() {
        let mut stream = crate::random::Stream::new(3, &[]);
        let classes = 4;
        for frames in (1..40).chain([99, 100, 101, 400]) {
            let rows = (0..frames * classes).map(|_| (stream.normal() * 3.0) as f32);
            let rows: Vec<f32> = rows.collect();
            for count in [0, 1, frames / 3, frames / 2] {
                let label = |_| 1 + stream.below(classes as u64 - 1) as u32;
                let labels: Vec<u32> = (0..count).map(label).collect();
                let whole = spans_within(usize::MAX, &rows, classes, &labels);
                let few = spans_within(0, &rows, classes, &labels);
                assert_eq!(whole, few, "{frames} frames, {count} labels");
            }
        }
    }

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
    }
}
