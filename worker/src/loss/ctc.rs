//! Connectionist temporal classification (Graves et al. 2006): the forward-backward algorithm in
//! log space, with the gradient with respect to the logits before the softmax; and the forward half alone, for
//! the loss without a gradient.
//!
//! The lattice of a recording has a row of 2 L + 1 states for each frame, where L is the number of labels: it grows
//! with the square of the recording's length. The loss alone needs two rows of it. The gradient needs every row
//! once more, from the last to the first: beyond [`WHOLE`] one row in so many is kept, and the rows between are
//! computed again (Griewank and Walther 2000), which gives the same bits.

use super::arithmetic::{LogSoftmax, exp, log_add};
use super::{Loss, OutOfMemory};
use crate::cpu::Level;
use simd::{Kernel, Lanes};

/// The log-probability of what cannot be. So far below any real one (a frame's is above -1e39, the
/// range of the f32 logits) that sums of the two never meet, and far enough from the end of f64's
/// range that two of them add up.
const IMPOSSIBLE: f64 = -1e300;

/// Bytes of a lattice that is kept whole.
const WHOLE: usize = 64 << 20;

/// The loss of a feasible utterance with log-probabilities [frames, outputs].
///
/// # Errors
/// When there is no memory for the rows of the lattice that are kept.
pub(super) fn loss(log_probs: &[f64], outputs: usize, target: &[u32]) -> Result<Loss, OutOfMemory> {
    loss_within(WHOLE, log_probs, outputs, target)
}

/// [`loss`] with other bytes of a lattice that is kept whole.
pub(super) fn loss_within(
    whole: usize,
    log_probs: &[f64],
    outputs: usize,
    target: &[u32],
) -> Result<Loss, OutOfMemory> {
    Level::detect().run(ForwardBackward {
        log_probs,
        outputs,
        target,
        whole,
    })
}

/// The loss of a feasible utterance with logits [frames, outputs], without a gradient: in memory that grows with
/// the labels alone.
pub(super) fn value(logits: &[f32], outputs: usize, target: &[u32]) -> f64 {
    Level::detect().run(Forward {
        logits,
        outputs,
        target,
    })
}

/// The states of a lattice: the labels with blanks between and around them.
struct States {
    /// Each state's output.
    units: Vec<usize>,
    /// What it costs to enter state s from s - 2: nothing between different labels.
    skip: Vec<f64>,
}

impl States {
    #[inline(always)]
    fn new(target: &[u32]) -> Self {
        let units: Vec<usize> = (0..2 * target.len() + 1)
            .map(|s| {
                if s % 2 == 0 {
                    0
                } else {
                    target[s / 2] as usize
                }
            })
            .collect();
        let skip = (0..units.len())
            .map(|s| {
                let free = s >= 2 && units[s] != 0 && units[s] != units[s - 2];
                if free { 0.0 } else { IMPOSSIBLE }
            })
            .collect();
        Self { units, skip }
    }

    fn count(&self) -> usize {
        self.units.len()
    }

    /// Elements of a row of alpha: two impossible states stand before the first.
    fn width(&self) -> usize {
        self.count() + 2
    }

    /// The log-probability of each state's output, where a frame's are `log_probs`.
    #[inline(always)]
    fn emit(&self, log_probs: &[f64], emission: &mut [f64]) {
        for (emission, &unit) in emission.iter_mut().zip(&self.units) {
            *emission = log_probs[unit];
        }
    }

    /// The first row of alpha: all beginnings are in the first two states. The row is impossible before.
    #[inline(always)]
    fn begin(&self, emission: &[f64], now: &mut [f64]) {
        let begin = self.count().min(2);
        now[2..][..begin].copy_from_slice(&emission[..begin]);
    }

    /// The next row of alpha, alpha[t][s]: all beginnings that are in s at t, its emission included.
    #[inline(always)]
    fn step(&self, before: &[f64], emission: &[f64], now: &mut [f64]) {
        let states = self.count();
        let (two, one) = (&before[..states], &before[1..][..states]);
        let (stay, skip) = (&before[2..][..states], &self.skip[..states]);
        let (emission, now) = (&emission[..states], &mut now[2..][..states]);
        for s in 0..states {
            now[s] = log_add(stay[s], one[s], two[s] + skip[s]) + emission[s];
        }
    }

    /// The log-probability of all paths, by the last row of alpha.
    #[inline(always)]
    fn total(&self, last: &[f64]) -> f64 {
        let states = self.count();
        let last = &last[2..][..states];
        let ends = if states > 1 {
            last[states - 2]
        } else {
            IMPOSSIBLE
        };
        log_add(last[states - 1], ends, IMPOSSIBLE)
    }
}

struct Forward<'a> {
    logits: &'a [f32],
    outputs: usize,
    target: &'a [u32],
}

impl Kernel for Forward<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes>(self) -> f64 {
        /// Rows whose log-probabilities are held at once.
        const ROWS: usize = 64;
        let Self {
            logits,
            outputs,
            target,
        } = self;
        let states = States::new(target);
        let mut log_probs = vec![0.0; ROWS * outputs];
        let mut emission = vec![0.0; states.count()];
        let mut before = vec![IMPOSSIBLE; states.width()];
        let mut now = before.clone();
        let mut is_first = true;
        for rows in logits.chunks(ROWS * outputs) {
            let log_probs = &mut log_probs[..rows.len()];
            LogSoftmax {
                logits: rows,
                outputs,
                log_probs: &mut *log_probs,
            }
            .run::<V>();
            for row in log_probs.chunks_exact(outputs) {
                states.emit(row, &mut emission);
                match std::mem::take(&mut is_first) {
                    true => states.begin(&emission, &mut now),
                    false => states.step(&before, &emission, &mut now),
                }
                std::mem::swap(&mut before, &mut now);
            }
        }
        -states.total(&before)
    }
}

struct ForwardBackward<'a> {
    log_probs: &'a [f64],
    outputs: usize,
    target: &'a [u32],
    /// Bytes of a lattice that is kept whole.
    whole: usize,
}

/// `elements` impossible ones.
fn reserve(elements: usize) -> Result<Vec<f64>, OutOfMemory> {
    let mut rows = Vec::new();
    rows.try_reserve_exact(elements)
        .map_err(|_| OutOfMemory::new(elements))?;
    rows.resize(elements, IMPOSSIBLE);
    Ok(rows)
}

impl Kernel for ForwardBackward<'_> {
    type Output = Result<Loss, OutOfMemory>;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Result<Loss, OutOfMemory> {
        let Self {
            log_probs,
            outputs,
            target,
            whole,
        } = self;
        let frames = log_probs.len() / outputs;
        let row = |t: usize| &log_probs[t * outputs..][..outputs];
        let lattice = States::new(target);
        let (states, width) = (lattice.count(), lattice.width());
        // Rows of alpha from one that is kept to the next; all of them where that is little.
        let rows = match frames
            .saturating_mul(width)
            .saturating_mul(size_of::<f64>())
            <= whole
        {
            true => frames,
            false => (frames as f64).sqrt().ceil() as usize,
        };
        let blocks = frames.div_ceil(rows);
        // The row that each block begins with, and the rows of one block.
        let mut starts = reserve(blocks.saturating_mul(width))?;
        let mut alpha = reserve(rows.saturating_mul(width))?;
        let mut emission = vec![0.0; states];
        for block in 0..blocks {
            let first = block * rows;
            lattice.emit(row(first), &mut emission);
            let start = &mut starts[block * width..][..width];
            match block {
                0 => lattice.begin(&emission, start),
                // The block before is whole: only the last one can be shorter.
                _ => lattice.step(&alpha[(rows - 1) * width..], &emission, start),
            }
            alpha[..width].copy_from_slice(start);
            for t in 1..rows.min(frames - first) {
                lattice.emit(row(first + t), &mut emission);
                let (before, now) = alpha.split_at_mut(t * width);
                lattice.step(&before[(t - 1) * width..], &emission, &mut now[..width]);
            }
        }
        let last = (frames - 1) % rows;
        let total = lattice.total(&alpha[last * width..][..width]);

        // beta[s]: all endings after t from s at t. `ahead` adds the emission of t + 1, followed by
        // two impossible states; `skip_ahead[s]` is what it costs to go from s to s + 2.
        let mut skip_ahead = lattice.skip[states.min(2)..].to_vec();
        skip_ahead.resize(states, IMPOSSIBLE);
        let mut beta = vec![IMPOSSIBLE; states];
        for end in beta.iter_mut().rev().take(2) {
            *end = 0.0;
        }
        let mut ahead = vec![IMPOSSIBLE; width];
        let mut posterior = vec![0.0; states];
        let mut expected = vec![0.0; outputs];
        let mut gradient = vec![0.0; log_probs.len()];
        for t in (0..frames).rev() {
            let (block, at) = (t / rows, t % rows);
            if at + 1 == rows && block + 1 < blocks {
                // The rows of this block once more.
                alpha[..width].copy_from_slice(&starts[block * width..][..width]);
                for t in 1..rows {
                    lattice.emit(row(block * rows + t), &mut emission);
                    let (before, now) = alpha.split_at_mut(t * width);
                    lattice.step(&before[(t - 1) * width..], &emission, &mut now[..width]);
                }
            }
            if t + 1 < frames {
                lattice.emit(row(t + 1), &mut emission);
                let (here, beta) = (&mut ahead[..states], &mut beta[..states]);
                let emission = &emission[..states];
                for s in 0..states {
                    here[s] = beta[s] + emission[s];
                }
                let (stay, one) = (&ahead[..states], &ahead[1..][..states]);
                let (two, skip) = (&ahead[2..][..states], &skip_ahead[..states]);
                for s in 0..states {
                    beta[s] = log_add(stay[s], one[s], two[s] + skip[s]);
                }
            }
            let alpha = &alpha[at * width + 2..][..states];
            let (beta, posterior) = (&beta[..states], &mut posterior[..states]);
            for s in 0..states {
                posterior[s] = exp(alpha[s] + beta[s] - total);
            }
            expected.fill(0.0);
            for (&unit, posterior) in lattice.units.iter().zip(&*posterior) {
                expected[unit] += posterior;
            }
            let row = row(t);
            let result = &mut gradient[t * outputs..][..outputs];
            for k in 0..outputs {
                result[k] = (exp(row[k]) - expected[k]) as f32;
            }
        }
        Ok(Loss {
            value: -total,
            gradient,
        })
    }
}

#[cfg(test)]
mod tests {
    use speech::random::Stream;

    use super::*;

    /// Log-probabilities of random logits, and the logits.
    fn random(stream: &mut Stream, frames: usize, outputs: usize) -> (Vec<f64>, Vec<f32>) {
        let logits = (0..frames * outputs).map(|_| (3.0 * stream.normal()) as f32);
        let logits: Vec<f32> = logits.collect();
        let mut log_probs = vec![0.0; logits.len()];
        super::super::log_softmax(&logits, outputs, &mut log_probs);
        (log_probs, logits)
    }

    #[test]
    fn a_lattice_of_which_few_rows_are_kept_gives_the_same_bits() {
        let mut stream = Stream::new(5, &[]);
        let outputs = 5;
        for frames in (1..30).chain([63, 64, 65, 99, 100, 101, 257]) {
            let (log_probs, logits) = random(&mut stream, frames, outputs);
            for labels in [0, 1, frames / 3, frames / 2] {
                let label = |_| 1 + stream.below(outputs as u64 - 1) as u32;
                let target: Vec<u32> = (0..labels).map(label).collect();
                let repeats = target.windows(2).filter(|pair| pair[0] == pair[1]).count();
                if labels + repeats > frames {
                    continue;
                }
                let whole = loss_within(usize::MAX, &log_probs, outputs, &target).unwrap();
                let few = loss_within(0, &log_probs, outputs, &target).unwrap();
                assert_eq!(
                    whole.value.to_bits(),
                    few.value.to_bits(),
                    "{frames} {labels}"
                );
                assert_eq!(whole.gradient, few.gradient, "{frames} {labels}");
                let alone = value(&logits, outputs, &target);
                assert_eq!(alone.to_bits(), whole.value.to_bits(), "{frames} {labels}");
            }
        }
    }

    #[test]
    fn rows_that_no_machine_has_memory_for_are_an_error_and_not_an_abort() {
        let error = reserve(usize::MAX / 16).unwrap_err();
        assert!(error.bytes > usize::MAX / 4);
    }
}
