//! What a network gives for utterances: its output rows on the CPU, each utterance's by itself, and their
//! log-probabilities.

use burn::tensor::{Tensor, TensorData, Transaction};
use speech::{
    error_class::{self, Class, Classify},
    features::Features,
    model::Head,
};

use super::{Batch, Network};
use crate::loss;

/// Why a network gives no outputs.
#[derive(Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum NetworkError {
    #[error("utterance {position} of the micro-batch has {found} features a frame, not {expected}")]
    Features {
        position: usize,
        expected: usize,
        found: usize,
    },
    #[error("the device failed: {0}")]
    Device(String),
}

impl Classify for NetworkError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// The log-probabilities that the network gives to the classes or units: for each utterance
/// `[output frames, outputs]` (CTC) or `[outputs]` (keyword). An utterance without frames has none.
///
/// # Errors
/// If an utterance does not fit the model, or the device fails.
pub fn log_probs(network: &Network, features: &[&Features]) -> Result<Vec<Vec<f32>>, NetworkError> {
    let spec = network.spec();
    check_features(network, features)?;
    let kept: Vec<usize> = (0..features.len())
        .filter(|&position| features[position].frames > 0)
        .collect();
    let mut result = vec![Vec::new(); features.len()];
    if kept.is_empty() {
        return Ok(result);
    }
    let sequences: Vec<&[f32]> = kept
        .iter()
        .map(|&position| &features[position].data[..])
        .collect();
    let batch = network.batch(&sequences);
    let values = read(network.forward(&batch))?;
    let rows = Rows {
        head: spec.config.head,
        batch: &batch,
        outputs: spec.outputs,
    };
    for (position, logits) in kept.into_iter().zip(rows.split(&values)) {
        let mut log_probs = vec![0.0; logits.len()];
        loss::log_softmax(&logits, spec.outputs, &mut log_probs);
        result[position] = log_probs.into_iter().map(|value| value as f32).collect();
    }
    Ok(result)
}

/// The rows of a network's outputs and the utterances they belong to.
pub(crate) struct Rows<'a> {
    pub head: Head,
    pub batch: &'a Batch,
    pub outputs: usize,
}

impl Rows<'_> {
    /// Each utterance's rows, in the order in which they came.
    pub(crate) fn split(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let packing = self.batch.packing();
        match self.head {
            Head::Ctc => packing.scatter(values, self.outputs),
            Head::Keyword => {
                let mut utterances = vec![Vec::new(); packing.sequences()];
                for (row, &position) in values.chunks_exact(self.outputs).zip(packing.order()) {
                    utterances[position] = row.to_vec();
                }
                utterances
            }
        }
    }

    /// The inverse of [`Rows::split`].
    pub(crate) fn join(&self, utterances: &[&[f32]]) -> Vec<f32> {
        let packing = self.batch.packing();
        match self.head {
            Head::Ctc => packing.gather(utterances, self.outputs),
            Head::Keyword => packing
                .order()
                .iter()
                .flat_map(|&position| utterances[position])
                .copied()
                .collect(),
        }
    }
}

pub(crate) fn check_features(
    network: &Network,
    features: &[&Features],
) -> Result<(), NetworkError> {
    let expected = network.spec().inputs;
    match features
        .iter()
        .position(|features| features.dims != expected)
    {
        Some(position) => {
            let found = features[position].dims;
            Err(NetworkError::Features {
                position,
                expected,
                found,
            })
        }
        None => Ok(()),
    }
}

pub(crate) fn read(tensor: Tensor<2>) -> Result<Vec<f32>, NetworkError> {
    let parts = Transaction::default()
        .register(tensor)
        .try_execute()
        .map_err(|error| NetworkError::Device(error.to_string()))?;
    Ok(as_f32(&parts[0])?.to_vec())
}

pub(crate) fn as_f32(data: &TensorData) -> Result<&[f32], NetworkError> {
    data.as_slice::<f32>()
        .map_err(|error| NetworkError::Device(format!("{error:?}")))
}
