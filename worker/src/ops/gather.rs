//! A weighted sparse gather of rows: context windows (frame stacking), average pooling and im2col, the patches
//! under a convolution's kernel. A row is cut into units of equally many values, and a unit of the result is a
//! weighted sum of units.

pub(crate) mod cpu;
#[cfg(feature = "wgpu")]
pub(crate) mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;
use speech::model::{AveragePool, Convolution};

use crate::ops::Implementation;
use crate::ops::packing::Packing;

/// The rows that `gather` says, from `x`.
///
/// # Panics
/// If `x` is not of the shape that `gather` was made for.
pub(crate) fn apply(implementation: Implementation, x: Tensor<2>, gather: RowGather) -> Tensor<2> {
    assert_eq!(x.dims(), gather.source_dims(), "rows to gather from");
    dispatch!(implementation, x, gather)
}

/// Which units of some rows are added up to which units of the result, with which weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowGather {
    /// Values of a unit.
    pub unit: usize,
    /// Rows and units of a row of the result.
    pub shape: [usize; 2],
    /// Rows and units of a row of the source.
    pub source_shape: [usize; 2],
    /// For each unit of the result where its sources begin, and the number of all.
    pub begins: Vec<u32>,
    /// Units, each with its weight.
    pub sources: Vec<u32>,
    pub weights: Vec<f32>,
}

impl RowGather {
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
    pub(crate) fn order(order: &[Option<u32>], sources: usize) -> Self {
        let mut gather = Self::new(1, [order.len(), 1], [sources, 1]);
        for &source in order {
            gather.sources.extend(source);
            gather.end(false);
        }
        gather
    }

    /// Each frame, of `inputs` values, beside those around it.
    pub(crate) fn context(packing: &Packing, inputs: usize, left: usize, right: usize) -> Self {
        let rows = packing.rows();
        let mut gather = Self::new(inputs, [rows, left + 1 + right], [rows, 1]);
        for (step, place) in packing.cells() {
            let length = packing.length(place);
            for k in 0..=left + right {
                if let Some(frame) = (step + k).checked_sub(left)
                    && step < length
                    && frame < length
                {
                    gather.sources.push(packing.row(frame, place) as u32);
                }
                gather.end(false);
            }
        }
        gather
    }

    /// The means of windows; `packing` is of the frames, `output` of what comes out.
    pub(crate) fn average(packing: &Packing, output: &Packing, shape: &AveragePool) -> Self {
        let AveragePool {
            bands,
            channels,
            window,
        } = *shape;
        let output_bands = shape.output_bands();
        let mut gather = Self::new(
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
                    gather
                        .sources
                        .extend(units.map(|band| (row * bands + band) as u32));
                }
                gather.end(true);
            }
        }
        gather
    }

    /// The values under a kernel, a row of `output_bands · depth` for each frame that comes out.
    pub(crate) fn patches(packing: &Packing, output: &Packing, shape: &Convolution) -> Self {
        let area = shape.kernel[0] * shape.kernel[1];
        let [reach_frames, reach_bands] = shape.reach();
        let output_bands = shape.output_bands();
        let mut gather = Self::new(
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
                        gather.sources.push((row * shape.bands + at) as u32);
                    }
                    gather.end(false);
                }
            }
        }
        gather
    }

    /// From the gradient of the result to that of the source: the units that took each of the source's, in their order.
    pub(crate) fn transposed(&self) -> Self {
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
    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.shape[0], self.shape[1] * self.unit]
    }

    fn source_dims(&self) -> [usize; 2] {
        [self.source_shape[0], self.source_shape[1] * self.unit]
    }
}
