//! A job as a person writes it: TOML in which every key but the corpus has a default, an unknown key
//! is an error and every number is checked. It decides what a job may ask for, and refuses to open
//! the files that it names.

use std::path::{Path, PathBuf};

use proto::wire::Wire;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::{
    augment::{AugmentConfig, Augmenter},
    batching::BatchConfig,
    decode::{DecodeConfig, WordSource},
    error_class::{self, Class, Classify},
    features::FeaturesConfig,
    front_end::FrontEnd,
    model::{Head, ModelConfig, ModelSpec},
    objective::Normalize,
    strict::{self, StrictError},
    synth::SyntheticConfig,
    text::TextConfig,
    tolerance::MaxBad,
};
use thiserror::Error;

use crate::{
    compute_class::ComputeClassPolicy,
    leases::AuditPolicy,
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Measure, SelectConfig},
    trainer::{
        clip::{ClipConfig, unmatched},
        optimizer::OptimizerConfig,
    },
};

pub mod changes;
pub mod reference;
mod unused_keys;

/// A job: the model that is trained, its data, and how. The default has no corpus, which every job needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the type of each section says it")]
pub struct Job {
    /// A name for people, which is part of the job's id: 1 to 64 letters, digits, `.`, `_` and `-`, not
    /// beginning with `-`. Left out: the name of the job's file.
    #[serde(default)]
    #[schemars(example = &"an4-lstm")]
    pub name: String,
    /// Which workers may compute for the job.
    #[serde(default)]
    pub compute_class: ComputeClassPolicy,
    pub corpus: CorpusConfig,
    #[serde(default)]
    pub features: FeaturesConfig,
    #[serde(default)]
    pub augment: AugmentConfig,
    #[serde(default)]
    pub text: TextConfig,
    #[serde(default)]
    pub model: ModelConfig,
    #[serde(default)]
    pub train: TrainConfig,
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    #[serde(default)]
    pub schedule: ScheduleConfig,
    #[serde(default)]
    pub clip: ClipConfig,
    #[serde(default)]
    pub select: SelectConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<DecodeConfig>,
}

/// The `[corpus]` section of a job: manifests, or synthetic speech. Relative paths lie beside the job's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// The path of the training manifest. Required, unless the speech is synthetic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"train.jsonl")]
    pub train: Option<PathBuf>,
    /// The path of the validation manifest. Left out: there are no scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"valid.jsonl")]
    pub valid: Option<PathBuf>,
    #[allow(missing_docs, reason = "the type of the section says it")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<SyntheticConfig>,
    /// The most utterances of each manifest that may be left out because their recording cannot be used: a
    /// count, or a share (`"2%"`, `0.02`). 0 refuses the first. Left out: 1 % or 10, whichever is more, and never
    /// more than half.
    #[serde(skip_serializing_if = "MaxBad::is_default")]
    #[schemars(example = &"1%")]
    pub max_bad: MaxBad,
    /// The longest utterance in seconds; longer ones are left out. Left out: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 30.0)]
    pub max_seconds: Option<f64>,
}

/// The `[train]` section of a job: epochs, batches, checkpoints, the loss, and how workers are trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The passes over the training manifest.
    #[schemars(range(min = 1, max = 1_000_000), example = 30)]
    pub epochs: u32,
    /// A run's directory, its `final` folder or a safetensors file, with whose weights training begins. Left out:
    /// random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"../other-run/final")]
    pub init: Option<PathBuf>,
    /// The utterances of an optimizer step (global batch), over all workers.
    #[schemars(range(min = 1, max = 1 << 24), example = 64)]
    pub batch: usize,
    /// The utterances of one forward and backward pass, the smallest unit of work for a worker.
    #[schemars(range(min = 1, max = 1 << 20), example = 16)]
    pub micro_batch: usize,
    /// The seed of the initial weights, the order of utterances, dropout and augmentation.
    #[schemars(example = 2)]
    pub seed: u64,
    /// What the sum of the gradients is divided by.
    pub normalize: Normalize,
    /// The steps from one checkpoint to the next; 0: a checkpoint at the end of each epoch only.
    #[schemars(example = 50)]
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    #[schemars(range(min = 1, max = 1_000_000), example = 3)]
    pub keep_checkpoints: usize,
    /// The most micro-batches that may be left out of the whole run because their gradient is not finite or its
    /// norm too large; one more fails the run.
    #[schemars(example = 0)]
    pub max_quarantined: u64,
    /// The gradient-norm outlier bound: a micro-batch is left out when the norm of its mean gradient is more than
    /// so many times the running median. Left out: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 1), example = 20.0)]
    pub max_norm_ratio: Option<f64>,
    /// The audit rate: the share of the work that a second worker computes too, to find faulty hardware. At 1,
    /// nothing counts that two workers do not agree on. Needs `compute_class = "pinned"`.
    #[schemars(range(min = 0, max = 1), example = 0.02)]
    pub audit: f64,
    /// The number format in which gradients and weights travel.
    pub wire: Wire,
    /// The decay of an exponential moving average of the weights, which is then what is evaluated and kept. Left
    /// out: the weights themselves are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.999)]
    pub ema: Option<f64>,
    /// Label smoothing: the share of a target that is spread evenly over the classes, or with CTC the weight of
    /// each frame's divergence from the uniform distribution.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.1)]
    pub label_smoothing: f64,
    /// What each class of a keyword model counts for.
    pub class_balance: ClassBalance,
    /// The epochs at the beginning that go from short utterances to long ones (SortaGrad, Amodei et al. 2016).
    #[schemars(example = 1)]
    pub ascending_epochs: u32,
}

/// What each class of a keyword model counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassBalance {
    /// As much as it has utterances.
    #[default]
    None,
    /// As much as any other class: its utterances are weighted, and the step's weight with them.
    Weights,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            init: None,
            batch: 32,
            micro_batch: 8,
            seed: 1,
            normalize: Normalize::Utterances,
            checkpoint_every: 200,
            keep_checkpoints: 2,
            max_quarantined: 10,
            max_norm_ratio: None,
            audit: 0.0,
            wire: Wire::F32,
            ema: None,
            label_smoothing: 0.0,
            class_balance: ClassBalance::None,
            ascending_epochs: 0,
        }
    }
}

impl TrainConfig {
    /// The sizes of global batches and micro-batches, in utterances.
    pub const fn batching(&self) -> BatchConfig {
        BatchConfig {
            batch: self.batch,
            micro_batch: self.micro_batch,
        }
    }
}

/// Why a file is no job.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum JobError {
    #[error(transparent)]
    Strict(#[from] StrictError),
    #[error("{}: `{field}` {reason}", path.display())]
    Field {
        path: PathBuf,
        field: String,
        reason: String,
    },
    /// From the module that owns a section; the message names the field.
    #[error("{}: {reason}", path.display())]
    Section { path: PathBuf, reason: String },
}

impl Classify for JobError {
    fn class(&self) -> Class {
        match self {
            Self::Strict(error) => error.class(),
            other => error_class::of_data(other),
        }
    }
}

impl JobError {
    fn unused(unused: &unused_keys::Unused, path: &Path) -> Self {
        Self::Field {
            path: path.to_owned(),
            field: unused.field(),
            reason: unused.reason(),
        }
    }
}

impl Job {
    /// Reads a job from `text`, the contents of the file at `path`, with `sets` (`section.key=value`)
    /// laid over it. Files that `sets` names are relative to the working directory and come out
    /// absolute; those of the file are made so by [`Job::resolve`].
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Self, JobError> {
        let mut job: Self = strict::parse_with(text, path, sets)?;
        let mut typed = toml::Table::new();
        for argument in sets {
            strict::set(&mut typed, argument)?;
        }
        let typed = |section: &str, key: &str| {
            let section = typed.get(section).and_then(toml::Value::as_table);
            section.is_some_and(|section| section.contains_key(key))
        };
        for (section, key, file) in [
            ("corpus", "train", &mut job.corpus.train),
            ("corpus", "valid", &mut job.corpus.valid),
            ("train", "init", &mut job.train.init),
        ] {
            *file = file.take().filter(|path| !path.as_os_str().is_empty());
            if let Some(file) = file.as_mut().filter(|_| typed(section, key)) {
                *file = std::path::absolute(&file).map_err(|error| JobError::Field {
                    path: path.to_owned(),
                    field: format!("{section}.{key}"),
                    reason: error.to_string(),
                })?;
            }
        }
        for (key, source) in sources(&mut job.decode) {
            if typed("decode", key) {
                let here = std::env::current_dir().map_err(|error| JobError::Field {
                    path: path.to_owned(),
                    field: format!("decode.{key}"),
                    reason: error.to_string(),
                })?;
                source.resolve(&here);
            }
        }
        if job.name.is_empty() {
            job.name = name_of(path);
        }
        job.validate(path)?;
        Ok(job)
    }

    /// Refuses keys that a person wrote, in `text` or in `sets`, and that have no effect in this job,
    /// which was parsed from them. A run's own `job.toml` has every key.
    ///
    /// # Errors
    /// The first such key, with the choice that it belongs to.
    pub fn check_written(&self, text: &str, path: &Path, sets: &[String]) -> Result<(), JobError> {
        let mut written: toml::Table = toml::from_str(text).unwrap_or_default();
        for argument in sets {
            strict::set(&mut written, argument)?;
        }
        let is_written = |unused: &unused_keys::Unused| {
            let section = written.get(unused.section).and_then(toml::Value::as_table);
            section.is_some_and(|section| section.contains_key(unused.key))
        };
        let found = unused_keys::unused(self).into_iter().find(is_written);
        found.map_or(Ok(()), |unused| Err(JobError::unused(&unused, path)))
    }

    /// Makes the paths of manifests, first weights, language model and lexicon absolute; relative ones lie
    /// below `base`.
    #[must_use]
    pub fn resolve(mut self, base: &Path) -> Self {
        let corpus = &mut self.corpus;
        let files = [&mut corpus.train, &mut corpus.valid, &mut self.train.init];
        for file in files.into_iter().flatten() {
            *file = base.join(&file);
        }
        for (_, source) in sources(&mut self.decode) {
            source.resolve(base);
        }
        self
    }

    /// The first key that goes by the validation set's figure (`select.by`), if one does.
    pub fn needs_scores(&self) -> Option<&'static str> {
        let plateau = self.schedule.kind == ScheduleKind::Plateau;
        let plateau = plateau.then_some("schedule.kind");
        plateau.or(self.select.needs_scores())
    }

    /// How far the answers of its workers are trusted.
    pub const fn audit_policy(&self) -> AuditPolicy {
        match self.compute_class {
            ComputeClassPolicy::Pinned => AuditPolicy::Compare {
                audit: self.train.audit,
            },
            ComputeClassPolicy::Any => AuditPolicy::None,
        }
    }

    /// The job as a file, with the defaults written out.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    fn validate(&self, path: &Path) -> Result<(), JobError> {
        let refuse = |field: &str, reason: String| {
            Err(JobError::Field {
                path: path.to_owned(),
                field: field.to_owned(),
                reason,
            })
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts = self.name.bytes().next().is_some_and(|byte| byte != b'-');
        if !starts || self.name.len() > LONGEST_NAME || !self.name.bytes().all(allowed) {
            let reason = format!(
                "is {:?}; a name has 1 to {LONGEST_NAME} letters, digits, `.`, `_` and `-`, and does not start with `-`",
                self.name
            );
            return refuse("name", reason);
        }
        let corpus = &self.corpus;
        match (&corpus.train, &corpus.valid, &corpus.synthetic) {
            (None, _, None) => {
                let reason = "is missing: name a manifest, or give `synthetic`";
                return refuse("corpus.train", reason.to_owned());
            }
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                let reason = "stands beside manifests; keep one or the other";
                return refuse("corpus.synthetic", reason.to_owned());
            }
            _ => {}
        }
        let seconds = corpus.max_seconds;
        if let Some(seconds) = seconds.filter(|it| !it.is_finite() || *it <= 0.0) {
            let reason = format!("is {seconds}; it is a finite number of seconds above 0");
            return refuse("corpus.max_seconds", reason);
        }
        for (field, value, most) in [
            ("train.epochs", u64::from(self.train.epochs), 1_000_000),
            ("train.batch", self.train.batch as u64, 1 << 24),
            ("train.micro_batch", self.train.micro_batch as u64, 1 << 20),
            (
                "train.keep_checkpoints",
                self.train.keep_checkpoints as u64,
                1_000_000,
            ),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(field, format!("is {value}; it is from 1 to {most}"));
            }
        }
        if !(0.0..=1.0).contains(&self.train.audit) {
            let reason = format!("is {}; it is a share from 0 to 1", self.train.audit);
            return refuse("train.audit", reason);
        }
        if self.train.audit > 0.0 && self.compute_class == ComputeClassPolicy::Any {
            let reason = "compares bits, which differ between compute classes; leave it out, or leave out `compute_class = \"any\"`";
            return refuse("train.audit", reason.to_owned());
        }
        let ratio = self.train.max_norm_ratio;
        if let Some(ratio) = ratio.filter(|ratio| !ratio.is_finite() || *ratio <= 1.0) {
            let reason = format!("is {ratio}; it is a finite number above 1");
            return refuse("train.max_norm_ratio", reason);
        }
        if let Some(ema) = self.train.ema.filter(|ema| !(0.0..1.0).contains(ema)) {
            let reason = format!("is {ema}; it is at least 0 and below 1");
            return refuse("train.ema", reason);
        }
        let smoothing = self.train.label_smoothing;
        if !(0.0..1.0).contains(&smoothing) {
            let reason = format!("is {smoothing}; it is a share of at least 0 and below 1");
            return refuse("train.label_smoothing", reason);
        }
        if self.train.class_balance != ClassBalance::None && self.model.head == Head::Ctc {
            let reason = "weighs classes, and `model.head` is \"ctc\", which has none";
            return refuse("train.class_balance", reason.to_owned());
        }
        if self.select.by == Measure::Cer && self.model.head == Head::Keyword {
            let reason = "is \"cer\", and a model with `model.head = \"keyword\"` has no character error rate; take \"score\" (its accuracy) or \"loss\"";
            return refuse("select.by", reason.to_owned());
        }
        let synthetic = corpus.synthetic.as_ref();
        let scored = corpus.valid.is_some() || synthetic.is_some_and(|made| made.valid > 0);
        if let Some(field) = self.needs_scores().filter(|_| !scored) {
            let reason = "goes by scores on a validation set, and `corpus.valid` names none";
            return refuse(field, reason.to_owned());
        }
        let section = |reason: String| JobError::Section {
            path: path.to_owned(),
            reason,
        };
        if let Some(synthetic) = synthetic {
            synthetic
                .validate()
                .map_err(|error| section(error.to_string()))?;
        }
        self.model
            .check()
            .map_err(|error| section(error.to_string()))?;
        // Without statistics: those come from the corpus.
        let front_end =
            FrontEnd::new(&self.features, None).map_err(|error| section(error.to_string()))?;
        Augmenter::new(&self.augment, &self.features, self.train.seed)
            .map_err(|error| section(error.to_string()))?;
        self.text
            .check()
            .map_err(|error| section(error.to_string()))?;
        self.optimizer
            .validate()
            .map_err(|error| section(error.to_string()))?;
        self.schedule
            .validate()
            .map_err(|error| section(error.to_string()))?;
        self.clip
            .validate()
            .map_err(|error| section(error.to_string()))?;
        // How many outputs there are changes no parameter's name.
        let spec = ModelSpec::new(&self.model, front_end.dims(), 2);
        if let Some(pattern) = unmatched(&self.clip.exempt, &spec) {
            let names = spec.parameters.iter().map(|it| it.name.as_str());
            let names: Vec<&str> = names.collect();
            let reason = format!(
                "has {pattern:?}, which no parameter's name fits; they are {}",
                names.join(", ")
            );
            return refuse("clip.exempt", reason);
        }
        self.select
            .validate()
            .map_err(|error| section(error.to_string()))?;
        if let Some(decode) = &self.decode {
            if self.model.head == Head::Keyword {
                let reason = "is for models that write transcripts; leave it out, or set `model.head = \"ctc\"`";
                return refuse("decode", reason.to_owned());
            }
            decode.check().map_err(|error| section(error.to_string()))?;
        }
        let unused = unused_keys::first_changed(self);
        unused.map_or(Ok(()), |unused| Err(JobError::unused(&unused, path)))
    }
}

/// The files that a decoder may be made of, by their keys.
fn sources(
    decode: &mut Option<DecodeConfig>,
) -> impl Iterator<Item = (&'static str, &mut WordSource)> {
    decode.iter_mut().flat_map(|decode| {
        [
            ("language_model", &mut decode.language_model),
            ("lexicon", &mut decode.lexicon),
        ]
    })
}

const LONGEST_NAME: usize = 64;

/// A name after the job's file.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' => character,
            _ => '-',
        })
        .take(LONGEST_NAME)
        .collect();
    let name = name.trim_start_matches('-');
    if name.is_empty() { "job" } else { name }.to_owned()
}

#[cfg(test)]
mod tests;
