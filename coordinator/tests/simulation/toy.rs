//! The job of the simulation: a few weights, micro-batches whose gradients are a function of weights
//! and place alone, and the serial run that every simulated one must end like. Sums are chosen to
//! depend on the order of addition.

use std::convert::Infallible;

use coordinator::{
    checkpoint::weights_sha256,
    clip::ClipConfig,
    optimizer::OptimizerConfig,
    schedule::{ScheduleConfig, ScheduleKind},
    update::{Trainer, TrainerConfig, UpdateRule},
};
use proto::{
    contribution::{Contribution, PassKind},
    tree::{Node, fold},
    wire::Wire,
};
use speech::{
    model::{ModelConfig, ModelSpec},
    random::Stream,
};

pub const STEPS: u64 = 9;

/// Steps between evaluations and between checkpoints.
pub const EPOCH: u64 = 3;
pub const CHECKPOINT: u64 = 2;

pub fn spec() -> ModelSpec {
    let config = ModelConfig {
        layers: 1,
        hidden: 1,
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, 1, 2)
}

pub fn trainer_config() -> TrainerConfig {
    TrainerConfig {
        optimizer: OptimizerConfig {
            learning_rate: 0.05,
            ..OptimizerConfig::default()
        },
        clip: ClipConfig {
            max_norm: 2.0,
            ..ClipConfig::default()
        },
        schedule: ScheduleConfig {
            kind: ScheduleKind::Cosine,
            warmup_steps: 2,
            ..ScheduleConfig::default()
        },
        total_steps: STEPS,
    }
}

pub fn trainer() -> Trainer {
    Trainer::new(&spec(), trainer_config(), spec().initialize(1))
}

/// Micro-batches of a pass.
pub fn micro_batches(kind: PassKind, step: u64) -> u32 {
    match kind {
        PassKind::Gradient => [8, 1, 13, 4, 6, 16, 3, 11, 2][step as usize % 9],
        PassKind::Evaluation => 5,
    }
}

/// How the vectors of a run travel: every other seed's in half the bytes.
pub fn wire(seed: u64) -> Wire {
    match seed % 2 {
        0 => Wire::F32,
        _ => Wire::Bf16,
    }
}

/// What a worker computes for `node`.
pub fn contribution(
    kind: PassKind,
    step: u64,
    node: Node,
    weights: &[f32],
    wire: Wire,
) -> Contribution {
    let mut leaf = |index| {
        let mut contribution = micro_batch(kind, step, index, weights);
        contribution.wire = wire;
        contribution.sum.iter_mut().for_each(|sum| wire.round(sum));
        Ok::<_, Infallible>(Some(contribution))
    };
    let count = micro_batches(kind, step);
    let Ok(sum) = fold(node, count, &mut leaf, &mut Contribution::merge);
    sum.unwrap_or_default()
}

fn micro_batch(kind: PassKind, step: u64, index: u32, weights: &[f32]) -> Contribution {
    let mut stream = Stream::new(77, &[kind as u64, step, u64::from(index)]);
    // Step 4 has nothing to add at all; elsewhere one in ten micro-batches is left out.
    if kind == PassKind::Gradient && (step == 4 || stream.below(10) == 0) {
        return Contribution::default();
    }
    let scale = 10f64.powi(stream.below(6) as i32 - 3);
    let gradient = |weight: &f32| 0.3 * weight + (scale * stream.normal()) as f32;
    Contribution {
        sum: (kind == PassKind::Gradient).then(|| weights.iter().map(gradient).collect()),
        weight: (1 + index % 4).into(),
        loss: scale * f64::from(weights.iter().sum::<f32>()),
        utterances: 1,
        ..Contribution::default()
    }
}

fn sent(trainer: &Trainer, wire: Wire) -> Vec<f32> {
    let mut weights = trainer.weights().to_vec();
    wire.round(&mut weights);
    weights
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub weights_sha256: String,
    pub evaluations: Vec<f64>,
}

/// One worker, no fault, no machine.
pub fn serial(wire: Wire) -> End {
    let mut trainer = trainer();
    let mut evaluations = Vec::new();
    for step in 0..STEPS {
        let root = Node::root(micro_batches(PassKind::Gradient, step));
        let weights = sent(&trainer, wire);
        let sum = contribution(PassKind::Gradient, step, root, &weights, wire);
        trainer.apply(sum).expect("the toy does not diverge");
        if trainer.step().is_multiple_of(EPOCH) {
            let root = Node::root(micro_batches(PassKind::Evaluation, trainer.step()));
            let (step, weights) = (trainer.step(), sent(&trainer, wire));
            let sum = contribution(PassKind::Evaluation, step, root, &weights, wire);
            evaluations.push(sum.loss);
        }
    }
    End {
        weights_sha256: weights_sha256(trainer.weights()),
        evaluations,
    }
}
