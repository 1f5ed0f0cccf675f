//! Whole networks of every kind: with the device's operators and in plain ones, at any number of
//! threads, alone and in company.

use proptest::prelude::*;
use speech::features::Features;
use speech::model::{
    Activation, ConvConfig, Head, ModelConfig, ModelKind, ModelSpec, Pooling, ResidualConfig,
};
use speech::random::Stream;
use worker::network::Network;
use worker::network::outputs::log_probs;

use crate::{cpu, distance, micro_gradient, network, utterances, wgpu};

/// One of every kind, with everything that it can have.
pub fn kinds() -> Vec<ModelConfig> {
    let config = ModelConfig {
        widths: vec![13, 10],
        dropout: 0.3,
        pooling: Pooling::Mean,
        ..ModelConfig::default()
    };
    let conv = |channels: &[usize], kernel, stride| ConvConfig {
        channels: channels.to_vec(),
        kernel,
        stride,
    };
    vec![
        ModelConfig {
            kind: ModelKind::Gru,
            bidirectional: true,
            conv: conv(&[3, 5], [3, 5], [2, 2]),
            layer_norm: true,
            head: Head::Ctc,
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Rnn,
            activation: Some(Activation::Relu),
            pooling: Pooling::Last,
            dense: vec![7],
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Rnn,
            bidirectional: true,
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Dnn,
            activation: Some(Activation::Sigmoid),
            context_left: 3,
            context_right: 1,
            layer_norm: true,
            head: Head::Ctc,
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Dnn,
            activation: Some(Activation::Tanh),
            conv: conv(&[4], [5, 3], [1, 3]),
            dense: vec![9, 8],
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Lstm,
            projection: 6,
            bidirectional: true,
            layer_norm: true,
            conv: conv(&[3], [3, 3], [3, 1]),
            head: Head::Ctc,
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Cnn,
            widths: Vec::new(),
            residual: ResidualConfig {
                channels: 5,
                blocks: 2,
                ..ResidualConfig::default()
            },
            ..config.clone()
        },
        ModelConfig {
            kind: ModelKind::Cnn,
            widths: Vec::new(),
            residual: ResidualConfig {
                channels: 4,
                blocks: 2,
                pool: [1, 2],
                dilated: true,
            },
            head: Head::Ctc,
            ..config
        },
    ]
}

/// Two layers of every recurrent cell, in one direction and in both.
fn recurrent_kinds() -> Vec<ModelConfig> {
    let cells = [
        (ModelKind::Lstm, 0, None),
        (ModelKind::Lstm, 5, None),
        (ModelKind::Gru, 0, None),
        (ModelKind::Rnn, 0, Some(Activation::Tanh)),
        (ModelKind::Rnn, 0, Some(Activation::Relu)),
    ];
    let directions = cells.map(|(kind, projection, activation)| {
        [false, true].map(|bidirectional| ModelConfig {
            kind,
            projection,
            activation,
            bidirectional,
            widths: vec![13, 10],
            head: Head::Ctc,
            ..ModelConfig::default()
        })
    });
    directions.into_iter().flatten().collect()
}

/// Loss and gradient of a network whose parameters are drawn with `seed`, large enough to matter.
fn loss_and_gradient(mut network: Network, features: &[Features], seed: u64) -> (f64, Vec<f32>) {
    let mut parameters = network.spec().initialize(seed);
    let mut stream = Stream::new(seed, &[]);
    for value in &mut parameters {
        *value += 0.2 * stream.normal() as f32;
    }
    network.load(&parameters).expect("its own");
    let found = micro_gradient(&network, features);
    (found.loss, found.gradient.expect("finite"))
}

fn check(config: &ModelConfig, compute: &worker::compute::Compute, lengths: &[usize], seed: u64) {
    config.check().expect("a model that can be");
    let features = utterances(&mut Stream::new(seed, &[]), lengths, 11);
    let spec = ModelSpec::new(config, 11, 6);
    let own = loss_and_gradient(Network::new(&spec, &compute.device), &features, seed);
    let plain = loss_and_gradient(Network::plain(&spec, &cpu().device), &features, seed);
    let case = format!("{} {lengths:?} {seed} {config:?}", compute.class);
    assert!((own.0 / plain.0 - 1.0).abs() < 2e-5, "{own:?} {case}");
    let off = distance(&own.1, &plain.1);
    assert!(off < 5e-5, "off by {off:e}: {case}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn fused_and_plain_networks_agree(
        lengths in proptest::collection::vec(0usize..40, 1..6),
        last in 13usize..40,
        seed in any::<u64>(),
    ) {
        // One at least is long enough for its labels after any stride; none and one frame are among
        // the others.
        let lengths: Vec<usize> = lengths.into_iter().chain([last, 0, 1]).collect();
        for config in kinds() {
            check(&config, &cpu(), &lengths, seed);
        }
    }
}

#[test]
fn networks_on_a_gpu_agree_with_plain_ones() {
    let Some(compute) = wgpu() else { return };
    for config in kinds() {
        check(&config, &compute, &[17, 1, 30, 0, 16], 3);
    }
}

#[test]
fn gradients_of_every_kind_have_the_same_bits_for_any_number_of_threads() {
    // More frames than are taken at a time; all of about the same length, which end within a few frames of
    // each other, as inference has them; and one, of which most threads have nothing.
    let mut stream = Stream::new(1, &[]);
    let mut alike = |count: usize, shortest: u64, spread: u64| -> Vec<usize> {
        (0..count)
            .map(|_| (shortest + stream.below(spread + 1)) as usize)
            .collect()
    };
    let batches = [
        vec![233, 4, 233, 17, 390, 21, 8, 4, 255, 262],
        alike(8, 19, 1),
        alike(19, 26, 1),
        alike(32, 40, 3),
        vec![31],
    ];
    let threads = [1, 2, 3, 4, 7, 16];
    let pools = threads.map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool")
    });
    for config in kinds().into_iter().chain(recurrent_kinds()) {
        let network = network(&config, 11, 6, &cpu());
        for lengths in &batches {
            let features = utterances(&mut Stream::new(1, &[]), lengths, 11);
            let all: Vec<&Features> = features.iter().collect();
            let on = |pool: &rayon::ThreadPool| {
                let (found, heard) = pool.install(|| {
                    let heard = log_probs(&network, &all).expect("fits");
                    (micro_gradient(&network, &features), heard)
                });
                let gradient = found.gradient.expect("finite");
                let values = gradient.iter().chain(heard.iter().flatten());
                let bits: Vec<u32> = values.map(|value| value.to_bits()).collect();
                (found.loss.to_bits(), bits)
            };
            let first = on(&pools[0]);
            assert!(first.1.iter().any(|&bits| bits != 0));
            for (pool, threads) in pools.iter().zip(threads).skip(1) {
                let same = on(pool) == first;
                assert!(same, "{threads} threads: {lengths:?} {config:?}");
            }
        }
    }
}

#[test]
fn neighbours_change_no_bit_of_an_utterance_of_any_kind() {
    let features = utterances(&mut Stream::new(3, &[]), &[16, 31, 13, 1, 18], 11);
    for config in kinds() {
        let network = network(&config, 11, 6, &cpu());
        let all: Vec<&Features> = features.iter().collect();
        let together = log_probs(&network, &all).expect("fits");
        for (features, together) in all.iter().zip(&together) {
            let alone = log_probs(&network, &[features]).expect("fits");
            assert_eq!(&alone[0], together, "{config:?}");
            let frames = match config.head {
                Head::Ctc => network.spec().output_frames(features.frames),
                Head::Keyword => 1,
            };
            assert_eq!(together.len(), frames * 6);
        }
    }
}
