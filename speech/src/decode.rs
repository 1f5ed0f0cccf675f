//! From a network's outputs to labels: greedy decoding for CTC, the best class for keywords, and how
//! many frames CTC needs for a target. It refuses to know what a label stands for (see [`crate::text`]).

/// CTC's blank (Graves et al. 2006); a vocabulary's units start behind it.
pub const BLANK: u32 = 0;

/// The best label of every frame, repeats collapsed and blanks dropped.
///
/// `log_probs` is row-major `[frames, classes]`; rows beyond `frames` are padding and are not read.
/// Of equal scores the lowest label wins; a score that is not a number never does.
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
mod tests {
    use super::*;

    /// One row a label, the label's own score the greatest.
    fn rows(path: &[usize], classes: usize) -> Vec<f32> {
        let mut scores = vec![-9.0; path.len() * classes];
        for (frame, &label) in path.iter().enumerate() {
            scores[frame * classes + label] = -0.1;
        }
        scores
    }

    #[test]
    fn repeats_collapse_and_a_blank_between_them_keeps_both() {
        let path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3];
        assert_eq!(greedy(&rows(&path, 4), path.len(), 4), [1, 1, 2, 3]);
    }

    #[test]
    fn padding_rows_are_not_read() {
        let path = [1, 0, 2, 3, 3];
        assert_eq!(greedy(&rows(&path, 4), 3, 4), [1, 2]);
        assert_eq!(greedy(&rows(&path, 4), 0, 4), [0u32; 0]);
    }

    #[test]
    fn ties_go_to_the_lowest_label_and_nan_never_wins() {
        assert_eq!(argmax(&[-1.0, -0.5, -0.5]), 1);
        assert_eq!(argmax(&[f32::NAN, -3.0, f32::NAN]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
        assert_eq!(greedy(&[f32::NAN; 6], 2, 3), [0u32; 0]);
    }

    #[test]
    fn what_greedy_gives_fits_the_frames_it_came_from() {
        for code in 0..3usize.pow(6) {
            let path: Vec<usize> = (0..6).map(|at| code / 3usize.pow(at) % 3).collect();
            let labels = greedy(&rows(&path, 3), 6, 3);
            assert!(
                ctc_required_frames(&labels) <= 6,
                "{path:?} gave {labels:?}"
            );
        }
        assert_eq!(ctc_required_frames(&[]), 0);
        assert_eq!(ctc_required_frames(&[1, 2, 2, 2, 1]), 7);
    }
}
