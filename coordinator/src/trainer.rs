//! The weight update of a step, as one transaction: the sum is divided, checked and clipped, and the optimizer
//! applied. It decides the order of division, finite check, norm, clipping, learning rate and optimizer, and does
//! not depend on how the sum came about.

use proto::contribution::Contribution;
use serde::{Deserialize, Serialize};
use speech::error_class::{Class, Classify};
use speech::model::ModelSpec;
use thiserror::Error;

use crate::{
    schedule::ScheduleConfig,
    trainer::{
        clip::{ClipConfig, Clipper},
        optimizer::{Optimizer, OptimizerConfig, RestoreError},
    },
};

mod blocks;
pub mod checkpoint_average;
pub mod clip;
mod moving_average;
pub mod optimizer;
mod passes;
pub mod reduce;

use blocks::BlockLayout;
use moving_average::MovingAverage;

/// Takes a run of final weights, and the place of its first one. Runs come in any order, from several
/// threads, and each weight once.
pub type Publish<'a> = &'a (dyn Fn(usize, &[f32]) + Sync);

/// Why training cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum UpdateError {
    #[error("step {step}: the gradient has {found} elements where the model has {expected}")]
    Elements {
        step: u64,
        found: usize,
        expected: usize,
    },
    #[error(
        "step {step}: `{parameter}` or what the optimizer keeps of it is not finite after the update; \
         lower `optimizer.learning_rate` and resume from the last checkpoint: `train … --resume --allow-change \
         --set optimizer.learning_rate=RATE`, or `unisono resume ID` with the same two on a cluster"
    )]
    Diverged { step: u64, parameter: String },
}

impl Classify for UpdateError {
    fn class(&self) -> Class {
        Class::Training
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// The weights have moved.
    Applied(Applied),
    /// The weights are what they were.
    Skipped(Skipped),
}

/// A step that moved the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The mean loss: the losses' sum over the weight.
    pub loss: f64,
    /// What the sum was divided by.
    pub weight: f64,
    /// The gradient's L2 norm before clipping.
    pub grad_norm: f64,
    /// The gradient's norm after clipping over that before, which is the factor of the whole gradient where it has
    /// one; 1 where elements are clamped.
    pub clip_coef: f64,
    /// Whether clipping changed the gradient.
    pub clipped: bool,
    /// What the norm was compared with, where all of the gradient has one norm.
    pub clip_threshold: Option<f64>,
    /// The share of elements that clipping changed.
    pub share_clamped: f64,
    /// The learning rate.
    pub lr: f64,
    /// The parameter whose gradient had the largest norm before clipping.
    pub dominated_by: String,
}

/// A step that left weights, optimizer and schedule as they were.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Skipped {
    #[error("every micro-batch was left out")]
    NothingToAdd,
    /// There is a gradient, but its weight is 0.
    #[error("what the gradient is divided by is 0")]
    NoWeight,
    #[error("the sum of finite gradients is not finite in `{parameter}`")]
    NotFinite { parameter: String },
    /// The clipped gradient may make the optimizer's vectors infinite.
    #[error(
        "the gradient is too large for the optimizer (its norm is {norm:e}); clip it, or lower `optimizer.learning_rate`"
    )]
    TooLarge { norm: f64 },
}

impl Skipped {
    /// Whether there were gradients, and they cannot be used: training diverges.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::TooLarge { .. })
    }
}

/// How a [`Trainer`] updates.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerConfig {
    /// How a gradient moves the weights.
    pub optimizer: OptimizerConfig,
    /// How gradients are clipped before that.
    pub clip: ClipConfig,
    /// How the learning rate moves over the steps.
    pub schedule: ScheduleConfig,
    /// Steps of the whole job, where the schedule ends.
    pub total_steps: u64,
    /// The decay of the weights' moving average, if one is kept.
    pub ema: Option<f64>,
}

/// What a trainer has counted; with weights and optimizer vectors, all that it remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Steps made: the version of the weights.
    pub step: u64,
    /// Steps that moved the weights.
    pub applied_steps: u64,
    /// Steps in which clipping changed the gradient.
    pub clipped_steps: u64,
}

/// What a checkpoint keeps of a [`Trainer`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerState {
    /// Steps so far, by what came of them.
    pub counts: Counts,
    /// All parameters, flat, in the order of the model's specification.
    pub weights: Vec<f32>,
    /// The optimizer's vectors by name, in its order.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// The weights' moving average, where one is kept.
    pub ema: Option<Vec<f32>>,
    /// What adaptive thresholds of clipping remember, for each part of the gradient; empty where there are none.
    pub clip: Vec<Vec<f64>>,
}

/// Gradient descent: the weights and everything that moves them.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainerConfig,
    clipper: Clipper,
    /// The parameters' names, in the order of the flat vector.
    parameters: Vec<String>,
    blocks: BlockLayout,
    weights: Vec<f32>,
    optimizer: Optimizer,
    average: Option<MovingAverage>,
    /// How often the schedule met a plateau.
    drops: u64,
    step: u64,
    clipped_steps: u64,
}

impl Trainer {
    /// Begins from `weights`, laid out as `spec` says.
    ///
    /// # Panics
    /// When `weights` are not as many as `spec` has elements.
    pub fn new(spec: &ModelSpec, config: TrainerConfig, weights: Vec<f32>) -> Self {
        assert_eq!(weights.len(), spec.elements(), "weights of this model");
        let clipper = Clipper::new(spec, config.clip.clone());
        Self {
            blocks: BlockLayout::new(spec, clipper.parts().rows()),
            clipper,
            parameters: names(spec),
            optimizer: Optimizer::new(config.optimizer, weights.len()),
            average: config
                .ema
                .map(|decay| MovingAverage::new(decay, weights.clone())),
            drops: 0,
            weights,
            step: 0,
            clipped_steps: 0,
            config,
        }
    }

    /// Goes on from what [`Trainer::state`] gave.
    ///
    /// # Errors
    /// When the state is another model's or another optimizer's.
    pub fn restore(
        spec: &ModelSpec,
        config: TrainerConfig,
        state: TrainerState,
    ) -> Result<Self, RestoreError> {
        let (expected, found) = (spec.elements(), state.weights.len());
        if found != expected {
            return Err(RestoreError::Elements {
                name: "weights".to_owned(),
                found,
                expected,
            });
        }
        let steps = state.counts.applied_steps;
        let average = match (config.ema, state.ema) {
            (Some(decay), Some(average)) if average.len() == expected => {
                Some(MovingAverage::new(decay, average))
            }
            (Some(_), average) => {
                return Err(RestoreError::Elements {
                    name: "ema".to_owned(),
                    found: average.map_or(0, |average| average.len()),
                    expected,
                });
            }
            (None, _) => None,
        };
        let mut clipper = Clipper::new(spec, config.clip.clone());
        clipper.restore(&state.clip);
        Ok(Self {
            blocks: BlockLayout::new(spec, clipper.parts().rows()),
            clipper,
            parameters: names(spec),
            optimizer: Optimizer::restore(config.optimizer, expected, steps, state.optimizer)?,
            weights: state.weights,
            average,
            drops: 0,
            step: state.counts.step,
            clipped_steps: state.counts.clipped_steps,
            config,
        })
    }

    /// A copy of all that a checkpoint keeps.
    pub fn state(&self) -> TrainerState {
        let vectors = self.optimizer.state();
        TrainerState {
            counts: self.counts(),
            weights: self.weights.clone(),
            optimizer: vectors
                .map(|(name, vector)| (name.to_owned(), vector.to_vec()))
                .collect(),
            ema: self.moving_average().map(<[f32]>::to_vec),
            clip: self.clipper.state(),
        }
    }

    /// The weights' moving average, where one is kept.
    pub fn moving_average(&self) -> Option<&[f32]> {
        self.average.as_ref().map(MovingAverage::weights)
    }

    /// What a run is judged by, and leaves behind: the moving average where one is kept, otherwise
    /// the weights.
    pub fn judged(&self) -> &[f32] {
        self.moving_average().unwrap_or(&self.weights)
    }

    /// Tells the schedule how often it met a plateau so far, which a trainer does not remember.
    pub fn set_drops(&mut self, drops: u64) {
        self.drops = drops;
    }

    /// Steps so far, by what came of them.
    pub fn counts(&self) -> Counts {
        Counts {
            step: self.step,
            applied_steps: self.optimizer.steps(),
            clipped_steps: self.clipped_steps,
        }
    }

    fn skip(&mut self, reason: Skipped) -> StepOutcome {
        self.step += 1;
        StepOutcome::Skipped(reason)
    }
}

impl Trainer {
    /// Elements of the vectors that are summed, and of the weights.
    pub fn elements(&self) -> usize {
        self.weights.len()
    }

    /// The version of the weights: updates made or skipped so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What workers compute from, and what is broadcast after an update.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// [`Trainer::apply_to`] for weights that nobody waits for.
    ///
    /// # Errors
    /// See [`Trainer::apply_to`].
    pub fn apply(&mut self, mut sum: Contribution) -> Result<StepOutcome, UpdateError> {
        self.apply_to(&mut sum, &|_, _| {})
    }

    /// Takes the sum of the pass at [`Trainer::step`] and moves on by one step. What is left of the
    /// sum's vector is its memory. Runs of new weights are handed to `publish` as they become final;
    /// a step that is skipped hands nothing out, and one that fails may have handed out some.
    ///
    /// # Errors
    /// When the sum has another length than the weights, or the weights or what the optimizer keeps are not finite
    /// after the step; they are then not to be used.
    pub fn apply_to(
        &mut self,
        sum: &mut Contribution,
        publish: Publish<'_>,
    ) -> Result<StepOutcome, UpdateError> {
        let step = self.step;
        let (weight, loss) = (sum.weight, sum.loss);
        let Some(gradient) = &mut sum.sum else {
            return Ok(self.skip(Skipped::NothingToAdd));
        };
        let (found, expected) = (gradient.len(), self.weights.len());
        if found != expected {
            return Err(UpdateError::Elements {
                step,
                found,
                expected,
            });
        }
        if weight <= 0.0 {
            return Ok(self.skip(Skipped::NoWeight));
        }

        // mean → finite check → norm → clip → rate → optimizer, in two passes over memory: the norm
        // has to be known before anything is clipped.
        let weights = self.clipper.reads_weights().then_some(&self.weights[..]);
        let squares = passes::mean(gradient, weight, weights, &self.blocks);
        let not_finite = squares.gradient.iter().position(|it| !it.is_finite());
        if let Some(parameter) = not_finite.map(|place| self.name(place)) {
            return Ok(self.skip(Skipped::NotFinite { parameter }));
        }
        let plan = self.clipper.plan(&squares, &self.blocks);
        if plan.bound >= self.config.optimizer.gradient_limit() {
            return Ok(self.skip(Skipped::TooLarge { norm: plan.norm }));
        }
        let config = &self.config;
        let lr = config.schedule.learning_rate(
            config.optimizer.learning_rate,
            self.optimizer.steps(),
            config.total_steps,
            self.drops,
        );
        let (rule, parts) = self
            .optimizer
            .begin(&mut self.weights, &self.blocks.cuts, lr);
        let moved = passes::step(gradient, &plan, &rule, parts, &self.blocks, publish);
        if let Some(place) = moved.not_finite {
            let parameter = self.name(place);
            return Err(UpdateError::Diverged { step, parameter });
        }
        if let Some(average) = &mut self.average {
            average.follow(&self.weights, self.optimizer.steps() == 1);
        }
        let clipped = plan.done(moved.changed, expected);
        self.clipper.observe(&plan);

        self.step += 1;
        self.clipped_steps += u64::from(clipped.clipped);
        Ok(StepOutcome::Applied(Applied {
            loss: loss / weight,
            weight,
            grad_norm: clipped.norm,
            clip_coef: clipped.coefficient,
            clipped: clipped.clipped,
            clip_threshold: clipped.threshold,
            share_clamped: clipped.share_clamped,
            lr,
            dominated_by: self.largest(&squares.gradient),
        }))
    }
}

impl Trainer {
    /// The name of the parameter in this place.
    fn name(&self, place: usize) -> String {
        self.parameters[place].clone()
    }

    fn largest(&self, squares: &[f64]) -> String {
        let parameters = self.parameters.iter().zip(squares);
        parameters
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map_or_else(String::new, |(name, _)| name.clone())
    }
}

fn names(spec: &ModelSpec) -> Vec<String> {
    let parameters = spec.parameters.iter();
    parameters.map(|parameter| parameter.name.clone()).collect()
}

#[cfg(test)]
mod tests;
