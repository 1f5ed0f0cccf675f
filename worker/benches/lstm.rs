//! The time of a training step (forward, loss, backward, gradient as a flat vector) on the CPU with
//! one thread, or as many as `UNISONO_BENCH_THREADS` says: medians. `pytorch.py` beside it times the
//! same shapes.
//!
//!     cargo bench -p worker --bench lstm

use std::time::Instant;

use speech::features::Features;
use speech::model::{Head, ModelConfig, ModelSpec, Pooling};
use speech::random::Stream;
use speech::recipe::Normalize;
use worker::compute::{Compute, DeviceChoice, set_threads};
use worker::gradient::{MicroBatch, gradient};
use worker::network::Network;

/// As the program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Shape {
    name: &'static str,
    batch: usize,
    frames: usize,
    ragged: bool,
    features: usize,
    layers: usize,
    hidden: usize,
    bidirectional: bool,
    head: Head,
    outputs: usize,
    labels: usize,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "a 16x200x80 2x256 ctc",
        batch: 16,
        frames: 200,
        ragged: false,
        features: 80,
        layers: 2,
        hidden: 256,
        bidirectional: false,
        head: Head::Ctc,
        outputs: 32,
        labels: 20,
    },
    Shape {
        name: "a ragged",
        batch: 16,
        frames: 200,
        ragged: true,
        features: 80,
        layers: 2,
        hidden: 256,
        bidirectional: false,
        head: Head::Ctc,
        outputs: 32,
        labels: 20,
    },
    Shape {
        name: "c 64x98x40 2x128 keyword",
        batch: 64,
        frames: 98,
        ragged: false,
        features: 40,
        layers: 2,
        hidden: 128,
        bidirectional: false,
        head: Head::Keyword,
        outputs: 10,
        labels: 1,
    },
    Shape {
        name: "an4 16x100x120 2x256 bidirectional ctc",
        batch: 16,
        frames: 100,
        ragged: false,
        features: 120,
        layers: 2,
        hidden: 256,
        bidirectional: true,
        head: Head::Ctc,
        outputs: 32,
        labels: 20,
    },
];

fn main() {
    let threads = std::env::var("UNISONO_BENCH_THREADS")
        .ok()
        .and_then(|text| text.parse().ok());
    set_threads(threads.unwrap_or(1)).expect("the first call");
    let compute = Compute::open(DeviceChoice::Cpu).expect("there is a CPU");
    for shape in SHAPES {
        let config = ModelConfig {
            head: shape.head,
            layers: shape.layers,
            hidden: shape.hidden,
            bidirectional: shape.bidirectional,
            dropout: 0.0,
            pooling: Pooling::Last,
        };
        let spec = ModelSpec::new(&config, shape.features, shape.outputs);
        let mut network = Network::new(&spec, &compute.device);
        network
            .load(&spec.initialize(1))
            .expect("the specification's own parameters");
        let mut stream = Stream::new(1, &[]);
        let features: Vec<Features> = (0..shape.batch)
            .map(|_| {
                let shortest = if shape.ragged {
                    shape.frames / 4
                } else {
                    shape.frames
                };
                let spread = (shape.frames - shortest + 1) as u64;
                let frames = shortest + stream.below(spread) as usize;
                let data = (0..frames * shape.features)
                    .map(|_| stream.normal() as f32)
                    .collect();
                Features {
                    frames,
                    dims: shape.features,
                    data,
                }
            })
            .collect();
        let target: Vec<u32> = (0..shape.labels)
            .map(|_| 1 + stream.below(shape.outputs as u64 - 1) as u32)
            .collect();
        let micro = MicroBatch {
            features: features.iter().collect(),
            targets: vec![&target; shape.batch],
            step: 0,
            index: 0,
        };
        let mut seconds: Vec<f64> = (0..15)
            .map(|_| {
                let start = Instant::now();
                let result = gradient(&network, &micro, Normalize::Utterances, 1).expect("fits");
                assert!(result.gradient.is_some());
                start.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        println!("{}: {:.4} s", shape.name, seconds[seconds.len() / 2]);
    }
}
