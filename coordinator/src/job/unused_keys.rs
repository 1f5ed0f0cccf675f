//! Keys of a job that say nothing, because they belong to another choice than the one that was made: a
//! `clip.max_value` beside `policy = "global-norm"` looks as if it clipped. Each is named with the choice
//! that it belongs to. Keys of `[model]` and `[text]` are checked by those sections themselves.

use serde::Serialize;
use speech::{
    augment::AugmentConfig,
    decode::{DecodeConfig, WordSource},
    features::{FeatureKind, FeaturesConfig},
    model::Head,
};

use super::Job;
use crate::{
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Keep, SelectConfig},
    trainer::{
        clip::{ClipConfig, ClipPolicy, ClipThreshold},
        optimizer::{OptimizerConfig, OptimizerKind},
    },
};

/// A key that has no effect in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    pub section: &'static str,
    pub key: &'static str,
    /// What it belongs to: `clip.policy = "value"`.
    pub belongs_to: &'static str,
}

impl Unused {
    /// The key with its section.
    pub(super) fn field(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// What is wrong with it.
    pub(super) fn reason(&self) -> String {
        format!(
            "has no effect here: it belongs to {}; leave it out, or choose that",
            self.belongs_to
        )
    }
}

/// Every key that has no effect in `job`, whatever its value.
pub(super) fn unused(job: &Job) -> Vec<Unused> {
    let mut found = Vec::new();
    let mut section = |section, rules: &[(bool, &'static str, &[&'static str])]| {
        for (used, belongs_to, keys) in rules {
            found.extend(keys.iter().filter(|_| !used).map(|&key| Unused {
                section,
                key,
                belongs_to,
            }));
        }
    };
    let sgd = job.optimizer.kind == OptimizerKind::Sgd;
    let adam = "`optimizer.kind` \"adam\" or \"adamw\"";
    section(
        "optimizer",
        &[
            (sgd, "`optimizer.kind = \"sgd\"`", &["momentum", "nesterov"]),
            (!sgd, adam, &["beta1", "beta2", "epsilon"]),
        ],
    );
    let kind = job.schedule.kind;
    let plateau = kind == ScheduleKind::Plateau;
    let stairs = matches!(kind, ScheduleKind::Step | ScheduleKind::Exponential);
    let cosine = kind == ScheduleKind::Cosine;
    section(
        "schedule",
        &[
            (
                stairs,
                "`schedule.kind` \"step\" or \"exponential\"",
                &["step_size"],
            ),
            (
                stairs || plateau,
                "`schedule.kind` \"step\", \"exponential\" or \"plateau\"",
                &["gamma"],
            ),
            (
                cosine || plateau,
                "`schedule.kind` \"cosine\" or \"plateau\"",
                &["final_fraction"],
            ),
            (
                plateau,
                "`schedule.kind = \"plateau\"`",
                &["patience", "threshold", "cooldown"],
            ),
        ],
    );
    let clip = &job.clip;
    let norms = clip.uses_norms();
    let compared_with = |threshold| norms && clip.threshold == threshold;
    let warms_up =
        compared_with(ClipThreshold::ZScore) || compared_with(ClipThreshold::MovingAverage);
    section(
        "clip",
        &[
            (
                norms && clip.policy != ClipPolicy::GlobalNorm,
                "`clip.policy` \"norm\", \"smooth\" or \"normalize\"",
                &["scope"],
            ),
            (
                norms,
                "`clip.policy` \"global-norm\", \"norm\", \"smooth\" or \"normalize\"",
                &["threshold", "exempt"],
            ),
            (
                compared_with(ClipThreshold::Fixed),
                "`clip.threshold = \"fixed\"` and a `clip.policy` by norm, as \"global-norm\" is",
                &["max_norm"],
            ),
            (
                norms && clip.threshold != ClipThreshold::Fixed,
                "an adaptive `clip.threshold`",
                &["ceiling"],
            ),
            (
                compared_with(ClipThreshold::Percentile),
                "`clip.threshold = \"percentile\"`",
                &["percentile"],
            ),
            (
                compared_with(ClipThreshold::Median),
                "`clip.threshold = \"median\"`",
                &["clipping_scale", "clipping_update_period"],
            ),
            (
                compared_with(ClipThreshold::ZScore),
                "`clip.threshold = \"z-score\"`",
                &["z_thresh", "alpha"],
            ),
            (
                compared_with(ClipThreshold::MovingAverage),
                "`clip.threshold = \"moving-average\"`",
                &["lambda_rel", "lambda_abs", "beta"],
            ),
            (
                warms_up,
                "`clip.threshold` \"z-score\" or \"moving-average\"",
                &["warmup_steps"],
            ),
            (
                compared_with(ClipThreshold::WeightRatio),
                "`clip.threshold = \"weight-ratio\"`",
                &["clip_factor", "eps"],
            ),
            (
                clip.policy == ClipPolicy::Value,
                "`clip.policy = \"value\"`",
                &["max_value"],
            ),
        ],
    );
    section(
        "features",
        &[(
            job.features.kind == FeatureKind::Mfcc,
            "`features.kind = \"mfcc\"`",
            &["cepstra", "use_energy"],
        )],
    );
    let augment = &job.augment;
    section(
        "augment",
        &[
            (
                augment.freq_masks > 0,
                "`augment.freq_masks` above 0",
                &["freq_width"],
            ),
            (
                augment.time_masks > 0,
                "`augment.time_masks` above 0",
                &["time_fraction"],
            ),
            (
                augment.noise > 0.0,
                "`augment.noise` above 0",
                &["noise_snr_db", "noise_kinds"],
            ),
            (
                augment.reverb > 0.0,
                "`augment.reverb` above 0",
                &["reverb_seconds"],
            ),
        ],
    );
    let select = &job.select;
    let chosen = select.keep == Keep::Best || select.patience > 0 || plateau;
    section(
        "select",
        &[(
            chosen,
            "`select.keep = \"best\"`, `select.patience` or `schedule.kind = \"plateau\"`",
            &["by"],
        )],
    );
    section(
        "text",
        &[(
            job.model.head == Head::Ctc,
            "`model.head = \"ctc\"`",
            &["units"],
        )],
    );
    if let Some(decode) = &job.decode {
        let trained = decode.language_model == WordSource::Train;
        let fused = decode.language_model != WordSource::None;
        section(
            "decode",
            &[
                (trained, "`decode.language_model = \"train\"`", &["order"]),
                (
                    fused,
                    "a `decode.language_model`",
                    &["lm_weight", "unknown_penalty"],
                ),
                (
                    !decode.hot_words.is_empty(),
                    "`decode.hot_words`",
                    &["hot_boost"],
                ),
            ],
        );
    }
    found
}

/// The first key of `job` that has no effect and another value than when it is left out.
pub(super) fn first_changed(job: &Job) -> Option<Unused> {
    unused(job).into_iter().find(|unused| match unused.section {
        "optimizer" => differs(&job.optimizer, &OptimizerConfig::default(), unused.key),
        "schedule" => differs(&job.schedule, &ScheduleConfig::default(), unused.key),
        "clip" => differs(&job.clip, &ClipConfig::default(), unused.key),
        "features" => differs(&job.features, &FeaturesConfig::default(), unused.key),
        "augment" => differs(&job.augment, &AugmentConfig::default(), unused.key),
        "select" => differs(&job.select, &SelectConfig::default(), unused.key),
        "text" => differs(&job.text, &speech::text::TextConfig::default(), unused.key),
        _ => differs(&job.decode, &Some(DecodeConfig::default()), unused.key),
    })
}

fn differs<T: Serialize>(section: &T, default: &T, key: &str) -> bool {
    let value = |section: &T| {
        let section = serde_json::to_value(section).ok()?;
        section.get(key).cloned()
    };
    value(section) != value(default)
}
