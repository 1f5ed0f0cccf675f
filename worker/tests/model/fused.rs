//! The fused layers, on the CPU and on a GPU, against the one in plain tensor operations on the CPU.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use speech::random::Stream;
use worker::ops::linear;
use worker::ops::packing::Packing;
use worker::ops::recurrent::gpu::lstm::{self, Way};
use worker::ops::recurrent::{Cell, Recurrent, cpu, gpu, reference};

use crate::{distance, wgpu};

/// Which of the implementations, on which device.
#[derive(Clone, Debug)]
pub enum Layer {
    Plain,
    Fused,
    Cube(Device, Way),
    /// The one for any cell.
    Cells(Device),
}

/// Outputs, gradient of the input and gradient of the parameters, each by utterance or whole.
type Results = (Vec<Vec<f32>>, Vec<Vec<f32>>, Vec<f32>);

fn run(shape: Recurrent, lengths: &[usize], seed: u64, layer: &Layer) -> Results {
    let device = match layer {
        Layer::Cube(device, _) | Layer::Cells(device) => device.clone(),
        Layer::Plain | Layer::Fused => Device::flex(),
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
    let slopes: Vec<Vec<f32>> = lengths
        .iter()
        .map(|t| draw(t * shape.outputs(), 1.0))
        .collect();
    let packing = Arc::new(match layer {
        Layer::Plain => Packing::padded(lengths),
        Layer::Fused | Layer::Cube(..) | Layer::Cells(_) => Packing::packed(lengths),
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
        Layer::Plain => reference::layer(input, parameters, shape, &packing, linear::reference),
        Layer::Fused => cpu::layer(input, parameters, shape, &packing),
        Layer::Cube(_, way) => lstm::lstm(input, parameters, shape, &packing, *way),
        Layer::Cells(_) => gpu::cells::layer(input, parameters, shape, &packing),
    };
    let gradients = y
        .clone()
        .mul(rows(&slopes, shape.outputs()))
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
    let (y_plain, dx_plain, dp_plain) = run(shape, lengths, seed, &Layer::Plain);
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
        check(lstm(inputs, hidden, directions), &lengths, seed, &Layer::Fused);
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
        check(shape, &lengths, seed, &Layer::Fused);
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
        check(shape, &lengths, 1, &Layer::Fused);
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
        &Layer::Fused,
    );
}

/// Sequences of length 0 and 1, more and fewer than a workgroup takes, and hidden units that fill neither
/// a unit nor a workgroup.
#[test]
fn the_layer_on_a_gpu_agrees_with_the_plain_one_in_values_and_all_gradients() {
    let Some(compute) = wgpu() else { return };
    for way in [Way::Adapter, Way::Hardware] {
        let layer = Layer::Cube(compute.device.clone(), way);
        let mut stream = Stream::new(3, &[]);
        for case in 0..10 {
            let mut below = |end: u64| stream.below(end) as usize;
            let shape = Recurrent {
                cell: Cell::Lstm,
                projection: 0,
                inputs: 1 + below(40),
                hidden: 1 + below(50),
                directions: 1 + case % 2,
            };
            let mut lengths: Vec<usize> = (0..1 + below(20)).map(|_| below(9)).collect();
            lengths.extend([0, 1, 1 + below(9)]);
            check(shape, &lengths, case as u64, &layer);
        }
    }
}

/// What a hardware GPU does with more hidden units than one workgroup takes on.
#[test]
fn the_layer_on_a_gpu_may_take_a_launch_a_step() {
    let Some(compute) = wgpu() else { return };
    let layer = Layer::Cube(compute.device, Way::Hardware);
    let shape = Recurrent {
        cell: Cell::Lstm,
        projection: 0,
        inputs: 70,
        hidden: 150,
        directions: 2,
    };
    check(shape, &[7, 1, 5, 5, 0, 3, 7], 1, &layer);
}

/// A software adapter ends long loops without a word, so that small sizes prove nothing. Rows are enough
/// for the sums over them to be cut.
#[test]
fn the_layer_on_a_gpu_is_right_at_full_size() {
    let Some(compute) = wgpu() else { return };
    let layer = Layer::Cube(compute.device, Way::Adapter);
    let shape = Recurrent {
        cell: Cell::Lstm,
        projection: 0,
        inputs: 80,
        hidden: 256,
        directions: 1,
    };
    check(
        shape,
        &[200, 200, 120, 1, 199, 200, 150, 200, 90],
        1,
        &layer,
    );
}

#[test]
fn the_layer_on_a_gpu_has_the_same_bits_in_every_run() {
    let Some(compute) = wgpu() else { return };
    let shape = Recurrent {
        cell: Cell::Lstm,
        projection: 0,
        inputs: 40,
        hidden: 33,
        directions: 2,
    };
    for way in [Way::Adapter, Way::Hardware] {
        let layer = Layer::Cube(compute.device.clone(), way);
        let bits = || {
            let (y, dx, dp) = run(shape, &[60, 3, 41, 60, 7, 22], 5, &layer);
            [y.concat(), dx.concat(), dp]
                .map(|values| values.into_iter().map(f32::to_bits).collect())
        };
        let first: [Vec<u32>; 3] = bits();
        for _ in 0..3 {
            assert!(bits() == first, "{way:?}");
        }
    }
}

/// Every cell, small and at a size that a loop over it would not survive. Over so many steps what is
/// positive of a sum grows beyond any tolerance.
#[test]
fn layers_of_other_cells_on_a_gpu_agree_with_plain_ones_and_have_the_same_bits_in_every_run() {
    let Some(compute) = wgpu() else { return };
    let layer = Layer::Cells(compute.device);
    let small = (vec![7, 1, 5, 5, 0, 3, 7], lstm(13, 17, 2));
    let long = (vec![120, 1, 77, 98, 130], lstm(40, 96, 1));
    for (cell, projection, (lengths, shape)) in [
        (Cell::Gru, 0, &small),
        (Cell::Tanh, 0, &small),
        (Cell::Relu, 0, &small),
        (Cell::Lstm, 11, &small),
        (Cell::Gru, 0, &long),
        (Cell::Tanh, 0, &long),
        (Cell::Lstm, 11, &long),
        (Cell::Lstm, 0, &long),
    ] {
        let shape = Recurrent {
            cell,
            projection,
            ..*shape
        };
        check(shape, lengths, 4, &layer);
        let bits = || {
            let (y, dx, dp) = run(shape, lengths, 4, &layer);
            [y.concat(), dx.concat(), dp]
                .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>())
        };
        assert!(bits() == bits(), "{shape:?}");
    }
}
