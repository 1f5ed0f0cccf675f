//! The two passes over memory that an update takes: sum to mean with its squares, then clipping,
//! optimizer and what is broadcast. It decides where vectors are cut, so that neither a thread count
//! nor the order of threads reaches a number, and does not depend on what the numbers are for.

use std::ops::Range;

use rayon::prelude::*;
use simd::wide;
use speech::model::ModelSpec;

use super::Publish;
use crate::trainer::{
    clip::{BLOCK_ELEMENTS, Clipping, block_squares},
    optimizer::{ParameterBlock, UpdateRule},
};

/// Elements that are worked on at a time: what five vectors have of them stays in the first cache.
const CACHED_ELEMENTS: usize = 1 << 10;

/// A flat vector cut at its parameters, and these into blocks.
#[derive(Clone, Debug)]
pub(super) struct BlockLayout {
    /// The range of every block, in order and without gaps.
    pub cuts: Vec<Range<usize>>,
    /// How many blocks each parameter has.
    counts: Vec<usize>,
}

impl BlockLayout {
    pub(super) fn new(spec: &ModelSpec) -> Self {
        let ranges = spec.parameters.iter().map(|parameter| parameter.range());
        let (mut cuts, mut counts) = (Vec::new(), Vec::new());
        for range in ranges {
            let starts = range.clone().step_by(BLOCK_ELEMENTS);
            cuts.extend(starts.map(|start| start..(start + BLOCK_ELEMENTS).min(range.end)));
            counts.push(range.len().div_ceil(BLOCK_ELEMENTS));
        }
        Self { cuts, counts }
    }

    fn split<'a>(&self, mut rest: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let take = |cut: &Range<usize>| {
            let (taken, left) = std::mem::take(&mut rest).split_at_mut(cut.len());
            rest = left;
            taken
        };
        self.cuts.iter().map(take).collect()
    }

    /// What the blocks of each parameter come to.
    fn by_parameter<'a, T>(&self, of_blocks: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        let mut rest = of_blocks;
        self.counts.iter().map(move |&count| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        })
    }
}

/// Divides each element once, in f64, so that the mean is rounded once. Gives the squared norm of each
/// parameter's part, in f64: finite exactly when every element is.
pub(super) fn mean(gradient: &mut [f32], weight: f64, blocks: &BlockLayout) -> Vec<f64> {
    let squares: Vec<f64> = blocks
        .split(gradient)
        .into_par_iter()
        .map(|block| {
            wide(
                #[inline(always)]
                || {
                    divide(block, weight);
                    block_squares(block)
                },
            )
        })
        .collect();
    blocks
        .by_parameter(&squares)
        .map(|squares| squares.iter().sum())
        .collect()
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
    /// Elements of the gradient that were clamped.
    pub clamped: usize,
    /// The first parameter with a weight, or a value of the optimizer's, which is not finite.
    pub not_finite: Option<usize>,
}

/// Clips the mean and moves the weights along it; each block goes out as soon as it is final.
pub(super) fn step(
    gradient: &mut [f32],
    clipping: Clipping,
    rule: &UpdateRule,
    parts: Vec<ParameterBlock<'_>>,
    blocks: &BlockLayout,
    publish: Publish<'_>,
) -> StepResult {
    let done: Vec<(usize, bool)> = parts
        .into_par_iter()
        .zip(blocks.split(gradient))
        .zip(&blocks.cuts)
        .map(|((mut part, gradient), cut)| {
            let (clamped, finite) = wide(
                #[inline(always)]
                || move_block(&mut part, gradient, clipping, rule),
            );
            publish(cut.start, part.weights);
            (clamped, finite)
        })
        .collect();
    let whole = |blocks: &[(usize, bool)]| blocks.iter().all(|&(_, finite)| finite);
    StepResult {
        clamped: done.iter().map(|&(clamped, _)| clamped).sum(),
        not_finite: blocks.by_parameter(&done).position(|blocks| !whole(blocks)),
    }
}

#[inline(always)]
fn move_block(
    part: &mut ParameterBlock<'_>,
    gradient: &mut [f32],
    clipping: Clipping,
    rule: &UpdateRule,
) -> (usize, bool) {
    let (mut clamped, mut finite) = (0, true);
    for (run, gradient) in gradient.chunks_mut(CACHED_ELEMENTS).enumerate() {
        let start = run * CACHED_ELEMENTS;
        let place = start..start + gradient.len();
        clamped += clipping.block(gradient);
        rule.run(part, place.clone(), gradient);
        finite &= part.vectors(&place).all(all_finite);
    }
    (clamped, finite)
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
    use speech::model::ModelConfig;

    use super::*;
    use crate::trainer::clip::squared_norm;

    fn spec() -> ModelSpec {
        let config = ModelConfig {
            layers: 1,
            hidden: 180,
            ..ModelConfig::default()
        };
        ModelSpec::new(&config, 33, 7)
    }

    #[test]
    fn blocks_begin_anew_with_each_parameter_and_leave_nothing_out() {
        let spec = spec();
        let blocks = BlockLayout::new(&spec);
        assert!(blocks.cuts.len() > spec.parameters.len());
        let mut at = 0;
        for cut in &blocks.cuts {
            assert!(cut.start == at && (1..=BLOCK_ELEMENTS).contains(&cut.len()));
            at = cut.end;
        }
        assert_eq!(at, spec.elements());
        let counted: Vec<usize> = blocks.by_parameter(&blocks.cuts).map(<[_]>::len).collect();
        assert_eq!(counted, blocks.counts);
    }

    #[test]
    fn the_mean_and_its_squares_are_those_of_each_parameter_alone() {
        let spec = spec();
        let sum: Vec<f32> = (0..spec.elements())
            .map(|place| (place % 1013) as f32 - 411.3)
            .collect();
        let mut mean_of = sum.clone();
        let squares = mean(&mut mean_of, 3.0, &BlockLayout::new(&spec));
        for (found, sum) in mean_of.iter().zip(&sum) {
            assert_eq!(*found, (f64::from(*sum) / 3.0) as f32);
        }
        for (parameter, square) in spec.parameters.iter().zip(squares) {
            let alone = squared_norm(&mean_of[parameter.range()]);
            assert_eq!(square.to_bits(), alone.to_bits(), "{}", parameter.name);
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
