//! Sums over the paths of a graph, in log space and f64: the best path (Viterbi), the total likelihood (forward), and how
//! probable each state is in each frame (forward-backward; Rabiner 1989). Memory grows with the square root of a long
//! recording's length: of its frames some are kept, and those between are computed again.

use super::Graph;

/// The most bytes that are kept for all frames of a recording at once; of longer ones a block of frames at a time.
const MAX_BYTES: usize = 32 << 20;

/// No arc: the state is where the path starts, or is not reached.
const NO_ARC: u32 = u32::MAX;

/// Log-likelihoods or log-probabilities of frames under densities.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a, T> {
    rows: &'a [T],
    pdfs: usize,
}

impl<'a, T: Copy + Into<f64>> Scores<'a, T> {
    /// Takes `[frames, pdfs]`, a frame after the other. What is left over of a last row is not read.
    pub const fn new(rows: &'a [T], pdfs: usize) -> Self {
        Self { rows, pdfs }
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.rows.len() / self.pdfs.max(1)
    }

    /// −∞ for a density that is not there, and for what is no number or +∞.
    fn at(&self, frame: usize, pdf: u32) -> f64 {
        if pdf as usize >= self.pdfs {
            return f64::NEG_INFINITY;
        }
        let score: f64 = self.rows[frame * self.pdfs + pdf as usize].into();
        if score < f64::INFINITY {
            score
        } else {
            f64::NEG_INFINITY
        }
    }
}

/// A way through a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The state of each frame.
    pub states: Vec<u32>,
    /// The sum of all log weights and scores on it.
    pub log_score: f64,
}

/// The path with the greatest score; `None` where none has one above −∞, as where the frames are too few. Of equal
/// ones, the arc or end that was added to the graph first is taken.
pub fn viterbi<T: Copy + Into<f64>>(graph: &Graph, scores: Scores<T>) -> Option<Path> {
    viterbi_within(MAX_BYTES, graph, scores)
}

/// [`viterbi`] with another bound on the bytes of backpointers for all frames.
pub(crate) fn viterbi_within<T: Copy + Into<f64>>(
    max_bytes: usize,
    graph: &Graph,
    scores: Scores<T>,
) -> Option<Path> {
    let (frames, states) = (scores.frames(), graph.states());
    if frames == 0 {
        return None;
    }
    let block = block(max_bytes, frames, states * size_of::<u32>());
    // Which of the arcs into each state was taken in the frames of a block.
    let mut taken = vec![NO_ARC; block * states];
    let step = |frame: usize, best: &mut Vec<f64>, now: &mut Vec<f64>, taken: &mut [u32]| {
        let taken = &mut taken[frame % block * states..][..states];
        for state in 0..states as u32 {
            let mut from = (f64::NEG_INFINITY, NO_ARC);
            for (number, arc) in (0..).zip(graph.arcs_into(state)) {
                let score = best[arc.from as usize] + arc.log_weight;
                if score > from.0 {
                    from = (score, number);
                }
            }
            now[state as usize] = from.0 + scores.at(frame, graph.pdf(state));
            taken[state as usize] = from.1;
        }
        std::mem::swap(best, now);
    };
    let mut now = vec![f64::NEG_INFINITY; states];
    let mut best = first_frame(graph, scores);
    // The scores before the first frame of each block but the first.
    let mut before: Vec<Vec<f64>> = Vec::new();
    for frame in 1..frames {
        if frame.is_multiple_of(block) {
            before.push(best.clone());
        }
        step(frame, &mut best, &mut now, &mut taken);
    }
    let mut last = (f64::NEG_INFINITY, 0);
    for &(state, log_weight) in graph.ends() {
        let score = best[state as usize] + log_weight;
        if score > last.0 {
            last = (score, state);
        }
    }
    let (log_score, mut state) = last;
    if log_score == f64::NEG_INFINITY {
        return None;
    }
    let mut path = vec![0; frames];
    for frame in (0..frames).rev() {
        path[frame] = state;
        if frame == 0 {
            break;
        }
        let arc = taken[frame % block * states + state as usize];
        state = graph.arcs_into(state)[arc as usize].from;
        if frame.is_multiple_of(block) {
            // The block before: its arcs are found once more.
            let first = frame - block;
            best = match first {
                0 => first_frame(graph, scores),
                _ => before[first / block - 1].clone(),
            };
            for frame in first.max(1)..frame {
                step(frame, &mut best, &mut now, &mut taken);
            }
        }
    }
    Some(Path {
        states: path,
        log_score,
    })
}

/// The logarithm of the summed weights of all paths, of which each is `exp` of its score; −∞ where there is none.
pub fn forward<T: Copy + Into<f64>>(graph: &Graph, scores: Scores<T>) -> f64 {
    if scores.frames() == 0 {
        return f64::NEG_INFINITY;
    }
    let mut now = vec![f64::NEG_INFINITY; graph.states()];
    let mut sums = first_frame(graph, scores);
    for frame in 1..scores.frames() {
        forward_step(graph, scores, frame, &sums, &mut now);
        std::mem::swap(&mut sums, &mut now);
    }
    total(graph, &sums)
}

/// [`forward`], and how probable each state is in each frame, given the frames: `occupy` is called with the frame, the
/// state and its posterior probability, for all that have one, from the last frame to the first. In a frame they sum to 1.
/// Where the total is −∞ it is not called.
pub fn forward_backward<T: Copy + Into<f64>>(
    graph: &Graph,
    scores: Scores<T>,
    occupy: impl FnMut(usize, u32, f64),
) -> f64 {
    forward_backward_within(MAX_BYTES, graph, scores, occupy)
}

/// [`forward_backward`] with another bound on the bytes of forward sums.
pub(crate) fn forward_backward_within<T: Copy + Into<f64>>(
    max_bytes: usize,
    graph: &Graph,
    scores: Scores<T>,
    mut occupy: impl FnMut(usize, u32, f64),
) -> f64 {
    let (frames, states) = (scores.frames(), graph.states());
    if frames == 0 {
        return f64::NEG_INFINITY;
    }
    let block = block(max_bytes, frames, states * size_of::<f64>());
    // The forward sums of a block's frames, of the last one in the end.
    let mut sums = vec![f64::NEG_INFINITY; block * states];
    let mut before: Vec<Vec<f64>> = Vec::new();
    sums[..states].copy_from_slice(&first_frame(graph, scores));
    for frame in 1..frames {
        if frame.is_multiple_of(block) {
            before.push(sums[(block - 1) * states..].to_vec());
        }
        step_within(graph, scores, frame, block, before.last(), &mut sums);
    }
    let all = total(graph, &sums[(frames - 1) % block * states..][..states]);
    if all == f64::NEG_INFINITY {
        return all;
    }
    let mut backward = vec![f64::NEG_INFINITY; states];
    for &(state, log_weight) in graph.ends() {
        let sum = &mut backward[state as usize];
        *sum = log_add(*sum, log_weight);
    }
    let mut earlier = vec![f64::NEG_INFINITY; states];
    for frame in (0..frames).rev() {
        let forward = &sums[frame % block * states..][..states];
        for (state, (forward, backward)) in (0..).zip(forward.iter().zip(&backward)) {
            let log = forward + backward - all;
            if log > f64::NEG_INFINITY {
                // Rounding may take it above 1.
                occupy(frame, state, log.exp().min(1.0));
            }
        }
        if frame == 0 {
            break;
        }
        earlier.fill(f64::NEG_INFINITY);
        for state in 0..states as u32 {
            let ahead = backward[state as usize] + scores.at(frame, graph.pdf(state));
            if ahead == f64::NEG_INFINITY {
                continue;
            }
            for arc in graph.arcs_into(state) {
                let sum = &mut earlier[arc.from as usize];
                *sum = log_add(*sum, ahead + arc.log_weight);
            }
        }
        std::mem::swap(&mut backward, &mut earlier);
        if frame.is_multiple_of(block) {
            let first = frame - block;
            before.truncate(first / block);
            if first == 0 {
                sums[..states].copy_from_slice(&first_frame(graph, scores));
            }
            for frame in first.max(1)..frame {
                step_within(graph, scores, frame, block, before.last(), &mut sums);
            }
        }
    }
    all
}

/// Frames that are kept together: all, where they have room, and else as many as there are such blocks.
fn block(max_bytes: usize, frames: usize, bytes_of_frame: usize) -> usize {
    if frames.saturating_mul(bytes_of_frame) <= max_bytes {
        frames
    } else {
        (frames as f64).sqrt().ceil() as usize
    }
}

/// The scores of the paths of one frame.
fn first_frame<T: Copy + Into<f64>>(graph: &Graph, scores: Scores<T>) -> Vec<f64> {
    let states = (0..).zip(graph.starts());
    states
        .map(|(state, start)| start + scores.at(0, graph.pdf(state)))
        .collect()
}

/// The forward sums of a frame behind those of the frame `before` it.
fn forward_step<T: Copy + Into<f64>>(
    graph: &Graph,
    scores: Scores<T>,
    frame: usize,
    before: &[f64],
    now: &mut [f64],
) {
    for (state, now) in (0..).zip(now) {
        let arcs = graph.arcs_into(state).iter();
        let sum = arcs.fold(f64::NEG_INFINITY, |sum, arc| {
            log_add(sum, before[arc.from as usize] + arc.log_weight)
        });
        *now = sum + scores.at(frame, graph.pdf(state));
    }
}

/// [`forward_step`] among the frames of a block; `before` are the sums of the last frame before it.
fn step_within<T: Copy + Into<f64>>(
    graph: &Graph,
    scores: Scores<T>,
    frame: usize,
    block: usize,
    before: Option<&Vec<f64>>,
    sums: &mut [f64],
) {
    let states = graph.states();
    let place = frame % block;
    match (place, before) {
        (0, Some(before)) => forward_step(graph, scores, frame, before, &mut sums[..states]),
        _ => {
            let (earlier, now) = sums.split_at_mut(place * states);
            let before = &earlier[(place - 1) * states..];
            forward_step(graph, scores, frame, before, &mut now[..states]);
        }
    }
}

/// The sum over the ends.
fn total(graph: &Graph, sums: &[f64]) -> f64 {
    let ends = graph.ends().iter();
    ends.fold(f64::NEG_INFINITY, |all, &(state, log_weight)| {
        log_add(all, sums[state as usize] + log_weight)
    })
}

/// The logarithm of the sum of what `a` and `b` are logarithms of.
#[inline]
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY {
        return more;
    }
    more + (less - more).exp().ln_1p()
}
