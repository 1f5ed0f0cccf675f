//! Losses with smoothed targets and weighted classes, from log-probabilities. It decides what training
//! adds to the likelihood; it does not depend on the likelihood of a sequence.

use speech::{model::Head, objective::Objective};

use super::{Loss, arithmetic::exp};
use simd::{Kernel, Lanes};

/// Turns the likelihood's loss of an utterance into the objective's.
pub(super) struct Shaped<'a> {
    pub head: Head,
    /// [rows, outputs]
    pub log_probs: &'a [f64],
    pub outputs: usize,
    pub target: &'a [u32],
    pub objective: &'a Objective,
    pub likelihood: Loss,
}

impl Kernel for Shaped<'_> {
    type Output = Loss;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Loss {
        match self.head {
            Head::Keyword => self.keyword(),
            Head::Ctc => self.ctc(),
        }
    }
}

impl Shaped<'_> {
    /// Cross-entropy as torch has it with class weights `w` and smoothing `e` over K classes:
    /// (1 - e) w_y (-ln p_y) + e/K sum of w_c (-ln p_c).
    #[inline(always)]
    fn keyword(self) -> Loss {
        let Self {
            log_probs,
            outputs,
            target,
            objective,
            mut likelihood,
            ..
        } = self;
        let class = target[0] as usize;
        let spread = objective.label_smoothing / outputs as f64;
        let sharp = (1.0 - objective.label_smoothing) * objective.class_weight(class);
        let (mut value, mut weights) = (sharp * likelihood.value, 0.0);
        for (class, log_prob) in log_probs.iter().enumerate() {
            let weight = spread * objective.class_weight(class);
            value -= weight * log_prob;
            weights += weight;
        }
        let grads = likelihood.gradient.iter_mut().zip(log_probs).enumerate();
        for (place, (grad, &log_prob)) in grads {
            let probability = exp(log_prob);
            let hit = if place == class { 1.0 } else { 0.0 };
            let even = weights * probability - spread * objective.class_weight(place);
            *grad = (sharp * (probability - hit) + even) as f32;
        }
        likelihood.value = value;
        likelihood
    }

    /// (1 - e) times the likelihood's, and e times the divergence of each frame's distribution from the
    /// uniform one: ln K + sum of p ln p.
    #[inline(always)]
    fn ctc(self) -> Loss {
        let Self {
            log_probs,
            outputs,
            objective,
            mut likelihood,
            ..
        } = self;
        let smoothing = objective.label_smoothing;
        let sharp = 1.0 - smoothing;
        let uniform = super::arithmetic::ln(outputs as f64);
        let mut probabilities = vec![0.0; outputs];
        let mut divergence = 0.0;
        let frames = log_probs.chunks_exact(outputs);
        for (frame, grads) in frames.zip(likelihood.gradient.chunks_exact_mut(outputs)) {
            for (probability, &log_prob) in probabilities.iter_mut().zip(frame) {
                *probability = exp(log_prob);
            }
            let terms = probabilities.iter().zip(frame);
            let negentropy: f64 = terms.map(|(p, log_prob)| p * log_prob).sum();
            divergence += uniform + negentropy;
            let places = grads.iter_mut().zip(probabilities.iter().zip(frame));
            for (grad, (probability, log_prob)) in places {
                let even = probability * (log_prob - negentropy);
                *grad = (sharp * f64::from(*grad) + smoothing * even) as f32;
            }
        }
        likelihood.value = sharp * likelihood.value + smoothing * divergence;
        likelihood
    }
}
