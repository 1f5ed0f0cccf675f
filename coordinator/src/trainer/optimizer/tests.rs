//! The optimizers against torch, and what they restore.

use speech::random::Stream;

use super::*;

const ELEMENTS: usize = 2 * BLOCK_ELEMENTS + 777;

fn kinds() -> [OptimizerConfig; 5] {
    let of = |kind, momentum| OptimizerConfig {
        kind,
        momentum,
        weight_decay: 0.01,
        ..OptimizerConfig::default()
    };
    [
        of(OptimizerKind::Sgd, 0.0),
        of(OptimizerKind::Sgd, 0.9),
        OptimizerConfig {
            nesterov: true,
            ..of(OptimizerKind::Sgd, 0.9)
        },
        of(OptimizerKind::Adam, 0.0),
        of(OptimizerKind::AdamW, 0.0),
    ]
}

fn gradient(step: u64) -> Vec<f32> {
    let mut stream = Stream::new(3, &[step]);
    (0..ELEMENTS).map(|_| stream.normal() as f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_step_gives_the_same_bits_on_any_number_of_threads() {
    for config in kinds() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut weights = gradient(99);
                let mut optimizer = Optimizer::new(config, ELEMENTS);
                for step in 0..3 {
                    optimizer.step(&mut weights, &gradient(step), 0.1);
                }
                bits(&weights)
            })
        };
        assert!(run(1) == run(3), "{config:?}");
    }
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    for config in kinds() {
        let mut weights = gradient(99);
        let mut optimizer = Optimizer::new(config, ELEMENTS);
        optimizer.step(&mut weights, &gradient(0), 0.1);
        let state = optimizer.state();
        let state = state.map(|(name, vector)| (name.to_owned(), vector.to_vec()));
        let mut restored =
            Optimizer::restore(config, ELEMENTS, optimizer.steps(), state.collect()).unwrap();
        let mut weights_of_restored = weights.clone();
        optimizer.step(&mut weights, &gradient(1), 0.1);
        restored.step(&mut weights_of_restored, &gradient(1), 0.1);
        assert!(bits(&weights) == bits(&weights_of_restored), "{config:?}");
    }
}

#[test]
fn state_of_another_optimizer_is_refused_by_name() {
    let adam = OptimizerConfig::default();
    let vector = |name: &str, elements| (name.to_owned(), vec![0.0; elements]);
    let error = Optimizer::restore(adam, 4, 1, vec![vector("momentum_buffer", 4)]);
    assert!(error.unwrap_err().to_string().contains("exp_avg"));
    let state = vec![vector("exp_avg", 4), vector("exp_avg_sq", 5)];
    assert_eq!(
        Optimizer::restore(adam, 4, 1, state)
            .unwrap_err()
            .to_string(),
        "the vector `exp_avg_sq` has 5 elements where the model has 4"
    );
}

#[test]
fn hyperparameters_that_cannot_be_are_named() {
    let of = |change: fn(&mut OptimizerConfig)| {
        let mut config = OptimizerConfig::default();
        change(&mut config);
        config.validate().map_err(|error| error.field)
    };
    assert_eq!(of(|_| ()), Ok(()));
    assert_eq!(
        of(|it| it.learning_rate = 0.0),
        Err("optimizer.learning_rate")
    );
    assert_eq!(of(|it| it.beta2 = 1.0), Err("optimizer.beta2"));
    assert_eq!(
        of(|it| it.weight_decay = -1.0),
        Err("optimizer.weight_decay")
    );
    assert_eq!(of(|it| it.nesterov = true), Err("optimizer.momentum"));
}
