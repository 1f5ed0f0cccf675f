//! Optimizers, schedules and averages against torch's own numbers (`testdata/goldens.py`).

use std::sync::Arc;

use coordinator::{
    epochs::EpochPolicy,
    schedule::ScheduleConfig,
    select::{Figure, SelectConfig},
    trainer::{
        Trainer, TrainerConfig,
        checkpoint_average::{self, HeldWeights},
        clip::{ClipConfig, ClipPolicy},
        optimizer::{Optimizer, OptimizerConfig, OptimizerKind},
    },
};
use proto::contribution::Contribution;
use serde::Deserialize;
use speech::model::{ModelConfig, ModelSpec};

#[derive(Deserialize)]
struct Goldens {
    optimizers: Vec<Optimization>,
    schedules: Vec<Schedule>,
    plateaus: Vec<Plateau>,
    averages: Vec<Average>,
}

#[derive(Deserialize)]
struct Optimization {
    config: OptimizerConfig,
    rates: Vec<f64>,
    weights: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    after: Vec<Vec<f32>>,
    state: std::collections::BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Schedule {
    config: ScheduleConfig,
    base: f64,
    total_steps: u64,
    rates: Vec<f64>,
}

#[derive(Deserialize)]
struct Plateau {
    config: ScheduleConfig,
    base: f64,
    rises: bool,
    /// After each epoch.
    figures: Vec<f64>,
    rates: Vec<f64>,
}

#[derive(Deserialize)]
struct Average {
    decay: f64,
    weights: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    /// The moving average after each step of SGD at 0.1.
    after: Vec<Vec<f32>>,
    /// The moving average of the weights after each step.
    mean: Vec<f32>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../testdata/goldens.json"))
        .expect("goldens.json is as below")
}

/// Equal within 1e-6 of the expected element.
#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_within(found, expected, expected.iter().map(|it| it.abs()), what);
}

/// Equal within 1e-6 of `sizes`.
#[track_caller]
fn assert_within(found: &[f32], expected: &[f32], sizes: impl Iterator<Item = f32>, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let elements = found.iter().zip(expected).zip(sizes);
    for (place, ((found, expected), size)) in elements.enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= 1e-6 * size,
            "{what}, element {place}: {found} where torch has {expected}"
        );
    }
}

#[test]
fn every_optimizer_makes_torchs_steps() {
    for golden in goldens().optimizers {
        let mut weights = golden.weights;
        // A weight that crosses zero keeps the rounding of the size that it had.
        let mut sizes: Vec<f32> = weights.iter().map(|weight| weight.abs()).collect();
        let mut optimizer = Optimizer::new(golden.config, weights.len());
        let steps = golden.rates.iter().zip(&golden.gradients);
        for ((&rate, gradient), after) in steps.zip(&golden.after) {
            optimizer.step(&mut weights, gradient, rate);
            for (size, after) in sizes.iter_mut().zip(after) {
                *size = size.max(after.abs());
            }
            let what = format!("{:?}, step {}", golden.config, optimizer.steps());
            assert_within(&weights, after, sizes.iter().copied(), &what);
        }
        assert_eq!(optimizer.state().count(), golden.state.len());
        // Means of gradients of either sign keep the rounding of the gradients; squares do not.
        let mut largest = vec![0.0f32; weights.len()];
        for gradient in &golden.gradients {
            for (largest, value) in largest.iter_mut().zip(gradient) {
                *largest = largest.max(value.abs());
            }
        }
        for (name, vector) in optimizer.state() {
            let what = format!("{:?}, {name}", golden.config);
            match name {
                "exp_avg_sq" => assert_close(vector, &golden.state[name], &what),
                _ => assert_within(vector, &golden.state[name], largest.iter().copied(), &what),
            }
        }
    }
}

#[test]
fn schedules_follow_torchs() {
    for golden in goldens().schedules {
        for (applied, expected) in golden.rates.iter().enumerate() {
            let found =
                golden
                    .config
                    .learning_rate(golden.base, applied as u64, golden.total_steps, 0);
            // Torch's schedulers multiply the last rate, which adds up rounding.
            assert!(
                (found - expected).abs() <= 1e-12 * golden.base,
                "{:?} after {applied}: {found} where torch has {expected}",
                golden.config
            );
        }
    }
}

#[test]
fn the_rate_falls_where_torchs_does() {
    let mut falls = 0;
    for golden in goldens().plateaus {
        let mut policy = EpochPolicy::default();
        let rules = (&SelectConfig::default(), &golden.config);
        for (&value, expected) in golden.figures.iter().zip(&golden.rates) {
            let rises = golden.rises;
            let figure = Some(Figure { value, rises });
            let outcome = policy.end_epoch(rules, 40, figure);
            falls += usize::from(outcome.lowered);
            let found = golden
                .config
                .learning_rate(golden.base, 7, 40, policy.drops());
            assert!(
                (found - expected).abs() <= 1e-12 * golden.base,
                "{:?} after epoch {}: {found} where torch has {expected}",
                golden.config,
                policy.epochs
            );
        }
    }
    assert!(falls > 10, "{falls} falls say little");
}

#[test]
fn averages_are_torchs() {
    let model = ModelConfig {
        layers: 1,
        hidden: 1,
        ..ModelConfig::default()
    };
    let spec = ModelSpec::new(&model, 1, 2);
    for golden in goldens().averages {
        let config = TrainerConfig {
            optimizer: OptimizerConfig {
                kind: OptimizerKind::Sgd,
                learning_rate: 0.1,
                ..OptimizerConfig::default()
            },
            clip: ClipConfig {
                policy: ClipPolicy::None,
                ..ClipConfig::default()
            },
            schedule: ScheduleConfig::default(),
            total_steps: 8,
            ema: Some(golden.decay),
        };
        let mut trainer = Trainer::new(&spec, config, golden.weights);
        let mut held = HeldWeights::new();
        // Sums lose digits to cancellation: the error is measured against the largest element.
        let assert_near = |found: &[f32], expected: &[f32], what: &str| {
            let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            assert_within(found, expected, expected.iter().map(|_| largest), what);
        };
        for (gradient, expected) in golden.gradients.into_iter().zip(&golden.after) {
            let sum = Contribution {
                sum: Some(gradient),
                weight: 1.0,
                ..Contribution::default()
            };
            trainer.apply(sum).unwrap();
            assert_near(trainer.judged(), expected, "moving average");
            held.push(Arc::new(trainer.weights().to_vec()));
        }
        assert_near(
            &checkpoint_average::mean(&held).unwrap(),
            &golden.mean,
            "mean",
        );
    }
}
