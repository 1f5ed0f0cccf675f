//! The gradient of one micro-batch. It
//! decides what is left out and what counts as finite; everything it returns is a sum over
//! utterances. It does not depend on leases, trees and optimizers.

use burn::tensor::{Tensor, Transaction};
use speech::error_class::{self, Class, Classify};
use speech::features::Features;
use speech::model::Head;
use speech::objective::Objective;

use crate::loss::{self, Example, OutOfMemory};
use crate::network::outputs::{NetworkError, Rows, as_f32, check_features, read};
use crate::network::{Batch, Network, Parameters};
use crate::ops::dropout::Dropout;

/// One forward and backward pass' worth of utterances, and its place in the job.
#[derive(Clone, Debug)]
pub struct MicroBatch<'a> {
    /// For each utterance its frames.
    pub features: Vec<&'a Features>,
    /// For each utterance its class, or its labels.
    pub targets: Vec<&'a [u32]>,
    /// The step of the job, which dropout draws from.
    pub step: u64,
    /// Among the micro-batches of the step.
    pub index: u32,
}

/// What a micro-batch contributes to a step.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroGradient {
    /// The gradient of the summed loss in the order of the specification's flat vector; `None` if
    /// any of it, or the loss, is not finite. Zeros if every utterance was left out.
    pub gradient: Option<Vec<f32>>,
    /// Utterances, frames or labels that count, by their classes' weights; 0 without a gradient.
    pub weight: f64,
    /// The sum over the utterances that count; 0 without a gradient.
    pub loss: f64,
    /// Utterances that count.
    pub utterances: u32,
    /// Positions of utterances that nothing can be learned from: no frames, or fewer than CTC needs
    /// for their labels.
    pub left_out: Vec<usize>,
    /// Positions of utterances whose own loss or gradient at the outputs is not finite.
    pub not_finite: Vec<usize>,
}

impl MicroGradient {
    /// The L2 norm of the mean gradient, added up in f64 from the first element to the last; `None`
    /// without a gradient, or where nothing counts.
    pub fn norm(&self) -> Option<f64> {
        let gradient = self.gradient.as_ref().filter(|_| self.weight > 0.0)?;
        let squares: f64 = gradient.iter().map(|&value| f64::from(value).powi(2)).sum();
        Some(squares.sqrt() / self.weight)
    }

    /// Leaves it out, weight and all.
    pub fn discard(&mut self) {
        self.gradient = None;
        self.weight = 0.0;
        self.loss = 0.0;
        self.utterances = 0;
    }
}

/// Why a micro-batch has no gradient.
#[derive(Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum GradientError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(
        "utterance {position} of the micro-batch has the label {label}, and the model has {outputs} \
         outputs"
    )]
    Label {
        position: usize,
        label: u32,
        outputs: usize,
    },
    #[error("utterance {position} of the micro-batch has {found} classes, not one")]
    Classes { position: usize, found: usize },
    #[error(
        "nothing can be learned from the micro-batch: its labels do not fit its frames, or its gradient \
         is not finite"
    )]
    Nothing,
    #[error("utterance {position} of the micro-batch: {source}")]
    Memory {
        position: usize,
        source: OutOfMemory,
    },
}

impl Classify for GradientError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// Computes the gradient of a micro-batch. `seed` is the job's: dropout follows from it and from the
/// place of the micro-batch.
///
/// # Errors
/// If an utterance does not fit the model, or the device fails.
pub fn gradient(
    network: &Network,
    micro: &MicroBatch,
    objective: impl Into<Objective>,
    seed: u64,
) -> Result<MicroGradient, GradientError> {
    forward(network, micro, objective, seed)?.backward()
}

/// A micro-batch that has gone through the network, with its losses.
pub struct Forward<'a> {
    network: &'a Network,
    micro: &'a MicroBatch<'a>,
    objective: Objective,
    /// Positions of the utterances that went through.
    kept: Vec<usize>,
    left_out: Vec<usize>,
    /// `None` if none did.
    passed: Option<Passed>,
}

struct Passed {
    batch: Batch,
    leaves: Parameters,
    logits: Tensor<2>,
    losses: Vec<loss::Loss>,
}

/// The first half of [`gradient`].
///
/// # Errors
/// As [`gradient`].
pub fn forward<'a>(
    network: &'a Network,
    micro: &'a MicroBatch<'a>,
    objective: impl Into<Objective>,
    seed: u64,
) -> Result<Forward<'a>, GradientError> {
    let spec = network.spec();
    let (head, outputs) = (spec.config.head, spec.outputs);
    check_features(network, &micro.features)?;
    check_targets(head, outputs, &micro.targets)?;
    let feasible = |&position: &usize| {
        loss::is_feasible(
            head,
            spec.output_frames(micro.features[position].frames),
            micro.targets[position],
        )
    };
    let (kept, left_out): (Vec<usize>, Vec<usize>) = (0..micro.features.len()).partition(feasible);
    let mut forward = Forward {
        network,
        micro,
        objective: objective.into(),
        kept,
        left_out,
        passed: None,
    };
    if !forward.kept.is_empty() {
        forward.passed = Some(forward.pass(seed)?);
    }
    Ok(forward)
}

impl Forward<'_> {
    fn pass(&self, seed: u64) -> Result<Passed, GradientError> {
        let Self {
            network,
            micro,
            kept,
            ..
        } = self;
        let spec = network.spec();
        let (head, outputs) = (spec.config.head, spec.outputs);
        let sequences: Vec<&[f32]> = kept
            .iter()
            .map(|&position| &micro.features[position].data[..])
            .collect();
        let batch = network.batch(&sequences);
        let dropout = (spec.config.dropout > 0.0).then(|| Dropout {
            probability: spec.config.dropout,
            seed,
            step: micro.step,
            micro_batch: micro.index,
            utterances: kept.clone(),
        });
        let leaves = network.leaves();
        let logits = network.forward_training(&leaves, &batch, dropout.as_ref());
        let values = read(logits.clone().inner())?;
        let rows = Rows {
            head,
            batch: &batch,
            outputs,
        };
        let by_utterance = rows.split(&values);
        let examples: Vec<Example> = kept
            .iter()
            .zip(&by_utterance)
            .map(|(&position, logits)| Example {
                logits,
                target: micro.targets[position],
            })
            .collect();
        let losses = loss::training_losses(head, &examples, outputs, &self.objective);
        let losses = losses.map_err(|source| GradientError::Memory {
            position: kept[source.position],
            source,
        })?;
        Ok(Passed {
            losses,
            batch,
            leaves,
            logits,
        })
    }

    /// The second half of [`gradient`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn backward(self) -> Result<MicroGradient, GradientError> {
        let spec = self.network.spec();
        let mut result = MicroGradient {
            gradient: None,
            weight: 0.0,
            loss: 0.0,
            utterances: 0,
            left_out: self.left_out,
            not_finite: Vec::new(),
        };
        let Some(passed) = self.passed else {
            result.gradient = Some(vec![0.0; spec.elements()]);
            return Ok(result);
        };
        let losses = self.kept.iter().zip(&passed.losses);
        result.not_finite = losses
            .filter(|(_, loss)| !(loss.value.is_finite() && all_finite(&loss.gradient)))
            .map(|(&position, _)| position)
            .collect();
        if !result.not_finite.is_empty() {
            return Ok(result);
        }
        let flat = passed.gradient(self.network)?;
        if !all_finite(&flat) {
            return Ok(result);
        }
        let micro = self.micro;
        let weight = |&position: &usize| {
            let frames = micro.features[position].frames;
            self.objective.weight(frames, micro.targets[position])
        };
        result.gradient = Some(flat);
        result.loss = passed.losses.iter().map(|loss| loss.value).sum();
        result.utterances = self.kept.len() as u32;
        result.weight = self.kept.iter().map(weight).sum();
        Ok(result)
    }
}

impl Passed {
    /// The gradient of all parameters, in the order of the specification's flat vector.
    fn gradient(&self, network: &Network) -> Result<Vec<f32>, GradientError> {
        let spec = network.spec();
        let rows = Rows {
            head: spec.config.head,
            batch: &self.batch,
            outputs: spec.outputs,
        };
        let output_grads: Vec<&[f32]> = self.losses.iter().map(|loss| &loss.gradient[..]).collect();
        let mut gradients = network.differentiate(self.logits.clone(), rows.join(&output_grads));
        let mut transaction = Transaction::default();
        let parameters = self.leaves.clone().into_tensors().map(|leaf| {
            let device = leaf.device().inner();
            leaf.grad_remove(&mut gradients)
                .unwrap_or_else(|| Tensor::zeros(leaf.dims(), &device))
        });
        for parameter in parameters {
            transaction = transaction.register(parameter);
        }
        let parts = transaction
            .try_execute()
            .map_err(|error| NetworkError::Device(error.to_string()))?;
        let mut flat = Vec::with_capacity(spec.elements());
        for part in parts {
            flat.extend_from_slice(as_f32(&part)?);
        }
        Ok(flat)
    }
}

fn check_targets(head: Head, outputs: usize, targets: &[&[u32]]) -> Result<(), GradientError> {
    for (position, target) in targets.iter().enumerate() {
        if head == Head::Keyword && target.len() != 1 {
            return Err(GradientError::Classes {
                position,
                found: target.len(),
            });
        }
        let blank = if head == Head::Ctc { Some(0) } else { None };
        let wrong = |label: &&u32| **label as usize >= outputs || Some(**label) == blank;
        if let Some(&label) = target.iter().find(wrong) {
            return Err(GradientError::Label {
                position,
                label,
                outputs,
            });
        }
    }
    Ok(())
}

fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}
