//! Tensors of burn's flex backend as slices and back.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// The tensor with its elements in order and no others in its buffer's way.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    // `to_contiguous` would leave a second owner behind.
    if tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("a contiguous f32 tensor: made so where it came in")
}

pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
