//! The layers that models are put together from, with their sizes, and the builder that lays their
//! parameters end to end. It decides what a layer gives for what it is given, and does not depend on
//! which model has which layers.

use std::ops::Range;

use super::config::{Activation, ModelConfig};
use super::{Initializer, ParameterSpec};

/// What a layer computes a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A row for each frame.
    Frame,
    /// One row for each utterance.
    Utterance,
}

/// A step of the way from features to outputs. Tensors are rows: of frames before the pooling, of
/// utterances after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// Each frame beside the `left` before it and the `right` after it, first to last; zeros beyond
    /// the ends.
    Context {
        /// Values of a frame.
        inputs: usize,
        /// Earlier frames that are joined to each frame.
        left: usize,
        /// Later frames that are joined to each frame.
        right: usize,
    },
    /// A convolution over frames and bands.
    Convolution(Convolution),
    /// Averages over windows of frames and bands.
    AveragePool(AveragePool),
    /// A recurrent layer, of one direction or two.
    Recurrent(Recurrent),
    /// torch's `nn.Linear`: `weight` [outputs, inputs], `bias` `[outputs]`; then the activation.
    Dense {
        /// Values of a row that it is given.
        inputs: usize,
        /// Values of a row that it gives.
        outputs: usize,
        /// The activation function behind the product; `None` for the last layer.
        activation: Option<Activation>,
    },
    /// torch's `nn.LayerNorm` over the whole row (Ba et al. 2016), with `weight` and `bias`, and
    /// [`NORM_EPSILON`] added to the variance.
    Norm {
        /// Values of a row.
        width: usize,
    },
    /// The dropouts of a model are numbered.
    Dropout {
        /// The layer's place among those with dropout, which names its random stream.
        index: usize,
    },
    /// Keeps what has come this far.
    Keep,
    /// Adds what was kept last.
    Add,
    /// The frames of an utterance become one row, as [`ModelConfig::pooling`] says. `directions` are
    /// those of the layer before, side by side.
    Pool {
        /// Directions of the recurrent layer before it, 1 or 2.
        directions: usize,
    },
}

/// torch's default.
pub const NORM_EPSILON: f32 = 1e-5;

impl Layer {
    /// Frames from one that it gives to the next.
    pub fn frame_stride(&self) -> usize {
        match self {
            Self::Convolution(convolution) => convolution.stride[0],
            Self::AveragePool(pool) => pool.window[0],
            _ => 1,
        }
    }
}

/// A layer of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// What the names of its parameters begin with, or what it does where it has none.
    pub name: String,
    /// What the layer computes.
    pub layer: Layer,
    /// Values of a row that it gives.
    pub width: usize,
    /// Whether its rows are frames or utterances.
    pub per: Per,
    /// Frames of the input from one that it gives to the next.
    pub frame_stride: usize,
    /// Where its parameters lie in the flat vector.
    pub parameters: Range<usize>,
}

/// torch's `nn.Conv2d` over frames and bands, `weight` [outputs, channels, frames, bands] and, where
/// there is one, `bias` `[outputs]`; then the activation. Zeros lie around an utterance as far as half a
/// kernel reaches.
///
/// A frame is its bands one after the other, each with all its channels: the values of a kernel's
/// frame lie side by side then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Bands of a frame.
    pub bands: usize,
    /// Channels of a band.
    pub channels: usize,
    /// Channels of a band of the output.
    pub outputs: usize,
    /// Frames and bands, odd.
    pub kernel: [usize; 2],
    /// Frames and bands from one place of the kernel to the next.
    pub stride: [usize; 2],
    /// Frames and bands from one element of the kernel to the next.
    pub dilation: usize,
    /// Whether a bias is added to each output channel.
    pub bias: bool,
    /// The activation function behind the bias.
    pub activation: Option<Activation>,
}

impl Convolution {
    /// Values of a frame that it is given.
    pub fn inputs(&self) -> usize {
        self.bands * self.channels
    }

    /// Bands of a frame of the output.
    pub fn output_bands(&self) -> usize {
        self.bands.div_ceil(self.stride[1])
    }

    /// Values of a frame that it gives.
    pub fn width(&self) -> usize {
        self.output_bands() * self.outputs
    }

    /// Products that are added up to an output.
    pub fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// How far a kernel reaches beyond its middle, in frames and bands.
    pub fn reach(&self) -> [usize; 2] {
        self.kernel.map(|size| self.dilation * (size / 2))
    }
}

/// The mean of windows of frames and bands, side by side, of each channel; of what there is of a
/// window at the end (torch's `AvgPool2d` with `ceil_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Bands of a frame.
    pub bands: usize,
    /// Channels of a band.
    pub channels: usize,
    /// Frames and bands.
    pub window: [usize; 2],
}

impl AveragePool {
    /// Bands of a frame of the output.
    pub fn output_bands(&self) -> usize {
        self.bands.div_ceil(self.window[1])
    }
}

/// What a recurrent layer computes in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Long short-term memory (Hochreiter & Schmidhuber 1997).
    Lstm,
    /// A gated recurrent unit (Cho et al. 2014), in torch's form.
    Gru,
    /// A plain (Elman) unit with tanh.
    Tanh,
    /// A plain (Elman) unit with ReLU.
    Relu,
}

impl Cell {
    /// Rows of the weights for each hidden unit.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }
}

/// A recurrent layer: torch's `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer.
///
/// For each direction: `weight_ih` [G·H, I], `weight_hh` [G·H, S], `bias_ih` [G·H], `bias_hh` [G·H] and,
/// with a projection, `weight_hr` [S, H]. G are the gates, in torch's order (LSTM i, f, g, o; GRU r, z,
/// n), S the units of the hidden state: the projection's, or else H.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// The cell of the layer.
    pub cell: Cell,
    /// Values of a frame.
    pub inputs: usize,
    /// Hidden units of a direction.
    pub hidden: usize,
    /// Units that the hidden state is projected to; 0: it is not. LSTM only.
    pub projection: usize,
    /// 1, or 2 with the second direction reading backwards from each sequence's own last frame.
    pub directions: usize,
}

/// Where the parameters of a direction lie in a layer's.
pub struct DirectionRanges {
    /// The weights of the input, `[gates · hidden, inputs]`.
    pub weight_ih: Range<usize>,
    /// The weights of the hidden state, `[gates · hidden, state]`.
    pub weight_hh: Range<usize>,
    /// The bias beside the input's product.
    pub bias_ih: Range<usize>,
    /// The bias beside the hidden state's product.
    pub bias_hh: Range<usize>,
    /// Empty without a projection.
    pub weight_hr: Range<usize>,
}

impl Recurrent {
    /// Units of a direction's hidden state, which is what it gives.
    pub fn state(&self) -> usize {
        match self.projection {
            0 => self.hidden,
            projection => projection,
        }
    }

    /// Values of a frame of the result: the directions side by side.
    pub fn outputs(&self) -> usize {
        self.state() * self.directions
    }

    /// Elements of the layer's parameters.
    pub fn elements(&self) -> usize {
        self.directions * self.direction_elements()
    }

    /// Elements of a direction's.
    pub fn direction_elements(&self) -> usize {
        self.cell.gates() * self.hidden * (self.inputs + self.state() + 2)
            + self.projection * self.hidden
    }

    /// Where the parameters of a direction lie in the layer's.
    pub fn direction(&self, direction: usize) -> DirectionRanges {
        let mut end = direction * self.direction_elements();
        let mut take = |elements: usize| {
            end += elements;
            end - elements..end
        };
        let gates = self.cell.gates() * self.hidden;
        DirectionRanges {
            weight_ih: take(gates * self.inputs),
            weight_hh: take(gates * self.state()),
            bias_ih: take(gates),
            bias_hh: take(gates),
            weight_hr: take(self.projection * self.hidden),
        }
    }
}

/// Puts a model together, layer after layer.
pub(super) struct Builder {
    layers: Vec<LayerSpec>,
    parameters: Vec<ParameterSpec>,
    offset: usize,
    /// Values of a row of what has come so far.
    pub width: usize,
    per: Per,
    frame_stride: usize,
    norms: usize,
    dropouts: usize,
    dense: usize,
    /// Dropout is in the model at all.
    drops: bool,
}

impl Builder {
    pub(super) fn new(config: &ModelConfig, inputs: usize) -> Self {
        Self {
            layers: Vec::new(),
            parameters: Vec::new(),
            offset: 0,
            width: inputs,
            per: Per::Frame,
            frame_stride: 1,
            norms: 0,
            dropouts: 0,
            dense: 0,
            drops: config.dropout > 0.0,
        }
    }

    pub(super) fn finish(self) -> (Vec<LayerSpec>, Vec<ParameterSpec>) {
        (self.layers, self.parameters)
    }

    /// Adds a layer whose rows have `width` values, with parameters `(name, shape, initializer)`.
    pub(super) fn push(
        &mut self,
        name: &str,
        layer: Layer,
        width: usize,
        parameters: Vec<(String, Vec<usize>, Initializer)>,
    ) {
        let start = self.offset;
        for (name, shape, initializer) in parameters {
            let parameter = ParameterSpec {
                name,
                shape,
                initializer,
                offset: self.offset,
            };
            self.offset += parameter.elements();
            self.parameters.push(parameter);
        }
        self.width = width;
        self.frame_stride *= layer.frame_stride();
        self.layers.push(LayerSpec {
            name: name.to_owned(),
            layer,
            width,
            per: self.per,
            frame_stride: self.frame_stride,
            parameters: start..self.offset,
        });
    }

    /// A layer that leaves the width as it is and has no parameters.
    pub(super) fn plain(&mut self, name: &str, layer: Layer) {
        self.push(name, layer, self.width, Vec::new());
    }

    /// `name.weight` and `name.bias`, initialised as torch's `nn.Linear`.
    pub(super) fn dense(&mut self, name: &str, outputs: usize, activation: Option<Activation>) {
        let inputs = self.width;
        let layer = Layer::Dense {
            inputs,
            outputs,
            activation,
        };
        let initializer = uniform(inputs);
        let parameters = vec![
            (format!("{name}.weight"), vec![outputs, inputs], initializer),
            (format!("{name}.bias"), vec![outputs], initializer),
        ];
        self.push(name, layer, outputs, parameters);
    }

    /// The next dense layer that is not the output.
    pub(super) fn hidden_dense(&mut self, outputs: usize, activation: Activation) {
        let name = format!("dense.{}", self.dense);
        self.dense += 1;
        self.dense(&name, outputs, Some(activation));
    }

    pub(super) fn norm(&mut self) {
        let (name, width) = (format!("norm.{}", self.norms), self.width);
        self.norms += 1;
        let parameters = vec![
            (format!("{name}.weight"), vec![width], Initializer::Ones),
            (format!("{name}.bias"), vec![width], Initializer::Zeros),
        ];
        self.push(&name, Layer::Norm { width }, width, parameters);
    }

    pub(super) fn dropout(&mut self) {
        let index = self.dropouts;
        self.dropouts += 1;
        if self.drops {
            self.plain("dropout", Layer::Dropout { index });
        }
    }

    /// Makes one row of an utterance's frames.
    pub(super) fn pool(&mut self) {
        let last = self.layers.iter().rev().find_map(|one| match one.layer {
            Layer::Recurrent(layer) => Some(layer.directions),
            _ => None,
        });
        let directions = last.unwrap_or(1);
        self.per = Per::Utterance;
        self.plain("pool", Layer::Pool { directions });
    }
}

/// torch's bounds: one over the root of the inputs of a unit.
pub(super) fn uniform(inputs: usize) -> Initializer {
    Initializer::Uniform {
        bound: 1.0 / (inputs as f64).sqrt(),
    }
}
