//! The normalisation of rows (Ba et al. 2016) on slices, forward and backward. It decides the order of
//! a row's sums: sixteen chains side by side, which are then added by halves, on any processor.

use rayon::prelude::*;
use speech::model::NORM_EPSILON;

const LANES: usize = 16;

/// The sum of `term(k)` over k below `count`.
#[inline(always)]
fn sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for k in whole..count {
        sums[k - whole] += term(k);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The mean of a row, and one over the root of its variance.
fn moments(row: &[f32]) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum(row.len(), |k| row[k]) / width;
    let variance = sum(row.len(), |k| (row[k] - mean) * (row[k] - mean)) / width;
    (mean, 1.0 / (variance + NORM_EPSILON).sqrt())
}

/// Rows [rows, width] normalised, weighed and moved; `parameters` are the weight and the bias, `[width]`
/// each.
pub(crate) fn forward(x: &[f32], parameters: &[f32]) -> Vec<f32> {
    let width = parameters.len() / 2;
    let (weight, bias) = parameters.split_at(width);
    let mut result = vec![0.0; x.len()];
    let rows = x.par_chunks_exact(width);
    result
        .par_chunks_exact_mut(width)
        .zip(rows)
        .for_each(|(result, row)| {
            let (mean, scale) = moments(row);
            for k in 0..width {
                result[k] = (row[k] - mean) * scale * weight[k] + bias[k];
            }
        });
    result
}

/// The gradient of the rows, and of the parameters: the latter's chains go from the first row to the
/// last.
pub(crate) fn backward(x: &[f32], parameters: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = parameters.len() / 2;
    let weight = &parameters[..width];
    let count = width as f32;
    let moments: Vec<(f32, f32)> = x.par_chunks_exact(width).map(moments).collect();
    let mut input = vec![0.0; x.len()];
    let rows = x.par_chunks_exact(width);
    let output_grad = gradient.par_chunks_exact(width);
    input
        .par_chunks_exact_mut(width)
        .zip(rows.zip(output_grad).zip(&moments))
        .for_each(|(input, ((row, grad), &(mean, scale)))| {
            let normal = |k: usize| (row[k] - mean) * scale;
            let normal_grad = |k: usize| grad[k] * weight[k];
            let level = sum(width, normal_grad) / count;
            let tilt = sum(width, |k| normal_grad(k) * normal(k)) / count;
            for (k, input) in input.iter_mut().enumerate() {
                *input = scale * (normal_grad(k) - level - normal(k) * tilt);
            }
        });
    let mut sums = vec![0.0; 2 * width];
    let (weights, biases) = sums.split_at_mut(width);
    let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
    for ((row, grad), (mean, scale)) in rows.zip(moments) {
        for k in 0..width {
            weights[k] += grad[k] * ((row[k] - mean) * scale);
            biases[k] += grad[k];
        }
    }
    (input, sums)
}
