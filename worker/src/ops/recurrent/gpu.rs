//! Recurrent layers for cubecl (wgpu): `lstm`, specialised kernels for LSTM layers without a projection, and
//! `cells`, kernels for every layer. Both are one operator, which keeps the activations for the backward pass.

mod cells;
mod lstm;

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::matmul::Matrix;
use crate::gpu::{Gpu, contiguous};
use crate::ops::autodiff::{Saved, register};
use crate::ops::packing::Packing;
use crate::ops::recurrent::{self, Cell, Recurrent};

/// Which kernels compute a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Those for LSTM layers without a projection.
    Lstm,
    /// Those for every cell: a product and a launch or two for each step of a direction.
    Cells,
}

impl Algorithm {
    /// The fastest for a layer.
    fn of(shape: &Recurrent) -> Self {
        if shape.cell == Cell::Lstm && shape.projection == 0 {
            Self::Lstm
        } else {
            Self::Cells
        }
    }
}

/// For which adapter launches are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The adapter that computes.
    Adapter,
    /// A hardware GPU, whatever the adapter is.
    Hardware,
}

/// [`super::apply`] on a wgpu device.
///
/// # Panics
/// If the batch is padded or empty, the shapes do not fit, or the device is another.
pub fn apply(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
) -> Tensor<2> {
    let algorithm = Algorithm::of(&shape);
    let (shape, target) = (shape, Target::Adapter);
    apply_by(algorithm, target, input, parameters, shape, packing)
}

/// [`apply`] by the kernels of an algorithm, cut for a target.
///
/// # Panics
/// As [`apply`] does, and if the algorithm cannot compute the layer.
pub fn apply_by(
    algorithm: Algorithm,
    target: Target,
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Arc<Packing>,
) -> Tensor<2> {
    assert!(packing.rows() > 0, "a packed batch with frames");
    assert!(
        algorithm == Algorithm::Cells || Algorithm::of(&shape) == algorithm,
        "a layer that these kernels compute"
    );
    recurrent::check(&input, &parameters, &shape, packing);
    Tensor::from_dispatch(<Dispatch as RecurrentOperator>::recurrent(
        input.into_dispatch(),
        parameters.into_dispatch(),
        shape,
        packing.clone(),
        algorithm,
        target,
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait RecurrentOperator: Backend {
    /// The layer's outputs [rows, outputs].
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        algorithm: Algorithm,
        target: Target,
    ) -> FloatTensor<Self>;
}

impl RecurrentOperator for CubeBackend {
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        algorithm: Algorithm,
        target: Target,
    ) -> FloatTensor<Self> {
        let layer = Layer::new(input, parameters, shape, packing, target);
        match algorithm {
            Algorithm::Lstm => lstm::Lstm(layer).activations().1,
            Algorithm::Cells => cells::Cells(layer).activations().1,
        }
    }
}

impl<C: CheckpointStrategy> RecurrentOperator for Autodiff<CubeBackend, C> {
    fn recurrent(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        shape: Recurrent,
        packing: Arc<Packing>,
        algorithm: Algorithm,
        target: Target,
    ) -> FloatTensor<Self> {
        let inputs = [input.node(), parameters.node()];
        let (input, parameters) = (input.into_primitive(), parameters.into_primitive());
        let layer = Layer::new(input, parameters, shape, packing, target);
        match algorithm {
            Algorithm::Lstm => {
                let (saved, output) = SavedLayer::forward(lstm::Lstm(layer));
                register::<_, C, _, 2>(inputs, output, saved)
            }
            Algorithm::Cells => {
                let (saved, output) = SavedLayer::forward(cells::Cells(layer));
                register::<_, C, _, 2>(inputs, output, saved)
            }
        }
    }
}

/// What a layer is computed from.
#[derive(Clone, Debug)]
struct Layer {
    /// [rows, inputs]
    input: CubeTensor,
    parameters: CubeTensor,
    shape: Recurrent,
    packing: Arc<Packing>,
    target: Target,
}

impl Layer {
    fn new(
        input: CubeTensor,
        parameters: CubeTensor,
        shape: Recurrent,
        packing: Arc<Packing>,
        target: Target,
    ) -> Self {
        Self {
            input: contiguous(input),
            parameters: contiguous(parameters),
            shape,
            packing,
            target,
        }
    }

    fn gpu(&self) -> Gpu {
        let gpu = Gpu::of(&self.input);
        match self.target {
            Target::Adapter => gpu,
            Target::Hardware => gpu.into_hardware(),
        }
    }

    /// The weight of so many columns that begins at `offset` of the parameters.
    fn weight(&self, offset: usize, columns: usize) -> Matrix<'_> {
        Matrix {
            buffer: &self.parameters,
            offset,
            stride: columns,
        }
    }
}

/// The passes of an algorithm.
trait Passes: Clone + Debug + Send + 'static {
    /// What the forward pass keeps.
    type Activations: Debug + Send + Sync;

    /// The activations, and among them the output [rows, outputs].
    fn activations(&self) -> (Self::Activations, CubeTensor);

    /// The gradients of input and parameters. It may write over the activations.
    fn gradients(
        &self,
        activations: Self::Activations,
        output_grad: &CubeTensor,
        wanted: [bool; 2],
    ) -> [Option<CubeTensor>; 2];
}

/// What the backward pass needs.
#[derive(Debug)]
struct SavedLayer<P: Passes> {
    passes: P,
    activations: Arc<P::Activations>,
}

// Derived, it would ask for activations that can be copied.
impl<P: Passes> Clone for SavedLayer<P> {
    fn clone(&self) -> Self {
        Self {
            passes: self.passes.clone(),
            activations: self.activations.clone(),
        }
    }
}

impl<P: Passes> SavedLayer<P> {
    fn forward(passes: P) -> (Self, CubeTensor) {
        let (activations, output) = passes.activations();
        let activations = Arc::new(activations);
        (
            Self {
                passes,
                activations,
            },
            output,
        )
    }
}

impl<P: Passes> Saved<CubeBackend, 2> for SavedLayer<P> {
    fn backward(self, output_grad: CubeTensor, wanted: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let Self {
            passes,
            activations,
        } = self;
        // The backward pass writes over the activations: where somebody else holds them, others are made.
        let activations = Arc::try_unwrap(activations).unwrap_or_else(|_| passes.activations().0);
        passes.gradients(activations, &contiguous(output_grad), wanted)
    }
}
