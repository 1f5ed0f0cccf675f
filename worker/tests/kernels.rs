//! Which kernels a GPU needs, and how many. A binary of its own, because the count is that of the whole process.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use burn_cubecl::cubecl::launched::LaunchedKernels;
use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};
use speech::features::Features;
use speech::model::{ConvConfig, Head, ModelConfig, ModelKind, ModelSpec, Pooling};
use speech::objective::Normalize;
use speech::random::Stream;
use worker::compute::{Compute, ComputeError, DeviceChoice};
use worker::gradient::{MicroBatch, gradient};
use worker::network::Network;

#[derive(Default)]
struct Names(Mutex<BTreeSet<&'static str>>);

impl LaunchObserver for Names {
    fn launched(&self, kernel: &'static str) {
        self.0.lock().expect("no test has failed").insert(kernel);
    }
}

/// The kernels launched by a gradient of utterances of these lengths.
fn kernels(network: &Network, lengths: &[usize], stream: &mut Stream) -> HashSet<String> {
    let config = &network.spec().config;
    let features: Vec<Features> = lengths
        .iter()
        .map(|&frames| Features {
            frames,
            dims: 12,
            data: (0..frames * 12).map(|_| stream.normal() as f32).collect(),
        })
        .collect();
    let target: &[u32] = match config.head {
        Head::Keyword => &[3],
        Head::Ctc => &[1],
    };
    let micro = MicroBatch {
        features: features.iter().collect(),
        targets: vec![target; lengths.len()],
        step: 1,
        index: 0,
    };
    let launched = LaunchedKernels::new();
    let result = gradient(network, &micro, Normalize::Utterances, 1).expect("fits");
    assert!(result.gradient.is_some());
    let launched = launched.finish();
    launched
        .iter()
        .map(|kernel| format!("{kernel:?}"))
        .collect()
}

/// Both heads and poolings, and every layer.
fn models() -> Vec<ModelConfig> {
    let lstm = ModelConfig {
        layers: 2,
        hidden: 24,
        bidirectional: true,
        dropout: 0.3,
        head: Head::Ctc,
        ..ModelConfig::default()
    };
    let keyword = |pooling| ModelConfig {
        head: Head::Keyword,
        pooling,
        ..lstm.clone()
    };
    let conv = ConvConfig {
        channels: vec![3, 4],
        stride: [2, 1],
        ..ConvConfig::default()
    };
    vec![
        lstm.clone(),
        keyword(Pooling::Last),
        keyword(Pooling::Mean),
        ModelConfig {
            kind: ModelKind::Gru,
            conv,
            layer_norm: true,
            ..keyword(Pooling::Mean)
        },
        ModelConfig {
            kind: ModelKind::Rnn,
            dense: vec![9],
            ..keyword(Pooling::Last)
        },
        ModelConfig {
            projection: 8,
            ..lstm.clone()
        },
        ModelConfig {
            kind: ModelKind::Dnn,
            bidirectional: false,
            context_left: 2,
            ..lstm
        },
    ]
}

#[test]
fn on_a_gpu_no_kernel_is_built_after_the_first_batch_of_any_size_and_none_is_chosen_by_timing() {
    let compute = match Compute::open(DeviceChoice::Wgpu) {
        Ok(compute) => compute,
        Err(ComputeError::NoAdapter) => {
            let required = std::env::var("UNISONO_REQUIRE_WGPU").is_ok_and(|value| value == "1");
            assert!(!required, "UNISONO_REQUIRE_WGPU=1 and no wgpu adapter");
            eprintln!("WARNING: NO WGPU ADAPTER ON THIS MACHINE, NOTHING WAS COUNTED");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let names = Arc::new(Names::default());
    let observation = LaunchObservation::new(names.clone());
    for config in models() {
        let spec = ModelSpec::new(&config, 12, 7);
        let mut network = Network::new(&spec, &compute.device);
        network
            .load(&spec.initialize(1))
            .expect("its own parameters");
        let mut stream = Stream::new(1, &[]);
        // The first epoch is one small batch; the others have more rows than one piece of a long sum,
        // one frame alone, lengths and numbers that four does not divide, and utterances that end early.
        let first = kernels(&network, &[9, 4, 4], &mut stream);
        assert!((8..=32).contains(&first.len()), "{} kernels", first.len());
        let many = [140; 9];
        for lengths in [&many[..], &[1], &[17, 3, 5, 1, 1], &[8; 16], &[31, 30, 2]] {
            let others = kernels(&network, lengths, &mut stream);
            let new = others.difference(&first).count();
            assert_eq!(new, 0, "{config:?} {lengths:?}");
        }
    }
    drop(observation);
    let names = names.0.lock().expect("no test has failed").clone();
    // One of burn's own is there: the one that writes the 1 every differentiation begins with. None is tuned.
    let others: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("worker::"))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    assert!(
        others.len() == 1 && others[0].contains("full_kernel"),
        "{others:?}"
    );

    // Around the blocks of a residual network burn adds, which is not tuned either.
    let observed = Arc::new(Names::default());
    let observation = LaunchObservation::new(observed.clone());
    let config = ModelConfig {
        kind: ModelKind::Cnn,
        pooling: Pooling::Mean,
        ..ModelConfig::default()
    };
    let spec = ModelSpec::new(&config, 12, 7);
    let mut network = Network::new(&spec, &compute.device);
    network
        .load(&spec.initialize(1))
        .expect("its own parameters");
    kernels(&network, &[9, 4, 4], &mut Stream::new(1, &[]));
    drop(observation);
    let names = observed.0.lock().expect("no test has failed");
    let others: BTreeSet<_> = names
        .iter()
        .filter(|name| !name.starts_with("worker::"))
        .collect();
    eprintln!("{others:?}");
    assert!(names.len() >= 8 && others.len() <= 3, "{names:?}");
}
