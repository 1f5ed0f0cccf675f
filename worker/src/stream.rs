//! Streaming inference: a network that takes frames as they come and carries its state from one to the next. The
//! rows are those of [`crate::network::outputs::log_probs`] for the whole utterance, to the bit where that is
//! computed on the CPU, however the frames are cut. It is computed on the CPU, a frame at a time, and memory does
//! not grow with the utterance. It does not depend on what is made of the rows.

mod window;

use std::collections::VecDeque;

use speech::model::{Activation, Head, Layer, ModelSpec};

use crate::cpu::matrix::{Addend, Panels};
use crate::cpu::{Level, convolution, dense, norm};
use crate::loss;
use crate::ops::recurrent::cpu::kernel::{PackedWeights, State};
use window::{Sight, Window};

/// Why a model cannot hear frames as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum NotStreamable {
    #[error(
        "the model is bidirectional: its second direction begins at the end of an utterance, so that \
         nothing is known before it; train one with model.bidirectional = false to hear a stream"
    )]
    Bidirectional,
    #[error(
        "the model has the keyword head, which says one thing of an utterance once that is over; give \
         it whole utterances"
    )]
    Keyword,
}

/// Frames that are not as wide as the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{values} values are no whole frames of {inputs}")]
pub struct NoFrames {
    /// Values that were given.
    pub values: usize,
    /// Values of a frame.
    pub inputs: usize,
}

/// A sequence being heard.
pub struct StreamingNetwork {
    level: Level,
    inputs: usize,
    outputs: usize,
    look_ahead: usize,
    frame_stride: usize,
    stages: Vec<Stage>,
    /// Rows on their way around blocks.
    around: Vec<VecDeque<f32>>,
}

enum Stage {
    Recurrent {
        weights: Box<PackedWeights>,
        state: State,
        inputs: usize,
    },
    Dense {
        weight: Panels,
        bias: Vec<f32>,
        activation: Option<Activation>,
    },
    Norm(Vec<f32>),
    Window(Window),
    /// To and from `around`.
    Keep(usize),
    Add(usize),
}

impl StreamingNetwork {
    /// A sequence of which nothing has been heard, for a model with these parameters.
    ///
    /// # Errors
    /// When the model does not only look back, but for so many frames.
    pub(crate) fn new(spec: &ModelSpec, parameters: &[f32]) -> Result<Self, NotStreamable> {
        if spec.config.bidirectional {
            return Err(NotStreamable::Bidirectional);
        }
        if spec.config.head == Head::Keyword {
            return Err(NotStreamable::Keyword);
        }
        let (mut stages, mut around) = (Vec::new(), Vec::new());
        let (mut look_ahead, mut frame_stride) = (0, 1);
        for one in &spec.layers {
            let parameters = &parameters[one.parameters.clone()];
            let window = match one.layer {
                Layer::Context {
                    inputs,
                    left,
                    right,
                } => Some(Window::new(Sight::Context { left, right }, inputs)),
                Layer::AveragePool(shape) => Some(Window::new(
                    Sight::Average(shape),
                    shape.bands * shape.channels,
                )),
                Layer::Convolution(shape) => {
                    let weights = convolution::PackedKernel::new(&shape, parameters);
                    Some(Window::new(
                        Sight::Convolution(shape, Box::new(weights)),
                        shape.inputs(),
                    ))
                }
                _ => None,
            };
            if let Some(window) = window {
                look_ahead += frame_stride * window.look_ahead();
                stages.push(Stage::Window(window));
            }
            frame_stride = one.frame_stride;
            match one.layer {
                Layer::Recurrent(shape) => stages.push(Stage::Recurrent {
                    weights: Box::new(PackedWeights::new(&shape, 0, parameters)),
                    state: State::default(),
                    inputs: shape.inputs,
                }),
                Layer::Dense {
                    inputs,
                    outputs,
                    activation,
                } => {
                    let (weight, bias) = parameters.split_at(inputs * outputs);
                    stages.push(Stage::Dense {
                        weight: Panels::transpose(weight, inputs, outputs),
                        bias: bias.to_vec(),
                        activation,
                    });
                }
                Layer::Norm { .. } => stages.push(Stage::Norm(parameters.to_vec())),
                Layer::Keep => {
                    around.push(VecDeque::new());
                    stages.push(Stage::Keep(around.len() - 1));
                }
                Layer::Add => stages.push(Stage::Add(around.len() - 1)),
                _ => {}
            }
        }
        Ok(Self {
            level: Level::detect(),
            inputs: spec.inputs,
            outputs: spec.outputs,
            look_ahead,
            frame_stride,
            stages,
            around,
        })
    }

    /// Frames of the input that have to be heard after one before the row that stands at it is known.
    pub fn look_ahead(&self) -> usize {
        self.look_ahead
    }

    /// Frames of the input from one row to the next.
    pub fn frame_stride(&self) -> usize {
        self.frame_stride
    }

    /// Hears frames [any number, inputs]. Returns the log-probabilities [rows, outputs] of all rows that
    /// are known now and were not before, often none.
    ///
    /// # Errors
    /// When they are no whole frames.
    pub fn push(&mut self, frames: &[f32]) -> Result<Vec<f32>, NoFrames> {
        let inputs = self.inputs;
        if !frames.len().is_multiple_of(inputs) {
            let values = frames.len();
            return Err(NoFrames { values, inputs });
        }
        Ok(self.through(frames.to_vec(), false))
    }

    /// Says that the utterance is over. Returns the rows that are left; what comes next is another
    /// utterance's.
    pub fn finish(&mut self) -> Vec<f32> {
        self.through(Vec::new(), true)
    }

    fn through(&mut self, frames: Vec<f32>, is_over: bool) -> Vec<f32> {
        let level = self.level;
        let mut rows = frames;
        for stage in &mut self.stages {
            rows = match stage {
                Stage::Recurrent {
                    weights,
                    state,
                    inputs,
                } => {
                    let frames = rows.chunks_exact(*inputs);
                    let heard = frames.flat_map(|frame| weights.step(level, frame, state));
                    let heard = heard.collect();
                    if is_over {
                        *state = State::default();
                    }
                    heard
                }
                Stage::Dense {
                    weight,
                    bias,
                    activation,
                } => dense::forward(level, &rows, weight, Addend::Row(bias), *activation),
                Stage::Norm(parameters) => norm::forward(&rows, parameters),
                Stage::Window(window) => window.push(level, &rows, is_over),
                Stage::Keep(at) => {
                    self.around[*at].extend(&rows);
                    rows
                }
                Stage::Add(at) => {
                    let kept = self.around[*at].drain(..rows.len());
                    rows.into_iter()
                        .zip(kept)
                        .map(|(x, kept)| x + kept)
                        .collect()
                }
            };
        }
        let mut log_probs = vec![0.0; rows.len()];
        loss::log_softmax(&rows, self.outputs, &mut log_probs);
        log_probs.into_iter().map(|value| value as f32).collect()
    }
}
