//! Losses and gradients by PyTorch in f64 (`testdata/goldens.py`).

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde::Deserialize;
use speech::features::Features;
use speech::model::{Head, ModelConfig, ModelSpec, Pooling};
use speech::objective::Normalize;
use worker::compute::Compute;
use worker::gradient::{MicroBatch, gradient};
use worker::loss::{Example, losses};
use worker::network::Network;

use crate::{cpu, distance, wgpu};

const GRADIENTS: &[u8] = include_bytes!("../../testdata/gradients.safetensors");
const KINDS: &[u8] = include_bytes!("../../testdata/kinds.safetensors");
const CTC: &[u8] = include_bytes!("../../testdata/ctc.safetensors");

#[derive(Deserialize)]
struct GradientCase {
    head: Head,
    pooling: Pooling,
    bidirectional: bool,
    inputs: usize,
    hidden: usize,
    layers: usize,
    outputs: usize,
    targets: Vec<Vec<u32>>,
    loss: f64,
}

/// A model of any kind.
#[derive(Deserialize)]
struct KindCase {
    model: ModelConfig,
    inputs: usize,
    outputs: usize,
    targets: Vec<Vec<u32>>,
    loss: f64,
}

impl From<GradientCase> for KindCase {
    fn from(case: GradientCase) -> Self {
        Self {
            model: ModelConfig {
                head: case.head,
                layers: case.layers,
                hidden: case.hidden,
                bidirectional: case.bidirectional,
                pooling: case.pooling,
                ..ModelConfig::default()
            },
            inputs: case.inputs,
            outputs: case.outputs,
            targets: case.targets,
            loss: case.loss,
        }
    }
}

#[derive(Deserialize)]
struct CtcCase {
    outputs: usize,
    target: Vec<u32>,
    loss: f64,
}

fn cases<T: serde::de::DeserializeOwned>(file: &'static [u8]) -> BTreeMap<String, T> {
    let (_, header) = SafeTensors::read_metadata(file).expect("a safetensors file");
    let texts = header.metadata().as_ref().expect("cases");
    texts
        .iter()
        .map(|(name, text)| (name.clone(), serde_json::from_str(text).expect("a case")))
        .collect()
}

fn values(file: &[u8], name: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(file).expect("a safetensors file");
    let bytes = file.tensor(name).expect("in the file").data();
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// The distance of each gradient from PyTorch's on a device.
fn check_gradients(compute: &Compute) {
    let lstm = cases::<GradientCase>(GRADIENTS);
    assert_eq!(lstm.len(), 5);
    for (name, case) in lstm {
        check(compute, GRADIENTS, &name, &case.into());
    }
    let kinds = cases::<KindCase>(KINDS);
    assert_eq!(kinds.len(), 9);
    for (name, case) in kinds {
        check(compute, KINDS, &name, &case);
    }
}

fn check(compute: &Compute, file: &'static [u8], name: &str, case: &KindCase) {
    case.model.check().expect("a model that can be");
    let spec = ModelSpec::new(&case.model, case.inputs, case.outputs);
    let mut network = Network::new(&spec, &compute.device);
    network
        .load(&values(file, &format!("{name}/parameters")))
        .expect("torch's order");
    let features: Vec<Features> = (0..case.targets.len())
        .map(|i| {
            let data = values(file, &format!("{name}/features/{i}"));
            Features {
                frames: data.len() / case.inputs,
                dims: case.inputs,
                data,
            }
        })
        .collect();
    let micro = MicroBatch {
        features: features.iter().collect(),
        targets: case.targets.iter().map(Vec::as_slice).collect(),
        step: 0,
        index: 0,
    };
    let result = gradient(&network, &micro, Normalize::Utterances, 0).expect("fits");
    assert_eq!(result.left_out, Vec::<usize>::new());
    let error = (result.loss / case.loss - 1.0).abs();
    assert!(
        error < 1e-6,
        "{name} on {}: loss off by {error:e}",
        compute.class
    );
    let expected = values(file, &format!("{name}/gradient"));
    let error = distance(&result.gradient.expect("finite"), &expected);
    assert!(
        error < 1e-5,
        "{name} on {}: gradient off by {error:e}",
        compute.class
    );
}

#[test]
fn gradients_on_the_cpu_are_those_of_pytorch() {
    check_gradients(&cpu());
}

#[test]
fn gradients_on_wgpu_are_those_of_pytorch() {
    if let Some(compute) = wgpu() {
        check_gradients(&compute);
    }
}

#[test]
fn ctc_is_that_of_pytorch() {
    let cases = cases::<CtcCase>(CTC);
    assert_eq!(cases.len(), 6);
    for (name, case) in cases {
        let logits = values(CTC, &format!("{name}/logits"));
        let example = Example {
            logits: &logits,
            target: &case.target,
        };
        let result = losses(Head::Ctc, &[example], case.outputs)
            .unwrap()
            .remove(0);
        assert!(
            (result.value / case.loss - 1.0).abs() < 1e-9,
            "{name}: {}",
            result.value
        );
        let expected = values(CTC, &format!("{name}/gradient"));
        let off = result
            .gradient
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6, "{name}");
    }
}
