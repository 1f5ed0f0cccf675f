//! The network of a model specification: its layers, one after the other, on a device. It does
//! not depend on losses and gradients; [`crate::ops`] has the operators.

pub mod outputs;

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use speech::model::{Layer, LayerSpec, ModelSpec, Per};

use crate::ops::convolution::{self, Packings};
use crate::ops::dropout::Dropout;
use crate::ops::gather::{self, RowGather};
use crate::ops::packing::Packing;
use crate::ops::{Implementation, constant, linear, norm, pool, recurrent};
use crate::stream::{NotStreamable, StreamingNetwork};

/// A model on a device. Each layer's parameters are one flat tensor, and they follow each other as in
/// the specification's flat vector.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    device: Device,
    implementation: Implementation,
    parameters: Parameters,
}

/// The parameter tensors, of a network or of one differentiation: one for each layer that has any.
#[derive(Clone, Debug)]
pub struct Parameters(Vec<Tensor<1>>);

impl Parameters {
    /// In the order of the flat vector.
    pub fn into_tensors(self) -> impl Iterator<Item = Tensor<1>> {
        self.0.into_iter()
    }
}

#[derive(Debug, thiserror::Error)]
/// A flat vector that is not as long as the model's.
#[error(
    "the model has {expected} parameters and {found} were given: they are another model's weights"
)]
pub struct WrongParameters {
    /// Parameters of the model.
    pub expected: usize,
    /// Elements of the vector.
    pub found: usize,
}

/// A batch of frames on a network's device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The packing of what goes into each layer, and of what comes out of the last.
    packings: Vec<Arc<Packing>>,
    frames: Tensor<2>,
}

impl Batch {
    /// The packing of the outputs, before they are pooled.
    pub fn packing(&self) -> &Packing {
        &self.packings[self.packings.len() - 1]
    }
}

impl Network {
    /// A network whose parameters are zeros until [`Network::load`].
    pub fn new(spec: &ModelSpec, device: &Device) -> Self {
        Self::with(Implementation::of(device), spec, device)
    }

    /// [`Network::new`] in plain tensor operations on any device: what the others are tested against.
    pub fn plain(spec: &ModelSpec, device: &Device) -> Self {
        Self::with(Implementation::Reference, spec, device)
    }

    fn with(implementation: Implementation, spec: &ModelSpec, device: &Device) -> Self {
        let zeros = vec![0.0; spec.elements()];
        Self {
            spec: spec.clone(),
            device: device.clone(),
            implementation,
            parameters: upload(&spec.layers, &zeros, device),
        }
    }

    /// The layers and the parameters of the model.
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
        self.parameters = upload(&self.spec.layers, flat, &self.device);
        Ok(())
    }

    /// The network as it hears frames one after the other.
    ///
    /// # Errors
    /// When it says nothing before an utterance is over.
    pub fn stream(&self) -> Result<StreamingNetwork, NotStreamable> {
        let tensors = self.parameters.0.iter().cloned();
        let values = tensors.map(|tensor| {
            let data = tensor.into_data();
            data.as_slice::<f32>().expect("parameters are f32").to_vec()
        });
        StreamingNetwork::new(&self.spec, &values.flatten().collect::<Vec<f32>>())
    }

    /// The parameters as leaves of a new differentiation.
    pub fn leaves(&self) -> Parameters {
        let tensors = self.parameters.0.iter();
        let leaf = |tensor: &Tensor<1>| tensor.clone().autodiff().require_grad();
        Parameters(tensors.map(leaf).collect())
    }

    /// Brings sequences (each [length, inputs]) to the device.
    pub fn batch(&self, sequences: &[&[f32]]) -> Batch {
        let inputs = self.spec.inputs;
        let lengths: Vec<usize> = sequences
            .iter()
            .map(|frames| frames.len() / inputs)
            .collect();
        let packing = match self.implementation {
            Implementation::Reference => Packing::padded(&lengths),
            _ => Packing::packed(&lengths),
        };
        let rows = packing.gather(sequences, inputs);
        let data = TensorData::new(rows, [packing.rows(), inputs]);
        Batch {
            frames: Tensor::from_data(data, &self.device),
            packings: self.packings(packing),
        }
    }

    /// How frames lie before each layer and after the last.
    fn packings(&self, first: Packing) -> Vec<Arc<Packing>> {
        let mut packings = vec![Arc::new(first)];
        for one in &self.spec.layers {
            let last = &packings[packings.len() - 1];
            packings.push(match one.layer.frame_stride() {
                1 => last.clone(),
                stride => Arc::new(last.strided(stride)),
            });
        }
        packings
    }

    /// The outputs before the softmax: a row for each row of the packing (CTC), or for each place in
    /// it (keyword), with the network's own parameters and without dropout.
    ///
    /// # Panics
    /// If the batch was made by a network with another implementation of the operators, which pads or packs.
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

    /// The gradients of a loss whose gradient with respect to `outputs` is `output_grad`, laid out likewise.
    pub fn differentiate(&self, outputs: Tensor<2>, output_grad: Vec<f32>) -> Gradients {
        constant::differentiate(self.implementation, outputs, output_grad)
    }

    fn run(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        frames: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let implementation = self.implementation;
        let mut parameters = parameters.0.iter().cloned();
        let mut x = frames;
        let mut kept = None;
        for (one, packings) in self.spec.layers.iter().zip(batch.packings.windows(2)) {
            let (packing, after) = (&packings[0], &packings[1]);
            let mut parameters = || parameters.next().expect("of each layer that has any");
            x = match one.layer {
                Layer::Context {
                    inputs,
                    left,
                    right,
                } => gather::apply(
                    implementation,
                    x,
                    RowGather::context(packing, inputs, left, right),
                ),
                Layer::AveragePool(shape) => gather::apply(
                    implementation,
                    x,
                    RowGather::average(packing, after, &shape),
                ),
                Layer::Convolution(shape) => {
                    let packings = Packings {
                        input: packing.clone(),
                        output: after.clone(),
                    };
                    convolution::apply(implementation, x, parameters(), shape, packings)
                }
                Layer::Recurrent(shape) => {
                    recurrent::apply(implementation, x, parameters(), shape, packing)
                }
                Layer::Dense {
                    outputs,
                    activation,
                    ..
                } => linear::apply(implementation, x, parameters(), outputs, activation),
                Layer::Norm { .. } => norm::apply(implementation, x, parameters()),
                Layer::Dropout { index } => {
                    let mask = dropout.map(|dropout| match one.per {
                        Per::Frame => dropout.frames(index, packing, one.width),
                        Per::Utterance => dropout.sequences(index, packing, one.width),
                    });
                    match mask {
                        Some(mask) => constant::multiply(implementation, x, mask),
                        None => x,
                    }
                }
                Layer::Keep => {
                    kept = Some(x.clone());
                    x
                }
                Layer::Add => match kept.take() {
                    Some(kept) => x.add(kept),
                    None => x,
                },
                Layer::Pool { directions } => {
                    let (pooling, hidden) = (self.spec.config.pooling, one.width / directions);
                    let pool = pool::Pool::new(pooling, hidden, directions, packing);
                    pool::apply(implementation, x, pool)
                }
            };
        }
        x
    }
}

fn upload(layers: &[LayerSpec], flat: &[f32], device: &Device) -> Parameters {
    let with_parameters = layers.iter().filter(|one| !one.parameters.is_empty());
    let tensor = |one: &LayerSpec| {
        let values = flat[one.parameters.clone()].to_vec();
        let elements = values.len();
        Tensor::from_data(TensorData::new(values, [elements]), device)
    };
    Parameters(with_parameters.map(tensor).collect())
}
