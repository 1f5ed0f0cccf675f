//! Weighted gathers on the CPU (flex).

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::RowGather;
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};

/// [`super::apply`] on a flex device.
pub(crate) fn apply(x: Tensor<2>, gather: RowGather) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GatherOperator>::gather(
        x.into_dispatch(),
        Arc::new(gather),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait GatherOperator: Backend {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self>;
}

impl GatherOperator for Flex {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self> {
        tensor(gather_rows(&gather, values(&contiguous(x))), gather.dims())
    }
}

impl<C: CheckpointStrategy> GatherOperator for Autodiff<Flex, C> {
    fn gather(x: FloatTensor<Self>, gather: Arc<RowGather>) -> FloatTensor<Self> {
        let inputs = [x.node()];
        let output = <Flex as GatherOperator>::gather(x.into_primitive(), gather.clone());
        register::<_, C, _, 1>(inputs, output, SavedGather(gather))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedGather(Arc<RowGather>);

impl Saved<Flex, 1> for SavedGather {
    fn backward(self, output_grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let output_grad = contiguous(output_grad);
        let scatter = self.0.transposed();
        [Some(tensor(
            gather_rows(&scatter, values(&output_grad)),
            scatter.dims(),
        ))]
    }
}

fn gather_rows(gather: &RowGather, x: &[f32]) -> Vec<f32> {
    /// Units that a thread computes at a time.
    const UNITS: usize = 256;
    let unit = gather.unit;
    let mut result = vec![0.0; gather.shape[0] * gather.shape[1] * unit];
    result
        .par_chunks_mut(UNITS * unit)
        .enumerate()
        .for_each(|(chunk, targets)| {
            for (i, target) in targets.chunks_exact_mut(unit).enumerate() {
                let i = chunk * UNITS + i;
                for at in gather.begins[i] as usize..gather.begins[i + 1] as usize {
                    let source = &x[gather.sources[at] as usize * unit..][..unit];
                    for (sum, value) in target.iter_mut().zip(source) {
                        *sum += gather.weights[at] * value;
                    }
                }
            }
        });
    result
}
