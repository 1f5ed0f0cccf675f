//! Training objectives beside the likelihood of the transcripts: label smoothing and class weights. It decides
//! what an utterance weighs, and does not depend on losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a gradient summed over utterances is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// The number of utterances.
    #[default]
    Utterances,
    /// The number of frames, as the model sees them.
    Frames,
    /// The number of labels in the transcripts.
    Labels,
}

/// What is summed over utterances, and by what the sum is divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What a summed gradient is divided by.
    pub normalize: Normalize,
    /// The share of a target that is spread evenly: over the classes (Szegedy et al. 2016), or for CTC
    /// over the units of each frame, as a divergence from the uniform distribution (Kim et al. 2018).
    pub label_smoothing: f64,
    /// The weight of each class, in the vocabulary's order; empty: every class weighs 1.
    pub class_weights: Vec<f64>,
}

/// An objective that no training can have.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ObjectiveError {
    #[error("`label_smoothing` is {0}; it is a share of at least 0 and below 1")]
    LabelSmoothing(f64),
    #[error("there are {found} class weights for {classes} classes")]
    ClassWeights { found: usize, classes: usize },
    #[error("the weight of class {class} is {weight}; it is a finite number of 0 or more")]
    ClassWeight { class: usize, weight: f64 },
}

impl From<Normalize> for Objective {
    /// The likelihood alone.
    fn from(normalize: Normalize) -> Self {
        Self {
            normalize,
            ..Self::default()
        }
    }
}

impl Objective {
    /// Whether it can be that of a model with so many classes; CTC has none.
    pub fn check(&self, classes: usize) -> Result<(), ObjectiveError> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(ObjectiveError::LabelSmoothing(self.label_smoothing));
        }
        let found = self.class_weights.len();
        if found != 0 && found != classes {
            return Err(ObjectiveError::ClassWeights { found, classes });
        }
        let bad = |weight: &f64| !weight.is_finite() || *weight < 0.0;
        match self.class_weights.iter().position(bad) {
            Some(class) => Err(ObjectiveError::ClassWeight {
                class,
                weight: self.class_weights[class],
            }),
            None => Ok(()),
        }
    }

    /// Whether it is the likelihood alone.
    pub fn is_plain(&self) -> bool {
        self.label_smoothing == 0.0 && self.class_weights.is_empty()
    }

    /// The weight of a class.
    pub fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.get(class).copied().unwrap_or(1.0)
    }

    /// What an utterance of `frames` frames weighs with this class, or these labels.
    pub fn weight(&self, frames: usize, target: &[u32]) -> f64 {
        let unit = match self.normalize {
            Normalize::Utterances => 1,
            Normalize::Frames => frames,
            Normalize::Labels => target.len(),
        };
        match target {
            [class] if !self.class_weights.is_empty() => {
                unit as f64 * self.class_weight(*class as usize)
            }
            _ => unit as f64,
        }
    }
}

/// Weights under which every class that occurs counts for as much as any other, and an utterance for 1 on
/// average: N / (K n) for a class that n of N utterances are of, where K classes occur (King & Zeng 2001).
/// A class that does not occur weighs nothing.
pub fn balanced(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    let occurring = counts.iter().filter(|&&count| count > 0).count();
    let weight = |&count: &u64| match count {
        0 => 0.0,
        count => total as f64 / (occurring as f64 * count as f64),
    };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_count_alike_and_utterances_for_one_on_average() {
        let counts = [30, 10, 0, 20];
        let weights = balanced(&counts);
        // sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 3], y=…)
        let sklearn = [0.666_666_666_666_666_6, 2.0, 0.0, 1.0];
        for (found, expected) in weights.iter().zip(sklearn) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        let sum: f64 = weights.iter().zip(counts).map(|(w, n)| w * n as f64).sum();
        assert!((sum - 60.0).abs() < 1e-12);
    }

    #[test]
    fn an_utterance_weighs_its_unit_times_its_class() {
        let mut objective = Objective::from(Normalize::Frames);
        assert_eq!(objective.weight(7, &[1]), 7.0);
        objective.class_weights = vec![1.0, 0.5];
        assert_eq!(objective.weight(7, &[1]), 3.5);
        objective.normalize = Normalize::Utterances;
        assert_eq!(objective.weight(7, &[0]), 1.0);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut objective = Objective {
            label_smoothing: 1.0,
            ..Objective::default()
        };
        let message = |objective: &Objective| objective.check(2).unwrap_err().to_string();
        assert!(message(&objective).contains("`label_smoothing` is 1"));
        objective.label_smoothing = 0.1;
        objective.class_weights = vec![1.0];
        assert!(message(&objective).contains("1 class weights for 2"));
        objective.class_weights = vec![1.0, f64::NAN];
        assert!(message(&objective).contains("class 1 is NaN"));
        objective.class_weights[1] = 3.0;
        assert_eq!(objective.check(2), Ok(()));
    }
}
