//! Weighted gathers in plain tensor operations.

use burn::tensor::{Int, Tensor, TensorData};

use super::RowGather;

/// [`super::apply`] on any device.
pub(crate) fn apply(x: Tensor<2>, gather: RowGather) -> Tensor<2> {
    let device = x.device();
    let [source_rows, source_units] = gather.source_shape;
    let sources = source_rows * source_units;
    let units = gather.shape[0] * gather.shape[1];
    // Where there is no source there is a row of zeros.
    let zeros = Tensor::zeros([1, gather.unit], &device);
    let x = Tensor::cat(vec![x.reshape([sources, gather.unit]), zeros], 0);
    let counts = gather.begins.windows(2).map(|bounds| bounds[1] - bounds[0]);
    let most = counts.max().unwrap_or(0).max(1);
    let mut sum: Option<Tensor<2>> = None;
    for k in 0..most {
        let at = |unit: usize| {
            let at = gather.begins[unit] + k;
            (at < gather.begins[unit + 1]).then_some(at as usize)
        };
        let order =
            (0..units).map(|unit| at(unit).map_or(sources as i64, |at| gather.sources[at].into()));
        let weights = (0..units).map(|unit| at(unit).map_or(0.0, |at| gather.weights[at]));
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
    let sum = sum.unwrap_or_else(|| Tensor::zeros([units, gather.unit], &device));
    sum.reshape(gather.dims())
}
