//! A layer of any cell on a GPU, GRU, plain or with a projection: a product and a launch or two for each
//! step of a direction. It decides what is kept between the passes; an LSTM without a projection is
//! faster by the parent.

mod kernels;
mod passes;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::contiguous;
use crate::ops::packing::Packing;
use crate::ops::recurrent::{self, Recurrent};

/// Rows `[packing.rows(), inputs]` and the flat parameters of a layer to rows
/// `[packing.rows(), outputs]`, on a wgpu device.
///
/// # Panics
/// If the batch is padded or empty, the shapes do not fit, or the device is another.
pub fn layer(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
) -> Tensor<2> {
    assert!(packing.rows() > 0, "a packed batch with frames");
    recurrent::check(&input, &parameters, &shape, packing);
    Tensor::from_dispatch(<Dispatch as CubeCellOperator>::cube_cell(
        input.into_dispatch(),
        parameters.into_dispatch(),
        shape,
        packing.clone(),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait CubeCellOperator: Backend {
    fn cube_cell(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self>;
}

impl CubeCellOperator for CubeBackend {
    fn cube_cell(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self> {
        Layer::new(input, parameters, shape, packing)
            .forward()
            .output
    }
}

impl<C: CheckpointStrategy> CubeCellOperator for Autodiff<CubeBackend, C> {
    fn cube_cell(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
    ) -> FloatTensor<Self> {
        let guards = [input.node(), parameters.node()];
        let (input, parameters) = (input.into_primitive(), parameters.into_primitive());
        let layer = Layer::new(input, parameters, shape, packing);
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
        let back = layer.backward(&slopes, &trace);
        if let Some(node) = input_node {
            let gradient = layer.input_gradient(&trace);
            gradients.register::<CubeBackend>(node.id, gradient);
        }
        if let Some(node) = parameters_node {
            let gradient = layer.parameter_gradient(&trace, &back);
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
}

/// What the forward pass leaves behind, a row for each frame.
#[derive(Debug)]
struct Trace {
    /// [rows, directions, G·H]: the input's part of the sums, then the gates; after the backward pass
    /// the gradients of the former.
    gates: CubeTensor,
    /// [rows, directions, G·H]: the hidden state's part, and its gradients.
    hidden: CubeTensor,
    /// [rows, directions, H]: an LSTM's cells.
    cells: CubeTensor,
    /// [rows, directions, H]: what is projected.
    unprojected: Option<CubeTensor>,
    /// [rows, directions, S]
    output: CubeTensor,
}

/// What the backward pass leaves beside the trace.
struct Back {
    /// [rows, directions, S]: of the hidden states.
    slopes: CubeTensor,
    /// [rows, directions, S]: the hidden states that each frame began with.
    previous: CubeTensor,
}

/// A step of a direction: its first row and its sequences, and the same of the step before and of the
/// one after in the order of the recurrence, as far as they have sequences in common.
#[derive(Clone, Copy)]
struct Step {
    row: usize,
    count: usize,
    before: (usize, usize),
    after: (usize, usize),
}
