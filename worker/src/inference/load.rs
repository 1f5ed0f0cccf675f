//! A run's `final/` folder: `recipe.json` and `model.safetensors`. Every size is checked against the
//! recipe before anything of that size is held.

use std::{
    io,
    path::{Path, PathBuf},
};

use speech::{
    decode::BundleError,
    error_class::{self, Class, Classify},
    model::ModelSpec,
    recipe::{self, Recipe, RecipeError},
    regular_file,
    weights::{self, WeightsError},
};
use thiserror::Error;

use crate::network::WrongParameters;

/// A model that cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ModelError {
    #[error(
        "{}: cannot be read: {source}; a model is a run's `final` folder, with recipe.json and \
         model.safetensors",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    RecipeFile { path: PathBuf, source: RecipeError },
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Decoding(#[from] BundleError),
    #[error(transparent)]
    Weights(#[from] WrongParameters),
    #[error("{}: {reason}; copy the `final` folder of the run again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{}: {reason}; the file belongs to another recipe than the recipe.json beside it",
        path.display()
    )]
    Mismatch { path: PathBuf, reason: String },
}

impl Classify for ModelError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

pub(super) fn read(folder: &Path) -> Result<(Recipe, Vec<f32>), ModelError> {
    let path = folder.join("recipe.json");
    let text = read_at_most(&path, recipe::MAX_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| ModelError::Damaged {
        path: path.clone(),
        reason: "it is not text".to_owned(),
    })?;
    let file_error = |source| ModelError::RecipeFile {
        path: path.clone(),
        source,
    };
    let recipe = Recipe::from_json(&text).map_err(file_error)?;
    let spec = recipe.model_spec().map_err(file_error)?;
    let weights = read_weights(&folder.join("model.safetensors"), &spec)?;
    Ok((recipe, weights))
}

fn read_weights(path: &Path, spec: &ModelSpec) -> Result<Vec<f32>, ModelError> {
    let damaged = |reason: String| ModelError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let mismatch = |reason: String| ModelError::Mismatch {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_at_most(path, weights::max_file_bytes(spec))?;
    weights::parse(&bytes, spec).map_err(|error| match error {
        WeightsError::Damaged(reason) => damaged(reason),
        WeightsError::Mismatch(reason) => mismatch(reason),
    })
}

fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let fail = |source| ModelError::Read {
        path: path.to_owned(),
        source,
    };
    let file = regular_file::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if size > most {
        return Err(ModelError::Mismatch {
            path: path.to_owned(),
            reason: format!("it has {size} bytes where at most {most} are due"),
        });
    }
    regular_file::read_bounded(&file, most).map_err(fail)
}
