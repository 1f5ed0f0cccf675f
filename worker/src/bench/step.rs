//! How fast this machine computes gradients: a micro-batch of made-up features through a real network,
//! timed in its two halves. It decides what is timed; it does not depend on what the figures are compared
//! with.

use std::time::Instant;

use burn::tensor::Device;
use speech::{
    features::Features,
    model::{Head, ModelConfig, ModelSpec, Per},
    objective::Normalize,
    random::Stream,
};

use crate::{
    gradient::{self, GradientError, MicroBatch},
    network::Network,
};

/// What is computed.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Utterances of the micro-batch.
    pub batch: usize,
    /// Frames of an utterance; of the longest, when they are ragged.
    pub frames: usize,
    /// Lengths are spread evenly from a quarter of `frames` to all of them.
    pub ragged: bool,
    /// Features of a frame.
    pub features: usize,
    /// The layers and the head of the network.
    pub model: ModelConfig,
    /// Units with the blank (CTC), or classes.
    pub outputs: usize,
    /// Labels of an utterance; a keyword has one.
    pub labels: usize,
}

/// A network and a micro-batch of a shape, made from nothing but a seed.
pub struct Measure {
    shape: Shape,
    network: Network,
    features: Vec<Features>,
    target: Vec<u32>,
}

/// Seconds of one gradient.
#[derive(Clone, Debug)]
pub struct Halves {
    /// Network and loss.
    pub forward_s: f64,
    /// To the gradient as one flat vector.
    pub backward_s: f64,
    /// The gradient of the losses' sum.
    pub gradient: Vec<f32>,
}

impl Measure {
    /// Initialises the network and draws the features and labels.
    pub fn new(shape: Shape, device: &Device) -> Self {
        let spec = shape.spec();
        let mut network = Network::new(&spec, device);
        network
            .load(&spec.initialize(1))
            .expect("these are the specification's own parameters");
        let mut stream = Stream::new(1, &[]);
        let features = (0..shape.batch).map(|place| {
            let frames = shape.length(place);
            let mut value = || stream.normal() as f32;
            Features {
                frames,
                dims: shape.features,
                data: (0..frames * shape.features).map(|_| value()).collect(),
            }
        });
        let features = features.collect();
        let labels = shape.outputs.saturating_sub(1).max(1) as u64;
        let count = match shape.model.head {
            Head::Keyword => 1,
            Head::Ctc => shape.labels,
        };
        Self {
            target: (0..count)
                .map(|_| 1 + stream.below(labels) as u32)
                .collect(),
            shape,
            network,
            features,
        }
    }

    /// The layers and the parameters of the network.
    pub fn spec(&self) -> &ModelSpec {
        self.network.spec()
    }

    /// Computes the gradient once.
    ///
    /// # Errors
    /// When the device fails, or the labels do not fit the frames.
    pub fn once(&self) -> Result<Halves, GradientError> {
        let micro = MicroBatch {
            features: self.features.iter().collect(),
            targets: vec![&self.target; self.shape.batch],
            step: 0,
            index: 0,
        };
        let began = Instant::now();
        let forward = gradient::forward(&self.network, &micro, Normalize::Utterances, 1)?;
        let forward_s = began.elapsed().as_secs_f64();
        let result = forward.backward()?;
        let whole_s = began.elapsed().as_secs_f64();
        let gradient = result.gradient.filter(|_| result.left_out.is_empty());
        Ok(Halves {
            forward_s,
            backward_s: whole_s - forward_s,
            gradient: gradient.ok_or(GradientError::Nothing)?,
        })
    }
}

impl Shape {
    fn spec(&self) -> ModelSpec {
        ModelSpec::new(&self.model, self.features, self.outputs)
    }

    fn length(&self, place: usize) -> usize {
        if !self.ragged {
            return self.frames;
        }
        let shortest = (self.frames / 4).max(1);
        let steps = self.batch.saturating_sub(1).max(1);
        shortest + (self.frames - shortest) * place / steps
    }

    /// Floating-point operations of one gradient, a multiply-add counted as two: the products of all
    /// layers, once forward and twice backward.
    pub fn operations(&self) -> f64 {
        let spec = self.spec();
        let layers = spec.summary().into_iter().map(|layer| {
            let rows: usize = match layer.per {
                Per::Frame => (0..self.batch)
                    .map(|place| self.length(place).div_ceil(layer.frame_stride))
                    .sum(),
                Per::Utterance => self.batch,
            };
            (rows * layer.multiply_adds) as f64
        });
        3.0 * 2.0 * layers.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Compute, DeviceChoice};

    fn shape() -> Shape {
        Shape {
            batch: 3,
            frames: 8,
            ragged: true,
            features: 4,
            model: ModelConfig {
                hidden: 5,
                bidirectional: true,
                head: Head::Ctc,
                ..ModelConfig::default()
            },
            outputs: 6,
            labels: 2,
        }
    }

    #[test]
    fn ragged_lengths_go_from_a_quarter_to_the_whole() {
        let lengths: Vec<usize> = (0..3).map(|place| shape().length(place)).collect();
        assert_eq!(lengths, [2, 5, 8]);
        let even = Shape {
            ragged: false,
            ..shape()
        };
        assert_eq!(even.length(0), 8);
    }

    #[test]
    fn operations_are_those_of_the_products() {
        // 15 frames; each direction has 4·5 rows over 4 + 5 inputs, then over 10 + 5; 10·6 in the head.
        let products = 15 * (2 * 20 * 9 + 2 * 20 * 15 + 10 * 6);
        assert_eq!(shape().operations(), f64::from(6 * products));
    }

    #[test]
    fn a_measured_gradient_is_one_of_the_model() {
        let compute = Compute::open(DeviceChoice::Cpu).unwrap();
        let measure = Measure::new(shape(), &compute.device);
        let halves = measure.once().unwrap();
        assert_eq!(halves.gradient.len(), measure.spec().elements());
        assert!(halves.gradient.iter().any(|value| *value != 0.0));
        assert!(halves.forward_s > 0.0 && halves.backward_s > 0.0);
    }

    #[test]
    fn labels_that_do_not_fit_are_an_error() {
        let shape = Shape {
            labels: 9,
            ragged: false,
            ..shape()
        };
        let compute = Compute::open(DeviceChoice::Cpu).unwrap();
        let error = Measure::new(shape, &compute.device).once().unwrap_err();
        assert!(error.to_string().contains("do not fit"), "{error}");
    }
}
