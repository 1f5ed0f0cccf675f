//! The job of the simulation: a few weights, micro-batches whose gradients are a function of weights
//! and place alone, and the serial run that every simulated one must end like. Sums are chosen to
//! depend on the order of addition.

use std::convert::Infallible;

use coordinator::{
    checkpoint::weights_sha256,
    clip::ClipConfig,
    epochs::EpochPolicy,
    held::{self, Held},
    optimizer::OptimizerConfig,
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Figure, Keep, SelectConfig},
    update::{Trainer, TrainerConfig, UpdateRule},
};
use proto::{
    contribution::{Contribution, PassKind},
    tree::{Node, fold},
    wire::Wire,
};
use serde::{Deserialize, Serialize};
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

/// What becomes of the epochs of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    pub wire: Wire,
    pub ema: Option<f64>,
    pub select: SelectConfig,
    pub schedule: ScheduleConfig,
}

/// Runs of every fourth seed end early.
pub const KINDS: u64 = 8;

/// The rules of a seed's run: every other one's vectors travel in half the bytes, and one in four
/// has each of a moving average, a plateau schedule, a mean of the best epochs, and an early end.
pub fn rules(seed: u64) -> Rules {
    let seed = seed % KINDS;
    let cosine = ScheduleConfig {
        kind: ScheduleKind::Cosine,
        warmup_steps: 2,
        ..ScheduleConfig::default()
    };
    let plateau = ScheduleConfig {
        kind: ScheduleKind::Plateau,
        patience: 0,
        ..ScheduleConfig::default()
    };
    let plain = SelectConfig::default();
    let (keep, average) = match seed / 2 {
        0 => (Keep::Last, 1),
        1 => (Keep::Best, 2),
        2 => (Keep::Best, 1),
        _ => (Keep::Last, 2),
    };
    Rules {
        wire: [Wire::F32, Wire::Bf16][(seed % 2) as usize],
        ema: (seed / 2 == 1 || seed / 2 == 3).then_some(0.5),
        select: SelectConfig {
            keep,
            average,
            patience: if seed / 2 == 2 { 1 } else { 0 },
            ..plain
        },
        schedule: if seed / 2 >= 2 { plateau } else { cosine },
    }
}

pub fn trainer_config(rules: &Rules) -> TrainerConfig {
    TrainerConfig {
        optimizer: OptimizerConfig {
            learning_rate: 0.05,
            ..OptimizerConfig::default()
        },
        clip: ClipConfig {
            max_norm: 2.0,
            ..ClipConfig::default()
        },
        schedule: rules.schedule,
        total_steps: STEPS,
        ema: rules.ema,
    }
}

pub fn trainer(rules: &Rules) -> Trainer {
    Trainer::new(&spec(), trainer_config(rules), spec().initialize(1))
}

/// Micro-batches of a pass.
pub fn micro_batches(kind: PassKind, step: u64) -> u32 {
    match kind {
        PassKind::Gradient => [8, 1, 13, 4, 6, 16, 3, 11, 2][step as usize % 9],
        PassKind::Evaluation => 5,
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

/// What is handed out for a pass.
pub fn sent(kind: PassKind, trainer: &Trainer, wire: Wire) -> Vec<f32> {
    let mut weights = match kind {
        PassKind::Gradient => trainer.weights().to_vec(),
        PassKind::Evaluation => trainer.judged().to_vec(),
    };
    wire.round(&mut weights);
    weights
}

/// What a run remembers beside the trainer, its weights apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub evaluations: Vec<f64>,
    pub course: EpochPolicy,
}

impl Progress {
    /// Takes note of an epoch's score.
    pub fn hear(&mut self, loss: f64, rules: &Rules, trainer: &mut Trainer, held: &mut Held) {
        self.evaluations.push(loss);
        let figure = Figure {
            value: loss,
            rises: false,
        };
        let rules = (&rules.select, &rules.schedule);
        let last = STEPS / EPOCH;
        let outcome = self.course.end_epoch(rules, last, Some(figure));
        if let Some(hold) = outcome.hold {
            held::take_up(held, hold, trainer.judged());
        }
        trainer.set_drops(self.course.drops());
    }

    /// How a run ends, once it is over.
    pub fn end(&self, trainer: &Trainer, held: &Held) -> Option<End> {
        if trainer.step() < STEPS && !self.course.stopped {
            return None;
        }
        let mean = held::mean(held);
        Some(End {
            weights_sha256: weights_sha256(mean.as_ref().map_or(trainer.judged(), |mean| mean)),
            steps: trainer.step(),
            progress: self.clone(),
        })
    }
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub weights_sha256: String,
    pub steps: u64,
    pub progress: Progress,
}

/// One worker, no fault, no machine.
pub fn serial(rules: &Rules) -> End {
    let (mut trainer, mut held) = (trainer(rules), Held::new());
    let mut progress = Progress::default();
    loop {
        let step = trainer.step();
        let pass = |kind, trainer: &Trainer| {
            let root = Node::root(micro_batches(kind, trainer.step()));
            let weights = sent(kind, trainer, rules.wire);
            contribution(kind, trainer.step(), root, &weights, rules.wire)
        };
        let sum = pass(PassKind::Gradient, &trainer);
        trainer.apply(sum).expect("the toy does not diverge");
        if (step + 1).is_multiple_of(EPOCH) {
            let loss = pass(PassKind::Evaluation, &trainer).loss;
            progress.hear(loss, rules, &mut trainer, &mut held);
            if let Some(end) = progress.end(&trainer, &held) {
                return end;
            }
        }
    }
}
