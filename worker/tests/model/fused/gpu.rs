//! The fused layers on a GPU against the one in plain tensor operations on the CPU, and their bits from run to run.

use speech::random::Stream;
use worker::ops::recurrent::gpu::{Algorithm, Target};
use worker::ops::recurrent::{Cell, Recurrent};

use super::{Layer, check, lstm, run};
use crate::wgpu;

/// Sequences of length 0 and 1, more and fewer than a workgroup takes, and hidden units that fill neither
/// a unit nor a workgroup.
#[test]
fn the_layer_on_a_gpu_agrees_with_the_plain_one_in_values_and_all_gradients() {
    let Some(compute) = wgpu() else { return };
    for way in [Target::Adapter, Target::Hardware] {
        let layer = Layer::Gpu(compute.device.clone(), Algorithm::Lstm, way);
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

/// Layers that need several workgroups, each way of dividing their work, and hidden units that do not fill
/// the last workgroup or do not lie in fours.
#[test]
fn the_layer_on_a_gpu_may_take_several_workgroups_a_step() {
    let Some(compute) = wgpu() else { return };
    let layer = Layer::Gpu(compute.device, Algorithm::Lstm, Target::Hardware);
    let lengths: Vec<usize> = (0..21).map(|place| [7, 1, 5, 0, 3][place % 5]).collect();
    for (hidden, directions) in [(148, 1), (148, 2), (276, 2), (150, 2), (516, 1)] {
        let shape = Recurrent {
            cell: Cell::Lstm,
            projection: 0,
            inputs: 70,
            hidden,
            directions,
        };
        check(shape, &lengths, 1, &layer);
    }
}

/// A software adapter ends long loops without a word, so that small sizes prove nothing. Rows are enough
/// for the sums over them to be cut.
#[test]
fn the_layer_on_a_gpu_is_right_at_full_size() {
    let Some(compute) = wgpu() else { return };
    let layer = Layer::Gpu(compute.device, Algorithm::Lstm, Target::Adapter);
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
    for (way, hidden) in [
        (Target::Adapter, 33),
        (Target::Adapter, 36),
        (Target::Hardware, 33),
        (Target::Hardware, 36),
    ] {
        let shape = Recurrent {
            cell: Cell::Lstm,
            projection: 0,
            inputs: 40,
            hidden,
            directions: 2,
        };
        let layer = Layer::Gpu(compute.device.clone(), Algorithm::Lstm, way);
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
    let layer = Layer::Gpu(compute.device, Algorithm::Cells, Target::Adapter);
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
