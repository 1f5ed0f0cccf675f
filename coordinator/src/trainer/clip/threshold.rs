//! What is too large: thresholds that are given, that follow from the norms of earlier steps, and that follow from the
//! weights. A threshold is asked before a step is known to be made; it is told of the norm afterwards, so that
//! a step that is skipped leaves no trace.

use super::{ClipConfig, ClipThreshold};

/// Norms that a percentile is taken of, at most: one and a half seconds of disk at a checkpoint.
const HISTORY: usize = 1 << 20;

/// The first medians are taken early, of the norms so far, and count twice, as in icefall's `ScaledAdam`.
const EARLY_MEDIANS: [u64; 3] = [10, 20, 40];

/// Added to a norm before it is divided by, as torch and ZClip do.
pub(super) const EPSILON: f64 = 1e-6;

/// The threshold of one part of the gradient.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Threshold {
    Fixed(f64),
    WeightRatio {
        factor: f64,
        least: f64,
    },
    Percentile {
        percentile: f64,
        /// From the smallest to the largest.
        norms: Vec<f64>,
    },
    Median {
        scale: f64,
        period: u64,
        steps: u64,
        /// Those of the last steps, each at its step's remainder by the period.
        norms: Vec<f64>,
        threshold: Option<f64>,
    },
    ZScore {
        alpha: f64,
        outlier: f64,
        warmup: usize,
        /// Until there are enough to begin with.
        first: Vec<f64>,
        mean: f64,
        variance: f64,
    },
    MovingAverage {
        relative: f64,
        absolute: f64,
        beta: f64,
        warmup: u64,
        steps: u64,
        average: Option<f64>,
    },
}

/// The norms that a threshold is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PartNorms {
    /// That of the part's gradient.
    pub gradient: f64,
    /// That of the part's weights; 0 where no threshold asks for it.
    pub weights: f64,
    /// That of the whole gradient.
    pub global: f64,
}

impl Threshold {
    pub(super) fn new(config: &ClipConfig) -> Self {
        match config.threshold {
            ClipThreshold::Fixed => Self::Fixed(config.max_norm),
            ClipThreshold::WeightRatio => Self::WeightRatio {
                factor: config.clip_factor,
                least: config.eps,
            },
            ClipThreshold::Percentile => Self::Percentile {
                percentile: config.percentile,
                norms: Vec::new(),
            },
            ClipThreshold::Median => Self::Median {
                scale: config.clipping_scale,
                period: config.clipping_update_period.into(),
                steps: 0,
                norms: vec![0.0; config.clipping_update_period as usize],
                threshold: None,
            },
            ClipThreshold::ZScore => Self::ZScore {
                alpha: config.alpha,
                outlier: config.z_thresh,
                warmup: config.warmup_steps.unwrap_or(25) as usize,
                first: Vec::new(),
                mean: 0.0,
                variance: 0.0,
            },
            ClipThreshold::MovingAverage => Self::MovingAverage {
                relative: config.lambda_rel,
                absolute: config.lambda_abs,
                beta: config.beta,
                warmup: config.warmup_steps.unwrap_or(100).into(),
                steps: 0,
                average: None,
            },
        }
    }

    /// What the part's norm is compared with in this step; `None` where nothing is too large.
    pub(super) fn limit(&self, norms: PartNorms) -> Option<f64> {
        match self {
            Self::Fixed(limit) => Some(*limit),
            Self::WeightRatio { factor, least } => Some(factor * norms.weights.max(*least)),
            Self::Percentile {
                percentile,
                norms: earlier,
            } => Some(percentile_with(earlier, norms.gradient, *percentile)),
            Self::Median { .. } => self.median(norms.gradient),
            Self::ZScore {
                outlier,
                warmup,
                first,
                mean,
                variance,
                ..
            } => {
                if first.len() < *warmup {
                    return None;
                }
                let deviation = variance.sqrt();
                let z = (norms.gradient - mean) / (deviation + EPSILON);
                (z > *outlier).then(|| mean + outlier * deviation / (z / outlier))
            }
            Self::MovingAverage {
                relative,
                absolute,
                warmup,
                steps,
                average,
                ..
            } => match average {
                Some(average) if steps + 1 >= *warmup => Some(relative * average),
                // The whole gradient is held to the absolute bound; a part has its share of that.
                _ => Some(norms.gradient * (absolute / (norms.global + EPSILON)).min(1.0)),
            },
        }
    }

    /// The threshold of [`Threshold::Median`] with this step's norm.
    fn median(&self, norm: f64) -> Option<f64> {
        let Self::Median {
            scale,
            period,
            steps,
            norms,
            threshold,
        } = self
        else {
            return None;
        };
        let early = EARLY_MEDIANS.contains(steps) && steps < period;
        if *steps == 0 || !(early || steps.is_multiple_of(*period)) {
            return *threshold;
        }
        let mut sorted = norms.clone();
        sorted[(steps % period) as usize] = norm;
        sorted.sort_by(f64::total_cmp);
        // Places that no step has filled yet hold 0 and come first.
        let sorted = if early {
            &sorted[sorted.len() - *steps as usize..]
        } else {
            &sorted[..]
        };
        let median = sorted[sorted.len() / 4 * 2];
        Some(scale * median * if early { 2.0 } else { 1.0 })
    }

    /// Takes note of a step that was made, whose part was left with the norm `after`.
    pub(super) fn observe(&mut self, norms: PartNorms, after: f64) {
        let limit = self.limit(norms);
        match self {
            Self::Fixed(_) | Self::WeightRatio { .. } => {}
            Self::Percentile { norms: earlier, .. } => {
                if earlier.len() < HISTORY {
                    let place = earlier.partition_point(|norm| *norm <= norms.gradient);
                    earlier.insert(place, norms.gradient);
                }
            }
            Self::Median {
                period,
                steps,
                norms: last,
                threshold,
                ..
            } => {
                *threshold = limit;
                if *steps > 0 {
                    last[(*steps % *period) as usize] = norms.gradient;
                }
                *steps += 1;
            }
            Self::ZScore {
                alpha,
                warmup,
                first,
                mean,
                variance,
                ..
            } => {
                if first.len() < *warmup {
                    first.push(norms.gradient);
                    if first.len() == *warmup {
                        let count = first.len() as f64;
                        *mean = first.iter().sum::<f64>() / count;
                        let squares = first.iter().map(|norm| (norm - *mean).powi(2));
                        *variance = squares.sum::<f64>() / count;
                    }
                    return;
                }
                let effective = limit.unwrap_or(norms.gradient);
                *mean = *alpha * *mean + (1.0 - *alpha) * effective;
                *variance = *alpha * *variance + (1.0 - *alpha) * (effective - *mean).powi(2);
            }
            Self::MovingAverage {
                beta,
                warmup,
                steps,
                average,
                ..
            } => {
                *average = match *average {
                    // The smallest norm would hold a part without a gradient in one of the first steps to 0 for ever.
                    earlier if after == 0.0 && *steps + 1 < *warmup => earlier,
                    None => Some(after),
                    Some(average) if *steps + 1 < *warmup => Some(average.min(after)),
                    Some(average) => Some(*beta * average + (1.0 - *beta) * after),
                };
                *steps += 1;
            }
        }
    }

    /// What it remembers, as numbers.
    pub(super) fn state(&self) -> Vec<f64> {
        match self {
            Self::Fixed(_) | Self::WeightRatio { .. } => Vec::new(),
            Self::Percentile { norms, .. } => norms.clone(),
            Self::Median {
                steps,
                norms,
                threshold,
                ..
            } => {
                let mut state = vec![*steps as f64, threshold.unwrap_or(0.0)];
                state.extend(norms);
                state
            }
            Self::ZScore {
                first,
                mean,
                variance,
                ..
            } => {
                let mut state = vec![*mean, *variance];
                state.extend(first);
                state
            }
            Self::MovingAverage { steps, average, .. } => {
                vec![*steps as f64, average.unwrap_or(-1.0)]
            }
        }
    }

    /// Takes back what [`Threshold::state`] gave; false where it is not such a state.
    pub(super) fn restore(&mut self, state: &[f64]) -> bool {
        match (self, state) {
            (Self::Fixed(_) | Self::WeightRatio { .. }, []) => true,
            (Self::Percentile { norms, .. }, state) => {
                let sorted = state.is_sorted_by(|one, other| one <= other);
                norms.clear();
                norms.extend(state);
                sorted && state.len() <= HISTORY
            }
            (
                Self::Median {
                    steps,
                    norms,
                    threshold,
                    ..
                },
                [made, limit, last @ ..],
            ) if last.len() == norms.len() => {
                *steps = *made as u64;
                *threshold = (*limit > 0.0).then_some(*limit);
                norms.copy_from_slice(last);
                true
            }
            (
                Self::ZScore {
                    warmup,
                    first,
                    mean,
                    variance,
                    ..
                },
                [own_mean, own_variance, norms @ ..],
            ) if norms.len() <= *warmup => {
                (*mean, *variance) = (*own_mean, *own_variance);
                first.clear();
                first.extend(norms);
                true
            }
            (Self::MovingAverage { steps, average, .. }, [made, own]) => {
                *steps = *made as u64;
                *average = (*own >= 0.0).then_some(*own);
                true
            }
            _ => false,
        }
    }
}

/// The percentile of `sorted` with `norm` among them, between two of them in proportion: numpy's default.
fn percentile_with(sorted: &[f64], norm: f64, percentile: f64) -> f64 {
    let place = sorted.partition_point(|other| *other <= norm);
    let at = |index: usize| match index.cmp(&place) {
        std::cmp::Ordering::Less => sorted[index],
        std::cmp::Ordering::Equal => norm,
        std::cmp::Ordering::Greater => sorted[index - 1],
    };
    let rank = percentile / 100.0 * sorted.len() as f64;
    let (lower, share) = (rank.floor() as usize, rank.fract());
    let (low, high) = (at(lower), at((lower + 1).min(sorted.len())));
    low + (high - low) * share
}
