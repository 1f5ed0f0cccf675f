//! The two passes over memory that an update takes: sum to mean with its squares, then clipping,
//! optimizer and what is broadcast. It decides where vectors are cut, so that neither a thread count
//! nor the order of threads reaches a number, and does not depend on what the numbers are for.

use super::Publish;
use crate::trainer::{
    blocks::{BlockLayout, RowSquares, Squares, squares_of, squares_of_rows},
    clip::{BlockClipping, Plan},
    optimizer::{ParameterBlock, UpdateRule},
};
use rayon::prelude::*;
use simd::wide;

/// Elements that are worked on at a time: what five vectors have of them stays in the first cache.
const CACHED_ELEMENTS: usize = 1 << 10;

/// Divides each element once, in f64, so that the mean is rounded once. Gives the squared norms of the mean, and
/// of `weights` where there are any.
pub(super) fn mean(
    gradient: &mut [f32],
    weight: f64,
    weights: Option<&[f32]>,
    blocks: &BlockLayout,
) -> Squares {
    let measured: Vec<(RowSquares, Vec<RowSquares>)> = blocks
        .split(gradient)
        .into_par_iter()
        .zip(&blocks.cuts)
        .zip(blocks.row_lengths())
        .map(|((block, cut), row)| {
            wide(
                #[inline(always)]
                || {
                    divide(block, weight);
                    let weights = weights.map(|weights| &weights[cut.clone()]);
                    match row {
                        None => (squares_of(block, weights), Vec::new()),
                        Some(row) => squares_of_rows(block, weights, row),
                    }
                },
            )
        })
        .collect();
    let (of_blocks, rows): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    let of_parameters = |square: fn(&RowSquares) -> f64| {
        let parameters = blocks.by_parameter(&of_blocks);
        parameters
            .map(|blocks| blocks.iter().map(square).sum())
            .collect()
    };
    Squares {
        gradient: of_parameters(|squares| squares.gradient),
        weights: match weights {
            Some(_) => of_parameters(|squares| squares.weights),
            None => Vec::new(),
        },
        rows,
    }
}

/// Divides in f64 and rounds once. In f32 the quotient has the same bits where the divisor is one: an f64
/// has more than twice its digits and two, so that rounding to it first changes nothing (Figueroa 1995).
#[inline(always)]
fn divide(values: &mut [f32], weight: f64) {
    let narrow = weight as f32;
    if f64::from(narrow) == weight && narrow.is_normal() {
        values.iter_mut().for_each(|value| *value /= narrow);
    } else {
        for value in values {
            *value = (f64::from(*value) / weight) as f32;
        }
    }
}

/// What came of the second pass.
#[derive(Debug, Default, PartialEq)]
pub(super) struct StepResult {
    /// Elements of the gradient that clipping changed.
    pub changed: usize,
    /// The first parameter with a weight, or a value of the optimizer's, which is not finite.
    pub not_finite: Option<usize>,
}

/// Clips the mean and moves the weights along it; each block goes out as soon as it is final.
pub(super) fn step(
    gradient: &mut [f32],
    plan: &Plan,
    rule: &UpdateRule,
    parts: Vec<ParameterBlock<'_>>,
    blocks: &BlockLayout,
    publish: Publish<'_>,
) -> StepResult {
    let done: Vec<(usize, bool)> = parts
        .into_par_iter()
        .zip(blocks.split(gradient))
        .zip(&blocks.cuts)
        .zip(&plan.blocks)
        .map(|(((mut part, gradient), cut), clipping)| {
            let (changed, finite) = wide(
                #[inline(always)]
                || move_block(&mut part, gradient, clipping, rule),
            );
            publish(cut.start, part.weights);
            (changed, finite)
        })
        .collect();
    let whole = |blocks: &[(usize, bool)]| blocks.iter().all(|&(_, finite)| finite);
    StepResult {
        changed: done.iter().map(|&(changed, _)| changed).sum(),
        not_finite: blocks.by_parameter(&done).position(|blocks| !whole(blocks)),
    }
}

#[inline(always)]
fn move_block(
    part: &mut ParameterBlock<'_>,
    gradient: &mut [f32],
    clipping: &BlockClipping,
    rule: &UpdateRule,
) -> (usize, bool) {
    let (clipping, mut changed) = clipping.rows(gradient);
    let mut finite = true;
    for (run, gradient) in gradient.chunks_mut(CACHED_ELEMENTS).enumerate() {
        let start = run * CACHED_ELEMENTS;
        let place = start..start + gradient.len();
        changed += clipping.block(gradient);
        rule.run(part, place.clone(), gradient);
        finite &= part.vectors(&place).all(all_finite);
    }
    (changed, finite)
}

/// Whether every element is; without a branch for each, so that it takes whole vectors.
#[inline]
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT_MASK: u32 = 0x7f80_0000;
    let bad = |value: &f32| u32::from(value.to_bits() & EXPONENT_MASK == EXPONENT_MASK);
    values.iter().map(bad).fold(0, |one, other| one | other) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use speech::model::{ModelConfig, ModelSpec};

    use super::*;
    use crate::trainer::blocks::squared_norm;

    fn spec() -> ModelSpec {
        let config = ModelConfig {
            layers: 1,
            hidden: 180,
            ..ModelConfig::default()
        };
        ModelSpec::new(&config, 33, 7)
    }

    #[test]
    fn the_mean_and_its_squares_are_those_of_each_parameter_alone() {
        let spec = spec();
        let sum: Vec<f32> = (0..spec.elements())
            .map(|place| (place % 1013) as f32 - 411.3)
            .collect();
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let mut mean_of = sum.clone();
            let blocks = BlockLayout::new(&spec, None);
            let squares = pool.install(|| mean(&mut mean_of, 3.0, None, &blocks));
            for (found, sum) in mean_of.iter().zip(&sum) {
                assert_eq!(*found, (f64::from(*sum) / 3.0) as f32);
            }
            for (parameter, square) in spec.parameters.iter().zip(squares.gradient) {
                let alone = squared_norm(&mean_of[parameter.range()]);
                assert_eq!(square.to_bits(), alone.to_bits(), "{}", parameter.name);
            }
        }
    }

    proptest! {
        #[test]
        fn the_quotient_is_that_of_doubles(
            values: Vec<f32>, counts in (1u32..1 << 24, -140i32..20), weight in 1e-3f64..1e9,
        ) {
            // Whole numbers, as utterances and frames are, and others; and results that are subnormal.
            let (count, scale) = counts;
            for weight in [f64::from(count), weight, f64::from(weight as f32)] {
                let mut divided: Vec<f32> = values
                    .iter()
                    .map(|value| value * 2f32.powi(scale))
                    .collect();
                let bits = |value: f32| if value.is_nan() { 0 } else { value.to_bits() };
                let expected: Vec<u32> = divided
                    .iter()
                    .map(|&value| bits((f64::from(value) / weight) as f32))
                    .collect();
                divide(&mut divided, weight);
                let found: Vec<u32> = divided.iter().map(|&value| bits(value)).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_stands() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 14, 99] {
                let mut values = [f32::MAX; 100];
                assert!(all_finite(&values));
                values[place] = bad;
                assert!(!all_finite(&values), "{bad} at {place}");
            }
        }
    }
}
