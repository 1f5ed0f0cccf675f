//! The update: what is done with a pass's sum, as one transaction. It decides the order of division,
//! finite check, norm, clipping, learning rate and optimizer, and refuses to know how the sum came
//! about.

use std::ops::Range;

use proto::contribution::Contribution;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use speech::model::ModelSpec;
use thiserror::Error;

use crate::{
    clip::{BLOCK, ClipConfig, clip, squared_norm},
    optimizer::{Optimizer, OptimizerConfig, RestoreError},
    schedule::ScheduleConfig,
};

/// What is done with the sum of a pass. The engine reduces a flat vector with a weight and knows no
/// more; gradient descent ([`Trainer`]) is one rule, re-estimation in expectation-maximisation would
/// be another.
pub trait UpdateRule {
    /// Elements of the vectors that are summed.
    fn elements(&self) -> usize;

    /// The version of the weights: updates made or skipped so far.
    fn step(&self) -> u64;

    /// What workers compute from, and what is broadcast after an update.
    fn weights(&self) -> &[f32];

    /// Takes the sum of the pass at [`UpdateRule::step`] and moves on by one step.
    ///
    /// # Errors
    /// When the rule cannot go on; its weights are then not to be used.
    fn apply(&mut self, sum: Contribution) -> Result<Outcome, UpdateError>;
}

/// Why training cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpdateError {
    #[error("step {step}: the gradient has {found} elements where the model has {expected}")]
    Elements {
        step: u64,
        found: usize,
        expected: usize,
    },
    #[error(
        "step {step}: `{parameter}` holds weights that are not finite after the update; \
         lower `optimizer.learning_rate` and resume from the last checkpoint"
    )]
    Diverged { step: u64, parameter: String },
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Applied(Applied),
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
    /// What clipping multiplied the gradient by.
    pub clip_coef: f64,
    pub clipped: bool,
    /// The share of elements that `value` clipping clamped.
    pub share_clamped: f64,
    /// The learning rate.
    pub lr: f64,
    /// The parameter whose gradient had the largest norm before clipping.
    pub dominated_by: String,
}

/// A step that left weights, optimizer and schedule as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Every micro-batch was left out by its worker.
    NothingToAdd,
    /// There is a gradient, but what it is divided by is 0.
    NoWeight,
    /// Finite gradients added up to one that is not.
    NotFinite { parameter: String },
}

/// How a [`Trainer`] updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainerConfig {
    pub optimizer: OptimizerConfig,
    pub clip: ClipConfig,
    pub schedule: ScheduleConfig,
    /// Steps of the whole job, where the schedule ends.
    pub total_steps: u64,
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
    pub counts: Counts,
    pub weights: Vec<f32>,
    /// The optimizer's vectors by name, in its order.
    pub optimizer: Vec<(String, Vec<f32>)>,
}

/// Gradient descent: the weights and everything that moves them.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainerConfig,
    /// Name and place of each parameter in the flat vector.
    parameters: Vec<(String, Range<usize>)>,
    weights: Vec<f32>,
    optimizer: Optimizer,
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
        Self {
            config,
            parameters: layout(spec),
            optimizer: Optimizer::new(config.optimizer, weights.len()),
            weights,
            step: 0,
            clipped_steps: 0,
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
        Ok(Self {
            config,
            parameters: layout(spec),
            optimizer: Optimizer::restore(config.optimizer, expected, steps, state.optimizer)?,
            weights: state.weights,
            step: state.counts.step,
            clipped_steps: state.counts.clipped_steps,
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
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            step: self.step,
            applied_steps: self.optimizer.steps(),
            clipped_steps: self.clipped_steps,
        }
    }

    /// The share of applied steps in which clipping changed the gradient; 0 before the first.
    pub fn clipped_share(&self) -> f64 {
        self.clipped_steps as f64 / self.optimizer.steps().max(1) as f64
    }

    pub fn into_weights(self) -> Vec<f32> {
        self.weights
    }

    fn skip(&mut self, reason: Skipped) -> Outcome {
        self.step += 1;
        Outcome::Skipped(reason)
    }
}

impl UpdateRule for Trainer {
    fn elements(&self) -> usize {
        self.weights.len()
    }

    fn step(&self) -> u64 {
        self.step
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn apply(&mut self, sum: Contribution) -> Result<Outcome, UpdateError> {
        let step = self.step;
        let Contribution {
            sum, weight, loss, ..
        } = sum;
        let Some(mut gradient) = sum else {
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

        // mean → finite check → norm → clip → rate → optimizer
        divide(&mut gradient, weight);
        let squares = self.squares(&gradient);
        if let Some(parameter) = self.first_not_finite(&squares) {
            return Ok(self.skip(Skipped::NotFinite { parameter }));
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        let clipped = clip(&mut gradient, norm, &self.config.clip);
        let config = &self.config;
        let lr = config.schedule.learning_rate(
            config.optimizer.learning_rate,
            self.optimizer.steps(),
            config.total_steps,
        );
        self.optimizer.step(&mut self.weights, &gradient, lr);
        if let Some(parameter) = self.first_not_finite(&self.squares(&self.weights)) {
            return Err(UpdateError::Diverged { step, parameter });
        }

        self.step += 1;
        self.clipped_steps += u64::from(clipped.clipped);
        Ok(Outcome::Applied(Applied {
            loss: loss / weight,
            weight,
            grad_norm: clipped.norm,
            clip_coef: clipped.coefficient,
            clipped: clipped.clipped,
            share_clamped: clipped.share_clamped,
            lr,
            dominated_by: self.largest(&squares),
        }))
    }
}

impl Trainer {
    /// The squared norm of each parameter's part of `vector`.
    fn squares(&self, vector: &[f32]) -> Vec<f64> {
        let parameters = self.parameters.iter();
        parameters
            .map(|(_, range)| squared_norm(&vector[range.clone()]))
            .collect()
    }

    fn first_not_finite(&self, squares: &[f64]) -> Option<String> {
        let mut parameters = self.parameters.iter().zip(squares);
        parameters
            .find(|(_, square)| !square.is_finite())
            .map(|((name, _), _)| name.clone())
    }

    fn largest(&self, squares: &[f64]) -> String {
        let parameters = self.parameters.iter().zip(squares);
        parameters
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map_or_else(String::new, |((name, _), _)| name.clone())
    }
}

fn layout(spec: &ModelSpec) -> Vec<(String, Range<usize>)> {
    let parameters = spec.parameters.iter();
    parameters
        .map(|parameter| (parameter.name.clone(), parameter.range()))
        .collect()
}

/// Divides each element once, in f64, so that the mean is rounded once.
fn divide(gradient: &mut [f32], weight: f64) {
    gradient.par_chunks_mut(BLOCK).for_each(|block| {
        for value in block {
            *value = (f64::from(*value) / weight) as f32;
        }
    });
}

#[cfg(test)]
mod tests;
