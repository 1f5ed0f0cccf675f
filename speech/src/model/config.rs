//! The `[model]` section of a job. It decides which keys a kind of model has and their bounds, and
//! does not depend on what is laid out from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error_class::{self, Class, Classify};

/// The `[model]` section of a job: hidden layers of a kind, and a head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The kind of the hidden layers.
    pub kind: ModelKind,
    /// The output of the model and its loss.
    pub head: Head,
    /// The number of hidden layers; not of a `cnn`.
    #[schemars(range(min = 1, max = LAYERS), example = 3)]
    pub layers: usize,
    /// The units of a hidden layer, in each direction of a recurrent one; not of a `cnn`.
    #[schemars(range(min = 1, max = WIDTH), example = 256)]
    pub hidden: usize,
    /// The units of each hidden layer in turn, in place of `layers` and `hidden`; not of a `cnn`. At most 16 layers.
    #[schemars(inner(range(min = 1, max = WIDTH)), example = vec![128, 64])]
    pub widths: Vec<usize>,
    /// Whether recurrent layers run in both directions; `lstm`, `gru` and `rnn`.
    pub bidirectional: bool,
    /// The units that an LSTM's hidden state is projected to (torch's `proj_size`), below `hidden`; 0: no
    /// projection. `lstm` only.
    #[schemars(example = 64)]
    pub projection: usize,
    /// The activation of dense layers (left out: `"relu"`) and of an `rnn` (left out: `"tanh"`; not `"sigmoid"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Layer normalisation of each frame, after every convolution of `[model.conv]` and every hidden layer,
    /// before dropout. A `cnn` always has it.
    pub layer_norm: bool,
    /// The units of dense layers before the output layer, after pooling. At most 16 layers.
    #[schemars(inner(range(min = 1, max = WIDTH)), example = vec![64])]
    pub dense: Vec<usize>,
    /// The frames before the current one that a `dnn` sees (context window); zeros before the first frame.
    #[schemars(range(max = 64), example = 5)]
    pub context_left: usize,
    /// The frames after the current one that a `dnn` sees; zeros after the last frame.
    #[schemars(range(max = 64), example = 5)]
    pub context_right: usize,
    #[allow(missing_docs, reason = "the type of the section says it")]
    pub conv: ConvConfig,
    #[allow(missing_docs, reason = "the type of the section says it")]
    pub residual: ResidualConfig,
    /// The probability of dropping an element of a layer's output, between layers and before the output layer.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.2)]
    pub dropout: f64,
    /// How a keyword model reduces an utterance's frames to one; a CTC model has an output for each frame.
    pub pooling: Pooling,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            kind: ModelKind::Lstm,
            head: Head::Keyword,
            layers: 2,
            hidden: 128,
            widths: Vec::new(),
            bidirectional: false,
            projection: 0,
            activation: None,
            layer_norm: false,
            dense: Vec::new(),
            context_left: 0,
            context_right: 0,
            conv: ConvConfig::default(),
            residual: ResidualConfig::default(),
            dropout: 0.0,
            pooling: Pooling::Last,
        }
    }
}

/// What the hidden layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Long short-term memory, torch's equations.
    Lstm,
    /// Gated recurrent units, torch's equations.
    Gru,
    /// Plain (Elman) recurrent layers.
    Rnn,
    /// Dense layers over windows of frames.
    Dnn,
    /// A residual network of convolutions (Tang and Lin 2018).
    Cnn,
}

impl ModelKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Rnn => "rnn",
            Self::Dnn => "dnn",
            Self::Cnn => "cnn",
        }
    }

    fn is_recurrent(self) -> bool {
        matches!(self, Self::Lstm | Self::Gru | Self::Rnn)
    }
}

/// The activation function of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
}

/// What a model's outputs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Keyword recognition, one class an utterance: cross-entropy on the pooled frames.
    Keyword,
    /// Connectionist temporal classification (Graves et al. 2006) over units and a blank.
    Ctc,
}

/// How the frames of an utterance become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The last frame of the forward direction, and with two directions the first frame of the backward one
    /// beside it. `lstm`, `gru` and `rnn`.
    Last,
    /// The mean over the utterance's frames.
    Mean,
}

/// The `[model.conv]` section: strided 2-D convolutions before the first hidden layer, each with a ReLU
/// (Amodei et al. 2016). A frame's features are the bands of one channel. Not of a `cnn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConvConfig {
    /// The output channels of each convolution in turn; empty: no convolutions. At most 4.
    #[schemars(inner(range(min = 1, max = 1024)), example = vec![32, 32])]
    pub channels: Vec<usize>,
    /// The size of each kernel, `[frames, bands]`, both odd.
    #[schemars(inner(range(min = 1, max = 41)), example = vec![5, 3])]
    pub kernel: [usize; 2],
    /// The stride of each convolution, `[frames, bands]`: n frames become n / stride, rounded up.
    #[schemars(inner(range(min = 1, max = 8)), example = vec![1, 2])]
    pub stride: [usize; 2],
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            kernel: [3, 3],
            stride: [2, 2],
        }
    }
}

/// The `[model.residual]` section: the layers of a `cnn`. The defaults are res8 (Tang and Lin 2018); res15 has
/// six blocks, `pool = [1, 1]` and dilation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResidualConfig {
    /// The channels of every convolution.
    #[schemars(range(min = 1, max = 1024), example = 19)]
    pub channels: usize,
    /// The number of residual blocks, each of two 3 × 3 convolutions.
    #[schemars(range(min = 1, max = 16), example = 6)]
    pub blocks: usize,
    /// The size of the average pooling after the first convolution, `[frames, bands]`.
    #[schemars(inner(range(min = 1, max = 16)), example = vec![1, 1])]
    pub pool: [usize; 2],
    /// Whether the dilation of the kernels doubles with every third convolution.
    pub dilated: bool,
}

impl Default for ResidualConfig {
    fn default() -> Self {
        Self {
            channels: 45,
            blocks: 3,
            pool: [4, 3],
            dilated: false,
        }
    }
}

/// A key of `[model]` that cannot be what it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("model.{field} {reason}")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct ModelConfigError {
    pub field: &'static str,
    pub reason: String,
}

impl Classify for ModelConfigError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

fn wrong<T>(field: &'static str, reason: String) -> Result<T, ModelConfigError> {
    Err(ModelConfigError { field, reason })
}

fn bounded(
    field: &'static str,
    value: usize,
    bounds: std::ops::RangeInclusive<usize>,
) -> Result<(), ModelConfigError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    wrong(
        field,
        format!("is {value}, but has to be between {least} and {most}"),
    )
}

/// At most so many layers of a sort.
const LAYERS: usize = 16;
const WIDTH: usize = 8192;

impl ModelConfig {
    /// Units of each hidden layer; none for a `cnn`.
    pub fn hidden_widths(&self) -> Vec<usize> {
        match (self.kind, self.widths.as_slice()) {
            (ModelKind::Cnn, _) => Vec::new(),
            (_, []) => vec![self.hidden; self.layers],
            (_, widths) => widths.to_vec(),
        }
    }

    /// The activation function of dense layers and of plain recurrent ones.
    pub fn activation(&self) -> Activation {
        self.activation.unwrap_or(match self.kind {
            ModelKind::Rnn => Activation::Tanh,
            _ => Activation::Relu,
        })
    }

    /// Frames of the input from one frame of the output to the next.
    pub fn frame_stride(&self) -> usize {
        match self.kind {
            ModelKind::Cnn => self.residual.pool[0],
            _ => self.conv.stride[0].pow(self.conv.channels.len() as u32),
        }
    }

    /// Frames of the output, of which `n` hears the input's frames around `n` times
    /// [`frame_stride`](Self::frame_stride). Wherever the outputs' length matters it comes from here.
    pub fn output_frames(&self, frames: usize) -> usize {
        frames.div_ceil(self.frame_stride())
    }

    /// The fewest frames of input that give so many of output.
    pub fn input_frames(&self, output_frames: usize) -> usize {
        match output_frames {
            0 => 0,
            some => (some - 1) * self.frame_stride() + 1,
        }
    }

    /// Whether every key is within its bounds and one that this kind of model has.
    ///
    /// # Errors
    /// Names the key and says what it can be.
    pub fn check(&self) -> Result<(), ModelConfigError> {
        bounded("layers", self.layers, 1..=LAYERS)?;
        bounded("hidden", self.hidden, 1..=WIDTH)?;
        for (field, widths) in [("widths", &self.widths), ("dense", &self.dense)] {
            bounded_list(field, widths, WIDTH)?;
        }
        bounded("context_left", self.context_left, 0..=64)?;
        bounded("context_right", self.context_right, 0..=64)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(
                "dropout",
                format!("is {}, but has to be at least 0 and below 1", self.dropout),
            );
        }
        self.conv.check()?;
        self.residual.check()?;
        self.check_kind()?;
        self.check_pooling()
    }

    /// Keys that say nothing about this kind of model are as they are by default.
    fn check_kind(&self) -> Result<(), ModelConfigError> {
        let default = Self::default();
        let kind = self.kind;
        let of = |field, is_default: bool, kinds: &str| match is_default {
            true => Ok(()),
            false => wrong(
                field,
                format!("is a key of {kinds}, and model.kind is \"{}\"", kind.name()),
            ),
        };
        if !self.widths.is_empty() && (self.layers, self.hidden) != (default.layers, default.hidden)
        {
            return wrong(
                "widths",
                "says what `layers` and `hidden` say: leave those out".to_owned(),
            );
        }
        if kind == ModelKind::Cnn {
            let kinds = "\"lstm\", \"gru\", \"rnn\" and \"dnn\" (a cnn has [model.residual])";
            of("layers", self.layers == default.layers, kinds)?;
            of("hidden", self.hidden == default.hidden, kinds)?;
            of("widths", self.widths.is_empty(), kinds)?;
            of("conv.channels", self.conv == default.conv, kinds)?;
            of("layer_norm", !self.layer_norm, kinds)?;
        } else {
            of("residual", self.residual == default.residual, "\"cnn\"")?;
        }
        if kind != ModelKind::Dnn {
            of("context_left", self.context_left == 0, "\"dnn\"")?;
            of("context_right", self.context_right == 0, "\"dnn\"")?;
        }
        if !kind.is_recurrent() {
            of(
                "bidirectional",
                !self.bidirectional,
                "\"lstm\", \"gru\" and \"rnn\"",
            )?;
        }
        if kind != ModelKind::Lstm {
            of("projection", self.projection == 0, "\"lstm\"")?;
        }
        let narrowest = self.hidden_widths().into_iter().min().unwrap_or(WIDTH);
        if self.projection >= narrowest {
            return wrong(
                "projection",
                format!(
                    "is {}, but has to be below the {narrowest} units that it projects",
                    self.projection
                ),
            );
        }
        match (kind, self.activation) {
            (ModelKind::Rnn, Some(Activation::Sigmoid)) => wrong(
                "activation",
                "is \"sigmoid\", and a plain recurrent layer has \"tanh\" or \"relu\"".to_owned(),
            ),
            (ModelKind::Lstm | ModelKind::Gru | ModelKind::Cnn, Some(_))
                if self.dense.is_empty() =>
            {
                wrong(
                    "activation",
                    format!(
                        "is that of dense layers, and this {} has none (model.dense)",
                        kind.name()
                    ),
                )
            }
            _ => Ok(()),
        }
    }

    fn check_pooling(&self) -> Result<(), ModelConfigError> {
        let sees_all = self.kind.is_recurrent();
        if self.head == Head::Keyword && self.pooling == Pooling::Last && !sees_all {
            return wrong(
                "pooling",
                format!(
                    "is \"last\", but the last frame of a {} knows nothing of the others: write \
                     pooling = \"mean\"",
                    self.kind.name()
                ),
            );
        }
        Ok(())
    }
}

fn bounded_list(
    field: &'static str,
    values: &[usize],
    most: usize,
) -> Result<(), ModelConfigError> {
    if values.len() > LAYERS {
        return wrong(
            field,
            format!("has {} layers, but at most {LAYERS} can be", values.len()),
        );
    }
    values
        .iter()
        .try_for_each(|&value| bounded(field, value, 1..=most))
}

impl ConvConfig {
    fn check(&self) -> Result<(), ModelConfigError> {
        if self.channels.len() > 4 {
            return wrong(
                "conv.channels",
                format!("has {} layers, but at most 4 can be", self.channels.len()),
            );
        }
        bounded_list("conv.channels", &self.channels, 1024)?;
        for size in self.kernel {
            bounded("conv.kernel", size, 1..=41)?;
            if size % 2 == 0 {
                return wrong(
                    "conv.kernel",
                    format!("is {size}, but has to be odd: a kernel has a middle"),
                );
            }
        }
        self.stride
            .iter()
            .try_for_each(|&stride| bounded("conv.stride", stride, 1..=8))
    }
}

impl ResidualConfig {
    fn check(&self) -> Result<(), ModelConfigError> {
        bounded("residual.channels", self.channels, 1..=1024)?;
        bounded("residual.blocks", self.blocks, 1..=16)?;
        self.pool
            .iter()
            .try_for_each(|&size| bounded("residual.pool", size, 1..=16))
    }
}

#[cfg(test)]
mod tests;
