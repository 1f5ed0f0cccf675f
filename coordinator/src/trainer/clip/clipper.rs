//! From the norms of a gradient's parts to what is done to each of its blocks.

use speech::model::ModelSpec;

use super::{
    ClipConfig, ClipPolicy, ClipThreshold, Clipped, Clipping, Parts,
    threshold::{EPSILON, PartNorms, Threshold},
};
use crate::trainer::blocks::{BlockLayout, Squares};

/// A rule with what it remembers.
#[derive(Clone, Debug)]
pub(crate) struct Clipper {
    config: ClipConfig,
    parts: Parts,
    /// Each part has one; with the scope `unit` there is one for all.
    thresholds: Vec<Threshold>,
}

/// What a rule makes of one gradient.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is done to each block.
    pub(crate) blocks: Vec<BlockClipping>,
    /// The gradient's L2 norm before.
    pub(crate) norm: f64,
    /// No element's magnitude is larger afterwards.
    pub(crate) bound: f64,
    coefficient: f64,
    threshold: Option<f64>,
    /// The norms of each part, and the part's norm afterwards.
    parts: Vec<(PartNorms, f64)>,
}

/// What is done to a block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BlockClipping {
    /// The same everywhere.
    Whole(Clipping),
    /// Each row of so many elements is multiplied by its factor.
    Rows(usize, Vec<f32>),
}

impl Clipper {
    pub(crate) fn new(spec: &ModelSpec, config: ClipConfig) -> Self {
        let parts = Parts::new(spec, &config);
        let threshold = Threshold::new(&config);
        Self {
            thresholds: vec![threshold; parts.count()],
            parts,
            config,
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether thresholds follow from the weights.
    pub(crate) fn reads_weights(&self) -> bool {
        self.config.uses_norms() && self.config.threshold == ClipThreshold::WeightRatio
    }

    /// What is to be done to a gradient of which these are the squared norms.
    pub(in crate::trainer) fn plan(&self, squares: &Squares, blocks: &BlockLayout) -> Plan {
        let norm = squares.gradient.iter().sum::<f64>().sqrt();
        let whole = |clipping, bound| Plan {
            blocks: vec![BlockClipping::Whole(clipping); blocks.cuts.len()],
            norm,
            bound,
            coefficient: 1.0,
            threshold: None,
            parts: Vec::new(),
        };
        match self.config.policy {
            ClipPolicy::None => whole(Clipping::Nothing, norm),
            ClipPolicy::Value => {
                let bound = self.config.max_value as f32;
                whole(Clipping::Clamp(bound), norm.min(f64::from(bound)))
            }
            _ if self.parts.rows().is_some() => self.plan_of_rows(norm, squares, blocks),
            _ => self.plan_of_parts(norm, squares, blocks),
        }
    }

    fn plan_of_parts(&self, norm: f64, squares: &Squares, blocks: &BlockLayout) -> Plan {
        let mut of_parts = vec![(0.0f64, 0.0f64); self.parts.count()];
        let mut exempt = 0.0f64;
        for (place, &square) in squares.gradient.iter().enumerate() {
            match self.parts.of(place) {
                Some(part) => {
                    of_parts[part].0 += square;
                    of_parts[part].1 += squares.weights.get(place).copied().unwrap_or(0.0);
                }
                None => exempt += square,
            }
        }
        let mut coefficients = Vec::with_capacity(of_parts.len());
        let mut parts = Vec::with_capacity(of_parts.len());
        let (mut after_squares, mut bound) = (exempt, exempt.sqrt());
        let mut threshold = None;
        for (&(gradient, weights), own) in of_parts.iter().zip(&self.thresholds) {
            let norms = PartNorms {
                gradient: gradient.sqrt(),
                weights: weights.sqrt(),
                global: norm,
            };
            let limit = self.limit(own, norms);
            let coefficient = self.coefficient(norms.gradient, limit);
            let after = norms.gradient * coefficient;
            after_squares += after * after;
            bound = bound.max(norms.gradient * f64::from(coefficient as f32));
            threshold = limit;
            coefficients.push(coefficient);
            parts.push((norms, after));
        }
        let is_global = self.config.is_global();
        let by_parameter = |place: usize| match self.parts.of(place) {
            Some(part) => Clipping::scale(coefficients[part]),
            None => Clipping::Nothing,
        };
        Plan {
            blocks: blocks
                .parameters()
                .map(|place| BlockClipping::Whole(by_parameter(place)))
                .collect(),
            norm,
            bound,
            // A quotient of norms would lose digits.
            coefficient: match coefficients[..] {
                [coefficient] if is_global => coefficient,
                _ => ratio(after_squares.sqrt(), norm),
            },
            threshold: threshold.filter(|_| is_global),
            parts,
        }
    }

    fn plan_of_rows(&self, norm: f64, squares: &Squares, blocks: &BlockLayout) -> Plan {
        let (mut after_squares, mut bound) = (0.0f64, 0.0f64);
        let rows = self.parts.rows().unwrap_or_default();
        let of_blocks = blocks.parameters().zip(&squares.rows);
        let plans = of_blocks.map(|(place, own)| {
            if self.parts.of(place).is_none() {
                for row in own {
                    after_squares += row.gradient;
                    bound = bound.max(row.gradient.sqrt());
                }
                return BlockClipping::Whole(Clipping::Nothing);
            }
            let factors = own.iter().map(|row| {
                let norms = PartNorms {
                    gradient: row.gradient.sqrt(),
                    weights: row.weights.sqrt(),
                    global: norm,
                };
                let limit = self.limit(&self.thresholds[0], norms);
                let coefficient = self.coefficient(norms.gradient, limit);
                let after = norms.gradient * coefficient;
                after_squares += after * after;
                bound = bound.max(norms.gradient * f64::from(coefficient as f32));
                coefficient as f32
            });
            BlockClipping::Rows(rows[place], factors.collect())
        });
        Plan {
            blocks: plans.collect(),
            norm,
            bound,
            coefficient: ratio(after_squares.sqrt(), norm),
            threshold: None,
            parts: Vec::new(),
        }
    }

    fn limit(&self, threshold: &Threshold, norms: PartNorms) -> Option<f64> {
        let limit = threshold.limit(norms);
        match self.config.ceiling {
            Some(ceiling) if self.config.threshold != ClipThreshold::Fixed => {
                Some(limit.map_or(ceiling, |limit| limit.min(ceiling)))
            }
            _ => limit,
        }
    }

    /// What a part of this norm is multiplied by.
    fn coefficient(&self, norm: f64, limit: Option<f64>) -> f64 {
        let Some(limit) = limit else { return 1.0 };
        match self.config.policy {
            ClipPolicy::None | ClipPolicy::Value => 1.0,
            ClipPolicy::Smooth => limit / (norm + limit),
            ClipPolicy::Normalize => limit / (norm + EPSILON),
            ClipPolicy::GlobalNorm | ClipPolicy::Norm => match self.config.threshold {
                // As in timm's `adaptive_clip_grad` and AdaGC.
                ClipThreshold::WeightRatio | ClipThreshold::MovingAverage => {
                    (limit / norm.max(EPSILON)).min(1.0)
                }
                _ => (limit / (norm + EPSILON)).min(1.0),
            },
        }
    }

    /// Takes note of a step that was made.
    pub(crate) fn observe(&mut self, plan: &Plan) {
        for (threshold, &(norms, after)) in self.thresholds.iter_mut().zip(&plan.parts) {
            threshold.observe(norms, after);
        }
    }

    /// What it remembers: the numbers of each part. Empty where no rule remembers anything.
    pub(crate) fn state(&self) -> Vec<Vec<f64>> {
        if !self.config.uses_norms() || !self.config.threshold.remembers() {
            return Vec::new();
        }
        self.thresholds.iter().map(Threshold::state).collect()
    }

    /// Takes back what [`Clipper::state`] gave. Where that is another rule's, this one begins anew: a job
    /// may go on with another rule.
    pub(crate) fn restore(&mut self, state: &[Vec<f64>]) {
        let mut restored = self.thresholds.clone();
        let pairs = restored.iter_mut().zip(state);
        let mut fits = pairs.map(|(threshold, state)| threshold.restore(state));
        if state.len() == self.thresholds.len() && fits.all(|it| it) {
            self.thresholds = restored;
        }
    }
}

impl Plan {
    /// What was done to a gradient of `elements`, of which `changed` are others than before.
    pub(crate) fn done(&self, changed: usize, elements: usize) -> Clipped {
        Clipped {
            norm: self.norm,
            coefficient: self.coefficient,
            threshold: self.threshold,
            clipped: changed > 0,
            share_clamped: changed as f64 / elements.max(1) as f64,
        }
    }
}

impl BlockClipping {
    /// The rows of a block that are to be multiplied, all of them before anything else; then what is left to do.
    #[inline]
    pub(crate) fn rows(&self, block: &mut [f32]) -> (Clipping, usize) {
        let (length, factors) = match self {
            Self::Whole(clipping) => return (*clipping, 0),
            Self::Rows(length, factors) => (*length, factors),
        };
        let mut changed = 0;
        for (row, &factor) in block.chunks_mut(length).zip(factors) {
            if factor != 1.0 {
                row.iter_mut().for_each(|value| *value *= factor);
                changed += row.len();
            }
        }
        (Clipping::Nothing, changed)
    }
}

/// One norm over another; 1 where there is nothing to compare.
fn ratio(after: f64, before: f64) -> f64 {
    if before > 0.0 { after / before } else { 1.0 }
}
