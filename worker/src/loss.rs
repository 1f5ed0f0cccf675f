//! The loss of an utterance and its gradient with respect to the network's outputs, on the CPU. It
//! decides what can be learned from at all, and does not depend on how the outputs were computed.
//!
//! Everything is a sum, never a mean: what a sum is divided by is the coordinator's to know.

mod arithmetic;
mod ctc;
mod objective;

use rayon::prelude::*;
use speech::{decode::ctc_required_frames, model::Head, objective::Objective};
use thiserror::Error;

/// One utterance's outputs before the softmax, and what they should have been.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// [frames, outputs]; one row for a keyword.
    pub logits: &'a [f32],
    /// The class, or the labels (1 and above; 0 is the blank).
    pub target: &'a [u32],
}

/// What an utterance costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The negative log-likelihood of the target, in nats, or what an objective makes of it. Not finite
    /// where the outputs are not.
    pub value: f64,
    /// With respect to the logits, of their shape.
    pub gradient: Vec<f32>,
}

/// There is no memory for what an utterance's loss needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there are no {bytes} bytes of memory for the loss of an utterance of its length")]
pub struct OutOfMemory {
    /// Among the examples.
    pub position: usize,
    /// What was asked of the system.
    pub bytes: usize,
}

impl OutOfMemory {
    /// For `elements` of 8 bytes; whose they are is not known yet.
    fn new(elements: usize) -> Self {
        Self {
            position: 0,
            bytes: elements.saturating_mul(size_of::<f64>()),
        }
    }
}

/// Whether a target can come out of `frames` frames at all, which have to be as many as CTC's alignment takes
/// (Graves et al. 2006), and at least one.
pub fn is_feasible(head: Head, frames: usize, target: &[u32]) -> bool {
    frames > 0
        && match head {
            Head::Keyword => true,
            Head::Ctc => frames >= ctc_required_frames(target),
        }
}

/// The negative log-likelihoods of `examples` without their gradients, shared out among rayon's threads: in
/// memory that grows with frames and with labels, and not with both.
///
/// # Panics
/// If an example is not feasible, or a target's class is not among `outputs`.
pub fn values(head: Head, examples: &[Example], outputs: usize) -> Vec<f64> {
    examples
        .par_iter()
        .map(|example| {
            let Example { logits, target } = *example;
            check(head, *example, outputs);
            if !logits.iter().all(|logit| logit.is_finite()) {
                return f64::NAN;
            }
            match head {
                Head::Keyword => {
                    let mut log_probs = vec![0.0; logits.len()];
                    log_softmax(logits, outputs, &mut log_probs);
                    -log_probs[target[0] as usize]
                }
                Head::Ctc => ctc::value(logits, outputs, target),
            }
        })
        .collect()
}

/// The negative log-likelihoods of `examples` with their gradients, shared out among rayon's threads.
///
/// # Errors
/// When there is no memory for one of them.
///
/// # Panics
/// As [`values`].
pub fn losses(head: Head, examples: &[Example], outputs: usize) -> Result<Vec<Loss>, OutOfMemory> {
    training_losses(head, examples, outputs, &Objective::default())
}

/// What training makes small for `examples`: their negative log-likelihoods as `objective` shapes them.
///
/// # Errors
/// As [`losses`].
///
/// # Panics
/// As [`values`].
pub fn training_losses(
    head: Head,
    examples: &[Example],
    outputs: usize,
    objective: &Objective,
) -> Result<Vec<Loss>, OutOfMemory> {
    let losses: Vec<Result<Loss, OutOfMemory>> = examples
        .par_iter()
        .enumerate()
        .map(|(position, example)| {
            let loss = loss(head, *example, outputs, objective);
            loss.map_err(|error| OutOfMemory { position, ..error })
        })
        .collect();
    losses.into_iter().collect()
}

fn check(head: Head, example: Example, outputs: usize) {
    let Example { logits, target } = example;
    assert!(
        target.iter().all(|&label| (label as usize) < outputs),
        "a target's class is below {outputs}"
    );
    assert!(
        is_feasible(head, logits.len() / outputs, target),
        "a feasible utterance"
    );
}

fn loss(
    head: Head,
    example: Example,
    outputs: usize,
    objective: &Objective,
) -> Result<Loss, OutOfMemory> {
    let Example { logits, target } = example;
    check(head, example, outputs);
    if !logits.iter().all(|logit| logit.is_finite()) {
        return Ok(Loss {
            value: f64::NAN,
            gradient: vec![f32::NAN; logits.len()],
        });
    }
    let mut log_probs = vec![0.0; logits.len()];
    log_softmax(logits, outputs, &mut log_probs);
    let likelihood = match head {
        Head::Keyword => cross_entropy(&log_probs, target),
        Head::Ctc => ctc::loss(&log_probs, outputs, target)?,
    };
    if objective.is_plain() {
        return Ok(likelihood);
    }
    Ok(crate::cpu::Level::detect().run(objective::Shaped {
        head,
        log_probs: &log_probs,
        outputs,
        target,
        objective,
        likelihood,
    }))
}

/// The logarithm of the softmax of each row of `logits` [rows, outputs].
pub fn log_softmax(logits: &[f32], outputs: usize, log_probs: &mut [f64]) {
    let level = crate::cpu::Level::detect();
    level.run(arithmetic::LogSoftmax {
        logits,
        outputs,
        log_probs,
    });
}

fn cross_entropy(log_probs: &[f64], target: &[u32]) -> Loss {
    assert_eq!(target.len(), 1, "a keyword has one class");
    let class = target[0] as usize;
    let gradient = log_probs
        .iter()
        .enumerate()
        .map(|(k, &log_prob)| {
            (arithmetic::exp(log_prob) - if k == class { 1.0 } else { 0.0 }) as f32
        })
        .collect();
    Loss {
        value: -log_probs[class],
        gradient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use speech::random::Stream;

    fn loss(head: Head, example: Example, outputs: usize) -> Loss {
        super::loss(head, example, outputs, &Objective::default()).unwrap()
    }

    fn logits(stream: &mut Stream, elements: usize) -> Vec<f32> {
        (0..elements)
            .map(|_| (2.0 * stream.normal()) as f32)
            .collect()
    }

    /// The negative log of the summed probability of all paths that collapse to `target`.
    fn brute_force(logits: &[f32], outputs: usize, target: &[u32]) -> f64 {
        let frames = logits.len() / outputs;
        let mut total = 0.0;
        for path in 0..outputs.pow(frames as u32) {
            let (mut rest, mut collapsed, mut previous, mut probability) = (path, vec![], 0, 1.0);
            for frame in 0..frames {
                let unit = rest % outputs;
                rest /= outputs;
                let row = &logits[frame * outputs..][..outputs];
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                probability *= f64::from(row[unit]).exp() / sum;
                if unit != 0 && unit != previous {
                    collapsed.push(unit as u32);
                }
                previous = unit;
            }
            if collapsed == target {
                total += probability;
            }
        }
        -total.ln()
    }

    #[test]
    fn ctc_is_the_sum_over_all_alignments() {
        let mut stream = Stream::new(1, &[]);
        for (frames, target) in [
            (1, &[][..]),
            (1, &[2]),
            (4, &[]),
            (5, &[1, 2]),
            (5, &[2, 2]),
            (3, &[1, 1]),
            (6, &[1, 1, 2]),
            (6, &[3, 1, 3]),
            (5, &[1, 1, 1]),
        ] {
            let logits = logits(&mut stream, frames * 4);
            let loss = loss(
                Head::Ctc,
                Example {
                    logits: &logits,
                    target,
                },
                4,
            );
            let expected = brute_force(&logits, 4, target);
            assert!(
                (loss.value - expected).abs() < 1e-10 * expected.max(1.0),
                "{target:?}"
            );
        }
    }

    #[test]
    fn gradients_are_the_differences_of_the_loss() {
        let mut stream = Stream::new(2, &[]);
        let cases: [(Head, usize, &[u32]); 4] = [
            (Head::Keyword, 1, &[3]),
            (Head::Ctc, 9, &[1, 1, 2, 4]),
            (Head::Ctc, 4, &[]),
            (Head::Ctc, 3, &[2, 3, 4]),
        ];
        for (head, frames, target) in cases {
            let logits = logits(&mut stream, frames * 5);
            let value = |logits: &[f32]| loss(head, Example { logits, target }, 5).value;
            let gradient = loss(
                head,
                Example {
                    logits: &logits,
                    target,
                },
                5,
            )
            .gradient;
            for k in 0..logits.len() {
                let step = 1.0 / 512.0;
                let mut moved = logits.clone();
                moved[k] = logits[k] + step;
                let up = f64::from(moved[k]);
                let above = value(&moved);
                moved[k] = logits[k] - step;
                let difference = (above - value(&moved)) / (up - f64::from(moved[k]));
                assert!(
                    (difference - f64::from(gradient[k])).abs() < 2e-5,
                    "{head:?} {k}"
                );
            }
        }
    }

    #[test]
    fn gradients_of_shaped_losses_are_their_differences_at_every_level() {
        use simd::Level;
        let mut stream = Stream::new(3, &[]);
        let smooth = Objective {
            label_smoothing: 0.2,
            ..Objective::default()
        };
        let weighted = Objective {
            class_weights: vec![0.5, 2.0, 0.0, 3.0, 1.0],
            ..smooth.clone()
        };
        let cases: [(Head, usize, &[u32], &Objective); 4] = [
            (Head::Keyword, 1, &[3], &smooth),
            (Head::Keyword, 1, &[1], &weighted),
            (Head::Ctc, 9, &[1, 1, 2, 4], &smooth),
            (Head::Ctc, 3, &[], &smooth),
        ];
        for (head, frames, target, objective) in cases {
            let logits = logits(&mut stream, frames * 5);
            let at = |logits: &[f32]| {
                super::loss(head, Example { logits, target }, 5, objective).unwrap()
            };
            let gradient = at(&logits).gradient;
            for k in 0..logits.len() {
                let mut moved = logits.clone();
                moved[k] = logits[k] + 1.0 / 512.0;
                let (up, above) = (f64::from(moved[k]), at(&moved).value);
                moved[k] = logits[k] - 1.0 / 512.0;
                let difference = (above - at(&moved).value) / (up - f64::from(moved[k]));
                assert!(
                    (difference - f64::from(gradient[k])).abs() < 2e-5,
                    "{head:?} {k}: {difference} {}",
                    gradient[k]
                );
            }
            let mut log_probs = vec![0.0; logits.len()];
            log_softmax(&logits, 5, &mut log_probs);
            let bits = Level::available().into_iter().map(|level| {
                let shaped = level.run(objective::Shaped {
                    head,
                    log_probs: &log_probs,
                    outputs: 5,
                    target,
                    objective,
                    likelihood: loss(
                        head,
                        Example {
                            logits: &logits,
                            target,
                        },
                        5,
                    ),
                });
                (shaped.value.to_bits(), shaped.gradient)
            });
            let bits: Vec<_> = bits.collect();
            assert!(bits.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn a_long_confident_sequence_has_a_finite_loss_and_gradient() {
        // 20,000 frames, each 60 nats against the target: states that are reachable only with
        // probability e^-1,200,000.
        let (frames, outputs) = (20_000, 32);
        let mut logits = vec![0.0f32; frames * outputs];
        for (i, row) in logits.chunks_exact_mut(outputs).enumerate() {
            row[i % 7 + 5] = 60.0;
        }
        let target = [1, 2, 2, 3];
        let loss = loss(
            Head::Ctc,
            Example {
                logits: &logits,
                target: &target,
            },
            outputs,
        );
        assert!(loss.value.is_finite() && (loss.value / (60.0 * frames as f64) - 1.0).abs() < 0.01);
        assert!(
            loss.gradient
                .iter()
                .all(|x| x.is_finite() && x.abs() <= 1.0)
        );
        for row in loss.gradient.chunks_exact(outputs) {
            assert!(row.iter().map(|&x| f64::from(x)).sum::<f64>().abs() < 1e-5);
        }
    }

    #[test]
    fn what_cannot_be_aligned_is_not_feasible() {
        assert!(is_feasible(Head::Ctc, 3, &[1, 1]));
        assert!(!is_feasible(Head::Ctc, 2, &[1, 1]));
        assert!(is_feasible(Head::Ctc, 1, &[]));
        assert!(!is_feasible(Head::Ctc, 0, &[]));
        assert!(!is_feasible(Head::Keyword, 0, &[1]));
    }

    #[test]
    fn outputs_that_are_not_finite_give_a_loss_that_is_not() {
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = [0.0, bad, 0.0, 1.0];
            let loss = loss(
                Head::Ctc,
                Example {
                    logits: &logits,
                    target: &[1],
                },
                2,
            );
            assert!(loss.value.is_nan() && loss.gradient.iter().all(|x| x.is_nan()));
        }
    }
}
