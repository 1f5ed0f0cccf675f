//! The fused layers, on the CPU and on a GPU, against the one in plain tensor operations on the CPU.

#[cfg(feature = "wgpu")]
mod gpu;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use speech::random::Stream;
use worker::ops::packing::Packing;
#[cfg(feature = "wgpu")]
use worker::ops::recurrent::gpu::{self as on_gpu, Algorithm, Target};
use worker::ops::recurrent::{Cell, Recurrent, cpu, reference};

use crate::distance;

/// Which of the implementations, on which device.
#[derive(Clone, Debug)]
pub enum Layer {
    Reference,
    Cpu,
    #[cfg(feature = "wgpu")]
    Gpu(Device, Algorithm, Target),
}

/// Outputs, gradient of the input and gradient of the parameters, each by utterance or whole.
type Results = (Vec<Vec<f32>>, Vec<Vec<f32>>, Vec<f32>);

fn run(shape: Recurrent, lengths: &[usize], seed: u64, layer: &Layer) -> Results {
    let device = match layer {
        #[cfg(feature = "wgpu")]
        Layer::Gpu(device, ..) => device.clone(),
        Layer::Reference | Layer::Cpu => Device::flex(),
    };
    let mut stream = Stream::new(seed, &[]);
    let mut draw = |elements: usize, scale: f64| -> Vec<f32> {
        (0..elements)
            .map(|_| (scale * stream.normal()) as f32)
            .collect()
    };
    let parameters = draw(shape.elements(), 1.5 / (shape.hidden as f64).sqrt());
    let inputs: Vec<Vec<f32>> = lengths
        .iter()
        .map(|t| draw(t * shape.inputs, 1.0))
        .collect();
    let output_grad: Vec<Vec<f32>> = lengths
        .iter()
        .map(|t| draw(t * shape.outputs(), 1.0))
        .collect();
    let packing = Arc::new(match layer {
        Layer::Reference => Packing::padded(lengths),
        _ => Packing::packed(lengths),
    });
    let rows = |sequences: &[Vec<f32>], width: usize| -> Tensor<2> {
        let views: Vec<&[f32]> = sequences.iter().map(Vec::as_slice).collect();
        let data = TensorData::new(packing.gather(&views, width), [packing.rows(), width]);
        Tensor::from_data(data, &device).autodiff()
    };
    let x = rows(&inputs, shape.inputs).require_grad();
    let p: Tensor<1> = Tensor::from_data(TensorData::new(parameters, [shape.elements()]), &device);
    let p = p.autodiff().require_grad();
    let (input, parameters) = (x.clone(), p.clone());
    let y = match layer {
        Layer::Reference => reference::apply(input, parameters, shape, &packing),
        Layer::Cpu => cpu::apply(input, parameters, shape, &packing),
        #[cfg(feature = "wgpu")]
        Layer::Gpu(_, algorithm, target) => {
            on_gpu::apply_by(*algorithm, *target, input, parameters, shape, &packing)
        }
    };
    let gradients = y
        .clone()
        .mul(rows(&output_grad, shape.outputs()))
        .sum()
        .backward();
    let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().expect("f32");
    let by_utterance = |tensor: Tensor<2>| {
        let width = tensor.dims()[1];
        packing.scatter(&values(tensor), width)
    };
    (
        by_utterance(y.inner()),
        by_utterance(x.grad(&gradients).expect("a gradient of the input")),
        p.grad(&gradients)
            .expect("of the parameters")
            .into_data()
            .try_to_vec()
            .expect("f32"),
    )
}

fn check(shape: Recurrent, lengths: &[usize], seed: u64, layer: &Layer) {
    let (y, dx, dp) = run(shape, lengths, seed, layer);
    let (y_plain, dx_plain, dp_plain) = run(shape, lengths, seed, &Layer::Reference);
    let case = format!("{layer:?} {shape:?} {lengths:?} {seed}");
    assert!(
        distance(&y.concat(), &y_plain.concat()) < 2e-6,
        "outputs of {case}"
    );
    assert!(
        distance(&dx.concat(), &dx_plain.concat()) < 5e-6,
        "input gradient of {case}"
    );
    assert!(
        distance(&dp, &dp_plain) < 5e-6,
        "parameter gradient of {case}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn fused_and_plain_layers_agree_in_values_and_all_gradients(
        inputs in 1usize..40,
        hidden in 1usize..50,
        directions in 1usize..=2,
        lengths in proptest::collection::vec(0usize..14, 1..12),
        last in 1usize..14,
        seed in any::<u64>(),
    ) {
        // At least one utterance has frames.
        let lengths: Vec<usize> = lengths.into_iter().chain([last]).collect();
        check(lstm(inputs, hidden, directions), &lengths, seed, &Layer::Cpu);
    }
}

fn lstm(inputs: usize, hidden: usize, directions: usize) -> Recurrent {
    Recurrent {
        cell: Cell::Lstm,
        projection: 0,
        inputs,
        hidden,
        directions,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn fused_and_plain_layers_of_other_cells_agree_in_values_and_all_gradients(
        inputs in 1usize..40,
        hidden in 2usize..50,
        directions in 1usize..=2,
        cell in 0usize..4,
        projection in any::<proptest::sample::Index>(),
        lengths in proptest::collection::vec(0usize..14, 1..12),
        last in 1usize..14,
        seed in any::<u64>(),
    ) {
        let lengths: Vec<usize> = lengths.into_iter().chain([last]).collect();
        let cell = [Cell::Gru, Cell::Tanh, Cell::Relu, Cell::Lstm][cell];
        let projection = if cell == Cell::Lstm { 1 + projection.index(hidden - 1) } else { 0 };
        let shape = Recurrent { cell, projection, ..lstm(inputs, hidden, directions) };
        check(shape, &lengths, seed, &Layer::Cpu);
    }
}

#[test]
fn fused_and_plain_layers_of_other_cells_agree_at_full_size() {
    let lengths = [120, 1, 77, 77, 98, 3, 64, 120, 50, 131, 260, 260, 255];
    for (cell, projection) in [(Cell::Gru, 0), (Cell::Tanh, 0), (Cell::Lstm, 48)] {
        let shape = Recurrent {
            cell,
            projection,
            ..lstm(80, 128, 2)
        };
        check(shape, &lengths, 1, &Layer::Cpu);
    }
}

#[test]
fn fused_and_plain_layers_agree_at_full_size() {
    // Beyond the blocks of the matrix product: 4H > 256, rows > 256.
    let lengths = [120, 1, 77, 77, 98, 3, 64, 120, 50];
    check(
        Recurrent {
            cell: Cell::Lstm,
            projection: 0,
            inputs: 80,
            hidden: 128,
            directions: 2,
        },
        &lengths,
        1,
        &Layer::Cpu,
    );
}
