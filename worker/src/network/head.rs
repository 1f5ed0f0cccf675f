//! The end of a network: what of the frames a keyword head sees, and the last linear layer. Each is
//! one operator with its own backward pass on the CPU (flex) and on a GPU, and plain tensor operations
//! elsewhere.

pub mod cube;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Ops, OpsKind};
use burn_flex::FlexTensor;
use speech::model::Pooling;

use crate::kernel::Level;
use crate::kernel::matrix::{Left, Panels, Start, add_rows, multiply_parallel};
use crate::lstm::fused::{contiguous, tensor, values};
use crate::lstm::{LayerShape, Packing};

/// A row for each sequence as a weighted sum of the rows of its frames, each direction's columns
/// with rows of their own.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `sources[direction][place]`: rows and their common weight.
    sources: Vec<Vec<(Vec<usize>, f32)>>,
    rows: usize,
    /// Columns of a direction.
    hidden: usize,
}

impl Pool {
    /// How `pooling` sees the frames that the last of `layers` gives.
    pub fn new(pooling: Pooling, layers: &[LayerShape], packing: &Packing) -> Self {
        let (hidden, directions) = layers
            .last()
            .map_or((0, 1), |layer| (layer.hidden, layer.directions));
        let sources = (0..directions)
            .map(|direction| {
                (0..packing.sequences())
                    .map(|place| match (pooling, packing.length(place)) {
                        (_, 0) => (Vec::new(), 0.0),
                        (Pooling::Last, length) => {
                            let step = if direction == 0 { length - 1 } else { 0 };
                            (vec![packing.row(step, place)], 1.0)
                        }
                        (Pooling::Mean, length) => {
                            let rows = (0..length).map(|step| packing.row(step, place)).collect();
                            (rows, 1.0 / length as f32)
                        }
                    })
                    .collect()
            })
            .collect();
        Self {
            sources,
            rows: packing.rows(),
            hidden,
        }
    }

    fn places(&self) -> usize {
        self.sources[0].len()
    }

    fn width(&self) -> usize {
        self.hidden * self.sources.len()
    }

    /// Rows [rows, width] to [sequences, width], on a flex device.
    pub fn fused(self, frames: Tensor<2>) -> Tensor<2> {
        assert_eq!(frames.dims(), [self.rows, self.width()], "frames to pool");
        let pool = Arc::new(self);
        Tensor::from_dispatch(<Dispatch as HeadOperators>::pool(
            frames.into_dispatch(),
            pool,
        ))
    }

    /// [`Pool::fused`] on any device: a product with a constant matrix a direction.
    pub fn reference(self, frames: Tensor<2>) -> Tensor<2> {
        let parts = self
            .sources
            .iter()
            .enumerate()
            .map(|(direction, sources)| {
                let mut weights = vec![0.0; sources.len() * self.rows];
                for (place, (rows, weight)) in sources.iter().enumerate() {
                    for row in rows {
                        weights[place * self.rows + row] = *weight;
                    }
                }
                let weights = TensorData::new(weights, [sources.len(), self.rows]);
                let weights: Tensor<2> = Tensor::from_data(weights, &frames.device());
                weights.matmul(
                    frames
                        .clone()
                        .narrow(1, direction * self.hidden, self.hidden),
                )
            })
            .collect();
        Tensor::cat(parts, 1)
    }

    fn forward(&self, frames: &[f32]) -> Vec<f32> {
        let (width, hidden) = (self.width(), self.hidden);
        let mut pooled = vec![0.0; self.places() * width];
        self.each(|place, row, columns, weight| {
            let target = &mut pooled[place * width + columns..][..hidden];
            for (sum, value) in target.iter_mut().zip(&frames[row * width + columns..]) {
                *sum += weight * value;
            }
        });
        pooled
    }

    fn backward(&self, pooled_gradient: &[f32]) -> Vec<f32> {
        let (width, hidden) = (self.width(), self.hidden);
        let mut gradient = vec![0.0; self.rows * width];
        self.each(|place, row, columns, weight| {
            let target = &mut gradient[row * width + columns..][..hidden];
            for (result, value) in target
                .iter_mut()
                .zip(&pooled_gradient[place * width + columns..])
            {
                *result = weight * value;
            }
        });
        gradient
    }

    /// Calls `f` with each place, row, first column and weight.
    fn each(&self, mut f: impl FnMut(usize, usize, usize, f32)) {
        for (direction, sources) in self.sources.iter().enumerate() {
            for (place, (rows, weight)) in sources.iter().enumerate() {
                for &row in rows {
                    f(place, row, direction * self.hidden, *weight);
                }
            }
        }
    }
}

/// `x` [rows, width] times the transpose of the weight [outputs, width], plus the bias, on a flex
/// device; `parameters` holds both.
pub fn linear_fused(x: Tensor<2>, parameters: Tensor<1>, outputs: usize) -> Tensor<2> {
    let [_, width] = x.dims();
    assert_eq!(
        parameters.dims(),
        [outputs * (width + 1)],
        "parameters of the head"
    );
    Tensor::from_dispatch(<Dispatch as HeadOperators>::linear(
        x.into_dispatch(),
        parameters.into_dispatch(),
        outputs,
        width,
    ))
}

/// [`linear_fused`] on any device.
pub fn linear_reference(x: Tensor<2>, parameters: Tensor<1>, outputs: usize) -> Tensor<2> {
    let [_, width] = x.dims();
    let weights = outputs * width;
    let weight = parameters
        .clone()
        .narrow(0, 0, weights)
        .reshape([outputs, width]);
    let bias = parameters.narrow(0, weights, outputs).reshape([1, outputs]);
    x.matmul(weight.transpose()).add(bias)
}

/// The operators as burn dispatches them.
#[backend_extension(Flex, Autodiff)]
pub trait HeadOperators: Backend {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self>;

    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self>;
}

impl HeadOperators for Flex {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        tensor(
            pool.forward(values(&contiguous(frames))),
            [pool.places(), pool.width()],
        )
    }

    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        linear_forward(&contiguous(x), &contiguous(parameters), outputs, width)
    }
}

impl<C: CheckpointStrategy> HeadOperators for Autodiff<Flex, C> {
    fn pool(frames: FloatTensor<Self>, pool: Arc<Pool>) -> FloatTensor<Self> {
        let guards = [frames.node()];
        let output = <Flex as HeadOperators>::pool(frames.into_primitive(), pool.clone());
        match burn_autodiff::ops::Backward::<Flex, 1>::prepare::<C>(PoolStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(pool, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn linear(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        outputs: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), parameters.node()];
        let x = contiguous(x.into_primitive());
        let parameters = contiguous(parameters.into_primitive());
        let output = linear_forward(&x, &parameters, outputs, width);
        match burn_autodiff::ops::Backward::<Flex, 2>::prepare::<C>(LinearStep, guards)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                Linear {
                    x,
                    parameters,
                    outputs,
                    width,
                },
                output,
            ),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct PoolStep;

impl burn_autodiff::ops::Backward<Flex, 1> for PoolStep {
    type State = Arc<Pool>;

    fn backward(self, ops: Ops<Arc<Pool>, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let pool = ops.state;
            let gradient = pool.backward(values(&gradient));
            gradients.register::<Flex>(parent.id, tensor(gradient, [pool.rows, pool.width()]));
        }
    }
}

#[derive(Debug)]
struct LinearStep;

/// What the backward pass of the linear layer needs.
#[derive(Clone, Debug)]
struct Linear {
    x: FlexTensor,
    parameters: FlexTensor,
    outputs: usize,
    width: usize,
}

impl burn_autodiff::ops::Backward<Flex, 2> for LinearStep {
    type State = Linear;

    fn backward(self, ops: Ops<Linear, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let level = Level::detect();
        let output_gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let output_gradient = values(&output_gradient);
        let Linear {
            x,
            parameters,
            outputs,
            width,
        } = ops.state;
        let rows = output_gradient.len() / outputs.max(1);
        let weights = outputs * width;
        let [x_node, parameters_node] = ops.parents;
        if let Some(node) = x_node {
            let weight = Panels::pack(&values(&parameters)[..weights], outputs, width);
            let left = Left::rows(output_gradient, outputs);
            let mut gradient = vec![0.0; rows * width];
            multiply_parallel(level, left, &weight, Start::Zero, &mut gradient, width);
            gradients.register::<Flex>(node.id, tensor(gradient, [rows, width]));
        }
        if let Some(node) = parameters_node {
            let mut gradient = vec![0.0; weights + outputs];
            let (weight, bias) = gradient.split_at_mut(weights);
            let left = Left::transposed(output_gradient, outputs);
            let panels = Panels::pack(values(&x), rows, width);
            multiply_parallel(level, left, &panels, Start::Zero, weight, width);
            add_rows(level, output_gradient, bias);
            gradients.register::<Flex>(node.id, tensor(gradient, [weights + outputs]));
        }
    }
}

fn linear_forward(
    x: &FlexTensor,
    parameters: &FlexTensor,
    outputs: usize,
    width: usize,
) -> FlexTensor {
    let (x, parameters) = (values(x), values(parameters));
    let rows = x.len() / width.max(1);
    let weight = Panels::transpose(&parameters[..outputs * width], width, outputs);
    let start = Start::Row(&parameters[outputs * width..]);
    let mut result = vec![0.0; rows * outputs];
    let left = Left::rows(x, width);
    multiply_parallel(Level::detect(), left, &weight, start, &mut result, outputs);
    tensor(result, [rows, outputs])
}
