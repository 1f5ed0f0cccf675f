//! What a model heard, as words: by the decoder that it was left with, by another, or greedily.

use rayon::prelude::*;
use speech::decode::{
    BundleError, DecodeError, Decoder, DecoderBundle, Hypothesis, greedy_hypothesis,
};

use super::{Model, Recognition};

impl Model {
    /// What the model was left with to be decoded with; none where that is greedily.
    pub const fn bundle(&self) -> Option<&DecoderBundle> {
        self.bundle.as_ref()
    }

    /// The decoder in use; none for greedy decoding.
    pub const fn decoder(&self) -> Option<&Decoder> {
        self.decoder.as_ref()
    }

    /// Decodes with this from now on; greedily with nothing.
    ///
    /// # Errors
    /// When it does not fit the model.
    pub fn decode_with(&mut self, bundle: Option<DecoderBundle>) -> Result<(), BundleError> {
        let decoder = bundle
            .as_ref()
            .map(|bundle| bundle.decoder(&self.recipe.vocabulary))
            .transpose()?;
        self.decoder = decoder;
        self.bundle = bundle;
        Ok(())
    }

    /// The hypotheses of each utterance that was heard, the best first; of each by itself, so that it
    /// makes no difference how many there are.
    ///
    /// # Errors
    /// For a model of classes, which has one hypothesis: what it heard.
    pub fn hypotheses(&self, heard: &[Recognition]) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
        let classes = self.network.spec().outputs;
        heard
            .par_iter()
            .map(|heard| {
                let rows = &heard.log_probs;
                let frames = rows.len() / classes;
                match &self.decoder {
                    Some(decoder) => Ok(decoder.decode(rows, frames, classes)),
                    None => {
                        let vocabulary = &self.recipe.vocabulary;
                        Ok(vec![greedy_hypothesis(vocabulary, rows, frames, classes)?])
                    }
                }
            })
            .collect()
    }

    /// Seconds from one row of the model's log-probabilities to the next.
    pub fn row_seconds(&self) -> f64 {
        self.front_end.frame_seconds() * self.recipe.model.frame_stride() as f64
    }
}
