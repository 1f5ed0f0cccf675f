//! Model specifications without a tensor library: layers, parameter names, shapes, initialisers and
//! seeded initial values. It decides the layout of the flat parameter vector and does not depend on how a
//! forward pass is computed.

mod config;
mod convolution;
mod dense;
mod layer;
mod recurrent;
mod summary;

pub use config::{
    Activation, ConvConfig, Head, ModelConfig, ModelConfigError, ModelKind, Pooling, ResidualConfig,
};
pub use layer::{
    AveragePool, Cell, Convolution, DirectionRanges, Layer, LayerSpec, NORM_EPSILON, Per, Recurrent,
};
pub use summary::Row;

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use layer::Builder;

/// How a parameter's initial values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initializer {
    /// Uniform on [-bound, bound).
    Uniform {
        /// The distribution's bound, above 0.
        bound: f64,
    },
    /// Every value is 0.
    Zeros,
    /// Every value is 1.
    Ones,
}

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// As torch names it, for instance `lstm.weight_ih_l0_reverse` or `head.weight`.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// How the initial values are drawn.
    pub initializer: Initializer,
    /// Where it starts in the flat vector, in elements.
    pub offset: usize,
}

impl ParameterSpec {
    /// The number of values, the product of the shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor's range in the flat vector, in elements.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.elements()
    }
}

/// A model's layers from the features to the outputs before the softmax, and their parameters in the
/// order of the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The `[model]` section that the layers follow from.
    pub config: ModelConfig,
    /// Feature dimensions a frame.
    pub inputs: usize,
    /// Classes, or units and the blank (class 0).
    pub outputs: usize,
    /// The layers in the order of computation.
    pub layers: Vec<LayerSpec>,
    /// The parameter tensors in the order of the flat vector.
    pub parameters: Vec<ParameterSpec>,
}

impl ModelSpec {
    /// Lays out the layers and parameters of `config` for `inputs` features a frame and `outputs`
    /// classes.
    ///
    /// Names and layouts are torch's: `lstm.`, `gru.` and `rnn.` as those of `nn.LSTM`, `nn.GRU` and
    /// `nn.RNN` ([`Recurrent`] has the order), `conv.{i}.` and `residual.{i}.` as `nn.Conv2d`,
    /// `dense.{i}.` and, last of all, `head.` as `nn.Linear`, `norm.{i}.` as `nn.LayerNorm`, each
    /// numbered in the order in which frames meet them.
    pub fn new(config: &ModelConfig, inputs: usize, outputs: usize) -> Self {
        let mut builder = Builder::new(config, inputs);
        match config.kind {
            ModelKind::Lstm | ModelKind::Gru | ModelKind::Rnn => {
                convolution::front(&mut builder, config);
                recurrent::stack(&mut builder, config);
            }
            ModelKind::Dnn => {
                convolution::front(&mut builder, config);
                dense::stack(&mut builder, config);
            }
            ModelKind::Cnn => convolution::residual(&mut builder, &config.residual),
        }
        if config.head == Head::Keyword {
            builder.pool();
        }
        builder.dropout();
        dense::before_output(&mut builder, config);
        builder.dense("head", outputs, None);
        let (layers, parameters) = builder.finish();
        Self {
            config: config.clone(),
            inputs,
            outputs,
            layers,
            parameters,
        }
    }

    /// Elements of the flat vector.
    pub fn elements(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range().end)
    }

    /// The parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&ParameterSpec> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name)
    }

    /// Frames of the outputs of a CTC model that hears `frames` frames: see
    /// [`ModelConfig::output_frames`].
    pub fn output_frames(&self, frames: usize) -> usize {
        self.config.output_frames(frames)
    }

    /// Initial values, a function of the specification and the seed alone: each parameter draws
    /// from the stream of its own place in the layout.
    pub fn initialize(&self, seed: u64) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.elements());
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mut stream = Stream::new(seed, &[INITIALIZATION, index as u64]);
            values.extend(
                (0..parameter.elements()).map(|_| match parameter.initializer {
                    Initializer::Uniform { bound } => stream.between(-bound, bound) as f32,
                    Initializer::Zeros => 0.0,
                    Initializer::Ones => 1.0,
                }),
            );
        }
        values
    }
}

/// First tag of the streams that draw initial weights.
const INITIALIZATION: u64 = 0x696e_6974;

#[cfg(test)]
mod tests;
