//! Smoothed and weighted losses by PyTorch in f64 (`testdata/objectives.py`), and what a micro-batch of
//! weighted classes adds up to.

use serde::Deserialize;
use speech::model::{Head, ModelConfig};
use speech::objective::Normalize;
use speech::objective::Objective;
use speech::random::Stream;
use worker::gradient::{MicroBatch, gradient};
use worker::loss::{Example, training_losses};

use crate::{cpu, distance, network, utterances};

#[derive(Deserialize)]
struct Case {
    head: Head,
    label_smoothing: f64,
    class_weights: Vec<f64>,
    target: Vec<u32>,
    outputs: usize,
    logits: Vec<f32>,
    loss: f64,
    gradient: Vec<f32>,
}

#[test]
fn smoothed_and_weighted_losses_are_those_of_pytorch() {
    let cases = include_str!("../../testdata/objectives.json");
    let cases: Vec<Case> = serde_json::from_str(cases).expect("cases");
    assert_eq!(cases.len(), 7);
    for (number, case) in cases.into_iter().enumerate() {
        let objective = Objective {
            label_smoothing: case.label_smoothing,
            class_weights: case.class_weights,
            ..Objective::default()
        };
        let example = Example {
            logits: &case.logits,
            target: &case.target,
        };
        let result = training_losses(case.head, &[example], case.outputs, &objective)
            .unwrap()
            .remove(0);
        let error = (result.value - case.loss).abs();
        assert!(error < 1e-9 * case.loss.abs(), "{number}: {}", result.value);
        let off = result
            .gradient
            .iter()
            .zip(&case.gradient)
            .map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6, "{number}");
    }
}

#[test]
fn a_class_weight_is_worth_as_many_utterances() {
    let config = ModelConfig {
        head: Head::Keyword,
        layers: 1,
        hidden: 6,
        dropout: 0.0,
        ..ModelConfig::default()
    };
    let network = network(&config, 4, 3, &cpu());
    let features = utterances(&mut Stream::new(8, &[]), &[7, 5], 4);
    let once: Vec<(usize, u32)> = vec![(0, 1), (1, 2)];
    let twice: Vec<(usize, u32)> = vec![(0, 1), (0, 1), (0, 1), (1, 2)];
    let run = |utterances: &[(usize, u32)], class_weights: Vec<f64>| {
        let targets: Vec<[u32; 1]> = utterances.iter().map(|&(_, class)| [class]).collect();
        let micro = MicroBatch {
            features: utterances
                .iter()
                .map(|&(place, _)| &features[place])
                .collect(),
            targets: targets.iter().map(|target| &target[..]).collect(),
            step: 0,
            index: 0,
        };
        let objective = Objective {
            normalize: Normalize::Frames,
            class_weights,
            ..Objective::default()
        };
        gradient(&network, &micro, objective, 1).expect("fits")
    };
    let weighted = run(&once, vec![1.0, 3.0, 1.0]);
    let repeated = run(&twice, Vec::new());
    assert_eq!((weighted.weight, repeated.weight), (26.0, 26.0));
    assert!((weighted.loss / repeated.loss - 1.0).abs() < 1e-6);
    let [weighted, repeated] = [weighted, repeated].map(|it| it.gradient.expect("finite"));
    assert!(distance(&weighted, &repeated) < 1e-5);
}
