//! The learning rate of a step. It counts applied steps alone, so that a skipped step moves nothing,
//! and uses only operations that IEEE 754 rounds exactly, so that no mathematics library reaches the
//! weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{OutOfRange, require};

/// The `[schedule]` section of a job: the learning rate over the applied steps, those that changed the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The shape of the learning rate after the warm-up, t applied steps later, as a factor of
    /// `optimizer.learning_rate`.
    pub kind: ScheduleKind,
    /// Linear warm-up: the applied steps over which the learning rate rises to its base. The rest of the
    /// schedule begins after them.
    #[schemars(example = 100)]
    pub warmup_steps: u64,
    /// The applied steps over which `step` and `exponential` multiply the learning rate by `gamma`.
    #[schemars(range(min = 1), example = 500)]
    pub step_size: u64,
    /// The factor of `step`, `exponential` and `plateau`.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0), example = 0.9)]
    pub gamma: f64,
    /// The share of the base learning rate at which `cosine` ends, and below which `plateau` does not go.
    #[schemars(range(min = 0, max = 1), example = 0.05)]
    pub final_fraction: f64,
    /// The epochs without improvement after which `plateau` lowers the learning rate.
    #[schemars(example = 2)]
    pub patience: u32,
    /// The relative improvement that `plateau` asks for.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.01)]
    pub threshold: f64,
    /// The epochs after a reduction that `plateau` does not count.
    #[schemars(example = 1)]
    pub cooldown: u32,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_steps: 0,
            step_size: 1000,
            gamma: 0.5,
            final_fraction: 0.0,
            patience: 3,
            threshold: 1e-4,
            cooldown: 0,
        }
    }
}

/// How the rate moves after the warm-up, `t` applied steps later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// 1.
    Constant,
    /// `gamma ^ floor(t / step_size)`: a staircase.
    Step,
    /// `gamma ^ (t / step_size)`; with `step_size = 1`, `gamma` is the factor of one step.
    Exponential,
    /// Half a cosine wave from 1 to `final_fraction` at the job's last step.
    Cosine,
    /// `gamma` once for each time that the score on the validation set (`select.by`) has not improved for more
    /// than `patience` epochs: torch's `ReduceLROnPlateau`.
    Plateau,
}

impl ScheduleConfig {
    /// # Errors
    /// The first key that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        let Self {
            step_size,
            gamma,
            final_fraction,
            threshold,
            ..
        } = *self;
        let at_least_one = "1 or more";
        require(
            step_size >= 1,
            "schedule.step_size",
            step_size,
            at_least_one,
        )?;
        let share = "above 0 and at most 1";
        require(gamma > 0.0 && gamma <= 1.0, "schedule.gamma", gamma, share)?;
        require(
            (0.0..=1.0).contains(&final_fraction),
            "schedule.final_fraction",
            final_fraction,
            "between 0 and 1",
        )?;
        require(
            (0.0..1.0).contains(&threshold),
            "schedule.threshold",
            threshold,
            "at least 0 and below 1",
        )
    }

    /// What the rate is multiplied by after `drops` plateaus.
    pub fn fallen(&self, drops: u64) -> f64 {
        match self.kind {
            ScheduleKind::Plateau => power(self.gamma, drops).max(self.final_fraction),
            _ => 1.0,
        }
    }

    /// The rate of the step that follows `applied_steps` applied ones in a job of `total_steps`.
    /// `drops` is how often a plateau was met so far; without this kind it never is.
    pub fn learning_rate(
        &self,
        base: f64,
        applied_steps: u64,
        total_steps: u64,
        drops: u64,
    ) -> f64 {
        let base = base * self.fallen(drops);
        if applied_steps < self.warmup_steps {
            return base * ((applied_steps + 1) as f64 / self.warmup_steps as f64);
        }
        let t = applied_steps - self.warmup_steps;
        base * match self.kind {
            ScheduleKind::Constant | ScheduleKind::Plateau => 1.0,
            ScheduleKind::Step => power(self.gamma, t / self.step_size),
            ScheduleKind::Exponential => {
                let fraction = (t % self.step_size) as f64 / self.step_size as f64;
                power(self.gamma, t / self.step_size) * root_power(self.gamma, fraction)
            }
            ScheduleKind::Cosine => {
                let span = total_steps.saturating_sub(self.warmup_steps).max(1);
                let progress = (t as f64 / span as f64).min(1.0);
                self.final_fraction + (1.0 - self.final_fraction) * falling_cosine(progress)
            }
        }
    }
}

/// `base ^ exponent` by repeated squaring.
pub fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

/// `base ^ fraction` for a fraction in [0, 1): the product of those of its square root, fourth root,
/// … that the fraction's binary digits name.
fn root_power(base: f64, mut fraction: f64) -> f64 {
    let (mut result, mut root) = (1.0, base);
    while fraction > 0.0 {
        root = root.sqrt();
        fraction *= 2.0;
        if fraction >= 1.0 {
            result *= root;
            fraction -= 1.0;
        }
    }
    result
}

/// `(1 + cos(π x)) / 2` for x in [0, 1], as `cos²(π x / 2)` by Taylor's series at 0 or, from the
/// other end, `1 − cos²(π (1 − x) / 2)`.
fn falling_cosine(x: f64) -> f64 {
    if x > 0.5 {
        return 1.0 - falling_cosine(1.0 - x);
    }
    let angle = std::f64::consts::FRAC_PI_2 * x;
    let (mut cosine, mut term) = (1.0, 1.0);
    // Eleven terms: the twelfth is below 1e-26 for an angle of at most π/4.
    for n in (2..=22).step_by(2) {
        term *= -angle * angle / f64::from(n * (n - 1));
        cosine += term;
    }
    cosine * cosine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ScheduleKind) -> ScheduleConfig {
        ScheduleConfig {
            kind,
            ..ScheduleConfig::default()
        }
    }

    #[test]
    fn warm_up_climbs_evenly_and_ends_at_the_base() {
        let config = ScheduleConfig {
            warmup_steps: 4,
            ..of(ScheduleKind::Constant)
        };
        let rates = [0, 1, 2, 3, 4, 50].map(|applied| config.learning_rate(1.0, applied, 100, 0));
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn the_rest_of_a_schedule_begins_after_the_warm_up() {
        for kind in [
            ScheduleKind::Step,
            ScheduleKind::Exponential,
            ScheduleKind::Cosine,
        ] {
            let plain = of(kind);
            let warmed = ScheduleConfig {
                warmup_steps: 30,
                ..plain
            };
            for applied in [0, 10, 69] {
                assert_eq!(
                    warmed.learning_rate(0.1, 30 + applied, 130, 0),
                    plain.learning_rate(0.1, applied, 100, 0),
                );
            }
        }
    }

    #[test]
    fn the_exponential_goes_through_the_staircases_corners() {
        let (stairs, curve) = (of(ScheduleKind::Step), of(ScheduleKind::Exponential));
        for corner in [0, 1000, 2000, 9000] {
            let at = |config: &ScheduleConfig| config.learning_rate(0.1, corner, 1, 0);
            assert_eq!(at(&stairs), at(&curve));
        }
        let between = curve.learning_rate(1.0, 1234, 1, 0);
        assert!((between - 0.5f64.powf(1.234)).abs() < 1e-14, "{between}");
    }

    #[test]
    fn a_cosine_ends_at_its_fraction_and_stays_there() {
        let config = ScheduleConfig {
            final_fraction: 0.1,
            ..of(ScheduleKind::Cosine)
        };
        assert_eq!(config.learning_rate(1.0, 0, 50, 0), 1.0);
        for applied in [50, 51, 1000] {
            assert!((config.learning_rate(1.0, applied, 50, 0) - 0.1).abs() < 1e-15);
        }
    }

    #[test]
    fn our_own_functions_are_those_of_the_library() {
        for n in 0..=1000 {
            let x = f64::from(n) / 1000.0;
            let cosine = (1.0 + (std::f64::consts::PI * x).cos()) / 2.0;
            assert!((falling_cosine(x) - cosine).abs() < 1e-15, "{x}");
            let power_of = power(0.9, n as u64) / 0.9f64.powi(n);
            assert!((power_of - 1.0).abs() < 1e-12, "{n}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let config = ScheduleConfig {
            gamma: 0.0,
            ..ScheduleConfig::default()
        };
        assert_eq!(config.validate().unwrap_err().field, "schedule.gamma");
    }
}
