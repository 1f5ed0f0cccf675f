//! The recurrence on many threads: the bits of one thread, whatever the lengths of the sequences.

use std::sync::LazyLock;

use proptest::prelude::*;
use rayon::ThreadPool;
use rayon::prelude::*;
use speech::random::Stream;

use super::*;
use crate::ops::recurrent::Cell;

/// More threads than any machine that runs the tests has cores; odd ones, and more than there are sequences.
static POOLS: LazyLock<Vec<ThreadPool>> = LazyLock::new(|| {
    [1, 2, 3, 4, 7, 16]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool")
        })
        .into()
});

/// Every cell in one direction and in both, with units that no vector divides.
fn shapes() -> Vec<Recurrent> {
    let cells = [
        (Cell::Lstm, 0),
        (Cell::Lstm, 3),
        (Cell::Gru, 0),
        (Cell::Tanh, 0),
        (Cell::Relu, 0),
    ];
    let shape = |(cell, projection), directions| Recurrent {
        cell,
        inputs: 4,
        hidden: 9,
        projection,
        directions,
    };
    let both = cells.map(|cell| [shape(cell, 1), shape(cell, 2)]);
    both.into_iter().flatten().collect()
}

/// The bits of a layer's result and of all its gradients, computed on the threads of the current pool.
fn bits(level: Level, shape: Recurrent, packing: &Packing, seed: u64) -> Vec<u32> {
    let mut stream = Stream::new(seed, &[]);
    let mut normal = |elements: usize| -> Vec<f32> {
        (0..elements)
            .map(|_| 0.5 * stream.normal() as f32)
            .collect()
    };
    let input = normal(packing.rows() * shape.inputs);
    let parameters = normal(shape.elements());
    let output_gradient = normal(packing.rows() * shape.outputs());
    let direction = |index| Direction {
        level,
        shape,
        packing,
        index,
    };
    let mut output = vec![0.0; packing.rows() * shape.outputs()];
    // Both directions at once, as the layer has them.
    let activations: Vec<SavedActivations> = OutputColumns::split(&mut output, shape)
        .into_par_iter()
        .enumerate()
        .map(|(index, mut columns)| direction(index).forward(&input, &parameters, &mut columns))
        .collect();
    let gradients: Vec<Vec<f32>> = activations
        .into_par_iter()
        .enumerate()
        .map(|(index, saved)| {
            let mut input_gradient = vec![0.0; input.len()];
            let pass = Backward {
                input: &input,
                parameters: &parameters,
                output: &output,
                output_gradient: &output_gradient,
                input_gradient: Some(&mut input_gradient),
            };
            let mut gradient = direction(index).backward(pass, saved);
            gradient.extend(input_gradient);
            gradient
        })
        .collect();
    let values = output.iter().chain(gradients.iter().flatten());
    values.map(|value| value.to_bits()).collect()
}

/// Sequences of about the same length, which end within a few frames of each other, and of any.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let alike = (1usize..60, 0usize..4).prop_flat_map(|(shortest, spread)| {
        proptest::collection::vec(shortest..=shortest + spread, 1..40)
    });
    prop_oneof![3 => alike, 1 => proptest::collection::vec(0usize..90, 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_number_of_threads_gives_the_bits_of_one(lengths in lengths(), seed in any::<u64>()) {
        let packing = Packing::packed(&lengths);
        for shape in shapes() {
            let alone = POOLS[0].install(|| bits(Level::detect(), shape, &packing, seed));
            for pool in &POOLS[1..] {
                let found = pool.install(|| bits(Level::detect(), shape, &packing, seed));
                let threads = pool.current_num_threads();
                prop_assert!(found == alone, "{threads} threads: {shape:?} {lengths:?}");
            }
        }
    }
}

#[test]
fn one_direction_cannot_be_given_the_columns_of_another() {
    let packing = Packing::packed(&[2, 1]);
    let shape = shapes()[1];
    let mut output = vec![0.0; packing.rows() * shape.outputs()];
    let mut columns = OutputColumns::split(&mut output, shape);
    let first = Direction {
        level: Level::detect(),
        shape,
        packing: &packing,
        index: 0,
    };
    let (input, parameters) = (
        vec![0.0; packing.rows() * shape.inputs],
        vec![0.0; shape.elements()],
    );
    let of_another = std::panic::AssertUnwindSafe(|| {
        first.forward(&input, &parameters, &mut columns[1]);
    });
    assert!(std::panic::catch_unwind(of_another).is_err());
    // Nor those of a batch of another number of frames.
    let mut longer = vec![0.0; (packing.rows() + 1) * shape.outputs()];
    let mut columns = OutputColumns::split(&mut longer, shape);
    let of_another = std::panic::AssertUnwindSafe(|| {
        first.forward(&input, &parameters, &mut columns[0]);
    });
    assert!(std::panic::catch_unwind(of_another).is_err());
}

/// Sequences of one frame and of none among them, on one thread and on a few: what a memory checker goes through.
#[test]
fn every_level_gives_the_bits_of_the_best_one() {
    let packing = Packing::packed(&[5, 0, 3, 3, 1, 7, 0]);
    for shape in shapes() {
        let best = POOLS[0].install(|| bits(Level::detect(), shape, &packing, 1));
        for level in Level::available() {
            for pool in [&POOLS[0], &POOLS[2]] {
                let found = pool.install(|| bits(level, shape, &packing, 1));
                assert!(found == best, "{}: {shape:?}", level.name());
            }
        }
    }
}

#[test]
#[should_panic(expected = "a packed batch")]
fn a_padded_batch_is_refused_before_anything_is_computed() {
    let shape = Recurrent {
        cell: Cell::Lstm,
        inputs: 2,
        hidden: 3,
        projection: 0,
        directions: 1,
    };
    let packing = Packing::padded(&[3, 1]);
    let _ = Direction::new(Level::detect(), shape, &packing, 0);
}
