//! Convolutions of single sequences on slices, forward and backward: the values under a kernel are
//! laid side by side for some frames at a time, and multiplied. It decides the order in which the
//! frames' parts of a weight's gradient are added; no patch is kept from one pass to the other.

use std::ops::Range;

use speech::model::Convolution;

use super::dense;
use super::matrix::{Addend, Left, Panels, add_rows, multiply};
use simd::Level;

/// Patches that are laid out at a time, about.
const PATCHES: usize = 256;

/// The parameters of a convolution. A patch is the values under the kernel, frame by frame, in a frame
/// band by band, in a band its channels; torch has the channels first.
#[derive(Clone, Debug)]
pub(crate) struct PackedKernel {
    shape: Convolution,
    /// [depth, outputs]
    forward: Panels,
    /// [outputs, depth]
    backward: Panels,
    bias: Vec<f32>,
}

/// What a sequence gives back.
pub(crate) struct Gradients {
    /// [frames, inputs], where it was asked for.
    pub input: Option<Vec<f32>>,
    /// [outputs, depth], as patches lie.
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub bias: Vec<f32>,
}

impl PackedKernel {
    pub(crate) fn new(shape: &Convolution, parameters: &[f32]) -> Self {
        let (weight, bias) = parameters.split_at(shape.outputs * shape.depth());
        let weight = as_patches(shape, weight);
        Self {
            shape: *shape,
            forward: Panels::transpose(&weight, shape.depth(), shape.outputs),
            backward: Panels::pack(&weight, shape.outputs, shape.depth()),
            bias: bias.to_vec(),
        }
    }

    /// Frames `outputs` of the result [frames, bands · outputs] for a sequence whose frame t is
    /// `frame(t)`, where it has one.
    pub(crate) fn forward<'a>(
        &self,
        level: Level,
        outputs: Range<usize>,
        frame: impl Fn(usize) -> Option<&'a [f32]>,
    ) -> Vec<f32> {
        let shape = &self.shape;
        let bands = shape.output_bands();
        let mut result = vec![0.0; outputs.len() * shape.width()];
        let mut patches = Vec::new();
        let start = match self.bias.as_slice() {
            [] => Addend::Zero,
            bias => Addend::Row(bias),
        };
        for (frames, target) in blocks(shape, outputs).zip(result.chunks_mut(block_width(shape))) {
            lay_out(shape, &mut patches, frames.clone(), &frame);
            let left = Left::rows(&patches, shape.depth());
            let rows = frames.len() * bands;
            multiply(
                level,
                left,
                &self.forward,
                start,
                target,
                shape.outputs,
                rows,
            );
            if let Some(activation) = shape.activation {
                dense::activate(level, activation, target);
            }
        }
        result
    }

    /// From the gradient of a sequence's `sum_grad` [frames out, bands · outputs], before the
    /// activation, to its other gradients; it has `frames` frames.
    pub(crate) fn backward<'a>(
        &self,
        level: Level,
        sum_grad: &[f32],
        frames: usize,
        wants_input: bool,
        frame: impl Fn(usize) -> Option<&'a [f32]>,
    ) -> Gradients {
        let shape = &self.shape;
        let (depth, bands) = (shape.depth(), shape.output_bands());
        let mut weight = vec![0.0; shape.outputs * depth];
        let mut bias = vec![0.0; shape.outputs];
        let mut input = wants_input.then(|| vec![0.0; frames * shape.inputs()]);
        let mut patches = Vec::new();
        let outputs = 0..sum_grad.len() / shape.width();
        for (frames, sum_grad) in blocks(shape, outputs).zip(sum_grad.chunks(block_width(shape))) {
            let rows = frames.len() * bands;
            lay_out(shape, &mut patches, frames.clone(), &frame);
            let panels = Panels::pack(&patches, rows, depth);
            let left = Left::transposed(sum_grad, shape.outputs);
            let count = shape.outputs;
            multiply(
                level,
                left,
                &panels,
                Addend::Result,
                &mut weight,
                depth,
                count,
            );
            add_rows(level, sum_grad, &mut bias);
            if let Some(input) = &mut input {
                let left = Left::rows(sum_grad, shape.outputs);
                let start = Addend::Zero;
                multiply(
                    level,
                    left,
                    &self.backward,
                    start,
                    &mut patches,
                    depth,
                    rows,
                );
                gather(shape, &patches, frames, input);
            }
        }
        Gradients {
            input,
            weight,
            bias,
        }
    }
}

/// A weight in torch's layout [outputs, channels, frames, bands] as patches lie.
pub(crate) fn as_patches(shape: &Convolution, weight: &[f32]) -> Vec<f32> {
    let mut result = vec![0.0; weight.len()];
    each_weight(shape, |torch, patch| result[patch] = weight[torch]);
    result
}

/// The inverse of [`as_patches`].
pub(crate) fn from_patches(shape: &Convolution, weight: &[f32]) -> Vec<f32> {
    let mut result = vec![0.0; weight.len()];
    each_weight(shape, |torch, patch| result[torch] = weight[patch]);
    result
}

/// Calls `f` with each weight's place in torch's layout and in that of patches.
pub(crate) fn each_weight(shape: &Convolution, mut f: impl FnMut(usize, usize)) {
    let (area, channels) = (shape.kernel[0] * shape.kernel[1], shape.channels);
    for output in 0..shape.outputs {
        for channel in 0..channels {
            for at in 0..area {
                let torch = (output * channels + channel) * area + at;
                f(torch, (output * area + at) * channels + channel);
            }
        }
    }
}

/// Output frames whose patches are laid out at a time.
fn block(shape: &Convolution) -> usize {
    PATCHES.div_ceil(shape.output_bands())
}

fn block_width(shape: &Convolution) -> usize {
    block(shape) * shape.width()
}

fn blocks(shape: &Convolution, frames: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let block = block(shape);
    let end = frames.end;
    frames
        .step_by(block)
        .map(move |start| start..end.min(start + block))
}

/// The bands under a kernel at output band `band`, in runs that lie side by side in a frame and in a
/// patch: for each run its place in the kernel, its first band and how many there are.
#[inline(always)]
fn bands_under(
    shape: &Convolution,
    band: usize,
) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let Convolution {
        bands, dilation, ..
    } = *shape;
    let [_, size] = shape.kernel;
    let first = band * shape.stride[1];
    let reach = dilation * (size / 2);
    // Without dilation all of them are one run.
    let (runs, run) = if dilation == 1 { (1, size) } else { (size, 1) };
    (0..runs).filter_map(move |k| {
        let start = first + k * dilation;
        let skipped = reach.saturating_sub(start).min(run);
        let at = (start + skipped).saturating_sub(reach);
        let count = (run - skipped).min(bands.saturating_sub(at));
        (count > 0).then_some((k + skipped, at, count))
    })
}

/// The frame under a kernel's frame `k` at output frame `frame`, if it is not before the first.
fn frame_under(shape: &Convolution, frame: usize, k: usize) -> Option<usize> {
    (frame * shape.stride[0] + k * shape.dilation).checked_sub(shape.reach()[0])
}

/// Writes the patches of output frames `frames`, [frames · bands, depth].
fn lay_out<'a>(
    shape: &Convolution,
    patches: &mut Vec<f32>,
    frames: Range<usize>,
    frame: &impl Fn(usize) -> Option<&'a [f32]>,
) {
    let (channels, depth) = (shape.channels, shape.depth());
    let bands = shape.output_bands();
    patches.clear();
    patches.resize(frames.len() * bands * depth, 0.0);
    let width = shape.kernel[1] * channels;
    for (rows, output) in patches.chunks_exact_mut(bands * depth).zip(frames) {
        for k in 0..shape.kernel[0] {
            let Some(source) = frame_under(shape, output, k).and_then(frame) else {
                continue;
            };
            for (band, patch) in rows.chunks_exact_mut(depth).enumerate() {
                let target = &mut patch[k * width..][..width];
                for (at, band, count) in bands_under(shape, band) {
                    target[at * channels..][..count * channels]
                        .copy_from_slice(&source[band * channels..][..count * channels]);
                }
            }
        }
    }
}

/// Adds the gradients of patches to those of the frames [frames, inputs] that they were taken from.
fn gather(shape: &Convolution, patches: &[f32], frames: Range<usize>, input: &mut [f32]) {
    let (channels, depth) = (shape.channels, shape.depth());
    let (bands, inputs) = (shape.output_bands(), shape.inputs());
    let width = shape.kernel[1] * channels;
    for (rows, output) in patches.chunks_exact(bands * depth).zip(frames) {
        for k in 0..shape.kernel[0] {
            let target = frame_under(shape, output, k)
                .and_then(|frame| input.get_mut(frame * inputs..(frame + 1) * inputs));
            let Some(target) = target else {
                continue;
            };
            for (band, patch) in rows.chunks_exact(depth).enumerate() {
                let source = &patch[k * width..][..width];
                for (at, band, count) in bands_under(shape, band) {
                    let target = &mut target[band * channels..][..count * channels];
                    for (sum, value) in target.iter_mut().zip(&source[at * channels..]) {
                        *sum += value;
                    }
                }
            }
        }
    }
}
