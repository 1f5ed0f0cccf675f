//! The transaction against hand-worked steps, and what it must refuse.

use speech::model::ModelConfig;

use super::*;
use crate::trainer::{clip::ClipPolicy, optimizer::OptimizerKind};

fn spec() -> ModelSpec {
    let config = ModelConfig {
        layers: 1,
        hidden: 2,
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, 2, 3)
}

/// SGD at 0.1 with a warm-up of ten steps and clipping at norm 1.
fn trainer() -> Trainer {
    let config = TrainerConfig {
        optimizer: OptimizerConfig {
            kind: OptimizerKind::Sgd,
            learning_rate: 0.1,
            ..OptimizerConfig::default()
        },
        clip: ClipConfig {
            max_norm: 1.0,
            ..ClipConfig::default()
        },
        schedule: ScheduleConfig {
            warmup_steps: 10,
            ..ScheduleConfig::default()
        },
        total_steps: 100,
        ema: None,
    };
    Trainer::new(&spec(), config, spec().initialize(1))
}

fn sum(value: f32, weight: f64) -> Contribution {
    Contribution {
        sum: Some(vec![value; spec().elements()]),
        weight,
        loss: 3.0,
        ..Contribution::default()
    }
}

fn applied(outcome: StepOutcome) -> Applied {
    match outcome {
        StepOutcome::Applied(applied) => applied,
        StepOutcome::Skipped(reason) => panic!("skipped: {reason:?}"),
    }
}

#[test]
fn the_sum_is_divided_once_and_clipped_after() {
    let mut trainer = trainer();
    let before = trainer.weights().to_vec();
    let elements = before.len() as f64;
    let applied = applied(trainer.apply(sum(6.0, 3.0)).unwrap());
    let norm = 2.0 * elements.sqrt();
    assert!((applied.grad_norm - norm).abs() < 1e-12);
    assert_eq!((applied.loss, applied.weight), (1.0, 3.0));
    assert!(applied.clipped && (applied.clip_coef - 1.0 / (norm + 1e-6)).abs() < 1e-12);
    assert!((applied.lr - 0.01).abs() < 1e-17);
    let moved = 0.01 * 2.0 * applied.clip_coef;
    for (before, after) in before.iter().zip(trainer.weights()) {
        assert!((f64::from(before - after) - moved).abs() < 1e-6);
    }
    let counts = Counts {
        step: 1,
        applied_steps: 1,
        clipped_steps: 1,
    };
    assert_eq!(trainer.counts(), counts);
}

#[test]
fn the_dominating_parameter_is_named() {
    let mut gradient = sum(0.01, 1.0);
    let place = spec().parameter("head.bias").unwrap().offset;
    gradient.sum.as_mut().unwrap()[place] = -5.0;
    let applied = applied(trainer().apply(gradient).unwrap());
    assert_eq!(applied.dominated_by, "head.bias");
}

#[test]
fn a_step_without_a_usable_gradient_moves_nothing_but_the_step() {
    let mut not_finite = sum(1.0, 1.0);
    let place = spec().parameter("lstm.bias_hh_l0").unwrap().offset;
    not_finite.sum.as_mut().unwrap()[place] = f32::INFINITY;
    let parameter = "lstm.bias_hh_l0".to_owned();
    let cases = [
        (Contribution::default(), Skipped::NothingToAdd),
        (sum(1.0, 0.0), Skipped::NoWeight),
        (not_finite, Skipped::NotFinite { parameter }),
    ];
    for (unusable, reason) in cases {
        let mut skipping = trainer();
        skipping.apply(sum(0.1, 1.0)).unwrap();
        let mut straight = skipping.clone();
        assert_eq!(
            skipping.apply(unusable).unwrap(),
            StepOutcome::Skipped(reason)
        );
        assert_eq!((skipping.step(), straight.step()), (2, 1));
        // The schedule and the optimizer go on as if the step had not been.
        let (one, other) = (skipping.apply(sum(0.2, 1.0)), straight.apply(sum(0.2, 1.0)));
        assert_eq!(one, other);
        assert_eq!(skipping.weights(), straight.weights());
    }
}

#[test]
fn weights_that_overflow_stop_the_job_by_the_parameters_name() {
    let config = TrainerConfig {
        clip: ClipConfig {
            policy: ClipPolicy::None,
            ..ClipConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 1e30,
            kind: OptimizerKind::Sgd,
            ..OptimizerConfig::default()
        },
        schedule: ScheduleConfig::default(),
        total_steps: 10,
        ema: None,
    };
    let mut trainer = Trainer::new(&spec(), config, spec().initialize(1));
    assert_eq!(
        trainer.apply(sum(1e20, 1.0)),
        Err(UpdateError::Diverged {
            step: 0,
            parameter: "lstm.weight_ih_l0".to_owned()
        })
    );
}

#[test]
fn a_gradient_that_adam_cannot_square_is_skipped() {
    let adam = |clip: ClipConfig| TrainerConfig {
        clip,
        optimizer: OptimizerConfig::default(),
        schedule: ScheduleConfig::default(),
        total_steps: 10,
        ema: None,
    };
    let policy = |policy| ClipConfig {
        policy,
        ..ClipConfig::default()
    };
    // 1.8e19 squared is the largest f32.
    for (policy, value, taken) in [
        (policy(ClipPolicy::None), 1e18, true),
        (policy(ClipPolicy::None), 2e19, false),
        (policy(ClipPolicy::GlobalNorm), 1e30, true),
        (policy(ClipPolicy::Value), 1e30, true),
    ] {
        let mut trainer = Trainer::new(&spec(), adam(policy.clone()), spec().initialize(1));
        let before = trainer.state();
        let outcome = trainer.apply(sum(value, 1.0)).unwrap();
        assert_eq!(
            matches!(outcome, StepOutcome::Applied(_)),
            taken,
            "{policy:?} {value}"
        );
        let state = trainer.state();
        let finite = |vector: &[f32]| vector.iter().all(|value| value.is_finite());
        assert!(state.optimizer.iter().all(|(_, vector)| finite(vector)));
        assert!(taken || state.weights == before.weights && state.optimizer == before.optimizer);
    }
}

#[test]
fn an_optimizer_vector_that_overflows_stops_the_job() {
    // Its weights stay finite: only the momentum buffer, which grows by a half each step, overflows.
    let config = TrainerConfig {
        clip: ClipConfig {
            policy: ClipPolicy::None,
            ..ClipConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 1e-30,
            momentum: 0.99,
            kind: OptimizerKind::Sgd,
            ..OptimizerConfig::default()
        },
        schedule: ScheduleConfig::default(),
        total_steps: 10,
        ema: None,
    };
    let mut trainer = Trainer::new(&spec(), config, spec().initialize(1));
    let outcomes: Vec<_> = (0..9).map(|_| trainer.apply(sum(1e38, 1.0))).collect();
    assert!(outcomes[0].is_ok() && outcomes.iter().any(Result::is_err));
    let told = outcomes
        .into_iter()
        .find_map(Result::err)
        .unwrap()
        .to_string();
    assert!(
        told.contains("`lstm.weight_ih_l0`") && told.contains("optimizer"),
        "{told}"
    );
}

#[test]
fn a_gradient_of_another_model_is_refused() {
    let short = Contribution {
        sum: Some(vec![1.0]),
        weight: 1.0,
        ..Contribution::default()
    };
    let error = trainer().apply(short).unwrap_err().to_string();
    assert!(error.contains("1 elements"), "{error}");
}

#[test]
fn a_restored_trainer_goes_on_with_the_same_bits() {
    let mut trainer = trainer();
    for step in 0..5 {
        trainer.apply(sum(0.3 * step as f32, 2.0)).unwrap();
    }
    let mut restored = Trainer::restore(&spec(), trainer.config.clone(), trainer.state()).unwrap();
    assert_eq!(trainer.apply(sum(0.7, 2.0)), restored.apply(sum(0.7, 2.0)));
    assert_eq!(trainer.state(), restored.state());
}

#[test]
fn an_average_follows_applied_steps_and_survives_a_checkpoint() {
    let plain = trainer();
    let config = TrainerConfig {
        ema: Some(0.75),
        ..plain.config.clone()
    };
    let mut trainer = Trainer::new(&spec(), config.clone(), plain.weights.clone());
    assert_eq!(trainer.judged(), plain.weights());
    trainer.apply(sum(6.0, 3.0)).unwrap();
    assert_eq!(trainer.judged(), trainer.weights(), "the first are taken");
    let first = trainer.weights()[0];
    trainer.apply(sum(-2.0, 3.0)).unwrap();
    let second = trainer.weights()[0];
    assert_eq!(trainer.judged()[0], first + 0.25 * (second - first));
    trainer.apply(sum(0.0, 0.0)).unwrap();
    assert_eq!(trainer.judged()[0], first + 0.25 * (second - first));

    let mut restored = Trainer::restore(&spec(), config.clone(), trainer.state()).unwrap();
    for trainer in [&mut trainer, &mut restored] {
        trainer.apply(sum(1.0, 2.0)).unwrap();
    }
    assert_eq!(restored.state(), trainer.state());
    let mut state = trainer.state();
    state.ema = None;
    let error = Trainer::restore(&spec(), config, state).unwrap_err();
    assert!(error.to_string().contains("`ema`"), "{error}");
}

#[test]
fn a_state_of_another_model_is_not_restored() {
    let mut state = trainer().state();
    state.weights.pop();
    let error = Trainer::restore(&spec(), trainer().config, state).unwrap_err();
    assert!(error.to_string().contains("`weights`"), "{error}");
}
