//! The kernels behind a gradient on the CPU, each alone, on one thread: items are floating-point
//! operations (a multiply-add counts as two) for products and layers, and elements otherwise.
//!
//! ```sh
//! cargo bench --workspace --bench kernels            # all of them
//! cargo bench --workspace --bench kernels -- product # those whose name contains it
//! ```

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use divan::{Bencher, black_box, counter::ItemsCount};
use simd::{Kernel, Lanes, Level};
use speech::{
    audio::Audio, features::FeaturesConfig, front_end::FrontEnd, model::Head, random::Stream,
};
use worker::cpu::activation::{exp, sigmoid, tanh};
use worker::cpu::matrix::{Addend, Left, Panels, multiply_parallel};
use worker::loss::{Example, losses};
use worker::ops::packing::Packing;
use worker::ops::recurrent::{Cell, Recurrent, cpu};

fn main() {
    worker::compute::set_threads(1).expect("the first use of rayon's pool");
    divan::main();
}

fn random(seed: u64, elements: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, &[]);
    (0..elements)
        .map(|_| (0.3 * stream.normal()) as f32)
        .collect()
}

/// Rows, depth and columns: of an input projection, of a step of the recurrence forward and backward,
/// and of small ones.
const PRODUCTS: [[usize; 3]; 5] = [
    [3200, 1024, 2048],
    [32, 512, 2048],
    [32, 2048, 512],
    [64, 128, 512],
    [1, 512, 2048],
];

#[divan::bench(args = PRODUCTS)]
fn product(bencher: Bencher, [rows, depth, columns]: [usize; 3]) {
    let left = random(1, rows * depth);
    let right = Panels::pack(&random(2, depth * columns), depth, columns);
    let mut result = vec![0.0; rows * columns];
    bencher
        .counter(ItemsCount::new(2 * rows * depth * columns))
        .bench_local(|| {
            let left = Left::rows(&left, depth);
            let level = Level::detect();
            multiply_parallel(level, left, &right, Addend::Result, &mut result, columns);
        });
}

/// The gradient of a weight: frames, gates and inputs.
#[divan::bench(args = [[1024, 2048, 1024], [1024, 512, 256]])]
fn product_of_the_transpose(bencher: Bencher, [frames, gates, inputs]: [usize; 3]) {
    let left = random(1, frames * gates);
    let right = random(2, frames * inputs);
    let mut result = vec![0.0; gates * inputs];
    bencher
        .counter(ItemsCount::new(2 * frames * gates * inputs))
        .bench_local(|| {
            let right = Panels::pack(&right, frames, inputs);
            let left = Left::transposed(&left, gates);
            let level = Level::detect();
            multiply_parallel(level, left, &right, Addend::Result, &mut result, inputs);
        });
}

#[divan::bench(args = ["exp", "sigmoid", "tanh"])]
fn activation(bencher: Bencher, name: &str) {
    struct Apply<'a>(&'a str, &'a mut [f32]);
    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Lanes>(self) {
            for chunk in self.1.chunks_exact_mut(V::LANES) {
                let x = V::load(chunk);
                let y = match self.0 {
                    "exp" => exp(x),
                    "sigmoid" => sigmoid(x),
                    _ => tanh(x),
                };
                y.store(chunk);
            }
        }
    }
    let values = random(1, 4096);
    let mut results = values.clone();
    bencher
        .counter(ItemsCount::new(values.len()))
        .bench_local(|| {
            results.copy_from_slice(&values);
            Level::detect().run(Apply(name, &mut results));
            black_box(&results);
        });
}

/// A layer of one direction: sequences, frames, inputs and hidden units.
const LAYERS: [[usize; 4]; 3] = [[16, 200, 256, 256], [64, 98, 128, 128], [32, 50, 1024, 512]];

struct Layer {
    shape: Recurrent,
    packing: Arc<Packing>,
    input: Tensor<2>,
    parameters: Tensor<1>,
}

impl Layer {
    fn new([sequences, frames, inputs, hidden]: [usize; 4]) -> Self {
        let shape = Recurrent {
            cell: Cell::Lstm,
            projection: 0,
            inputs,
            hidden,
            directions: 1,
        };
        let packing = Arc::new(Packing::packed(&vec![frames; sequences]));
        let device = Device::flex();
        let rows = random(1, packing.rows() * inputs);
        let parameters = random(2, shape.elements());
        Self {
            shape,
            input: Tensor::from_data(TensorData::new(rows, [packing.rows(), inputs]), &device),
            parameters: Tensor::from_data(TensorData::new(parameters, [shape.elements()]), &device),
            packing,
        }
    }

    /// The operations of a pass through the layer.
    fn operations(&self) -> usize {
        let Recurrent { inputs, hidden, .. } = self.shape;
        2 * self.packing.rows() * 4 * hidden * (inputs + hidden)
    }
}

#[divan::bench(args = LAYERS, sample_count = 10)]
fn lstm_forward(bencher: Bencher, sizes: [usize; 4]) {
    let layer = Layer::new(sizes);
    bencher
        .counter(ItemsCount::new(layer.operations()))
        .bench_local(|| {
            let (input, parameters) = (layer.input.clone(), layer.parameters.clone());
            cpu::apply(input, parameters, layer.shape, &layer.packing)
        });
}

#[divan::bench(args = LAYERS, sample_count = 10)]
fn lstm_backward(bencher: Bencher, sizes: [usize; 4]) {
    let layer = Layer::new(sizes);
    bencher
        .counter(ItemsCount::new(2 * layer.operations()))
        .with_inputs(|| {
            let input = layer.input.clone().autodiff().require_grad();
            let parameters = layer.parameters.clone().autodiff().require_grad();
            cpu::apply(input, parameters, layer.shape, &layer.packing).sum()
        })
        .bench_local_values(|sum| sum.backward());
}

/// Log-softmax, loss and gradient: utterances, frames, outputs and labels.
#[divan::bench(args = [[16, 400, 32, 40], [16, 200, 32, 20]])]
fn ctc(bencher: Bencher, [utterances, frames, outputs, labels]: [usize; 4]) {
    let logits = random(1, utterances * frames * outputs);
    let mut stream = Stream::new(2, &[]);
    let target: Vec<u32> = (0..labels)
        .map(|_| 1 + stream.below(outputs as u64 - 1) as u32)
        .collect();
    let examples: Vec<Example> = logits
        .chunks_exact(frames * outputs)
        .map(|logits| Example {
            logits,
            target: &target,
        })
        .collect();
    bencher
        .counter(ItemsCount::new(logits.len()))
        .bench_local(|| losses(Head::Ctc, &examples, outputs));
}

/// Ten seconds of audio; items are samples.
#[divan::bench]
fn log_mel(bencher: Bencher) {
    let config = FeaturesConfig::default();
    let audio = Audio {
        samples: random(1, 10 * config.sample_rate as usize),
        sample_rate: config.sample_rate,
    };
    let front_end = FrontEnd::new(&config, None).expect("the default settings");
    bencher
        .counter(ItemsCount::new(audio.samples.len()))
        .bench_local(|| front_end.features(&audio).expect("its own sample rate"));
}
