//! Model specifications without a tensor library: parameter names, shapes, initialisers and seeded
//! initial values. It decides the layout of the flat parameter vector and refuses to know how a
//! forward pass is computed.

use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// The `[model]` section of a job: a stack of LSTM layers and a head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ModelConfig {
    pub head: Head,
    /// LSTM layers, 1 to 16.
    pub layers: usize,
    /// Hidden units of each direction of a layer.
    pub hidden: usize,
    pub bidirectional: bool,
    /// Probability of dropping an element of a layer's output, between layers and before the head.
    pub dropout: f64,
    /// What the keyword head sees of the frames; the CTC head sees them all.
    pub pooling: Pooling,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            head: Head::Keyword,
            layers: 2,
            hidden: 128,
            bidirectional: false,
            dropout: 0.0,
            pooling: Pooling::Last,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// One class an utterance: cross-entropy on the pooled frames.
    Keyword,
    /// Connectionist temporal classification (Graves et al. 2006) over units and a blank.
    Ctc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The last frame of the forward direction; with two directions, beside the first frame of the
    /// backward one: what each direction knows once it has read everything.
    Last,
    /// The mean over an utterance's own frames.
    Mean,
}

/// How a parameter's initial values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initializer {
    /// Uniform on [-bound, bound).
    Uniform {
        bound: f64,
    },
    Zeros,
}

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// As torch names it, for instance `lstm.weight_ih_l0_reverse` or `head.weight`.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    pub initializer: Initializer,
    /// Where it starts in the flat vector, in elements.
    pub offset: usize,
}

impl ParameterSpec {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.elements()
    }
}

/// A model's parameters in the order of the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    pub config: ModelConfig,
    /// Feature dimensions a frame.
    pub inputs: usize,
    /// Classes, or units and the blank (class 0).
    pub outputs: usize,
    pub parameters: Vec<ParameterSpec>,
}

impl ModelSpec {
    /// Lays out the parameters of `config` for `inputs` features a frame and `outputs` classes.
    ///
    /// For layer `l` and each direction (suffix `_reverse` for the second), as in torch's
    /// `nn.LSTM`: `lstm.weight_ih_l{l}` `[4H, I]`, `lstm.weight_hh_l{l}` `[4H, H]`, `lstm.bias_ih_l{l}`
    /// `[4H]`, `lstm.bias_hh_l{l}` `[4H]`, gates in the order i, f, g, o; then `head.weight`
    /// `[outputs, D·H]` and `head.bias` `[outputs]`.
    pub fn new(config: &ModelConfig, inputs: usize, outputs: usize) -> Self {
        let mut parameters = Vec::new();
        let mut offset = 0;
        let mut push = |name: String, shape: Vec<usize>, bound: f64| {
            let elements: usize = shape.iter().product();
            let initializer = Initializer::Uniform { bound };
            parameters.push(ParameterSpec {
                name,
                shape,
                initializer,
                offset,
            });
            offset += elements;
        };
        let hidden = config.hidden;
        let directions = if config.bidirectional { 2 } else { 1 };
        let bound = 1.0 / (hidden as f64).sqrt();
        for layer in 0..config.layers {
            let width = if layer == 0 {
                inputs
            } else {
                hidden * directions
            };
            for suffix in &["", "_reverse"][..directions] {
                push(
                    format!("lstm.weight_ih_l{layer}{suffix}"),
                    vec![4 * hidden, width],
                    bound,
                );
                push(
                    format!("lstm.weight_hh_l{layer}{suffix}"),
                    vec![4 * hidden, hidden],
                    bound,
                );
                push(
                    format!("lstm.bias_ih_l{layer}{suffix}"),
                    vec![4 * hidden],
                    bound,
                );
                push(
                    format!("lstm.bias_hh_l{layer}{suffix}"),
                    vec![4 * hidden],
                    bound,
                );
            }
        }
        let width = hidden * directions;
        let bound = 1.0 / (width as f64).sqrt();
        push("head.weight".to_owned(), vec![outputs, width], bound);
        push("head.bias".to_owned(), vec![outputs], bound);
        Self {
            config: config.clone(),
            inputs,
            outputs,
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
                }),
            );
        }
        values
    }
}

/// First tag of the streams that draw initial weights.
const INITIALIZATION: u64 = 0x696e_6974;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lie_end_to_end_in_the_flat_vector() {
        let config = ModelConfig {
            bidirectional: true,
            ..ModelConfig::default()
        };
        let spec = ModelSpec::new(&config, 40, 10);
        let mut end = 0;
        for parameter in &spec.parameters {
            assert_eq!(parameter.offset, end);
            end = parameter.range().end;
        }
        let layer = |inputs: usize| 2 * 4 * 128 * (inputs + 128 + 2);
        assert_eq!(spec.elements(), layer(40) + layer(256) + 10 * 256 + 10);
        assert_eq!(spec.initialize(1).len(), spec.elements());
    }

    #[test]
    fn initial_values_follow_the_seed_and_stay_in_bounds() {
        let spec = ModelSpec::new(&ModelConfig::default(), 13, 10);
        assert_eq!(spec.initialize(5), spec.initialize(5));
        assert_ne!(spec.initialize(5), spec.initialize(6));
        let bound = 1.0 / 128f32.sqrt();
        assert!(spec.initialize(5).iter().all(|value| value.abs() <= bound));
    }
}
