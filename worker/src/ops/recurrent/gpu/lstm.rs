//! The layer as one operator with its own backward pass, for a GPU. It decides what is kept between the
//! passes and how a layer is cut into launches; the recurrence is `steps`'s.
//!
//! Frames are packed, so that no row is padding. How many frames and sequences there are is told to the
//! kernels when they are launched: a batch of other lengths needs no other kernels.

mod steps;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::matmul::{Kind, Matrix, Size, Start, multiply, multiply_long, sum_rows};
use crate::gpu::{Gpu, Table, contiguous, word};
use crate::ops::packing::Packing;
use crate::ops::recurrent::{self, Recurrent};

/// Whose way of computing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The one that suits the adapter.
    Adapter,
    /// That of a hardware GPU, on any adapter.
    Hardware,
}

/// Rows `[packing.rows(), inputs]` and the flat parameters of a layer to rows
/// `[packing.rows(), outputs]`, on a wgpu device.
///
/// # Panics
/// If the batch is padded or empty, the shapes do not fit, or the device is another.
pub fn lstm(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
    way: Way,
) -> Tensor<2> {
    assert!(packing.rows() > 0, "a packed batch with frames");
    recurrent::check(&input, &parameters, &shape, packing);
    Tensor::from_dispatch(<Dispatch as CubeLstmOperator>::cube_lstm(
        input.into_dispatch(),
        parameters.into_dispatch(),
        shape,
        packing.clone(),
        way,
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait CubeLstmOperator: Backend {
    fn cube_lstm(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        way: Way,
    ) -> FloatTensor<Self>;
}

impl CubeLstmOperator for CubeBackend {
    fn cube_lstm(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        way: Way,
    ) -> FloatTensor<Self> {
        let layer = Layer {
            input: contiguous(input),
            parameters: contiguous(parameters),
            shape,
            packing,
            way,
        };
        layer.forward().output
    }
}

impl<C: CheckpointStrategy> CubeLstmOperator for Autodiff<CubeBackend, C> {
    fn cube_lstm(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        way: Way,
    ) -> FloatTensor<Self> {
        let guards = [input.node(), parameters.node()];
        let layer = Layer {
            input: contiguous(input.into_primitive()),
            parameters: contiguous(parameters.into_primitive()),
            shape,
            packing,
            way,
        };
        let trace = layer.forward();
        let output = trace.output.clone();
        match burn_autodiff::ops::Backward::<CubeBackend, 2>::prepare::<C>(LayerStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((layer, Arc::new(trace)), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// The operator's name in the differentiation graph.
#[derive(Debug)]
struct LayerStep;

impl burn_autodiff::ops::Backward<CubeBackend, 2> for LayerStep {
    type State = (Layer, Arc<Trace>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let slopes = contiguous(gradients.consume::<CubeBackend>(&ops.node));
        let (layer, trace) = ops.state;
        // The backward pass writes over the trace: where somebody else holds it, another is made.
        let trace = Arc::try_unwrap(trace).unwrap_or_else(|_| layer.forward());
        let [input_node, parameters_node] = ops.parents;
        layer.backward(&slopes, &trace);
        if let Some(node) = input_node {
            let gradient = layer.input_gradient(&trace);
            gradients.register::<CubeBackend>(node.id, gradient);
        }
        if let Some(node) = parameters_node {
            let gradient = layer.parameter_gradient(&trace);
            gradients.register::<CubeBackend>(node.id, gradient);
        }
    }
}

/// What a layer is computed from.
#[derive(Clone, Debug)]
struct Layer {
    input: CubeTensor,
    parameters: CubeTensor,
    shape: Recurrent,
    packing: Arc<Packing>,
    way: Way,
}

/// What the forward pass leaves behind, a row for each frame.
#[derive(Debug)]
struct Trace {
    /// [rows, directions, 4H]: the gates i, f, g, o; after the backward pass the gradients before their
    /// sigmoids and tanh.
    gates: CubeTensor,
    /// [rows, directions, H]; the backward pass leaves other things there.
    cells: CubeTensor,
    /// [rows, directions, H].
    output: CubeTensor,
    /// [rows, directions, H]: the outputs that each frame began with; the backward pass writes them.
    previous: CubeTensor,
    /// First row of each step, and the number of rows.
    starts: Table,
}

impl Layer {
    fn gpu(&self) -> Gpu {
        let gpu = Gpu::of(&self.input);
        match self.way {
            Way::Adapter => gpu,
            Way::Hardware => gpu.into_hardware(),
        }
    }

    fn forward(&self) -> Trace {
        let (gpu, shape, rows) = (self.gpu(), self.shape, self.packing.rows());
        let (gates, width) = (4 * shape.hidden, shape.outputs());
        let starts: Vec<u32> = (0..self.packing.steps())
            .map(|step| word(self.packing.row(step, 0)))
            .chain([word(rows)])
            .collect();
        let trace = Trace {
            gates: gpu.empty([rows, shape.directions * gates]),
            cells: gpu.empty([rows, width]),
            output: gpu.empty([rows, width]),
            previous: gpu.empty([rows, width]),
            starts: gpu.upload(&starts),
        };
        for direction in 0..shape.directions {
            let ranges = shape.direction(direction);
            let size = Size {
                m: rows,
                n: gates,
                k: shape.inputs,
            };
            let weight = self.weight(ranges.weight_ih.start, shape.inputs);
            let biases = Start::Rows(ranges.bias_ih.start, ranges.bias_hh.start);
            let result = self.gates(&trace, direction);
            multiply(
                &gpu,
                Kind::RightTransposed,
                size,
                self.rows(),
                weight,
                biases,
                result,
            );
        }
        steps::forward(&gpu, self, &trace);
        trace
    }

    fn backward(&self, slopes: &CubeTensor, trace: &Trace) {
        steps::backward(&self.gpu(), self, slopes, trace);
    }

    fn input_gradient(&self, trace: &Trace) -> CubeTensor {
        let (gpu, shape, rows) = (self.gpu(), self.shape, self.packing.rows());
        let gradient = gpu.empty([rows, shape.inputs]);
        for direction in 0..shape.directions {
            let size = Size {
                m: rows,
                n: shape.inputs,
                k: 4 * shape.hidden,
            };
            let weight = self.weight(shape.direction(direction).weight_ih.start, shape.inputs);
            let start = if direction == 0 {
                Start::Zero
            } else {
                Start::Result
            };
            let result = Matrix {
                buffer: &gradient,
                offset: 0,
                stride: shape.inputs,
            };
            let gates = self.gates(trace, direction);
            multiply(&gpu, Kind::Plain, size, gates, weight, start, result);
        }
        gradient
    }

    fn parameter_gradient(&self, trace: &Trace) -> CubeTensor {
        let (gpu, shape, rows) = (self.gpu(), self.shape, self.packing.rows());
        let gradient = gpu.empty([shape.elements()]);
        for direction in 0..shape.directions {
            let ranges = shape.direction(direction);
            let gates = self.gates(trace, direction);
            let previous = Matrix {
                buffer: &trace.previous,
                offset: direction * shape.hidden,
                stride: shape.outputs(),
            };
            for (right, columns, offset) in [
                (self.rows(), shape.inputs, ranges.weight_ih.start),
                (previous, shape.hidden, ranges.weight_hh.start),
            ] {
                let size = Size {
                    m: 4 * shape.hidden,
                    n: columns,
                    k: rows,
                };
                let result = Matrix {
                    buffer: &gradient,
                    offset,
                    stride: columns,
                };
                multiply_long(&gpu, size, gates, right, result);
            }
            let biases = [ranges.bias_ih.start, ranges.bias_hh.start];
            sum_rows(&gpu, gates, rows, 4 * shape.hidden, &gradient, &biases);
        }
        gradient
    }

    fn rows(&self) -> Matrix<'_> {
        Matrix {
            buffer: &self.input,
            offset: 0,
            stride: self.shape.inputs,
        }
    }

    fn weight(&self, offset: usize, stride: usize) -> Matrix<'_> {
        Matrix {
            buffer: &self.parameters,
            offset,
            stride,
        }
    }

    fn gates<'a>(&self, trace: &'a Trace, direction: usize) -> Matrix<'a> {
        let gates = 4 * self.shape.hidden;
        Matrix {
            buffer: &trace.gates,
            offset: direction * gates,
            stride: self.shape.directions * gates,
        }
    }
}
