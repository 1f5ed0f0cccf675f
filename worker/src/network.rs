//! The network of a model specification: LSTM layers, dropout and a head, on a device. It decides
//! which implementation of an operator a device gets, and refuses to know losses and gradients.

mod constant;
pub mod dropout;
mod head;

use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use speech::model::{Head, ModelSpec};

use crate::lstm::{LayerShape, Packing, cube, fused, reference};
use dropout::Dropout;

/// A model on a device. Each layer's parameters are one flat tensor, and so are the head's, so that
/// they follow each other as in the specification's flat vector.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    device: Device,
    operators: Operators,
    layers: Vec<LayerShape>,
    parameters: Parameters,
}

/// Whose operators a device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operators {
    /// The fused ones on the CPU.
    Flex,
    /// The fused ones on a GPU.
    Cube,
    /// Those in plain tensor operations.
    Plain,
}

impl Operators {
    fn of(device: &Device) -> Self {
        match device.as_dispatch() {
            DispatchDevice::Flex(_) => Self::Flex,
            DispatchDevice::Cube(_) => Self::Cube,
            _ => Self::Plain,
        }
    }
}

/// The parameter tensors, of a network or of one differentiation.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// One a layer.
    pub layers: Vec<Tensor<1>>,
    /// `weight` `[outputs, width]` and `bias` `[outputs]`.
    pub head: Tensor<1>,
}

impl Parameters {
    /// In the order of the flat vector.
    pub fn into_tensors(self) -> impl Iterator<Item = Tensor<1>> {
        self.layers.into_iter().chain([self.head])
    }

    fn map(&self, f: impl Fn(&Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            layers: self.layers.iter().map(&f).collect(),
            head: f(&self.head),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the model has {expected} parameters and {found} were given: they are another model's weights"
)]
pub struct WrongParameters {
    pub expected: usize,
    pub found: usize,
}

/// A batch of frames on a network's device.
#[derive(Clone, Debug)]
pub struct Batch {
    packing: Arc<Packing>,
    frames: Tensor<2>,
}

impl Batch {
    pub fn packing(&self) -> &Packing {
        &self.packing
    }
}

impl Network {
    /// A network whose parameters are zeros until [`Network::load`].
    pub fn new(spec: &ModelSpec, device: &Device) -> Self {
        let config = &spec.config;
        let directions = if config.bidirectional { 2 } else { 1 };
        let hidden = config.hidden;
        let layers: Vec<LayerShape> = (0..config.layers)
            .map(|layer| {
                let inputs = if layer == 0 {
                    spec.inputs
                } else {
                    hidden * directions
                };
                LayerShape {
                    inputs,
                    hidden,
                    directions,
                }
            })
            .collect();
        let zeros = vec![0.0; spec.elements()];
        Self {
            spec: spec.clone(),
            device: device.clone(),
            operators: Operators::of(device),
            parameters: upload(&layers, &zeros, device),
            layers,
        }
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Takes over all parameters from a flat vector in the specification's order.
    ///
    /// # Errors
    /// If the vector has another length.
    pub fn load(&mut self, flat: &[f32]) -> Result<(), WrongParameters> {
        let expected = self.spec.elements();
        if flat.len() != expected {
            return Err(WrongParameters {
                expected,
                found: flat.len(),
            });
        }
        self.parameters = upload(&self.layers, flat, &self.device);
        Ok(())
    }

    /// The parameters as leaves of a new differentiation.
    pub fn leaves(&self) -> Parameters {
        self.parameters
            .map(|parameter| parameter.clone().autodiff().require_grad())
    }

    /// Brings sequences (each [length, inputs]) to the device.
    pub fn batch(&self, sequences: &[&[f32]]) -> Batch {
        let inputs = self.spec.inputs;
        let lengths: Vec<usize> = sequences
            .iter()
            .map(|frames| frames.len() / inputs)
            .collect();
        let packing = match self.operators {
            Operators::Flex | Operators::Cube => Packing::packed(&lengths),
            Operators::Plain => Packing::padded(&lengths),
        };
        let rows = packing.gather(sequences, inputs);
        let data = TensorData::new(rows, [packing.rows(), inputs]);
        Batch {
            frames: Tensor::from_data(data, &self.device),
            packing: Arc::new(packing),
        }
    }

    /// The outputs before the softmax: a row for each row of the packing (CTC), or for each place in
    /// it (keyword), with the network's own parameters and without dropout.
    pub fn forward(&self, batch: &Batch) -> Tensor<2> {
        self.run(&self.parameters, batch, batch.frames.clone(), None)
    }

    /// [`Network::forward`] to be differentiated with respect to `leaves`.
    pub fn forward_training(
        &self,
        leaves: &Parameters,
        batch: &Batch,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        self.run(leaves, batch, batch.frames.clone().autodiff(), dropout)
    }

    /// The gradients of a sum whose slopes at `outputs` are these, laid out likewise.
    pub fn differentiate(&self, outputs: Tensor<2>, slopes: Vec<f32>) -> Gradients {
        match self.operators {
            Operators::Cube => constant::moved(outputs, slopes).backward(),
            // The gradient of Σ outputs·slopes, the second factor a constant, is that sum's. It need not
            // be taken: what is differentiated is the sum of the elements.
            Operators::Flex | Operators::Plain => {
                let slopes = TensorData::new(slopes, outputs.dims());
                let slopes = Tensor::<2>::from_data(slopes, &outputs.device());
                outputs.mul(slopes).backward()
            }
        }
    }

    /// Multiplies by a mask from the CPU, where there is one.
    fn drop_out(&self, x: Tensor<2>, mask: Option<Vec<f32>>) -> Tensor<2> {
        match (mask, self.operators) {
            (None, _) => x,
            (Some(mask), Operators::Cube) => constant::weigh(x, mask),
            (Some(mask), Operators::Flex | Operators::Plain) => {
                let mask = TensorData::new(mask, x.dims());
                let device = x.device();
                x.mul(Tensor::from_data(mask, &device))
            }
        }
    }

    fn run(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        frames: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let packing = &batch.packing;
        let last = self.layers.len().saturating_sub(1);
        let mut x = frames;
        for (index, (shape, parameters)) in self.layers.iter().zip(&parameters.layers).enumerate() {
            let parameters = parameters.clone();
            x = match self.operators {
                Operators::Flex => fused::lstm(x, parameters, *shape, packing),
                Operators::Cube => cube::lstm(x, parameters, *shape, packing, cube::Way::Adapter),
                Operators::Plain => reference::lstm(x, parameters, *shape, packing),
            };
            if index < last {
                let mask = dropout.map(|dropout| dropout.frames(index, packing, shape.outputs()));
                x = self.drop_out(x, mask);
            }
        }
        let width = self
            .layers
            .last()
            .map_or(self.spec.inputs, LayerShape::outputs);
        let mask = match self.spec.config.head {
            Head::Ctc => dropout.map(|dropout| dropout.frames(last, packing, width)),
            Head::Keyword => {
                let pool = head::Pool::new(self.spec.config.pooling, &self.layers, packing);
                x = match self.operators {
                    Operators::Flex => pool.fused(x),
                    Operators::Cube => head::cube::pool(x, pool),
                    Operators::Plain => pool.reference(x),
                };
                dropout.map(|dropout| dropout.sequences(last, packing, width))
            }
        };
        let x = self.drop_out(x, mask);
        let (parameters, outputs) = (parameters.head.clone(), self.spec.outputs);
        match self.operators {
            Operators::Flex => head::linear_fused(x, parameters, outputs),
            Operators::Cube => head::cube::linear(x, parameters, outputs),
            Operators::Plain => head::linear_reference(x, parameters, outputs),
        }
    }
}

fn upload(layers: &[LayerShape], flat: &[f32], device: &Device) -> Parameters {
    let mut rest = flat;
    let mut take = |elements: usize| {
        let (values, after) = rest.split_at(elements);
        rest = after;
        Tensor::from_data(TensorData::new(values.to_vec(), [elements]), device)
    };
    let layers: Vec<Tensor<1>> = layers.iter().map(|shape| take(shape.elements())).collect();
    let head = take(flat.len() - layers.iter().map(|layer| layer.dims()[0]).sum::<usize>());
    Parameters { layers, head }
}
