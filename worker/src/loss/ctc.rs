//! Connectionist temporal classification (Graves et al. 2006): the forward-backward algorithm in
//! log space, with the gradient with respect to the logits before the softmax.

use super::Loss;
use super::arithmetic::{exp, log_add};
use crate::kernel::Level;
use crate::kernel::simd::{Kernel, Lanes};

/// The log-probability of what cannot be. So far below any real one (a frame's is above -1e39, the
/// range of the f32 logits) that sums of the two never meet, and far enough from the end of f64's
/// range that two of them add up.
const IMPOSSIBLE: f64 = -1e300;

/// The loss of a feasible utterance with log-probabilities [frames, outputs].
pub fn loss(log_probs: &[f64], outputs: usize, target: &[u32]) -> Loss {
    Level::detect().run(ForwardBackward {
        log_probs,
        outputs,
        target,
    })
}

struct ForwardBackward<'a> {
    log_probs: &'a [f64],
    outputs: usize,
    target: &'a [u32],
}

impl Kernel for ForwardBackward<'_> {
    type Output = Loss;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Loss {
        let Self {
            log_probs,
            outputs,
            target,
        } = self;
        let frames = log_probs.len() / outputs;
        // The labels with blanks between and around them.
        let units: Vec<usize> = (0..2 * target.len() + 1)
            .map(|s| {
                if s % 2 == 0 {
                    0
                } else {
                    target[s / 2] as usize
                }
            })
            .collect();
        let states = units.len();
        // What it costs to enter state s from s - 2: nothing between different labels.
        let skip: Vec<f64> = (0..states)
            .map(|s| {
                let free = s >= 2 && units[s] != 0 && units[s] != units[s - 2];
                if free { 0.0 } else { IMPOSSIBLE }
            })
            .collect();
        let emissions: Vec<f64> = log_probs
            .chunks_exact(outputs)
            .flat_map(|row| units.iter().map(|&unit| row[unit]))
            .collect();

        // alpha[t][s]: all beginnings that are in s at t, its emission included. Two impossible
        // states stand before the first.
        let width = states + 2;
        let mut alpha = vec![IMPOSSIBLE; frames * width];
        let begin = states.min(2);
        alpha[2..][..begin].copy_from_slice(&emissions[..begin]);
        for t in 1..frames {
            let (before, now) = alpha.split_at_mut(t * width);
            let before = &before[(t - 1) * width..];
            let emission = &emissions[t * states..][..states];
            let (two, one) = (&before[..states], &before[1..][..states]);
            let (stay, skip) = (&before[2..][..states], &skip[..states]);
            let now = &mut now[2..][..states];
            for s in 0..states {
                now[s] = log_add(stay[s], one[s], two[s] + skip[s]) + emission[s];
            }
        }
        let last = &alpha[(frames - 1) * width + 2..][..states];
        let ends = if states > 1 {
            last[states - 2]
        } else {
            IMPOSSIBLE
        };
        let total = log_add(last[states - 1], ends, IMPOSSIBLE);

        // beta[s]: all endings after t from s at t. `ahead` adds the emission of t + 1, followed by
        // two impossible states; `skip_ahead[s]` is what it costs to go from s to s + 2.
        let mut skip_ahead = skip[states.min(2)..].to_vec();
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
            if t + 1 < frames {
                let emission = &emissions[(t + 1) * states..][..states];
                let (here, beta) = (&mut ahead[..states], &mut beta[..states]);
                for s in 0..states {
                    here[s] = beta[s] + emission[s];
                }
                let (stay, one) = (&ahead[..states], &ahead[1..][..states]);
                let (two, skip) = (&ahead[2..][..states], &skip_ahead[..states]);
                for s in 0..states {
                    beta[s] = log_add(stay[s], one[s], two[s] + skip[s]);
                }
            }
            let alpha = &alpha[t * width + 2..][..states];
            let (beta, posterior) = (&beta[..states], &mut posterior[..states]);
            for s in 0..states {
                posterior[s] = exp(alpha[s] + beta[s] - total);
            }
            expected.fill(0.0);
            for (&unit, posterior) in units.iter().zip(&*posterior) {
                expected[unit] += posterior;
            }
            let row = &log_probs[t * outputs..][..outputs];
            let result = &mut gradient[t * outputs..][..outputs];
            for k in 0..outputs {
                result[k] = (exp(row[k]) - expected[k]) as f32;
            }
        }
        Loss {
            value: -total,
            gradient,
        }
    }
}
