//! What a decoder is told, as a job's `[decode]` section says it: widths, weights, hot words, and where the
//! language model and the lexicon come from.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    error_class::{self, Class, Classify},
    lm::MAX_TRAINED_ORDER,
};

/// Where words come from: `none`, `train` (the training transcripts) or a file's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
pub enum WordSource {
    /// No words: there is no such model or list.
    #[default]
    None,
    /// The words of the training transcripts.
    Train,
    /// The words of this file.
    File(PathBuf),
}

impl From<String> for WordSource {
    fn from(written: String) -> Self {
        match written.as_str() {
            "" | "none" => Self::None,
            "train" => Self::Train,
            _ => Self::File(written.into()),
        }
    }
}

impl From<WordSource> for String {
    fn from(source: WordSource) -> Self {
        match source {
            WordSource::None => "none".to_owned(),
            WordSource::Train => "train".to_owned(),
            WordSource::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl WordSource {
    /// A file that is relative lies below `base`.
    pub fn resolve(&mut self, base: &Path) {
        if let Self::File(path) = self {
            *path = base.join(&*path);
        }
    }
}

/// The `[decode]` section of a job: CTC prefix beam search with a language model by shallow fusion. Left out,
/// the model is decoded greedily. Weights and ranges are natural logarithms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// The language model: `"train"` (n-grams of the training transcripts), `"none"`, or the path of an ARPA
    /// file (`.arpa`, `.arpa.gz`).
    #[schemars(example = &"lm.arpa.gz")]
    pub language_model: WordSource,
    /// The order of the n-grams that are estimated from the training transcripts.
    #[schemars(range(min = 1, max = MAX_TRAINED_ORDER), example = 3)]
    pub order: usize,
    /// The lexicon: `"none"`, `"train"` (the words of the training transcripts), or the path of a file with a
    /// word a line. With a lexicon, no other words can be recognised.
    #[schemars(example = &"train")]
    pub lexicon: WordSource,
    /// The beam width: hypotheses that are kept at each frame.
    #[schemars(range(min = 1, max = 4096), example = 128)]
    pub beam: usize,
    /// The most hypotheses that are returned for an utterance.
    #[schemars(range(min = 1, max = 4096), example = 5)]
    pub n_best: usize,
    /// The factor of the language model's log-probabilities.
    #[schemars(range(min = 0, max = 1000), example = 0.8)]
    pub lm_weight: f64,
    /// The word insertion bonus: added to a hypothesis for each word.
    #[schemars(range(min = -100, max = 1000), example = 1.0)]
    pub word_bonus: f64,
    /// Subtracted for each word that the language model lacks, beside the model's own score of an unknown word.
    #[schemars(range(min = 0, max = 1000), example = 8.0)]
    pub unknown_penalty: f64,
    /// Expected words and phrases (contextual biasing), each of which adds `hot_boost` where it is recognised.
    #[schemars(example = vec!["NEW YORK"])]
    pub hot_words: Vec<String>,
    /// The bonus of a hot word or phrase.
    #[schemars(range(min = 0, max = 1000), example = 6.0)]
    pub hot_boost: f64,
    /// Labels whose log-probability is this far below the frame's best label do not extend a hypothesis.
    #[schemars(range(min = 0, max = 1000), example = 12.0)]
    pub label_range: f64,
    /// Hypotheses whose score is this far below the best one are pruned.
    #[schemars(range(min = 0, max = 1000), example = 20.0)]
    pub beam_range: f64,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            language_model: WordSource::Train,
            order: 4,
            lexicon: WordSource::None,
            beam: 64,
            n_best: 1,
            lm_weight: 0.4,
            word_bonus: 0.5,
            unknown_penalty: 4.0,
            hot_words: Vec::new(),
            hot_boost: 4.0,
            label_range: 10.0,
            beam_range: 16.0,
        }
    }
}

/// A decoder that cannot be.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum DecodeError {
    #[error("decode.{field} {reason}")]
    Field { field: &'static str, reason: String },
    #[error("only a CTC model's outputs are decoded; this model names classes")]
    Classes,
    #[error(
        "none of the lexicon's {count} words can be said by the model, which lacks their characters or has other words; {} are among them",
        first.join(", ")
    )]
    Unspellable { count: usize, first: Vec<String> },
}

impl DecodeError {
    /// The message without the words of a lexicon's file.
    pub fn without_contents(&self) -> String {
        match self {
            Self::Unspellable { count, .. } => format!(
                "none of the lexicon's {count} words can be said by the model, which lacks their characters or has other words"
            ),
            Self::Field { .. } | Self::Classes => self.to_string(),
        }
    }
}

impl Classify for DecodeError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl DecodeConfig {
    /// # Errors
    /// Names the field that is out of bounds.
    pub fn check(&self) -> Result<(), DecodeError> {
        let refuse = |field, reason| Err(DecodeError::Field { field, reason });
        for (field, value, most) in [
            ("beam", self.beam, 4096),
            ("n_best", self.n_best, 4096),
            ("order", self.order, MAX_TRAINED_ORDER),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(field, format!("is {value}; it is from 1 to {most}"));
            }
        }
        for (field, value, least) in [
            ("lm_weight", self.lm_weight, 0.0),
            ("word_bonus", self.word_bonus, -100.0),
            ("unknown_penalty", self.unknown_penalty, 0.0),
            ("hot_boost", self.hot_boost, 0.0),
            ("label_range", self.label_range, 0.0),
            ("beam_range", self.beam_range, 0.0),
        ] {
            // NaN is within no bounds.
            if !(least..=1000.0).contains(&value) {
                return refuse(field, format!("is {value}; it is from {least} to 1000"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_word_or_a_path() {
        let text = "language_model = \"lm/big.arpa\"\nlexicon = \"train\"\n";
        let mut config: DecodeConfig = toml::from_str(text).unwrap();
        assert_eq!(config.lexicon, WordSource::Train);
        config.language_model.resolve(Path::new("/jobs"));
        config.lexicon.resolve(Path::new("/jobs"));
        let written = toml::to_string(&config).unwrap();
        assert!(
            written.contains("language_model = \"/jobs/lm/big.arpa\"\n"),
            "{written}"
        );
        assert!(written.contains("lexicon = \"train\"\n"), "{written}");
        let none: DecodeConfig = toml::from_str("language_model = \"none\"").unwrap();
        assert_eq!(none.language_model, WordSource::None);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        assert_eq!(DecodeConfig::default().check(), Ok(()));
        let message = |change: fn(&mut DecodeConfig)| {
            let mut config = DecodeConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            message(|c| c.beam = 0),
            "decode.beam is 0; it is from 1 to 4096"
        );
        assert!(message(|c| c.n_best = 5000).starts_with("decode.n_best is 5000"));
        assert!(message(|c| c.lm_weight = f64::NAN).starts_with("decode.lm_weight is NaN"));
        assert!(message(|c| c.lm_weight = -1.0).starts_with("decode.lm_weight is -1"));
        assert!(message(|c| c.word_bonus = f64::INFINITY).starts_with("decode.word_bonus is inf"));
        assert!(message(|c| c.beam_range = -1.0).starts_with("decode.beam_range"));
    }
}
