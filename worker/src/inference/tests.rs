//! Models from a folder, good and bad, and what they hear.

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, View};
use speech::{
    augment::AugmentConfig,
    features::FeaturesConfig,
    model::{ModelConfig, Pooling},
    objective::Normalize,
    text::TextConfig,
};

mod live;

use super::*;
use crate::compute::DeviceChoice;

fn recipe(head: Head) -> Recipe {
    let vocabulary = match head {
        Head::Keyword => Vocabulary::classes(["no", "perhaps", "yes"]),
        Head::Ctc => Vocabulary::characters(["no yes"]),
    };
    Recipe {
        features: FeaturesConfig::default(),
        augment: AugmentConfig::default(),
        model: ModelConfig {
            head,
            layers: 1,
            hidden: 5,
            pooling: Pooling::Mean,
            ..ModelConfig::default()
        },
        text: TextConfig::default(),
        vocabulary: vocabulary.unwrap(),
        stats: None,
        normalize: Normalize::Utterances,
        label_smoothing: 0.0,
        class_weights: Vec::new(),
        seed: 9,
    }
}

struct Tensor(Vec<usize>, Vec<u8>);

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.1)
    }
    fn data_len(&self) -> usize {
        self.1.len()
    }
}

/// The tensors of `weights` by name.
fn tensors(spec: &ModelSpec, weights: &[f32]) -> BTreeMap<String, Tensor> {
    let tensor = |parameter: &speech::model::ParameterSpec| {
        let values = &weights[parameter.range()];
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        (
            parameter.name.clone(),
            Tensor(parameter.shape.clone(), bytes),
        )
    };
    spec.parameters.iter().map(tensor).collect()
}

fn write(folder: &Path, recipe: &Recipe, tensors: BTreeMap<String, Tensor>) {
    fs::write(folder.join("recipe.json"), recipe.to_json()).unwrap();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

fn compute() -> Compute {
    Compute::open(DeviceChoice::Cpu).unwrap()
}

fn noise(seed: u64, frames: usize, dims: usize) -> Features {
    let mut stream = speech::random::Stream::new(seed, &[]);
    Features {
        frames,
        dims,
        data: (0..frames * dims).map(|_| stream.normal() as f32).collect(),
    }
}

#[test]
fn a_model_from_its_folder_is_the_model_that_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(Head::Keyword);
    let spec = recipe.model_spec().unwrap();
    let weights = spec.initialize(3);
    write(folder.path(), &recipe, tensors(&spec, &weights));
    assert_eq!(
        load::read(folder.path()).unwrap(),
        (recipe.clone(), weights.clone())
    );
    let loaded = Model::load(folder.path(), &compute()).unwrap();
    let trained = Model::from_parts(recipe, &weights, &compute()).unwrap();
    let features = noise(1, 12, spec.inputs);
    let heard = loaded.recognise(&[&features]).unwrap();
    assert_eq!(heard, trained.recognise(&[&features]).unwrap());
    let classes = loaded.classes(&heard[0]);
    assert_eq!(classes[0].0, heard[0].text);
    assert!((classes.iter().map(|class| class.1).sum::<f64>() - 1.0).abs() < 1e-5);
}

#[test]
fn each_fault_of_a_folder_has_its_own_message() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(Head::Keyword);
    let spec = recipe.model_spec().unwrap();
    let weights = spec.initialize(3);
    let complaint = || {
        Model::load(folder.path(), &compute())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(
        complaint().contains("recipe.json: cannot be read"),
        "{}",
        complaint()
    );

    write(folder.path(), &recipe, tensors(&spec, &weights));
    let model = folder.path().join("model.safetensors");
    let good = fs::read(&model).unwrap();
    for length in [0, 7, 100, good.len() - 1] {
        fs::write(&model, &good[..length]).unwrap();
        assert!(
            complaint().contains("truncated or no safetensors file"),
            "{}",
            complaint()
        );
    }
    let large = fs::File::create(&model).unwrap();
    large.set_len(1 << 40).unwrap();
    assert!(
        complaint().contains("has 1099511627776 bytes where at most"),
        "{}",
        complaint()
    );

    type Damage = fn(&mut BTreeMap<String, Tensor>);
    let faults: [(&str, Damage); 4] = [
        ("`head.bias` is missing", |tensors| {
            drop(tensors.remove("head.bias"))
        }),
        ("a tensor `surplus`", |tensors| {
            drop(tensors.insert("surplus".to_owned(), Tensor(vec![1], vec![0; 4])))
        }),
        ("F32 of shape [3, 5] is due", |tensors| {
            tensors.get_mut("head.weight").unwrap().0 = vec![5, 3];
        }),
        ("weight 1 is NaN", |tensors| {
            let bytes = &mut tensors.get_mut("lstm.weight_ih_l0").unwrap().1;
            bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
    ];
    for (expected, spoil) in faults {
        let mut tensors = tensors(&spec, &weights);
        spoil(&mut tensors);
        write(folder.path(), &recipe, tensors);
        assert!(
            complaint().contains(expected),
            "{expected}: {}",
            complaint()
        );
        assert!(complaint().contains("model.safetensors"), "{}", complaint());
    }
    fs::write(folder.path().join("recipe.json"), "{}").unwrap();
    assert!(complaint().contains("recipe.json: "), "{}", complaint());
}

#[test]
fn utterances_are_heard_alike_alone_and_among_many() {
    let recipe = recipe(Head::Ctc);
    let spec = recipe.model_spec().unwrap();
    let model = Model::from_parts(recipe, &spec.initialize(4), &compute()).unwrap();
    // More than a batch, of every length, and one without frames.
    let features: Vec<Features> = (0..70)
        .map(|index| noise(index, (index as usize * 37) % 90, spec.inputs))
        .collect();
    let together = model
        .recognise(&features.iter().collect::<Vec<_>>())
        .unwrap();
    assert_eq!(together.len(), 70);
    assert_eq!(
        (together[0].text.as_str(), together[0].log_probs.len()),
        ("", 0)
    );
    for index in [1, 20, 69] {
        let alone = model.recognise(&[&features[index]]).unwrap();
        assert_eq!(alone[0].text, together[index].text);
        let pairs = alone[0].log_probs.iter().zip(&together[index].log_probs);
        assert_eq!(
            alone[0].log_probs.len(),
            features[index].frames * spec.outputs
        );
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn any_number_of_threads_hears_the_same_to_the_bit() {
    let mut recipe = recipe(Head::Ctc);
    recipe.model.bidirectional = true;
    let spec = recipe.model_spec().unwrap();
    let model = Model::from_parts(recipe, &spec.initialize(4), &compute()).unwrap();
    // The lengths are about the same: batches are sorted by it, so that in most of them all end within a few frames
    // of each other.
    let mut stream = speech::random::Stream::new(6, &[]);
    let features: Vec<Features> = (0..90)
        .map(|index| noise(index, 30 + stream.below(12) as usize, spec.inputs))
        .collect();
    let all: Vec<&Features> = features.iter().collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| model.recognise(&all).unwrap())
    };
    let one = on(1);
    assert!(one.iter().all(|heard| !heard.log_probs.is_empty()));
    for threads in [2, 3, 4, 7, 16] {
        assert!(on(threads) == one, "{threads} threads");
    }
}

#[test]
fn an_utterance_that_cannot_be_aligned_has_no_loss() {
    let recipe = recipe(Head::Ctc);
    let spec = recipe.model_spec().unwrap();
    let model = Model::from_parts(recipe, &spec.initialize(4), &compute()).unwrap();
    let features = [noise(1, 2, spec.inputs), noise(2, 9, spec.inputs)];
    let heard = model
        .recognise(&features.iter().collect::<Vec<_>>())
        .unwrap();
    let losses = model.losses(&heard, &[Some(&[1, 1]), Some(&[1, 2])]);
    assert_eq!(losses[0], None);
    assert!(losses[1].unwrap() > 0.0);
}
