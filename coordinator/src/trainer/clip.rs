//! Gradient clipping: what a job may ask for, and what a rule makes of a gradient. A rule has a form (what it does
//! to a part that is too large), a scope (what counts as a part) and a threshold (what is too large); the rules
//! of the literature are points in that space. It does not depend on what the gradient is used for.

mod clipper;
mod parts;
#[cfg(test)]
mod tests;
mod threshold;

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{OutOfRange, positive, require};

pub(crate) use clipper::{BlockClipping, Clipper, Plan};
use parts::Parts;
pub(crate) use parts::unmatched;

/// The `[clip]` section of a job: gradient clipping, applied once to the mean gradient of the whole global batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipConfig {
    /// The rule.
    pub policy: ClipPolicy,
    /// What has a norm of its own (`norm`, `smooth` and `normalize`).
    pub scope: ClipScope,
    /// What a norm is compared with.
    pub threshold: ClipThreshold,
    /// The largest L2 norm of a part.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1.0)]
    pub max_norm: f64,
    /// The largest magnitude of an element.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.01)]
    pub max_value: f64,
    /// An adaptive threshold is never above this. ZClip's `max_grad_norm`, which is 1 there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 10.0)]
    pub ceiling: Option<f64>,
    /// The percentile of the norms so far, this step's included; AutoClip's `p`.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100), example = 50.0)]
    pub percentile: f64,
    /// The threshold is so many times the median.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1.5)]
    pub clipping_scale: f64,
    /// Steps from one median to the next, and norms that it is taken of.
    #[schemars(range(min = 4, max = 100_000), example = 50)]
    pub clipping_update_period: u32,
    /// Standard deviations above the mean from which on a norm is an outlier.
    #[schemars(extend("exclusiveMinimum" = 0), example = 3.0)]
    pub z_thresh: f64,
    /// How much of mean and variance each step keeps.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1), example = 0.9)]
    pub alpha: f64,
    /// The threshold is so many times the moving average of the clipped norms.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1.1)]
    pub lambda_rel: f64,
    /// The largest norm of the whole gradient while the average is not used yet.
    #[schemars(extend("exclusiveMinimum" = 0), example = 5.0)]
    pub lambda_abs: f64,
    /// How much of the average each step keeps.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1), example = 0.99)]
    pub beta: f64,
    /// Steps before an adaptive threshold is used; 25 for `z-score` and 100 for `moving-average` when it
    /// is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), example = 10)]
    pub warmup_steps: Option<u32>,
    /// The threshold is so many times the norm of the weights.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.05)]
    pub clip_factor: f64,
    /// The least norm of the weights that counts: weights of zero are to leave zero some day.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.01)]
    pub eps: f64,
    /// Parameters that are left alone, with `*` for any characters. Logged norms have them all the same.
    #[schemars(example = ["head.*"])]
    pub exempt: Vec<String>,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            policy: ClipPolicy::GlobalNorm,
            scope: ClipScope::Global,
            threshold: ClipThreshold::Fixed,
            max_norm: 5.0,
            max_value: 1.0,
            ceiling: None,
            percentile: 10.0,
            clipping_scale: 2.0,
            clipping_update_period: 100,
            z_thresh: 2.5,
            alpha: 0.97,
            lambda_rel: 1.05,
            lambda_abs: 1.0,
            beta: 0.98,
            warmup_steps: None,
            clip_factor: 0.01,
            eps: 1e-3,
            exempt: Vec::new(),
        }
    }
}

impl ClipConfig {
    /// # Errors
    /// The number that is outside of its bounds, or a scope that the threshold cannot have.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        /// The product of a smaller threshold and a gradient may be no `f32` but 0.
        const LEAST: f64 = 1e-30;
        let bound = |field, value: f64| {
            let holds = value.is_finite() && value >= LEAST;
            require(holds, field, value, "a finite number of 1e-30 or more")
        };
        let share = |field, value: f64| {
            let holds = (0.0..1.0).contains(&value);
            require(holds, field, value, "a number from 0 to less than 1")
        };
        bound("clip.max_norm", self.max_norm)?;
        bound("clip.max_value", self.max_value)?;
        if let Some(ceiling) = self.ceiling {
            bound("clip.ceiling", ceiling)?;
        }
        let percent = self.percentile > 0.0 && self.percentile <= 100.0;
        let percents = "a number above 0 and at most 100";
        require(percent, "clip.percentile", self.percentile, percents)?;
        positive("clip.clipping_scale", self.clipping_scale)?;
        whole(
            "clip.clipping_update_period",
            self.clipping_update_period,
            4,
        )?;
        positive("clip.z_thresh", self.z_thresh)?;
        share("clip.alpha", self.alpha)?;
        positive("clip.lambda_rel", self.lambda_rel)?;
        positive("clip.lambda_abs", self.lambda_abs)?;
        share("clip.beta", self.beta)?;
        if let Some(steps) = self.warmup_steps {
            whole("clip.warmup_steps", steps, 1)?;
        }
        positive("clip.clip_factor", self.clip_factor)?;
        positive("clip.eps", self.eps)?;
        require(
            self.scope() != ClipScope::Unit || !self.threshold.remembers(),
            "clip.scope",
            "\"unit\"",
            "\"global\", \"layer\" or \"tensor\" with a `clip.threshold` that remembers norms: none is kept for each unit",
        )
    }

    /// Whether norms are compared with anything.
    pub fn uses_norms(&self) -> bool {
        !matches!(self.policy, ClipPolicy::None | ClipPolicy::Value)
    }

    /// Whether all of the gradient is multiplied by the same factor, or none of it.
    pub fn is_global(&self) -> bool {
        self.uses_norms() && self.scope() == ClipScope::Global && self.exempt.is_empty()
    }

    /// Whether it may change a part of the gradient and leave another as it is.
    pub fn changes_parts(&self) -> bool {
        self.policy == ClipPolicy::Value || self.uses_norms() && !self.is_global()
    }

    /// What has a norm of its own, whatever the policy makes of the key.
    pub(crate) fn scope(&self) -> ClipScope {
        match self.policy {
            ClipPolicy::GlobalNorm => ClipScope::Global,
            _ => self.scope,
        }
    }
}

fn whole(field: &'static str, value: u32, least: u32) -> Result<(), OutOfRange> {
    let bounds = if least == 1 {
        "from 1 to 1,000,000"
    } else {
        "from 4 to 100,000"
    };
    let most = if least == 1 { 1_000_000 } else { 100_000 };
    require((least..=most).contains(&value), field, value, bounds)
}

/// What is done to a gradient, or a part of one, that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClipPolicy {
    /// No clipping.
    None,
    /// `norm` with the scope `global`: torch's `clip_grad_norm_` (Pascanu et al. 2013).
    GlobalNorm,
    /// Each part times `threshold / (norm + 1e-6)` where that is below 1.
    Norm,
    /// Each part times `threshold / (norm + threshold)`: a soft bound (Zhang et al. 2020).
    Smooth,
    /// Each part times `threshold / (norm + 1e-6)`, be it smaller or larger: normalised gradient descent, and with
    /// `scope = "tensor"` and `threshold = "weight-ratio"` the local rates of LARS (You et al. 2017).
    Normalize,
    /// Every element clamped to `±max_value`: torch's `clip_grad_value_`.
    Value,
}

/// Which part of a gradient has a norm, a threshold and a factor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClipScope {
    /// All of it.
    Global,
    /// The parameters of a layer.
    Layer,
    /// A parameter tensor.
    Tensor,
    /// A row of a tensor: what one unit, or one gate of it, or one output channel reads its inputs by. A vector of
    /// biases is one.
    Unit,
}

/// What a norm is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClipThreshold {
    /// `max_norm`.
    Fixed,
    /// The `percentile` of all norms so far: AutoClip (Seetharaman et al. 2020). No more than a million are kept.
    Percentile,
    /// `clipping_scale` times the median of the last `clipping_update_period` norms, and nothing in the first ten
    /// steps: the rule of icefall's ScaledAdam, on plain norms.
    Median,
    /// For a norm more than `z_thresh` standard deviations above the moving average, a threshold that is nearer to the
    /// average the further out the norm is: ZClip (Kumar et al. 2025).
    ZScore,
    /// `lambda_rel` times the moving average of the clipped norms: AdaGC (Wang et al. 2025), with `scope = "tensor"`.
    MovingAverage,
    /// `clip_factor` times the norm of the weights: AGC (Brock et al. 2021), with `scope = "unit"`.
    WeightRatio,
}

impl ClipThreshold {
    /// Whether it depends on the norms of earlier steps.
    pub(crate) fn remembers(self) -> bool {
        !matches!(self, Self::Fixed | Self::WeightRatio)
    }
}

/// A part is named in messages as it is in the job.
impl Display for ClipScope {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Global => "global",
            Self::Layer => "layer",
            Self::Tensor => "tensor",
            Self::Unit => "unit",
        })
    }
}

/// What clipping did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipped {
    /// The gradient's L2 norm before.
    pub norm: f64,
    /// The norm after, over the norm before; 1 under the policies `none` and `value`.
    pub coefficient: f64,
    /// What the norm was compared with, where all of the gradient has one norm and something to be compared
    /// with.
    pub threshold: Option<f64>,
    /// Whether any element changed.
    pub clipped: bool,
    /// The share of elements that changed: that were clamped, or whose part was multiplied.
    pub share_clamped: f64,
}

/// What is done to each element of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clipping {
    Nothing,
    /// Multiplies by this.
    Scale(f32),
    /// Clamps to `±bound`.
    Clamp(f32),
}

impl Clipping {
    /// Multiplies, where that changes anything.
    pub(crate) fn scale(coefficient: f64) -> Self {
        if coefficient == 1.0 {
            return Self::Nothing;
        }
        Self::Scale(coefficient as f32)
    }

    /// Clips a part of the gradient, and counts the elements that changed.
    #[inline]
    pub(crate) fn block(self, block: &mut [f32]) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Scale(factor) => {
                block.iter_mut().for_each(|value| *value *= factor);
                block.len()
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
}
