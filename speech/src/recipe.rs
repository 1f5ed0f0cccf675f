//! A model's recipe, all that is needed to compute with it beside its weights: features, vocabulary, layers,
//! statistics and the seed. It is what every worker is given and what a trained model is kept with. It decides
//! whether the parts fit each other, and does not depend on weights, optimizers and where the audio lies.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::features::{FeaturesConfig, Normalization};
use crate::front_end::{FrontEnd, FrontEndError, GlobalStats};
use crate::model::{Head, ModelConfig, ModelConfigError, ModelSpec};
use crate::objective::{Normalize, Objective, ObjectiveError};
use crate::text::{TextConfig, TextConfigError, UnitKind, Units, Vocabulary, class_label};
use crate::{
    augment::{AugmentConfig, AugmentError},
    error_class::{self, Class, Classify},
};

/// The version of a written recipe. It is raised when one that was written before would be read as
/// something else.
pub const FORMAT: u32 = 2;

/// The largest file of a recipe that is read.
pub const MAX_BYTES: u64 = 64 << 20;

/// A model without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "RecipeFile", try_from = "RecipeFile")]
pub struct Recipe {
    /// The `[features]` section.
    pub features: FeaturesConfig,
    /// The `[augment]` section; training alone uses it.
    pub augment: AugmentConfig,
    /// The `[model]` section.
    pub model: ModelConfig,
    /// How transcripts are written that the model is trained and scored with.
    pub text: TextConfig,
    /// The units or classes that the model puts out.
    pub vocabulary: Vocabulary,
    /// Those of the training set, for global normalisation.
    pub stats: Option<GlobalStats>,
    /// What a summed gradient is divided by.
    pub normalize: Normalize,
    /// The share of the target's probability that is spread over all outputs.
    pub label_smoothing: f64,
    /// The weight of each class in the loss, in the vocabulary's order; empty for equal weights.
    pub class_weights: Vec<f64>,
    /// The seed of initial values and of all that is random in training.
    pub seed: u64,
}

/// What is wrong with a recipe.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum RecipeError {
    #[error("the recipe is not what it must be at `{field}`: {message}")]
    Field { field: String, message: String },
    #[error("the recipe is not JSON: {0}")]
    NotJson(String),
    #[error(
        "the recipe's `format` is {found}, and this program reads {FORMAT}: use the program that wrote it, or train again"
    )]
    Format { found: u32 },
    #[error(transparent)]
    Model(#[from] ModelConfigError),
    #[error(
        "model.head is \"{head}\", which needs a vocabulary of {needed}, and the recipe's is of {found}"
    )]
    Head {
        head: &'static str,
        needed: &'static str,
        found: &'static str,
    },
    #[error(transparent)]
    Augment(#[from] AugmentError),
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    #[error(transparent)]
    FrontEnd(#[from] FrontEndError),
    #[error(transparent)]
    Text(#[from] TextConfigError),
}

impl Classify for RecipeError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl Recipe {
    /// Whether the parts can be used together; what [`from_json`](Self::from_json) gives can.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.checked_front_end()?;
        Ok(())
    }

    fn checked_front_end(&self) -> Result<FrontEnd, RecipeError> {
        self.model.check()?;
        self.augment.check()?;
        self.text.check()?;
        let classes = match self.model.head {
            Head::Keyword => self.vocabulary.outputs(),
            Head::Ctc => 0,
        };
        self.objective().check(classes)?;
        let (head, needed) = match (self.model.head, self.text.units) {
            (Head::Keyword, _) => ("keyword", UnitKind::Classes),
            (Head::Ctc, Units::Characters) => ("ctc", UnitKind::Characters),
            (Head::Ctc, Units::Bytepair) => ("ctc", UnitKind::Bytepair),
            (Head::Ctc, Units::Words) => ("ctc", UnitKind::Words),
        };
        if needed != self.vocabulary.kind {
            let (needed, found) = (needed.name(), self.vocabulary.kind.name());
            return Err(RecipeError::Head {
                head,
                needed,
                found,
            });
        }
        Ok(FrontEnd::new(&self.features, self.stats.as_ref())?)
    }

    /// `text` as the model's transcripts are written: normalised by `[text]`, and of a keyword model the class
    /// that looks the same, where there is one.
    pub fn reference(&self, text: &str) -> String {
        let text = self.text.normalize(text);
        if self.vocabulary.kind != UnitKind::Classes {
            return text;
        }
        let classes = &self.vocabulary.units;
        let label = class_label(&text);
        // Models that were trained before have classes as their corpora wrote them.
        [text, label.clone()]
            .into_iter()
            .find(|text| classes.binary_search(text).is_ok())
            .or_else(|| classes.iter().find(|it| class_label(it) == label).cloned())
            .unwrap_or(label)
    }

    /// What its training aims at.
    pub fn objective(&self) -> Objective {
        Objective {
            normalize: self.normalize,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights.clone(),
        }
    }

    /// What turns audio into the model's inputs. Global normalisation needs the statistics to be
    /// there; to compute them, make a front end without any.
    pub fn front_end(&self) -> Result<FrontEnd, RecipeError> {
        if self.features.normalization == Normalization::Global && self.stats.is_none() {
            return Err(FrontEndError::MissingStats.into());
        }
        Ok(FrontEnd::new(&self.features, self.stats.as_ref())?)
    }

    /// The layout of the weights.
    pub fn model_spec(&self) -> Result<ModelSpec, RecipeError> {
        let inputs = self.checked_front_end()?.dims();
        Ok(ModelSpec::new(
            &self.model,
            inputs,
            self.vocabulary.outputs(),
        ))
    }

    /// Equal recipes give equal text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a recipe has nothing in it that JSON cannot say")
    }

    /// Reads what [`to_json`](Self::to_json) wrote, to the bit. Unknown and missing fields are
    /// errors, and so is a recipe whose parts do not fit.
    pub fn from_json(text: &str) -> Result<Self, RecipeError> {
        /// The format alone: a later one may have other fields, which must not be the complaint.
        #[derive(Deserialize)]
        struct Versioned {
            format: Option<u32>,
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Ok(Versioned {
            format: Some(found),
        }) = serde_json::from_str(text)
            && found != FORMAT
        {
            return Err(RecipeError::Format { found });
        }
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        let recipe: Self =
            serde_path_to_error::deserialize(&mut *deserializer).map_err(|error| {
                if error.inner().is_data() {
                    RecipeError::Field {
                        field: error.path().to_string(),
                        message: error.inner().to_string(),
                    }
                } else {
                    RecipeError::NotJson(error.inner().to_string())
                }
            })?;
        deserializer
            .end()
            .map_err(|error| RecipeError::NotJson(error.to_string()))?;
        recipe.validate()?;
        Ok(recipe)
    }
}

/// A recipe as it is written: every field there, and its format before all.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    format: u32,
    features: FeaturesConfig,
    augment: AugmentConfig,
    model: ModelConfig,
    text: TextConfig,
    vocabulary: Vocabulary,
    stats: Option<GlobalStats>,
    normalize: Normalize,
    label_smoothing: f64,
    class_weights: Vec<f64>,
    seed: u64,
}

impl From<Recipe> for RecipeFile {
    fn from(recipe: Recipe) -> Self {
        let Recipe {
            features,
            augment,
            model,
            text,
            vocabulary,
            stats,
            normalize,
            label_smoothing,
            class_weights,
            seed,
        } = recipe;
        Self {
            format: FORMAT,
            features,
            augment,
            model,
            text,
            vocabulary,
            stats,
            normalize,
            label_smoothing,
            class_weights,
            seed,
        }
    }
}

impl TryFrom<RecipeFile> for Recipe {
    type Error = RecipeError;

    fn try_from(written: RecipeFile) -> Result<Self, RecipeError> {
        let RecipeFile {
            format,
            features,
            augment,
            model,
            text,
            vocabulary,
            stats,
            normalize,
            label_smoothing,
            class_weights,
            seed,
        } = written;
        if format != FORMAT {
            return Err(RecipeError::Format { found: format });
        }
        Ok(Self {
            features,
            augment,
            model,
            text,
            vocabulary,
            stats,
            normalize,
            label_smoothing,
            class_weights,
            seed,
        })
    }
}

#[cfg(test)]
mod tests;
