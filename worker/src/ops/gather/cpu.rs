//! A weighted sparse gather of rows: context windows (frame stacking), average pooling and im2col, the patches
//! under a convolution's kernel. A row is cut into units of equally many values, and a unit of the result is a
//! weighted sum of units. It decides which; the sums are one operator with its own backward pass on the CPU
//! (flex), and plain tensor operations elsewhere.

#[cfg(feature = "wgpu")]
pub mod gpu;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use rayon::prelude::*;
use speech::model::{AveragePool, Convolution};

use crate::ops::packing::Packing;
use crate::ops::recurrent::cpu::{contiguous, tensor, values};

/// Which units are added up to which.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Values of a unit.
    pub unit: usize,
    /// Rows and units of a row of the result.
    pub shape: [usize; 2],
    /// The same of what is mixed.
    pub source_shape: [usize; 2],
    /// For each unit of the result where its sources begin, and the number of all.
    pub begins: Vec<u32>,
    /// Units, each with its weight.
    pub sources: Vec<u32>,
    pub weights: Vec<f32>,
}

impl Mix {
    fn new(unit: usize, shape: [usize; 2], source_shape: [usize; 2]) -> Self {
        Self {
            unit,
            shape,
            source_shape,
            begins: vec![0],
            sources: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Ends a unit of the result; all its sources, which came since the last, weigh the same.
    fn end(&mut self, mean: bool) {
        let count = self.sources.len() - self.weights.len();
        let weight = if mean { 1.0 / count as f32 } else { 1.0 };
        self.weights.resize(self.sources.len(), weight);
        self.begins.push(self.sources.len() as u32);
    }

    /// Single values in another order, of `sources` there are; zeros where there is none.
    pub fn order(order: &[Option<u32>], sources: usize) -> Self {
        let mut mix = Self::new(1, [order.len(), 1], [sources, 1]);
        for &source in order {
            mix.sources.extend(source);
            mix.end(false);
        }
        mix
    }

    /// Each frame, of `inputs` values, beside those around it.
    pub fn context(packing: &Packing, inputs: usize, left: usize, right: usize) -> Self {
        let rows = packing.rows();
        let mut mix = Self::new(inputs, [rows, left + 1 + right], [rows, 1]);
        for (step, place) in packing.cells() {
            let length = packing.length(place);
            for k in 0..=left + right {
                if let Some(frame) = (step + k).checked_sub(left)
                    && step < length
                    && frame < length
                {
                    mix.sources.push(packing.row(frame, place) as u32);
                }
                mix.end(false);
            }
        }
        mix
    }

    /// The means of windows; `packing` is of the frames, `output` of what comes out.
    pub fn average(packing: &Packing, output: &Packing, shape: &AveragePool) -> Self {
        let AveragePool {
            bands,
            channels,
            window,
        } = *shape;
        let output_bands = shape.output_bands();
        let mut mix = Self::new(
            channels,
            [output.rows(), output_bands],
            [packing.rows(), bands],
        );
        for (step, place) in output.cells() {
            for band in 0..output_bands {
                let frames = step * window[0]..packing.length(place).min((step + 1) * window[0]);
                for frame in frames {
                    let row = packing.row(frame, place);
                    let end = bands.min((band + 1) * window[1]);
                    let units = band * window[1]..end;
                    mix.sources
                        .extend(units.map(|band| (row * bands + band) as u32));
                }
                mix.end(true);
            }
        }
        mix
    }

    /// The values under a kernel, a row of `output_bands · depth` for each frame that comes out.
    pub fn patches(packing: &Packing, output: &Packing, shape: &Convolution) -> Self {
        let area = shape.kernel[0] * shape.kernel[1];
        let [reach_frames, reach_bands] = shape.reach();
        let output_bands = shape.output_bands();
        let mut mix = Self::new(
            shape.channels,
            [output.rows(), output_bands * area],
            [packing.rows(), shape.bands],
        );
        for (step, place) in output.cells() {
            let length = packing.length(place);
            for band in 0..output_bands {
                for k in 0..area {
                    let (frame, at) = (k / shape.kernel[1], k % shape.kernel[1]);
                    let frame = (step * shape.stride[0] + frame * shape.dilation)
                        .checked_sub(reach_frames)
                        .filter(|&frame| frame < length && step < output.length(place));
                    let at = (band * shape.stride[1] + at * shape.dilation)
                        .checked_sub(reach_bands)
                        .filter(|&at| at < shape.bands);
                    if let (Some(frame), Some(at)) = (frame, at) {
                        let row = packing.row(frame, place);
                        mix.sources.push((row * shape.bands + at) as u32);
                    }
                    mix.end(false);
                }
            }
        }
        mix
    }

    /// From the gradient of the result to that of what was mixed: each unit's takers in their order.
    pub fn transposed(&self) -> Self {
        let units = self.source_shape[0] * self.source_shape[1];
        let mut begins = vec![0u32; units + 1];
        for &source in &self.sources {
            begins[source as usize + 1] += 1;
        }
        for unit in 0..units {
            begins[unit + 1] += begins[unit];
        }
        let mut next = begins.clone();
        let mut sources = vec![0; self.sources.len()];
        let mut weights = vec![0.0; self.sources.len()];
        for (taker, bounds) in self.begins.windows(2).enumerate() {
            for at in bounds[0] as usize..bounds[1] as usize {
                let place = &mut next[self.sources[at] as usize];
                sources[*place as usize] = taker as u32;
                weights[*place as usize] = self.weights[at];
                *place += 1;
            }
        }
        Self {
            unit: self.unit,
            shape: self.source_shape,
            source_shape: self.shape,
            begins,
            sources,
            weights,
        }
    }

    /// Rows and values of a row of the result.
    pub fn dims(&self) -> [usize; 2] {
        [self.shape[0], self.shape[1] * self.unit]
    }

    fn source_dims(&self) -> [usize; 2] {
        [self.source_shape[0], self.source_shape[1] * self.unit]
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        /// Units that a thread computes at a time.
        const UNITS: usize = 256;
        let unit = self.unit;
        let mut result = vec![0.0; self.shape[0] * self.shape[1] * unit];
        result
            .par_chunks_mut(UNITS * unit)
            .enumerate()
            .for_each(|(chunk, targets)| {
                for (i, target) in targets.chunks_exact_mut(unit).enumerate() {
                    let i = chunk * UNITS + i;
                    for at in self.begins[i] as usize..self.begins[i + 1] as usize {
                        let source = &x[self.sources[at] as usize * unit..][..unit];
                        for (sum, value) in target.iter_mut().zip(source) {
                            *sum += self.weights[at] * value;
                        }
                    }
                }
            });
        result
    }
}

/// Mixes rows on a flex device.
pub fn fused(x: Tensor<2>, mix: Mix) -> Tensor<2> {
    assert_eq!(x.dims(), mix.source_dims(), "rows to mix");
    Tensor::from_dispatch(<Dispatch as MixOperator>::mix(
        x.into_dispatch(),
        Arc::new(mix),
    ))
}

/// [`fused`] on any device.
pub fn reference(x: Tensor<2>, mix: Mix) -> Tensor<2> {
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

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait MixOperator: Backend {
    fn mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self>;
}

impl MixOperator for Flex {
    fn mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        tensor(mix.apply(values(&contiguous(x))), mix.dims())
    }
}

impl<C: CheckpointStrategy> MixOperator for Autodiff<Flex, C> {
    fn mix(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        let guards = [x.node()];
        let output = <Flex as MixOperator>::mix(x.into_primitive(), mix.clone());
        match burn_autodiff::ops::Backward::<Flex, 1>::prepare::<C>(Step, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(mix, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Step;

impl burn_autodiff::ops::Backward<Flex, 1> for Step {
    type State = Arc<Mix>;

    fn backward(self, ops: Ops<Arc<Mix>, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let back = ops.state.transposed();
            let gradient = tensor(back.apply(values(&gradient)), back.dims());
            gradients.register::<Flex>(parent.id, gradient);
        }
    }
}
