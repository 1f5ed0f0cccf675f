//! Files of weights that are a model's and that are not. The recipe and a file of its weights are the seeds
//! of the fuzz target too; `UNISONO_WRITE_SEEDS=1` writes them anew when a recipe's form has changed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use safetensors::tensor::TensorView;

use super::*;
use crate::augment::AugmentConfig;
use crate::features::FeaturesConfig;
use crate::model::{Head, ModelConfig};
use crate::objective::Normalize;
use crate::recipe::Recipe;
use crate::text::{TextConfig, Vocabulary};

fn recipe() -> Recipe {
    Recipe {
        features: FeaturesConfig {
            mel_bins: 4,
            ..FeaturesConfig::default()
        },
        augment: AugmentConfig::default(),
        model: ModelConfig {
            head: Head::Ctc,
            hidden: 2,
            layers: 1,
            ..ModelConfig::default()
        },
        text: TextConfig::default(),
        vocabulary: Vocabulary::characters(["no"]).unwrap(),
        stats: None,
        normalize: Normalize::Utterances,
        label_smoothing: 0.0,
        class_weights: Vec::new(),
        seed: 1,
    }
}

/// A file with these tensors, all of `value`.
fn file(tensors: &BTreeMap<String, Vec<usize>>, value: f32) -> Vec<u8> {
    let data: BTreeMap<&str, Vec<u8>> = tensors
        .iter()
        .map(|(name, shape)| {
            let elements: usize = shape.iter().product();
            (name.as_str(), value.to_le_bytes().repeat(elements))
        })
        .collect();
    let views = tensors.iter().map(|(name, shape)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &data[name.as_str()]);
        (name.clone(), view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn tensors(spec: &ModelSpec) -> BTreeMap<String, Vec<usize>> {
    spec.parameters
        .iter()
        .map(|one| (one.name.clone(), one.shape.clone()))
        .collect()
}

#[test]
fn a_file_of_the_model_is_its_vector() {
    let spec = recipe().model_spec().unwrap();
    let weights = parse(&file(&tensors(&spec), 0.5), &spec).unwrap();
    assert_eq!(weights, vec![0.5; spec.elements()]);
}

#[test]
fn a_file_of_another_model_or_a_damaged_one_is_named() {
    let spec = recipe().model_spec().unwrap();
    let all = tensors(&spec);
    let first = spec.parameters[0].name.clone();
    let told = |tensors: &BTreeMap<String, Vec<usize>>, value| {
        parse(&file(tensors, value), &spec).unwrap_err().to_string()
    };
    let mut other = all.clone();
    other.insert("other".to_owned(), vec![1]);
    assert_eq!(
        told(&other, 0.5),
        "it has a tensor `other`, which the model lacks"
    );
    other = all.clone();
    other.remove(&first);
    assert_eq!(
        told(&other, 0.5),
        format!("the tensor `{first}` is missing")
    );
    other.insert(first.clone(), vec![1, 1]);
    assert!(told(&other, 0.5).starts_with(&format!("the tensor `{first}` is F32 of shape [1, 1]")));
    assert_eq!(told(&all, f32::NAN), "weight 0 is NaN");
    let whole = file(&all, 0.5);
    for length in [0, 7, 40, whole.len() - 1] {
        let error = parse(&whole[..length], &spec).unwrap_err();
        assert!(matches!(error, WeightsError::Damaged(_)), "{error}");
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_are_a_model() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/model");
    let spec = recipe().model_spec().unwrap();
    if std::env::var_os("UNISONO_WRITE_SEEDS").is_some() {
        fs::write(folder.join("recipe.json"), recipe().to_json()).unwrap();
        fs::write(folder.join("model.safetensors"), file(&tensors(&spec), 0.5)).unwrap();
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let json = String::from_utf8(read("recipe.json")).unwrap();
    let found = Recipe::from_json(&json).unwrap().model_spec().unwrap();
    parse(&read("model.safetensors"), &found).unwrap();
}
