//! A model's weights in a file: safetensors with the names and shapes of its recipe. It decides what is a file of
//! this model; it does not depend on where files are, and what the weights do.

use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

use crate::model::{ModelSpec, ParameterSpec};

/// What is wrong with a file of weights.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum WeightsError {
    /// It is not what it was when it was written.
    #[error("{0}")]
    Damaged(String),
    /// It is another model's.
    #[error("{0}")]
    Mismatch(String),
}

/// Names, shapes and metadata take no more room than this in a file of weights.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The size of the largest file that can hold the weights of `spec`, in bytes.
pub fn max_file_bytes(spec: &ModelSpec) -> u64 {
    4 * spec.elements() as u64 + MAX_HEADER_BYTES
}

/// The flat parameter vector of `spec` from the `bytes` of a safetensors file. Every tensor is checked
/// against `spec` before anything of its size is held.
pub fn parse(bytes: &[u8], spec: &ModelSpec) -> Result<Vec<f32>, WeightsError> {
    let mismatch = |reason: String| Err(WeightsError::Mismatch(reason));
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| {
        WeightsError::Damaged(format!("it is truncated or no safetensors file ({error})"))
    })?;
    let mut names = tensors.names();
    names.sort_unstable();
    if let Some(extra) = names.iter().find(|name| spec.parameter(name).is_none()) {
        return mismatch(format!("it has a tensor `{extra}`, which the model lacks"));
    }
    let mut found = Vec::with_capacity(names.len());
    for ParameterSpec { name, shape, .. } in &spec.parameters {
        let Ok(tensor) = tensors.tensor(name) else {
            return mismatch(format!("the tensor `{name}` is missing"));
        };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return mismatch(format!(
                "the tensor `{name}` is {:?} of shape {:?} where F32 of shape {shape:?} is due",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        found.push(tensor);
    }
    let mut weights = Vec::with_capacity(spec.elements());
    for tensor in &found {
        let (values, _) = tensor.data().as_chunks::<4>();
        weights.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    match weights.iter().position(|weight| !weight.is_finite()) {
        Some(at) => Err(WeightsError::Damaged(format!(
            "weight {at} is {}",
            weights[at]
        ))),
        None => Ok(weights),
    }
}

#[cfg(test)]
mod tests;
