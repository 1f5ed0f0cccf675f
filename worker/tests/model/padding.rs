//! Padding and neighbours reach no result.

use speech::features::Features;
use speech::model::{Head, ModelConfig};
use speech::objective::Normalize;
use speech::random::Stream;
use worker::compute::Compute;
use worker::gradient::{GradientError, MicroBatch, gradient};
use worker::network::outputs::{NetworkError, log_probs};

use crate::{configs, cpu, distance, micro_gradient, network, utterances, wgpu};

/// An utterance's results alone and beside a longer and a shorter one.
fn alone_and_in_company(compute: &Compute, config: &ModelConfig, tolerance: f64) {
    let config = ModelConfig {
        dropout: 0.0,
        ..config.clone()
    };
    let network = network(&config, 5, 6, compute);
    let features = utterances(&mut Stream::new(3, &[]), &[6, 11, 3], 5);
    let all: Vec<&Features> = features.iter().collect();
    let together = log_probs(&network, &all).expect("fits");
    for (features, together) in all.iter().zip(&together) {
        let alone = log_probs(&network, &[features]).expect("fits");
        assert!(distance(&alone[0], together) <= tolerance, "{config:?}");
    }
    let whole = micro_gradient(&network, &features);
    let mut sum = vec![0.0f32; network.spec().elements()];
    let mut loss = 0.0;
    for features in &features {
        let part = micro_gradient(&network, std::slice::from_ref(features));
        loss += part.loss;
        for (sum, value) in sum.iter_mut().zip(part.gradient.expect("finite")) {
            *sum += value;
        }
    }
    assert!((loss - whole.loss).abs() <= (tolerance + 1e-12) * loss);
    assert!(
        distance(&whole.gradient.expect("finite"), &sum) < tolerance.max(1e-6),
        "{config:?}"
    );
}

#[test]
fn neighbours_change_no_bit_of_an_utterance_on_the_cpu() {
    for config in configs() {
        alone_and_in_company(&cpu(), &config, 0.0);
    }
}

#[test]
fn neighbours_change_nothing_of_an_utterance_on_wgpu() {
    if let Some(compute) = wgpu() {
        let [_, _, _, config] = configs();
        alone_and_in_company(
            &compute,
            &ModelConfig {
                layers: 1,
                ..config
            },
            1e-5,
        );
    }
}

#[test]
fn what_cannot_be_learned_from_is_left_out_and_named() {
    let features = utterances(&mut Stream::new(4, &[]), &[6, 0, 2, 5], 5);
    for config in configs() {
        let network = network(&config, 5, 6, &cpu());
        let targets: Vec<&[u32]> = match config.head {
            Head::Keyword => vec![&[1]; 4],
            Head::Ctc => vec![&[1, 1], &[], &[2, 2], &[]],
        };
        let run = |positions: &[usize]| {
            let micro = MicroBatch {
                features: positions
                    .iter()
                    .map(|&position| &features[position])
                    .collect(),
                targets: positions
                    .iter()
                    .map(|&position| targets[position])
                    .collect(),
                step: 0,
                index: 0,
            };
            gradient(&network, &micro, Normalize::Labels, 1).expect("fits")
        };
        let all = run(&[0, 1, 2, 3]);
        let expected = if config.head == Head::Ctc {
            vec![1, 2]
        } else {
            vec![1]
        };
        assert_eq!(all.left_out, expected);
        assert_eq!(all.utterances as usize, 4 - expected.len());
        assert_eq!(all.weight, if config.head == Head::Ctc { 2.0 } else { 3.0 });
        let none = run(&[1]);
        assert_eq!((none.utterances, none.weight, none.loss), (0, 0.0, 0.0));
        assert!(
            none.gradient
                .expect("zeros")
                .iter()
                .all(|&value| value == 0.0)
        );
        let frames: Vec<usize> = log_probs(&network, &features.iter().collect::<Vec<_>>())
            .expect("fits")
            .iter()
            .map(|log_probs| log_probs.len() / 6)
            .collect();
        assert_eq!(
            frames,
            if config.head == Head::Ctc {
                [6, 0, 2, 5]
            } else {
                [1, 0, 1, 1]
            }
        );
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_none_and_its_utterance_named() {
    let mut features = utterances(&mut Stream::new(5, &[]), &[6, 4, 5], 5);
    features[1].data[7] = f32::NAN;
    for config in configs() {
        let network = network(&config, 5, 6, &cpu());
        let result = micro_gradient(&network, &features);
        assert_eq!(
            (result.gradient, result.weight, result.loss),
            (None, 0.0, 0.0)
        );
        assert_eq!(result.not_finite, [1]);
    }
}

#[test]
fn an_utterance_that_does_not_fit_the_model_is_an_error() {
    let features = utterances(&mut Stream::new(6, &[]), &[6], 5);
    let micro = |targets: Vec<&'static [u32]>| MicroBatch {
        features: features.iter().collect(),
        targets,
        step: 0,
        index: 0,
    };
    let [keyword, _, ctc, _] = configs();
    let keyword = network(&keyword, 5, 6, &cpu());
    let ctc = network(&ctc, 5, 6, &cpu());
    let run = |network, targets| {
        gradient(network, &micro(targets), Normalize::Utterances, 1).expect_err("does not fit")
    };
    let label = |label| GradientError::Label {
        position: 0,
        label,
        outputs: 6,
    };
    assert_eq!(run(&keyword, vec![&[6]]), label(6));
    assert_eq!(run(&ctc, vec![&[1, 0]]), label(0));
    assert_eq!(
        run(&keyword, vec![&[]]),
        GradientError::Classes {
            position: 0,
            found: 0
        }
    );
    let narrow = network_of_width_four();
    let error = gradient(&narrow, &micro(vec![&[1]]), Normalize::Utterances, 1);
    let expected = GradientError::Network(NetworkError::Features {
        position: 0,
        expected: 4,
        found: 5,
    });
    assert_eq!(error.expect_err("does not fit"), expected);
}

fn network_of_width_four() -> worker::network::Network {
    network(&configs()[0], 4, 6, &cpu())
}
