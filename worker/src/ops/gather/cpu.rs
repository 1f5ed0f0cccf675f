//! Weighted gathers on the CPU (flex).

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::Mix;
use crate::ops::autodiff::{Saved, register};
use crate::ops::flex::{contiguous, tensor, values};

/// [`super::apply`] on a flex device.
pub fn apply(x: Tensor<2>, mix: Mix) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GatherOperator>::gather(
        x.into_dispatch(),
        Arc::new(mix),
    ))
}

/// The operator as burn dispatches it.
#[backend_extension(Flex, Autodiff)]
pub trait GatherOperator: Backend {
    fn gather(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self>;
}

impl GatherOperator for Flex {
    fn gather(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        tensor(gather(&mix, values(&contiguous(x))), mix.dims())
    }
}

impl<C: CheckpointStrategy> GatherOperator for Autodiff<Flex, C> {
    fn gather(x: FloatTensor<Self>, mix: Arc<Mix>) -> FloatTensor<Self> {
        let inputs = [x.node()];
        let output = <Flex as GatherOperator>::gather(x.into_primitive(), mix.clone());
        register::<_, C, _, 1>(inputs, output, SavedGather(mix))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct SavedGather(Arc<Mix>);

impl Saved<Flex, 1> for SavedGather {
    fn backward(self, output_grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let output_grad = contiguous(output_grad);
        let scatter = self.0.transposed();
        [Some(tensor(
            gather(&scatter, values(&output_grad)),
            scatter.dims(),
        ))]
    }
}

fn gather(mix: &Mix, x: &[f32]) -> Vec<f32> {
    /// Units that a thread computes at a time.
    const UNITS: usize = 256;
    let unit = mix.unit;
    let mut result = vec![0.0; mix.shape[0] * mix.shape[1] * unit];
    result
        .par_chunks_mut(UNITS * unit)
        .enumerate()
        .for_each(|(chunk, targets)| {
            for (i, target) in targets.chunks_exact_mut(unit).enumerate() {
                let i = chunk * UNITS + i;
                for at in mix.begins[i] as usize..mix.begins[i + 1] as usize {
                    let source = &x[mix.sources[at] as usize * unit..][..unit];
                    for (sum, value) in target.iter_mut().zip(source) {
                        *sum += mix.weights[at] * value;
                    }
                }
            }
        });
    result
}
