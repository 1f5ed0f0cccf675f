//! Gradient clipping: the norm of a gradient and what a policy makes of it. It decides the order in
//! which squares are added, so that no thread count reaches the norm, and does not depend on what the
//! gradient is used for.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{OutOfRange, positive};

/// The `[clip]` section of a job: gradient clipping, applied once to the mean gradient of the whole global batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipConfig {
    /// The rule.
    pub policy: ClipPolicy,
    /// The largest L2 norm over all parameters.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1.0)]
    pub max_norm: f64,
    /// The largest magnitude of an element.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.01)]
    pub max_value: f64,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            policy: ClipPolicy::GlobalNorm,
            max_norm: 5.0,
            max_value: 1.0,
        }
    }
}

impl ClipConfig {
    /// # Errors
    /// The bound that is not a finite number above 0.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        positive("clip.max_norm", self.max_norm)?;
        positive("clip.max_value", self.max_value)
    }
}

/// What is done to a gradient that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClipPolicy {
    /// No clipping.
    None,
    /// The whole gradient times `max_norm / (norm + 1e-6)` where that is below 1: torch's
    /// `clip_grad_norm_` (Pascanu et al. 2013).
    GlobalNorm,
    /// Every element clamped to `±max_value`: torch's `clip_grad_value_`.
    Value,
}

/// What clipping did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipped {
    /// The gradient's L2 norm before.
    pub norm: f64,
    /// What the gradient was multiplied by; 1 under every policy but `global-norm`.
    pub coefficient: f64,
    /// Whether any element changed.
    pub clipped: bool,
    /// The share of elements that were clamped; 0 under every policy but `value`.
    pub share_clamped: f64,
}

/// Elements of a block: squares are added within a block, then the blocks' sums in order.
pub(crate) const BLOCK_ELEMENTS: usize = 1 << 16;

/// Accumulators of a block, one vector register or two wide.
const ACCUMULATORS: usize = 16;

/// The sum of the squares of `values` in f64. Squares of finite `f32` do not overflow an f64, so it
/// is finite exactly when every element is.
pub fn squared_norm(values: &[f32]) -> f64 {
    let blocks: Vec<f64> = values
        .par_chunks(BLOCK_ELEMENTS)
        .map(block_squares)
        .collect();
    blocks.iter().sum()
}

/// The sum of a block's squares; callers add the blocks' in order.
#[inline]
pub(crate) fn block_squares(block: &[f32]) -> f64 {
    let mut lanes = [0.0f64; ACCUMULATORS];
    let (rows, rest) = block.as_chunks::<ACCUMULATORS>();
    for row in rows {
        for (lane, &value) in lanes.iter_mut().zip(row) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value) * f64::from(value);
    }
    lanes.iter().sum()
}

/// What a policy does to each element of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clipping {
    Nothing,
    /// Multiplies by this.
    Scale(f32),
    /// Clamps to `±bound`.
    Clamp(f32),
}

impl Clipping {
    /// What `config` does to a gradient whose norm is `norm`, and the coefficient.
    pub(crate) fn new(norm: f64, config: &ClipConfig) -> (Self, f64) {
        match config.policy {
            ClipPolicy::None => (Self::Nothing, 1.0),
            ClipPolicy::GlobalNorm => {
                let coefficient = config.max_norm / (norm + 1e-6);
                if coefficient >= 1.0 {
                    return (Self::Nothing, 1.0);
                }
                (Self::Scale(coefficient as f32), coefficient)
            }
            ClipPolicy::Value => (Self::Clamp(config.max_value as f32), 1.0),
        }
    }

    /// What no element's magnitude exceeds once a gradient of this norm is clipped.
    pub(crate) fn bound(self, norm: f64) -> f64 {
        match self {
            Self::Nothing => norm,
            Self::Scale(factor) => norm * f64::from(factor),
            Self::Clamp(bound) => norm.min(f64::from(bound)),
        }
    }

    /// Clips a part of the gradient, and counts the elements that were clamped.
    #[inline]
    pub(crate) fn block(self, block: &mut [f32]) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Scale(factor) => {
                block.iter_mut().for_each(|value| *value *= factor);
                0
            }
            Self::Clamp(bound) => {
                let mut clamped = 0;
                for value in block {
                    clamped += usize::from(value.abs() > bound);
                    *value = value.clamp(-bound, bound);
                }
                clamped
            }
        }
    }

    /// What was done to a gradient of `elements` of which `clamped` were clamped.
    pub(crate) fn done(
        self,
        norm: f64,
        coefficient: f64,
        clamped: usize,
        elements: usize,
    ) -> Clipped {
        Clipped {
            norm,
            coefficient,
            clipped: clamped > 0 || matches!(self, Self::Scale(_)),
            share_clamped: clamped as f64 / elements.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests;
