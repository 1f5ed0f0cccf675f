//! Optimizers over flat vectors: torch's SGD, Adam and AdamW, element by element. They decide how a
//! gradient moves the weights and do not depend on where the gradient comes from, or what rate and
//! clipping a step has.

use std::ops::Range;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    limits::{OutOfRange, not_negative, positive, require},
    schedule::power,
    trainer::blocks::BLOCK_ELEMENTS,
};

/// The `[optimizer]` section of a job: the update rule, as in torch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The algorithm.
    pub kind: OptimizerKind,
    /// The base learning rate, which `[schedule]` multiplies.
    #[schemars(extend("exclusiveMinimum" = 0), example = 2e-3)]
    pub learning_rate: f64,
    /// The momentum; 0: none, and no buffer is kept.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.9)]
    pub momentum: f64,
    /// Whether momentum is Nesterov's (Sutskever et al. 2013).
    pub nesterov: bool,
    /// Weight decay: an L2 term in the gradient for `sgd` and `adam`, decoupled decay of the weights for `adamw`.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
    /// The decay of the first moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.85)]
    pub beta1: f64,
    /// The decay of the second moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.99)]
    pub beta2: f64,
    /// Added to the denominator of the update.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-6)]
    pub epsilon: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adam,
            learning_rate: 1e-3,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam (Kingma & Ba 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW,
}

impl OptimizerConfig {
    /// # Errors
    /// The first key that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        positive("optimizer.learning_rate", self.learning_rate)?;
        positive("optimizer.epsilon", self.epsilon)?;
        not_negative("optimizer.weight_decay", self.weight_decay)?;
        for (field, value) in [
            ("optimizer.momentum", self.momentum),
            ("optimizer.beta1", self.beta1),
            ("optimizer.beta2", self.beta2),
        ] {
            require(
                (0.0..1.0).contains(&value),
                field,
                value,
                "at least 0 and below 1",
            )?;
        }
        require(
            !self.nesterov || self.momentum > 0.0,
            "optimizer.momentum",
            self.momentum,
            "above 0 with `nesterov = true`",
        )
    }

    /// The magnitude from which on a finite element of the gradient may make this optimizer's vectors
    /// infinite in one step: Adam's second moment holds squares.
    pub fn gradient_limit(&self) -> f64 {
        match self.kind {
            OptimizerKind::Sgd => f64::INFINITY,
            OptimizerKind::Adam | OptimizerKind::AdamW => f64::from(f32::MAX).sqrt(),
        }
    }

    /// The names of the vectors that an optimizer of this kind keeps.
    pub fn vectors(&self) -> &'static [&'static str] {
        match self.kind {
            OptimizerKind::Sgd if self.momentum == 0.0 => &[],
            OptimizerKind::Sgd => &["momentum_buffer"],
            OptimizerKind::Adam | OptimizerKind::AdamW => &["exp_avg", "exp_avg_sq"],
        }
    }
}

/// State that does not belong to the optimizer it is restored into.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum RestoreError {
    #[error("the optimizer keeps the vectors {expected:?}, the state holds {found:?}")]
    Vectors {
        expected: Vec<String>,
        found: Vec<String>,
    },
    #[error("the vector `{name}` has {found} elements where the model has {expected}")]
    Elements {
        name: String,
        found: usize,
        expected: usize,
    },
}

/// An optimizer and what it remembers.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// Steps applied so far: Adam's bias correction and the schedule count them.
    steps: u64,
    /// In the order of [`OptimizerConfig::vectors`].
    vectors: Vec<Vec<f32>>,
}

impl Optimizer {
    /// An optimizer for `elements` weights that has seen no gradient.
    pub fn new(config: OptimizerConfig, elements: usize) -> Self {
        let vectors = config.vectors().iter().map(|_| vec![0.0; elements]);
        Self {
            config,
            steps: 0,
            vectors: vectors.collect(),
        }
    }

    /// One that goes on after `steps` applied steps with the vectors that [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// When a vector is missing, unknown or of another length.
    pub fn restore(
        config: OptimizerConfig,
        elements: usize,
        steps: u64,
        state: Vec<(String, Vec<f32>)>,
    ) -> Result<Self, RestoreError> {
        let expected = config.vectors();
        if !state.iter().map(|(name, _)| name).eq(expected) {
            return Err(RestoreError::Vectors {
                expected: expected.iter().map(|&name| name.to_owned()).collect(),
                found: state.into_iter().map(|(name, _)| name).collect(),
            });
        }
        if let Some((name, vector)) = state.iter().find(|(_, vector)| vector.len() != elements) {
            return Err(RestoreError::Elements {
                name: name.clone(),
                found: vector.len(),
                expected: elements,
            });
        }
        Ok(Self {
            config,
            steps,
            vectors: state.into_iter().map(|(_, vector)| vector).collect(),
        })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// Steps applied so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The named vectors that a checkpoint holds, in the order of [`OptimizerConfig::vectors`].
    pub fn state(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        let names = self.config.vectors().iter().copied();
        names.zip(self.vectors.iter().map(Vec::as_slice))
    }

    /// Moves `weights` along `gradient` at `learning_rate`; the three vectors have one length.
    /// Hyperparameters are combined in f64, elements are computed in f32, as torch does it.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f64) {
        let mut starts = (0..weights.len()).step_by(BLOCK_ELEMENTS);
        let cuts: Vec<Range<usize>> = starts
            .by_ref()
            .map(|start| start..(start + BLOCK_ELEMENTS).min(gradient.len()))
            .collect();
        let (rule, blocks) = self.begin(weights, &cuts, learning_rate);
        blocks
            .into_par_iter()
            .zip(gradient.par_chunks(BLOCK_ELEMENTS))
            .for_each(|(mut block, gradient)| rule.block(&mut block, gradient));
    }

    /// Begins a step: what is done to each element, and the weights with the optimizer's vectors, cut
    /// at `cuts`, which cover them in order. The step is made once the rule has met every block.
    pub(crate) fn begin<'a>(
        &'a mut self,
        weights: &'a mut [f32],
        cuts: &[Range<usize>],
        learning_rate: f64,
    ) -> (UpdateRule, Vec<ParameterBlock<'a>>) {
        let first = self.steps == 0;
        self.steps += 1;
        let config = &self.config;
        let decay = config.weight_decay as f32;
        let rule = match config.kind {
            OptimizerKind::Sgd if config.momentum == 0.0 => UpdateRule::Sgd {
                rate: learning_rate as f32,
                decay,
            },
            OptimizerKind::Sgd => UpdateRule::Momentum(Momentum {
                rate: learning_rate as f32,
                decay,
                momentum: config.momentum as f32,
                nesterov: config.nesterov,
                first,
            }),
            OptimizerKind::Adam | OptimizerKind::AdamW => {
                UpdateRule::Adam(Adam::at(config, learning_rate, self.steps))
            }
        };
        let mut vectors = self.vectors.iter_mut().map(Vec::as_mut_slice);
        let (mut one, mut two) = (vectors.next(), vectors.next());
        let mut rest = weights;
        let blocks = cuts.iter().map(|cut| ParameterBlock {
            weights: take(&mut rest, cut.len()),
            state: [&mut one, &mut two].map(|vector| {
                let vector = vector.as_mut();
                vector.map_or_else(Default::default, |vector| take(vector, cut.len()))
            }),
        });
        (rule, blocks.collect())
    }
}

/// Splits the first `length` elements off.
fn take<'a>(rest: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    let (taken, left) = std::mem::take(rest).split_at_mut(length);
    *rest = left;
    taken
}

/// A run of weights with what the optimizer remembers of them.
pub(crate) struct ParameterBlock<'a> {
    pub weights: &'a mut [f32],
    /// In the order of [`OptimizerConfig::vectors`]; empty where there are fewer.
    state: [&'a mut [f32]; 2],
}

impl ParameterBlock<'_> {
    /// The elements `place` of the weights and of each of the optimizer's vectors.
    pub(crate) fn vectors(&self, place: &Range<usize>) -> impl Iterator<Item = &[f32]> {
        let state = self.state.iter().filter(|vector| !vector.is_empty());
        let vectors = std::iter::once(&self.weights).chain(state);
        vectors.map(|vector| &vector[place.clone()])
    }
}

/// What a step does to each element.
pub(crate) enum UpdateRule {
    Sgd { rate: f32, decay: f32 },
    Momentum(Momentum),
    Adam(Adam),
}

impl UpdateRule {
    /// Moves a block along its part of the gradient.
    #[inline]
    pub(crate) fn block(&self, block: &mut ParameterBlock<'_>, gradient: &[f32]) {
        self.run(block, 0..gradient.len(), gradient);
    }

    /// Moves the elements `place` of a block along their part of the gradient.
    #[inline]
    pub(crate) fn run(
        &self,
        block: &mut ParameterBlock<'_>,
        place: Range<usize>,
        gradient: &[f32],
    ) {
        let weights = &mut block.weights[place.clone()];
        let [one, two] = &mut block.state;
        match self {
            &Self::Sgd { rate, decay } => {
                for (weight, &gradient) in weights.iter_mut().zip(gradient) {
                    *weight -= rate * decayed(gradient, *weight, decay);
                }
            }
            Self::Momentum(sgd) => sgd.block(weights, gradient, &mut one[place]),
            Self::Adam(adam) => {
                adam.block(weights, gradient, &mut one[place.clone()], &mut two[place]);
            }
        }
    }
}

/// The gradient with the L2 term, which torch leaves out at a decay of 0.
#[inline]
fn decayed(gradient: f32, weight: f32, decay: f32) -> f32 {
    if decay == 0.0 {
        gradient
    } else {
        gradient + decay * weight
    }
}

/// SGD with momentum, dampening 0.
pub(crate) struct Momentum {
    rate: f32,
    decay: f32,
    momentum: f32,
    nesterov: bool,
    /// The buffer begins as the first gradient.
    first: bool,
}

impl Momentum {
    #[inline]
    fn block(&self, weights: &mut [f32], gradient: &[f32], buffer: &mut [f32]) {
        let gradients = gradient.iter().zip(buffer);
        for (weight, (&gradient, buffer)) in weights.iter_mut().zip(gradients) {
            let gradient = decayed(gradient, *weight, self.decay);
            *buffer = if self.first {
                gradient
            } else {
                self.momentum * *buffer + gradient
            };
            let direction = if self.nesterov {
                gradient + self.momentum * *buffer
            } else {
                *buffer
            };
            *weight -= self.rate * direction;
        }
    }
}

/// Adam's and AdamW's scalars of one step.
pub(crate) struct Adam {
    /// Learning rate over the first moment's bias correction.
    rate: f32,
    /// What AdamW multiplies the weights by.
    shrink: f32,
    /// Adam's L2 term.
    decay: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    /// Square root of the second moment's bias correction.
    correction: f32,
    epsilon: f32,
}

impl Adam {
    fn at(config: &OptimizerConfig, learning_rate: f64, step: u64) -> Self {
        let decoupled = config.kind == OptimizerKind::AdamW;
        let (shrink, decay) = if decoupled {
            (1.0 - learning_rate * config.weight_decay, 0.0)
        } else {
            (1.0, config.weight_decay)
        };
        Self {
            rate: (learning_rate / (1.0 - power(config.beta1, step))) as f32,
            shrink: shrink as f32,
            decay: decay as f32,
            beta2: config.beta2 as f32,
            one_minus_beta1: (1.0 - config.beta1) as f32,
            one_minus_beta2: (1.0 - config.beta2) as f32,
            correction: (1.0 - power(config.beta2, step)).sqrt() as f32,
            epsilon: config.epsilon as f32,
        }
    }

    #[inline]
    fn block(&self, weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let moments = mean.iter_mut().zip(square);
        for ((weight, &gradient), (mean, square)) in weights.iter_mut().zip(gradient).zip(moments) {
            *weight *= self.shrink;
            let gradient = decayed(gradient, *weight, self.decay);
            *mean += self.one_minus_beta1 * (gradient - *mean);
            *square = self.beta2 * *square + self.one_minus_beta2 * (gradient * gradient);
            let scale = square.sqrt() / self.correction + self.epsilon;
            *weight -= self.rate * (*mean / scale);
        }
    }
}

#[cfg(test)]
mod tests;
