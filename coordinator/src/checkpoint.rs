//! Checkpoints: everything that a run needs to go on with the same bits, in one safetensors file. It
//! decides that a file is whole or not there at all, finds the newest whole one, and does not depend on
//! when to save or what a driver's progress means.
//!
//! `step-00000042.safetensors` holds the tensors `weights.<parameter>` in their shapes and
//! `optimizer.<vector>`, `average.ema` and `held.<place>` flat, and in its metadata, under `unisono`, counts and progress with
//! the BLAKE3 of all that. It is written beside its place, synced and renamed, and the folder is synced: a power
//! cut leaves the checkpoints before it, and at worst a file that its checksum unmasks.

mod file;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use speech::model::ModelSpec;
use thiserror::Error;

use crate::trainer::{Counts, TrainerState, checkpoint_average::HeldWeights};
use file::{Reader, Tensor};

/// Why a checkpoint was not written or read.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// It was read, and is not what was written.
    #[error("{}: the file is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// It is whole, but not this job's.
    #[error("{}: the checkpoint is another job's: {reason}", path.display())]
    Foreign { path: PathBuf, reason: String },
}

/// What a file holds: the trainer, weights held for the final model, and the driver's own `progress`,
/// kept as JSON (which has no infinities).
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<P> {
    /// The weights, what the optimizer keeps of them, and the counts of steps.
    pub trainer: TrainerState,
    /// Weights of ends of epochs that may become the final model.
    pub held: HeldWeights,
    /// What else the caller needs to go on from here.
    pub progress: P,
}

/// The newest whole checkpoint.
#[derive(Debug)]
pub struct Latest<P> {
    /// `None` when there is none.
    pub found: Option<(PathBuf, Checkpoint<P>)>,
    /// Newer ones that are damaged, the newest first, each with its path and reason.
    pub damaged: Vec<CheckpointError>,
}

/// The metadata of a file.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    counts: Counts,
    /// JSON, as text: reading and writing a number again need not give the same digits.
    progress: String,
    /// What thresholds of clipping remember: for each part of the gradient its numbers, each as the digits of its
    /// bits (JSON, as text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip: Option<String>,
    /// BLAKE3 of the above, then of each tensor's name, shape and bytes.
    checksum: String,
}

/// Changes when older programs could not read a file.
const FORMAT: u32 = 1;

const WEIGHTS: &str = "weights.";
const OPTIMIZER: &str = "optimizer.";
const AVERAGE: &str = "average.ema";
const HELD: &str = "held.";

/// The key of the description in the file's metadata.
const METADATA: &str = "unisono";

/// Writes the checkpoint of `trainer` and the weights that are `held` into `dir`, which is made if it is
/// missing, and gives its path.
///
/// # Errors
/// When the file system refuses; nothing is left at the path then that was not there before.
///
/// # Panics
/// When `trainer` is not one of `spec`.
pub fn save<P: Serialize>(
    dir: &Path,
    spec: &ModelSpec,
    trainer: &TrainerState,
    held: &HeldWeights,
    progress: &P,
) -> Result<PathBuf, CheckpointError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        |source| CheckpointError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(at(dir))?;
    let path = dir.join(file_name(trainer.counts.step));
    let mut tensors = parameters(spec, WEIGHTS, &trainer.weights);
    let flat = |name: String, values| Tensor {
        name,
        shape: vec![trainer.weights.len()],
        values,
    };
    let optimizer = trainer.optimizer.iter();
    tensors.extend(optimizer.map(|(name, vector)| flat(format!("{OPTIMIZER}{name}"), vector)));
    let average = trainer.ema.iter();
    tensors.extend(average.map(|average| flat(AVERAGE.to_owned(), average)));
    let held = held.iter().enumerate();
    tensors.extend(held.map(|(place, vector)| flat(format!("{HELD}{place:02}"), vector)));
    let describe = || {
        let mut description = Description {
            format: FORMAT,
            counts: trainer.counts,
            progress: serde_json::to_string(progress)?,
            clip: match &trainer.clip[..] {
                [] => None,
                parts => Some(serde_json::to_string(&bits(parts))?),
            },
            checksum: String::new(),
        };
        let checksum = file::checksum(description.hasher(), &tensors);
        description.checksum = checksum.to_hex().to_string();
        serde_json::to_string(&description)
    };
    let described = describe().map_err(|error| at(&path)(error.into()))?;
    file::write(&path, (METADATA, described), &tensors).map_err(at(&path))?;
    Ok(path)
}

/// Reads the checkpoint at `path`, of a model as `spec` lays it out.
///
/// # Errors
/// When it cannot be read, is not whole, or is another model's.
pub fn load<P: DeserializeOwned>(
    path: &Path,
    spec: &ModelSpec,
) -> Result<Checkpoint<P>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let foreign = |reason: String| CheckpointError::Foreign {
        path: path.to_owned(),
        reason,
    };
    let mut reader = Reader::open(path)?;
    let described = reader
        .metadata(METADATA)
        .ok_or_else(|| damaged(format!("its metadata has no `{METADATA}`")))?;
    let description: Description =
        serde_json::from_str(described).map_err(|error| damaged(error.to_string()))?;
    let mut hasher = description.hasher();
    let Vectors {
        weights,
        optimizer,
        ema,
        held,
        expected,
    } = read_vectors(&mut reader, &mut hasher, spec)?;
    if hasher.finalize().to_hex().as_str() != description.checksum {
        return Err(damaged("its checksum does not hold".to_owned()));
    }
    // What is wrong from here on was written so.
    if description.format != FORMAT {
        return Err(foreign(format!(
            "its format is {}, this program reads {FORMAT}",
            description.format
        )));
    }
    expected.map_err(foreign)?;
    let clip = description.clip.as_deref().map(from_bits);
    let clip = clip
        .transpose()
        .map_err(|error| foreign(format!("its clipping: {error}")))?;
    let clip = clip.unwrap_or_default();
    let progress = serde_json::from_str(&description.progress);
    Ok(Checkpoint {
        trainer: TrainerState {
            counts: description.counts,
            weights,
            optimizer,
            ema,
            clip,
        },
        held,
        progress: progress.map_err(|error| foreign(format!("its progress: {error}")))?,
    })
}

/// Finds the newest checkpoint in `dir` that is whole; a missing folder holds none. Only a file that
/// was read and found damaged is passed over: one that cannot be read may be whole, and going on
/// without it would train those steps again and, in time, delete it.
///
/// # Errors
/// When the folder or a file cannot be read, or the newest whole checkpoint is another model's.
pub fn latest<P: DeserializeOwned>(
    dir: &Path,
    spec: &ModelSpec,
) -> Result<Latest<P>, CheckpointError> {
    let mut damaged = Vec::new();
    for (_, path) in list(dir)?.into_iter().rev() {
        match load(&path, spec) {
            Ok(checkpoint) => {
                let found = Some((path, checkpoint));
                return Ok(Latest { found, damaged });
            }
            Err(error @ CheckpointError::Damaged { .. }) => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    let found = None;
    Ok(Latest { found, damaged })
}

/// Renames a damaged checkpoint at `path`, so that it is neither tried again nor counted among those
/// that are kept, and a person can still look at it. Gives its new path.
///
/// # Errors
/// When the file system refuses.
pub fn set_aside(path: &Path) -> Result<PathBuf, CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)
        .and_then(|()| file::sync_parent(path))
        .map_err(|source| CheckpointError::Io {
            path: path.to_owned(),
            source,
        })?;
    Ok(aside)
}

/// Removes checkpoints of earlier steps than `step`, whose own was just written, until `keep` are left
/// with it (with two or more, a damaged one costs little), and what interrupted writes left behind.
/// Checkpoints of later steps are neither counted nor removed. Gives what it removed.
///
/// # Errors
/// When the file system refuses.
pub fn prune(dir: &Path, keep: usize, step: u64) -> Result<Vec<PathBuf>, CheckpointError> {
    let earlier = list(dir)?.into_iter().filter(|(other, _)| *other < step);
    let mut old: Vec<PathBuf> = earlier.map(|(_, path)| path).collect();
    old.truncate(old.len().saturating_sub(keep.saturating_sub(1)));
    let is_left_over = |path: &PathBuf| path.extension().is_some_and(|it| it == file::UNFINISHED);
    old.extend(entries(dir)?.into_iter().filter(is_left_over));
    for path in &old {
        fs::remove_file(path).map_err(|source| CheckpointError::Io {
            path: path.clone(),
            source,
        })?;
    }
    Ok(old)
}

/// Writes `weights` by torch's names and in its shapes to `path`, as other programs read them.
///
/// # Errors
/// When the file system refuses.
///
/// # Panics
/// When `weights` are not as many as `spec` has elements.
pub fn save_model(path: &Path, spec: &ModelSpec, weights: &[f32]) -> Result<(), CheckpointError> {
    let metadata = ("format", "pt".to_owned());
    file::write(path, metadata, &parameters(spec, "", weights)).map_err(|source| {
        CheckpointError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

/// SHA-256 of the flat little-endian `weights`, in hexadecimal: the one number that two runs compare.
pub fn weights_sha256(weights: &[f32]) -> String {
    let mut hasher = Sha256::new();
    proto::tensor::for_each_chunk(weights, |bytes| hasher.update(bytes));
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Description {
    /// Has seen all of the description but the checksum.
    fn hasher(&self) -> blake3::Hasher {
        let Counts {
            step,
            applied_steps,
            clipped_steps,
        } = self.counts;
        let mut hasher = blake3::Hasher::new();
        for number in [u64::from(self.format), step, applied_steps, clipped_steps] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(self.progress.as_bytes());
        if let Some(clip) = &self.clip {
            hasher.update(clip.as_bytes());
        }
        hasher
    }
}

/// Numbers as JSON can keep them: it has no infinities, and reading a fraction need not give its last digit.
fn bits(parts: &[Vec<f64>]) -> Vec<Vec<u64>> {
    let bits = |part: &Vec<f64>| part.iter().map(|number| number.to_bits()).collect();
    parts.iter().map(bits).collect()
}

fn from_bits(text: &str) -> serde_json::Result<Vec<Vec<f64>>> {
    let parts: Vec<Vec<u64>> = serde_json::from_str(text)?;
    let numbers = |part: Vec<u64>| part.into_iter().map(f64::from_bits).collect();
    Ok(parts.into_iter().map(numbers).collect())
}

fn parameters<'a>(spec: &ModelSpec, prefix: &str, weights: &'a [f32]) -> Vec<Tensor<'a>> {
    assert_eq!(weights.len(), spec.elements(), "weights of this model");
    let parameters = spec.parameters.iter();
    parameters
        .map(|parameter| Tensor {
            name: format!("{prefix}{}", parameter.name),
            shape: parameter.shape.clone(),
            values: &weights[parameter.range()],
        })
        .collect()
}

/// All tensors of a file.
struct Vectors {
    weights: Vec<f32>,
    optimizer: Vec<(String, Vec<f32>)>,
    ema: Option<Vec<f32>>,
    held: HeldWeights,
    /// Whether they are those of the model.
    expected: Result<(), String>,
}

/// Reads every tensor of the file. What does not fit the model is read for the checksum's sake: a
/// damaged file is to be told from another model's.
fn read_vectors(
    reader: &mut Reader,
    hasher: &mut blake3::Hasher,
    spec: &ModelSpec,
) -> Result<Vectors, CheckpointError> {
    let mut weights = Vec::with_capacity(spec.elements());
    let (mut optimizer, mut ema, mut held) = (Vec::new(), None, HeldWeights::new());
    let mut parameters = spec.parameters.iter();
    let mut expected = Ok(());
    while let Some((name, shape)) = reader.next_tensor() {
        let beside = [OPTIMIZER, AVERAGE, HELD];
        let beside = beside.iter().any(|prefix| name.starts_with(prefix));
        if beside && shape == [spec.elements()] {
            let mut values = Vec::with_capacity(spec.elements());
            reader.read(hasher, |run| values.extend_from_slice(run))?;
            match name.strip_prefix(OPTIMIZER) {
                Some(vector) => optimizer.push((vector.to_owned(), values)),
                None if name == AVERAGE => ema = Some(values),
                None => held.push(Arc::new(values)),
            }
            continue;
        }
        let fits = parameters.next().is_some_and(|parameter| {
            name.strip_prefix(WEIGHTS) == Some(&parameter.name) && shape == parameter.shape
        });
        if fits {
            reader.read(hasher, |run| weights.extend_from_slice(run))?;
        } else {
            reader.read(hasher, |_| ())?;
            let unexpected = format!("the model has no `{name}` of shape {shape:?} in that place");
            expected = expected.and(Err(unexpected));
        }
    }
    if let Some(missing) = parameters.next() {
        expected = expected.and(Err(format!("it lacks `{}`", missing.name)));
    }
    Ok(Vectors {
        weights,
        optimizer,
        ema,
        held,
        expected,
    })
}

fn file_name(step: u64) -> String {
    format!("step-{step:08}.safetensors")
}

/// The checkpoints in `dir` by step, the oldest first.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let step = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
        step.parse::<u64>().ok()
    };
    let mut found: Vec<_> = entries(dir)?
        .into_iter()
        .filter_map(|path| Some((step(&path)?, path)))
        .collect();
    found.sort();
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let read = || {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    read().map_err(|source| CheckpointError::Io {
        path: dir.to_owned(),
        source,
    })
}
