//! The models against PyTorch, the fused operators against plain ones, and the promises about bits
//! and padding.

mod bits;
mod fused;
mod goldens;
mod kinds;
mod objectives;
mod padding;
mod stream;

use speech::features::Features;
use speech::model::{Head, ModelConfig, ModelSpec, Pooling};
use speech::objective::Normalize;
use speech::random::Stream;
use worker::compute::{Compute, ComputeError, DeviceChoice};
use worker::gradient::{MicroBatch, MicroGradient, gradient};
use worker::network::Network;

fn cpu() -> Compute {
    Compute::open(DeviceChoice::Cpu).expect("there is a CPU")
}

/// The wgpu device, if this machine has an adapter. Its absence is loud, and a failure where the
/// environment demands one.
fn wgpu() -> Option<Compute> {
    match Compute::open(DeviceChoice::Wgpu) {
        Ok(compute) => Some(compute),
        Err(ComputeError::NoAdapter | ComputeError::NotBuilt) => {
            let required = std::env::var("UNISONO_REQUIRE_WGPU").is_ok_and(|value| value == "1");
            assert!(!required, "UNISONO_REQUIRE_WGPU=1 and no wgpu adapter");
            eprintln!("WARNING: NO WGPU ADAPTER ON THIS MACHINE, NOTHING WAS TESTED ON WGPU");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// ‖a - b‖ / ‖b‖.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}

/// Random utterances of the given lengths.
fn utterances(stream: &mut Stream, lengths: &[usize], dims: usize) -> Vec<Features> {
    lengths
        .iter()
        .map(|&frames| {
            let data = (0..frames * dims).map(|_| stream.normal() as f32).collect();
            Features { frames, dims, data }
        })
        .collect()
}

/// A network with its initial parameters.
fn network(config: &ModelConfig, inputs: usize, outputs: usize, compute: &Compute) -> Network {
    let spec = ModelSpec::new(config, inputs, outputs);
    let mut network = Network::new(&spec, &compute.device);
    network
        .load(&spec.initialize(7))
        .expect("the specification's own parameters");
    network
}

/// The four kinds of network.
fn configs() -> [ModelConfig; 4] {
    let config = ModelConfig {
        layers: 2,
        hidden: 19,
        dropout: 0.4,
        ..ModelConfig::default()
    };
    [
        ModelConfig {
            head: Head::Keyword,
            pooling: Pooling::Last,
            ..config.clone()
        },
        ModelConfig {
            head: Head::Keyword,
            pooling: Pooling::Mean,
            bidirectional: true,
            ..config.clone()
        },
        ModelConfig {
            head: Head::Ctc,
            ..config.clone()
        },
        ModelConfig {
            head: Head::Ctc,
            bidirectional: true,
            ..config
        },
    ]
}

/// A target that fits any of `lengths` of at least 3 frames.
fn target(config: &ModelConfig) -> &'static [u32] {
    match config.head {
        Head::Keyword => &[3],
        Head::Ctc => &[1, 4],
    }
}

fn micro_gradient(network: &Network, features: &[Features]) -> MicroGradient {
    let target = target(&network.spec().config);
    let micro = MicroBatch {
        features: features.iter().collect(),
        targets: vec![target; features.len()],
        step: 5,
        index: 1,
    };
    gradient(network, &micro, Normalize::Utterances, 11).expect("a batch that fits")
}
