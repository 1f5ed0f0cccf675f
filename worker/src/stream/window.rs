//! A layer that sees some frames around the one in hand. It decides how long frames are kept.

use std::collections::VecDeque;
use std::ops::Range;

use speech::model::{AveragePool, Convolution};

use crate::cpu::{Level, convolution};

/// What is made of the frames that are seen.
pub(super) enum Sight {
    Context { left: usize, right: usize },
    Average(AveragePool),
    Convolution(Convolution, Box<convolution::PackedKernel>),
}

/// Frames as they come, those of them that are still seen, and the rows made of them.
pub(super) struct Window {
    sight: Sight,
    /// Values of a frame.
    inputs: usize,
    frames: VecDeque<Vec<f32>>,
    /// The number of the first of `frames` in the sequence.
    first: usize,
    /// The number of the next row.
    next: usize,
}

impl Window {
    pub(super) fn new(sight: Sight, inputs: usize) -> Self {
        Self {
            sight,
            inputs,
            frames: VecDeque::new(),
            first: 0,
            next: 0,
        }
    }

    /// Frames from where one row stands to the next.
    fn stride(&self) -> usize {
        match &self.sight {
            Sight::Context { .. } => 1,
            Sight::Average(shape) => shape.window[0],
            Sight::Convolution(shape, _) => shape.stride[0],
        }
    }

    fn look_back(&self) -> usize {
        match &self.sight {
            Sight::Context { left, .. } => *left,
            Sight::Average(_) => 0,
            Sight::Convolution(shape, _) => shape.reach()[0],
        }
    }

    /// Frames after that at which a row stands that it needs.
    pub(super) fn look_ahead(&self) -> usize {
        match &self.sight {
            Sight::Context { right, .. } => *right,
            Sight::Average(shape) => shape.window[0] - 1,
            Sight::Convolution(shape, _) => shape.reach()[0],
        }
    }

    /// Takes frames and gives the rows that are known now; all that are left when the sequence is
    /// over, and the next begins.
    pub(super) fn push(&mut self, level: Level, frames: &[f32], is_over: bool) -> Vec<f32> {
        self.frames
            .extend(frames.chunks_exact(self.inputs).map(<[f32]>::to_vec));
        let heard = self.first + self.frames.len();
        let stride = self.stride();
        let end = if is_over {
            heard.div_ceil(stride)
        } else {
            heard.saturating_sub(self.look_ahead()).div_ceil(stride)
        };
        let rows = self.rows(level, self.next..end.max(self.next));
        if is_over {
            self.frames.clear();
            (self.first, self.next) = (0, 0);
            return rows;
        }
        self.next = end.max(self.next);
        let needed = (self.next * stride).saturating_sub(self.look_back());
        while self.first < needed && self.frames.pop_front().is_some() {
            self.first += 1;
        }
        rows
    }

    fn frame(&self, number: usize) -> Option<&[f32]> {
        let at = number.checked_sub(self.first)?;
        self.frames.get(at).map(Vec::as_slice)
    }

    fn rows(&self, level: Level, rows: Range<usize>) -> Vec<f32> {
        match &self.sight {
            Sight::Convolution(_, weights) => {
                weights.forward(level, rows, |number| self.frame(number))
            }
            Sight::Context { left, right } => {
                let mut result = Vec::with_capacity(rows.len() * self.inputs * (left + 1 + right));
                for row in rows {
                    for k in 0..=left + right {
                        let frame = (row + k).checked_sub(*left).and_then(|at| self.frame(at));
                        match frame {
                            Some(frame) => result.extend_from_slice(frame),
                            None => result.resize(result.len() + self.inputs, 0.0),
                        }
                    }
                }
                result
            }
            Sight::Average(shape) => rows.flat_map(|row| self.average(shape, row)).collect(),
        }
    }

    /// The mean of the windows of one row, added up as in a batch.
    fn average(&self, shape: &AveragePool, row: usize) -> Vec<f32> {
        let AveragePool {
            bands,
            channels,
            window,
        } = *shape;
        let mut result = vec![0.0; shape.output_bands() * channels];
        let frames = row * window[0]..(row + 1) * window[0];
        let frames: Vec<&[f32]> = frames.filter_map(|number| self.frame(number)).collect();
        for (band, target) in result.chunks_exact_mut(channels).enumerate() {
            let under = band * window[1]..bands.min((band + 1) * window[1]);
            let weight = 1.0 / (frames.len() * under.len()) as f32;
            for frame in &frames {
                for band in under.clone() {
                    let source = &frame[band * channels..][..channels];
                    for (sum, value) in target.iter_mut().zip(source) {
                        *sum += weight * value;
                    }
                }
            }
        }
        result
    }
}
