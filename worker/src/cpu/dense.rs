//! Dense layers on slices: a product with a weight, a bias and an activation, forward and backward. It
//! decides what an activation's slope is computed from: its result, so that nothing else is kept.

use rayon::prelude::*;
use speech::model::Activation;

use super::activation::{relu, sigmoid, tanh};
use super::matrix::{Left, Panels, Start, multiply_parallel};
use simd::{Kernel, Lanes, Level};

/// Elements that a thread activates at a time.
const BLOCK: usize = 1 << 14;

/// Rows `x` [rows, weight's depth] to rows [rows, weight's columns]; the weight is packed transposed.
pub fn forward(
    level: Level,
    x: &[f32],
    weight: &Panels,
    start: Start,
    activation: Option<Activation>,
) -> Vec<f32> {
    let rows = x.len() / weight.depth().max(1);
    let mut result = vec![0.0; rows * weight.columns()];
    let left = Left::rows(x, weight.depth());
    multiply_parallel(level, left, weight, start, &mut result, weight.columns());
    if let Some(activation) = activation {
        result
            .par_chunks_mut(BLOCK)
            .for_each(|block| activate(level, activation, block));
    }
    result
}

/// Applies an activation to each of `values`. On one thread.
pub fn activate(level: Level, activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Relu => level.run(Activate::<0>(values)),
        Activation::Tanh => level.run(Activate::<1>(values)),
        Activation::Sigmoid => level.run(Activate::<2>(values)),
    }
}

/// The gradient of an activation's argument, from that of its results.
pub fn slopes(
    level: Level,
    activation: Option<Activation>,
    results: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    assert_eq!(results.len(), gradient.len());
    let mut slopes = gradient.to_vec();
    let Some(activation) = activation else {
        return slopes;
    };
    let results = results.par_chunks(BLOCK);
    let blocks = slopes.par_chunks_mut(BLOCK).zip(results);
    blocks.for_each(|(slopes, results)| match activation {
        Activation::Relu => level.run(Slopes::<0>(results, slopes)),
        Activation::Tanh => level.run(Slopes::<1>(results, slopes)),
        Activation::Sigmoid => level.run(Slopes::<2>(results, slopes)),
    });
    slopes
}

/// 0: what is positive; 1: hyperbolic tangent; 2: logistic function.
struct Activate<'a, const WHICH: u8>(&'a mut [f32]);

#[inline(always)]
fn activate_vector<V: Lanes, const WHICH: u8>(values: &mut [f32]) {
    let x = V::load(values);
    let y = match WHICH {
        0 => relu(x),
        1 => tanh(x),
        _ => sigmoid(x),
    };
    y.store(values);
}

impl<const WHICH: u8> Kernel for Activate<'_, WHICH> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut chunks = self.0.chunks_exact_mut(V::LANES);
        for chunk in &mut chunks {
            activate_vector::<V, WHICH>(chunk);
        }
        for value in chunks.into_remainder().chunks_exact_mut(1) {
            activate_vector::<[f32; 1], WHICH>(value);
        }
    }
}

struct Slopes<'a, const WHICH: u8>(&'a [f32], &'a mut [f32]);

#[inline(always)]
fn slope_vector<V: Lanes, const WHICH: u8>(results: &[f32], slopes: &mut [f32]) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let (y, d) = (V::load(results), V::load(slopes));
    let d = match WHICH {
        0 => d.where_less(zero, y, zero),
        1 => d.mul(one.sub(y.mul(y))),
        _ => d.mul(y.mul(one.sub(y))),
    };
    d.store(slopes);
}

impl<const WHICH: u8> Kernel for Slopes<'_, WHICH> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let results = self.0.chunks_exact(V::LANES);
        let mut slopes = self.1.chunks_exact_mut(V::LANES);
        let last_results = results.remainder().chunks_exact(1);
        for (results, slopes) in results.zip(&mut slopes) {
            slope_vector::<V, WHICH>(results, slopes);
        }
        let last_slopes = slopes.into_remainder().chunks_exact_mut(1);
        for (results, slopes) in last_results.zip(last_slopes) {
            slope_vector::<[f32; 1], WHICH>(results, slopes);
        }
    }
}
