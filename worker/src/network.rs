//! The network of a model specification: its layers, one after the other, on a device. It decides
//! which implementation of an operator a device gets, and does not depend on losses and gradients.

use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use speech::model::{Layer, LayerSpec, ModelSpec, Per};

#[cfg(feature = "wgpu")]
use crate::ops::constant;
use crate::ops::dropout::Dropout;
use crate::ops::{convolution, gather, linear, norm, packing::Packing, pool, recurrent};
use crate::stream::{NotStreamable, Stream};
use convolution::Packings;
use gather::Mix;
use recurrent::Recurrent;

/// A model on a device. Each layer's parameters are one flat tensor, and they follow each other as in
/// the specification's flat vector.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    device: Device,
    operators: Operators,
    parameters: Parameters,
}

/// Whose operators a device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operators {
    /// The fused ones on the CPU.
    Flex,
    /// The fused ones on a GPU.
    #[cfg(feature = "wgpu")]
    Cube,
    /// Those in plain tensor operations.
    Plain,
}

impl Operators {
    fn of(device: &Device) -> Self {
        match device.as_dispatch() {
            DispatchDevice::Flex(_) => Self::Flex,
            #[cfg(feature = "wgpu")]
            DispatchDevice::Cube(_) => Self::Cube,
            _ => Self::Plain,
        }
    }
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
        Self::with(Operators::of(device), spec, device)
    }

    /// [`Network::new`] in plain tensor operations on any device: what the others are tested against.
    pub fn plain(spec: &ModelSpec, device: &Device) -> Self {
        Self::with(Operators::Plain, spec, device)
    }

    fn with(operators: Operators, spec: &ModelSpec, device: &Device) -> Self {
        let zeros = vec![0.0; spec.elements()];
        Self {
            spec: spec.clone(),
            device: device.clone(),
            operators,
            parameters: upload(&spec.layers, &zeros, device),
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
        self.parameters = upload(&self.spec.layers, flat, &self.device);
        Ok(())
    }

    /// The network as it hears frames one after the other.
    ///
    /// # Errors
    /// When it says nothing before an utterance is over.
    pub fn stream(&self) -> Result<Stream, NotStreamable> {
        let tensors = self.parameters.0.iter().cloned();
        let values = tensors.map(|tensor| {
            let data = tensor.into_data();
            data.as_slice::<f32>().expect("parameters are f32").to_vec()
        });
        Stream::new(&self.spec, &values.flatten().collect::<Vec<f32>>())
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
        let packing = match self.operators {
            Operators::Plain => Packing::padded(&lengths),
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
            #[cfg(feature = "wgpu")]
            Operators::Cube => constant::gpu::moved(outputs, slopes).backward(),
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
            #[cfg(feature = "wgpu")]
            (Some(mask), Operators::Cube) => constant::gpu::weigh(x, mask),
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
                } => self.mix(x, Mix::context(packing, inputs, left, right)),
                Layer::AveragePool(shape) => self.mix(x, Mix::average(packing, after, &shape)),
                Layer::Convolution(shape) => {
                    let packings = Packings {
                        input: packing.clone(),
                        output: after.clone(),
                    };
                    self.convolution(x, parameters(), shape, packings)
                }
                Layer::Recurrent(shape) => self.recurrent(x, parameters(), shape, packing),
                Layer::Dense {
                    outputs,
                    activation,
                    ..
                } => {
                    let linear = match self.operators {
                        Operators::Flex => linear::fused,
                        #[cfg(feature = "wgpu")]
                        Operators::Cube => linear::gpu::linear,
                        Operators::Plain => linear::reference,
                    };
                    linear(x, parameters(), outputs, activation)
                }
                Layer::Norm { .. } => {
                    let norm = match self.operators {
                        Operators::Flex => norm::fused,
                        #[cfg(feature = "wgpu")]
                        Operators::Cube => norm::gpu::norm,
                        Operators::Plain => norm::reference,
                    };
                    norm(x, parameters())
                }
                Layer::Dropout { index } => {
                    let mask = dropout.map(|dropout| match one.per {
                        Per::Frame => dropout.frames(index, packing, one.width),
                        Per::Utterance => dropout.sequences(index, packing, one.width),
                    });
                    self.drop_out(x, mask)
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
                    match self.operators {
                        Operators::Flex => pool.fused(x),
                        #[cfg(feature = "wgpu")]
                        Operators::Cube => pool::gpu::pool(x, pool),
                        Operators::Plain => pool.reference(x),
                    }
                }
            };
        }
        x
    }

    fn mix(&self, x: Tensor<2>, mix: Mix) -> Tensor<2> {
        match self.operators {
            Operators::Flex => gather::fused(x, mix),
            #[cfg(feature = "wgpu")]
            Operators::Cube => gather::gpu::mix(x, mix),
            Operators::Plain => gather::reference(x, mix),
        }
    }

    fn convolution(
        &self,
        x: Tensor<2>,
        parameters: Tensor<1>,
        shape: speech::model::Convolution,
        packings: Packings,
    ) -> Tensor<2> {
        let (mix, linear): (fn(_, _) -> _, recurrent::reference::Linear) = match self.operators {
            Operators::Flex => return convolution::fused(x, parameters, shape, packings),
            #[cfg(feature = "wgpu")]
            Operators::Cube => (gather::gpu::mix, linear::gpu::linear),
            Operators::Plain => (gather::reference, linear::reference),
        };
        convolution::plain(x, parameters, shape, &packings, mix, linear)
    }

    fn recurrent(
        &self,
        x: Tensor<2>,
        parameters: Tensor<1>,
        shape: Recurrent,
        packing: &Arc<Packing>,
    ) -> Tensor<2> {
        #[cfg(feature = "wgpu")]
        use recurrent::gpu;
        use recurrent::{cpu, reference};
        match self.operators {
            Operators::Flex => cpu::layer(x, parameters, shape, packing),
            #[cfg(feature = "wgpu")]
            Operators::Cube if is_plain_lstm(&shape) => {
                gpu::lstm::lstm(x, parameters, shape, packing, gpu::lstm::Way::Adapter)
            }
            #[cfg(feature = "wgpu")]
            Operators::Cube => gpu::cells::layer(x, parameters, shape, packing),
            Operators::Plain => reference::layer(x, parameters, shape, packing, linear::reference),
        }
    }
}

#[cfg(feature = "wgpu")]
/// Whether it is the layer whose steps a GPU computes fastest.
fn is_plain_lstm(shape: &Recurrent) -> bool {
    shape.cell == recurrent::Cell::Lstm && shape.projection == 0
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
