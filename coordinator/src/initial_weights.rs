//! The weights that a run begins with where the job names a model (`train.init`): read from that model's
//! file, checked against the job's model, and named by their digest. It does not depend on what is trained
//! with them.

use std::{
    io,
    path::{Path, PathBuf},
};

use speech::{
    corpus_roots::CorpusRoots,
    model::ModelSpec,
    recipe::{self, Recipe, RecipeError},
    regular_file,
    text::Vocabulary,
    weights::{self, WeightsError},
};
use thiserror::Error;

use crate::checkpoint::weights_sha256;

/// A model that a run cannot begin from.
#[derive(Debug, Error)]
pub(crate) enum InitialError {
    #[error("`train.init`: {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`train.init`: {}: {source}", path.display())]
    Recipe { path: PathBuf, source: RecipeError },
    #[error(
        "`train.init`: {}: {source}; the job's model has to have the shape of the one that it begins from", path.display()
    )]
    Weights { path: PathBuf, source: WeightsError },
    #[error(
        "`train.init`: {}: the file has {found} bytes where the job's model takes at most {most}", path.display()
    )]
    Size {
        path: PathBuf,
        found: u64,
        most: u64,
    },
    #[error(
        "`train.init`: {}: its model writes {found}, and the job's training set gives {wanted}; begin from a model of the same units", path.display()
    )]
    Units {
        path: PathBuf,
        found: String,
        wanted: String,
    },
}

impl InitialError {
    /// The message without what the files say: for somebody who may name them, and might not read them.
    pub(crate) fn without_contents(&self) -> String {
        let told = |path: &Path, what: &str| format!("`train.init`: {}: {what}", path.display());
        match self {
            Self::Recipe { path, .. } => told(path, "it is no recipe that can be read"),
            Self::Weights { path, .. } => told(
                path,
                "these are not weights of the job's model; it has to have the shape of the one that it begins from",
            ),
            Self::Units { path, .. } => told(
                path,
                "its model writes other units than the job's training set gives; begin from a model of the same units",
            ),
            Self::Read { .. } | Self::Size { .. } => self.to_string(),
        }
    }
}

/// Weights and their SHA-256 in hexadecimal, see [`weights_sha256`].
pub(crate) type Initial = (Vec<f32>, String);

/// Reads the weights at `path`: a run's folder, its `final` folder, or a safetensors file with torch's names.
/// Where a recipe lies beside them, its units have to be those of `vocabulary`. Both lie beneath `roots`.
///
/// # Errors
/// When there are none, or they are not of the model that `spec` lays out.
pub(crate) fn read(
    path: &Path,
    roots: &CorpusRoots,
    spec: &ModelSpec,
    vocabulary: &Vocabulary,
) -> Result<Initial, InitialError> {
    let located = roots.locate(path).map_err(|source| InitialError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file = weights_file(&located);
    let recipe = file.with_file_name("recipe.json");
    if recipe.is_file() {
        check_units(&recipe, roots, vocabulary)?;
    }
    let bytes = read_at_most(&file, roots, weights::max_file_bytes(spec))?;
    let weights = weights::parse(&bytes, spec).map_err(|source| InitialError::Weights {
        path: file.clone(),
        source,
    })?;
    let digest = weights_sha256(&weights);
    Ok((weights, digest))
}

/// The file that is meant by `path`.
fn weights_file(path: &Path) -> PathBuf {
    const MODEL_FILE: &str = "model.safetensors";
    let of_run = path.join("final").join(MODEL_FILE);
    match path.is_dir() {
        true if of_run.is_file() => of_run,
        true => path.join(MODEL_FILE),
        false => path.to_owned(),
    }
}

fn check_units(
    path: &Path,
    roots: &CorpusRoots,
    vocabulary: &Vocabulary,
) -> Result<(), InitialError> {
    let text = read_at_most(path, roots, recipe::MAX_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    let recipe = Recipe::from_json(&text).map_err(|source| InitialError::Recipe {
        path: path.to_owned(),
        source,
    })?;
    let (found, wanted) = (&recipe.vocabulary.units, &vocabulary.units);
    if found == wanted {
        return Ok(());
    }
    let other = found.iter().zip(wanted).find(|(one, other)| one != other);
    let (found, wanted) = match other {
        Some((one, other)) => (format!("{one:?}"), format!("{other:?} in its place")),
        None => (
            format!("{} units", found.len()),
            format!("{} of them", wanted.len()),
        ),
    };
    Err(InitialError::Units {
        path: path.to_owned(),
        found,
        wanted,
    })
}

fn read_at_most(path: &Path, roots: &CorpusRoots, most: u64) -> Result<Vec<u8>, InitialError> {
    let fail = |source| InitialError::Read {
        path: path.to_owned(),
        source,
    };
    let file = roots.open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?.len();
    if found > most {
        return Err(InitialError::Size {
            path: path.to_owned(),
            found,
            most,
        });
    }
    regular_file::read_bounded(&file, most).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use speech::{features::FeaturesConfig, model::ModelConfig};

    use super::*;
    use crate::checkpoint::save_model;

    fn spec(hidden: usize) -> ModelSpec {
        let config = ModelConfig {
            layers: 1,
            hidden,
            ..ModelConfig::default()
        };
        ModelSpec::new(&config, 4, 3)
    }

    fn vocabulary(classes: &[&str]) -> Vocabulary {
        Vocabulary::classes(classes).unwrap()
    }

    fn recipe(classes: &[&str]) -> Recipe {
        Recipe {
            features: FeaturesConfig::default(),
            augment: Default::default(),
            model: ModelConfig::default(),
            text: Default::default(),
            vocabulary: vocabulary(classes),
            stats: None,
            normalize: Default::default(),
            label_smoothing: 0.0,
            class_weights: Vec::new(),
            seed: 1,
        }
    }

    #[test]
    fn weights_are_found_in_a_run_its_final_folder_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/final");
        fs::create_dir_all(&folder).unwrap();
        let (spec, units) = (spec(5), vocabulary(&["one", "two", "three"]));
        let weights = spec.initialize(7);
        save_model(&folder.join("model.safetensors"), &spec, &weights).unwrap();
        for path in ["run", "run/final", "run/final/model.safetensors"] {
            let (found, digest) = read(
                &dir.path().join(path),
                &CorpusRoots::anywhere(),
                &spec,
                &units,
            )
            .unwrap();
            assert_eq!(found, weights, "{path}");
            assert_eq!(digest, weights_sha256(&weights));
        }
    }

    #[test]
    fn another_models_weights_and_units_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        let units = vocabulary(&["one", "two", "three"]);
        let missing = read(dir.path(), &CorpusRoots::anywhere(), &spec(5), &units).unwrap_err();
        assert!(matches!(missing, InitialError::Read { .. }), "{missing}");
        save_model(&file, &spec(5), &spec(5).initialize(1)).unwrap();
        let error = read(dir.path(), &CorpusRoots::anywhere(), &spec(6), &units)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("train.init") && error.contains("weight_ih"),
            "{error}"
        );

        let beside = dir.path().join("recipe.json");
        fs::write(&beside, recipe(&["one", "two", "three"]).to_json()).unwrap();
        read(dir.path(), &CorpusRoots::anywhere(), &spec(5), &units).unwrap();
        fs::write(&beside, recipe(&["four", "one", "two"]).to_json()).unwrap();
        let error = read(dir.path(), &CorpusRoots::anywhere(), &spec(5), &units)
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"four\""), "{error}");
        fs::write(&file, vec![0; 3 << 20]).unwrap();
        fs::remove_file(&beside).unwrap();
        let error = read(dir.path(), &CorpusRoots::anywhere(), &spec(5), &units).unwrap_err();
        assert!(matches!(error, InitialError::Size { .. }), "{error}");
    }
}
