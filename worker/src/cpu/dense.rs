//! Dense layers on slices: a product with a weight, a bias and an activation, forward and backward. It
//! decides what an activation's derivative is computed from: its result, so that nothing else is kept.

use rayon::prelude::*;
use speech::model::Activation;

use super::activation::{relu, sigmoid, tanh};
use super::matrix::{Addend, Left, Panels, multiply_parallel};
use simd::{Kernel, Lanes, Level};

/// Elements that a thread activates at a time.
const BLOCK: usize = 1 << 14;

/// Rows `x` [rows, weight's depth] to rows [rows, weight's columns]; the weight is packed transposed.
pub(crate) fn forward(
    level: Level,
    x: &[f32],
    weight: &Panels,
    start: Addend,
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
pub(crate) fn activate(level: Level, activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Relu => level.run(Activate::<0>(values)),
        Activation::Tanh => level.run(Activate::<1>(values)),
        Activation::Sigmoid => level.run(Activate::<2>(values)),
    }
}

/// The gradient of an activation's argument, from that of its results.
pub(crate) fn activation_backward(
    level: Level,
    activation: Option<Activation>,
    results: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    assert_eq!(results.len(), gradient.len());
    let mut grad = gradient.to_vec();
    let Some(activation) = activation else {
        return grad;
    };
    let results = results.par_chunks(BLOCK);
    let blocks = grad.par_chunks_mut(BLOCK).zip(results);
    blocks.for_each(|(grad, results)| match activation {
        Activation::Relu => level.run(ActivationBackward::<0>(results, grad)),
        Activation::Tanh => level.run(ActivationBackward::<1>(results, grad)),
        Activation::Sigmoid => level.run(ActivationBackward::<2>(results, grad)),
    });
    grad
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

struct ActivationBackward<'a, const WHICH: u8>(&'a [f32], &'a mut [f32]);

#[inline(always)]
fn backward_vector<V: Lanes, const WHICH: u8>(results: &[f32], grad: &mut [f32]) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let (y, d) = (V::load(results), V::load(grad));
    let d = match WHICH {
        0 => d.where_less(zero, y, zero),
        1 => d.mul(one.sub(y.mul(y))),
        _ => d.mul(y.mul(one.sub(y))),
    };
    d.store(grad);
}

impl<const WHICH: u8> Kernel for ActivationBackward<'_, WHICH> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let results = self.0.chunks_exact(V::LANES);
        let mut grad = self.1.chunks_exact_mut(V::LANES);
        let last_results = results.remainder().chunks_exact(1);
        for (results, grad) in results.zip(&mut grad) {
            backward_vector::<V, WHICH>(results, grad);
        }
        let last_grad = grad.into_remainder().chunks_exact_mut(1);
        for (results, grad) in last_results.zip(last_grad) {
            backward_vector::<[f32; 1], WHICH>(results, grad);
        }
    }
}
