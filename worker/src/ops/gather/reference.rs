//! Weighted gathers in plain tensor operations.

use burn::tensor::{Int, Tensor, TensorData};

use super::Mix;

/// [`super::apply`] on any device.
pub fn apply(x: Tensor<2>, mix: Mix) -> Tensor<2> {
    let device = x.device();
    let [source_rows, source_units] = mix.source_shape;
    let sources = source_rows * source_units;
    let units = mix.shape[0] * mix.shape[1];
    // Where there is no source there is a row of zeros.
    let zeros = Tensor::zeros([1, mix.unit], &device);
    let x = Tensor::cat(vec![x.reshape([sources, mix.unit]), zeros], 0);
    let counts = mix.begins.windows(2).map(|bounds| bounds[1] - bounds[0]);
    let most = counts.max().unwrap_or(0).max(1);
    let mut sum: Option<Tensor<2>> = None;
    for k in 0..most {
        let at = |unit: usize| {
            let at = mix.begins[unit] + k;
            (at < mix.begins[unit + 1]).then_some(at as usize)
        };
        let order =
            (0..units).map(|unit| at(unit).map_or(sources as i64, |at| mix.sources[at].into()));
        let weights = (0..units).map(|unit| at(unit).map_or(0.0, |at| mix.weights[at]));
        let order = TensorData::new(order.collect::<Vec<i64>>(), [units]);
        let weights = TensorData::new(weights.collect::<Vec<f32>>(), [units, 1]);
        let term = x
            .clone()
            .select(0, Tensor::<1, Int>::from_data(order, &device))
            .mul(Tensor::from_data(weights, &device));
        sum = Some(match sum {
            Some(sum) => sum.add(term),
            None => term,
        });
    }
    let sum = sum.unwrap_or_else(|| Tensor::zeros([units, mix.unit], &device));
    sum.reshape(mix.dims())
}
