//! Recognition with a trained model, and its cost against a reference. Evaluation leases, `evaluate` and
//! `transcribe` all come here. It does not depend on where audio lies and how hypotheses are scored.

mod decoding;
mod live;
mod load;

use std::path::Path;

use rayon::prelude::*;
use speech::{
    audio::Audio,
    decode::{self, Decoder, DecoderBundle},
    features::Features,
    front_end::{FrontEnd, FrontEndError, Scaling},
    model::{Head, ModelSpec},
    recipe::Recipe,
    text::Vocabulary,
};

pub use live::{ListenError, Listener, Utterance};
pub use load::ModelError;

use crate::{
    compute::Compute,
    loss::{self, Example},
    network::{
        Network,
        outputs::{self, NetworkError},
    },
};

/// Most utterances of a forward pass.
const BATCH: usize = 32;
/// Most frames of a forward pass, the longest utterance's times how many there are.
const BATCH_FRAMES: usize = 32 * 1024;

/// What a model heard in an utterance.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The greedily decoded text, or the name of the likeliest class.
    pub text: String,
    /// The log-probabilities of the classes `[outputs]`, or of the units in each frame `[frames, outputs]`. Empty for
    /// an
    /// utterance without frames.
    pub log_probs: Vec<f32>,
}

/// A model that can be asked.
pub struct Model {
    recipe: Recipe,
    front_end: FrontEnd,
    network: Network,
    /// What the model was left with to be decoded with, and the decoder in use.
    bundle: Option<DecoderBundle>,
    decoder: Option<Decoder>,
}

impl Model {
    /// Reads a run's `final/` folder: `recipe.json` and `model.safetensors`, and what it is to be
    /// decoded with where that is there.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(folder: &Path, compute: &Compute) -> Result<Self, ModelError> {
        let (recipe, weights) = load::read(folder)?;
        let mut model = Self::from_parts(recipe, &weights, compute)?;
        model.decode_with(DecoderBundle::read(folder)?)?;
        Ok(model)
    }

    /// A model of `weights` in the order of the recipe's model specification.
    ///
    /// # Errors
    /// When the recipe cannot be, or the weights are another model's.
    pub fn from_parts(
        recipe: Recipe,
        weights: &[f32],
        compute: &Compute,
    ) -> Result<Self, ModelError> {
        let spec = recipe.model_spec()?;
        let front_end = recipe.front_end()?;
        let mut network = Network::new(&spec, &compute.device);
        network.load(weights)?;
        Ok(Self {
            recipe,
            front_end,
            network,
            bundle: None,
            decoder: None,
        })
    }

    /// What the model was trained with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The layers and the parameters of the network.
    pub fn spec(&self) -> &ModelSpec {
        self.network.spec()
    }

    /// What turns audio into the model's features.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// The features that the model hears, of each recording by itself. A model that normalises by speakers
    /// takes each for all that its speaker said.
    pub fn features(&self, audio: &[Audio]) -> Vec<Result<Features, FrontEndError>> {
        self.features_of(audio, &vec![None; audio.len()])
    }

    /// The features that the model hears, of each recording and its speaker; see
    /// [`FrontEnd::features_of`].
    pub fn features_of(
        &self,
        audio: &[Audio],
        speakers: &[Option<&Scaling>],
    ) -> Vec<Result<Features, FrontEndError>> {
        audio
            .par_iter()
            .zip(speakers)
            .map(|(audio, speaker)| self.front_end.features_of(audio, *speaker))
            .collect()
    }

    /// What the model hears in each utterance. Utterances of like length are computed together, a
    /// bounded number at a time.
    ///
    /// # Errors
    /// When the features are another model's, or the device fails.
    pub fn recognise(&self, features: &[&Features]) -> Result<Vec<Recognition>, NetworkError> {
        let mut order: Vec<usize> = (0..features.len()).collect();
        order.sort_by_key(|&index| features[index].frames);
        let mut heard: Vec<Option<Recognition>> = vec![None; features.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            // Sorted: the last of a batch is the longest.
            let fits = |(count, &index): (usize, &usize)| {
                count < BATCH && (count + 1) * features[index].frames <= BATCH_FRAMES
            };
            let count = rest.iter().enumerate().take_while(|&one| fits(one)).count();
            let (batch, later) = rest.split_at(count.max(1));
            rest = later;
            let inputs: Vec<&Features> = batch.iter().map(|&index| features[index]).collect();
            let outputs = recognise(&self.network, &self.recipe.vocabulary, &inputs)?;
            for (&index, output) in batch.iter().zip(outputs) {
                heard[index] = Some(output);
            }
        }
        Ok(heard.into_iter().flatten().collect())
    }

    /// What each utterance's loss is against its labels (see [`Vocabulary::encode`]); `None` where
    /// it has none, because CTC cannot align the labels with so few frames, or because there are no labels: the
    /// model cannot say the transcript.
    pub fn losses(&self, heard: &[Recognition], labels: &[Option<&[u32]>]) -> Vec<Option<f64>> {
        losses(self.network.spec(), heard, labels)
    }

    /// The classes of a keyword model and their probabilities, the most probable first.
    pub fn classes(&self, heard: &Recognition) -> Vec<(&str, f64)> {
        let units = self.recipe.vocabulary.units.iter().map(String::as_str);
        let probabilities = heard.log_probs.iter().map(|&value| f64::from(value).exp());
        let mut classes: Vec<(&str, f64)> = units.zip(probabilities).collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        classes
    }
}

/// What `network` hears in one batch of utterances.
///
/// # Errors
/// When the features are another model's, or the device fails.
pub(crate) fn recognise(
    network: &Network,
    vocabulary: &Vocabulary,
    features: &[&Features],
) -> Result<Vec<Recognition>, NetworkError> {
    let ModelSpec {
        config, outputs, ..
    } = network.spec();
    let log_probs = outputs::log_probs(network, features)?;
    let heard = log_probs.into_iter().map(|log_probs| {
        let labels = match config.head {
            _ if log_probs.is_empty() => Vec::new(),
            Head::Keyword => vec![decode::argmax(&log_probs)],
            Head::Ctc => decode::greedy(&log_probs, log_probs.len() / outputs, *outputs),
        };
        Recognition {
            text: vocabulary.decode(&labels),
            log_probs,
        }
    });
    Ok(heard.collect())
}

/// See [`Model::losses`].
pub(crate) fn losses(
    spec: &ModelSpec,
    heard: &[Recognition],
    labels: &[Option<&[u32]>],
) -> Vec<Option<f64>> {
    let head = spec.config.head;
    let is_feasible = |(heard, labels): (&Recognition, &Option<&[u32]>)| {
        let frames = heard.log_probs.len() / spec.outputs;
        labels.is_some_and(|labels| loss::is_feasible(head, frames, labels))
    };
    let feasible: Vec<bool> = heard.iter().zip(labels).map(is_feasible).collect();
    // Log-probabilities are logits whose softmax is themselves.
    let examples: Vec<Example> = heard
        .iter()
        .zip(labels)
        .zip(&feasible)
        .filter(|(_, feasible)| **feasible)
        .map(|((heard, target), _)| Example {
            logits: &heard.log_probs,
            target: target.unwrap_or_default(),
        })
        .collect();
    let mut found = loss::values(head, &examples, spec.outputs).into_iter();
    feasible
        .into_iter()
        .map(|feasible| feasible.then(|| found.next()).flatten())
        .collect()
}

#[cfg(test)]
mod tests;
