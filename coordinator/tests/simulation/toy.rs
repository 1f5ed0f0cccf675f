//! The job of the simulation: a few weights, micro-batches whose gradients are a function of weights
//! and place alone, and the serial run that every simulated one must end like. Sums are chosen to
//! depend on the order of addition.

use std::convert::Infallible;

use coordinator::{
    checkpoint::weights_sha256,
    contribution_check::{LeasedUtterance, LeasedWork, Mismatch, Weight},
    epochs::EpochPolicy,
    norm_bound::NormBound,
    run::{RunMemory, RunSpec},
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Figure, Keep, SelectConfig},
    trainer::{
        StepOutcome, Trainer, TrainerConfig,
        checkpoint_average::{self, HeldWeights},
        clip::ClipConfig,
        optimizer::OptimizerConfig,
    },
};
use proto::{
    contribution::{Contribution, PassKind, Quarantined},
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

/// The version of the weights at which they grow, where the rules say so: in the middle of an epoch, with a checkpoint of
/// fewer weights just before.
pub const GROWS_AT: u64 = 4;

/// The model of a run's weights at version `step`.
pub fn spec(rules: &Rules, step: u64) -> ModelSpec {
    let config = ModelConfig {
        layers: 1,
        hidden: if rules.grows && step >= GROWS_AT {
            2
        } else {
            1
        },
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, 1, 2)
}

/// By what a run goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    pub wire: Wire,
    pub ema: Option<f64>,
    pub validates: bool,
    /// The update to version [`GROWS_AT`] adds weights, as one that splits mixture components would.
    pub grows: bool,
    /// Bounds the norms of micro-batches.
    pub max_norm_ratio: Option<f64>,
    pub select: SelectConfig,
    pub schedule: ScheduleConfig,
}

/// Rules that differ: six kinds, each in both precisions of the wire.
pub const KINDS: u64 = 12;

/// The rules of a seed's run: every other one's vectors travel in half the bytes, and among the others are a moving
/// average, a plateau schedule, a mean of the best epochs, an early end, a bound of norms, a run without scores and one whose weights grow.
pub fn rules(seed: u64) -> Rules {
    let seed = seed % KINDS;
    let kind = seed / 2;
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
    let (keep, average) = match kind {
        0 => (Keep::Last, 1),
        1 => (Keep::Best, 2),
        2 => (Keep::Best, 1),
        // Weights of different lengths have no mean.
        5 => (Keep::Last, 1),
        _ => (Keep::Last, 2),
    };
    Rules {
        wire: [Wire::F32, Wire::Bf16][(seed % 2) as usize],
        ema: (kind == 1 || kind == 3 || kind == 5).then_some(0.5),
        validates: kind != 4,
        grows: kind == 5,
        max_norm_ratio: (kind >= 3).then_some(50.0),
        select: SelectConfig {
            keep,
            average,
            patience: if kind == 2 { 1 } else { 0 },
            ..plain
        },
        schedule: if kind == 2 || kind == 3 {
            plateau
        } else {
            cosine
        },
    }
}

impl Rules {
    pub fn spec(&self) -> RunSpec {
        RunSpec {
            steps_per_epoch: EPOCH,
            total_steps: STEPS,
            checkpoint_every: CHECKPOINT,
            keeps_average: self.ema.is_some(),
            validates: self.validates,
            select: self.select,
            schedule: self.schedule,
            max_norm_ratio: self.max_norm_ratio,
            max_left_out: 64,
            returns_patience: 600_000,
        }
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
    let spec = spec(rules, 0);
    Trainer::new(&spec, trainer_config(rules), spec.initialize(1))
}

/// The update rule: gradient descent, and more weights at [`GROWS_AT`].
pub fn update(
    trainer: &mut Trainer,
    sum: Contribution,
    rules: &Rules,
) -> Result<StepOutcome, String> {
    let outcome = trainer.apply(sum).map_err(|error| error.to_string())?;
    let spec = spec(rules, trainer.step());
    if spec.elements() == trainer.elements() {
        return Ok(outcome);
    }
    let mut state = trainer.state();
    let grow = |vector: &mut Vec<f32>, like: &[f32]| vector.extend(&like[vector.len()..]);
    grow(&mut state.weights, &spec.initialize(1));
    for (_, vector) in &mut state.optimizer {
        grow(vector, &vec![0.0; spec.elements()]);
    }
    if let Some(average) = &mut state.ema {
        grow(average, &state.weights);
    }
    let grown = Trainer::restore(&spec, trainer_config(rules), state);
    *trainer = grown.map_err(|error| error.to_string())?;
    Ok(outcome)
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
    (kind, step): (PassKind, u64),
    node: Node,
    weights: &[f32],
    wire: Wire,
    bound: Option<NormBound>,
) -> Contribution {
    let mut leaf = |index| {
        let mut contribution = micro_batch((kind, step), index, weights, bound);
        contribution.wire = wire;
        contribution.sum.iter_mut().for_each(|sum| wire.round(sum));
        Ok::<_, Infallible>(Some(contribution))
    };
    let count = micro_batches(kind, step);
    let Ok(sum) = fold(node, count, &mut leaf, &mut Contribution::merge);
    sum.unwrap_or_default()
}

fn micro_batch(
    (kind, step): (PassKind, u64),
    index: u32,
    weights: &[f32],
    bound: Option<NormBound>,
) -> Contribution {
    let mut stream = Stream::new(77, &[kind as u64, step, u64::from(index)]);
    let gradient = kind == PassKind::Gradient;
    let lost = gradient && stream.below(10) == 0;
    let scale = 10f64.powi(stream.below(6) as i32 - 3);
    let most = bound.and_then(|bound| bound.most);
    let beyond = most.is_some_and(|most| scale > most);
    let norms = bound.map_or_else(Vec::new, |_| vec![scale]);
    // Step 4 has nothing to add at all; elsewhere one in ten micro-batches is left out, and what is too large.
    if gradient && (step == 4 || lost || beyond) {
        let quarantined = Quarantined {
            micro_batch: index,
            utterances: Vec::new(),
            reason: String::new(),
        };
        return Contribution {
            quarantined: vec![quarantined],
            norms,
            ..Contribution::default()
        };
    }
    let mut element = |weight: &f32| 0.3 * weight + (scale * stream.normal()) as f32;
    Contribution {
        sum: gradient.then(|| weights.iter().map(&mut element).collect()),
        weight: (1 + index % 4).into(),
        loss: scale * f64::from(weights.iter().sum::<f32>()),
        utterances: 1,
        frames: 1,
        norms,
        ..Contribution::default()
    }
}

/// Whether a worker can have computed `contribution` for `node` of an update pass, as far as a coordinator knows.
pub fn check(
    step: u64,
    node: Node,
    contribution: &Contribution,
    norms: bool,
) -> Result<(), Mismatch> {
    let range = node.range(micro_batches(PassKind::Gradient, step));
    let utterance = |index| LeasedUtterance {
        place: index,
        weight: Weight::Exactly((1 + index % 4).into()),
        max_frames: 2,
        max_seconds: 1.0,
    };
    let work = LeasedWork {
        node,
        micro_batches: &range
            .map(|index| (index, vec![utterance(index)]))
            .collect::<Vec<_>>(),
        norms,
    };
    work.check(contribution)
}

/// Weights as workers get them.
pub fn sent(weights: &[f32], wire: Wire) -> Vec<f32> {
    let mut weights = weights.to_vec();
    wire.round(&mut weights);
    weights
}

/// What a checkpoint keeps beside the trainer and the weights that are held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub evaluations: Vec<f64>,
    #[serde(flatten)]
    pub memory: RunMemory,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub weights_sha256: String,
    pub steps: u64,
    pub progress: Progress,
    /// The loss of the final model, where it is not that of the last epoch.
    pub choice: Option<f64>,
}

impl End {
    pub fn new(
        trainer: &Trainer,
        held: &HeldWeights,
        progress: Progress,
        choice: Option<f64>,
    ) -> Self {
        let mean = checkpoint_average::mean(held);
        Self {
            weights_sha256: weights_sha256(mean.as_ref().map_or(trainer.judged(), |mean| mean)),
            steps: trainer.step(),
            progress,
            choice,
        }
    }
}

/// One worker, no fault, neither leases nor the run's state machine: the order of things written down once more.
pub fn serial(rules: &Rules) -> End {
    let (mut trainer, mut held) = (trainer(rules), HeldWeights::new());
    let mut progress = Progress::default();
    let pass = |kind, version, weights: &[f32], bound| {
        let root = Node::root(micro_batches(kind, version));
        let weights = sent(weights, rules.wire);
        contribution((kind, version), root, &weights, rules.wire, bound)
    };
    let evaluate =
        |version, weights: &[f32]| pass(PassKind::Evaluation, version, weights, None).loss;
    for step in 1..=STEPS {
        let memory = &mut progress.memory;
        let bound = rules.max_norm_ratio.map(|ratio| NormBound {
            most: memory.norms.bound(ratio),
        });
        let sum = pass(PassKind::Gradient, step - 1, trainer.weights(), bound);
        memory.norms.record(&sum.norms);
        memory.left_out += sum.quarantined.len() as u64;
        let outcome = update(&mut trainer, sum, rules).expect("the toy does not diverge");
        memory.skipped_steps += u64::from(matches!(outcome, StepOutcome::Skipped(_)));
        if !step.is_multiple_of(EPOCH) {
            continue;
        }
        let loss = rules.validates.then(|| evaluate(step, trainer.judged()));
        progress.evaluations.extend(loss);
        let policy = &mut progress.memory.policy;
        let outcome = policy.end_epoch(
            (&rules.select, &rules.schedule),
            STEPS / EPOCH,
            loss.map(figure),
        );
        if let Some(hold) = outcome.hold {
            checkpoint_average::take_up(&mut held, hold, trainer.judged());
        }
        trainer.set_drops(policy.drops());
        if outcome.stopped {
            break;
        }
    }
    let choice = chooses(rules, &progress.memory.policy).then(|| {
        let mean = checkpoint_average::mean(&held).expect("weights are held");
        evaluate(trainer.step() + 1, &mean)
    });
    End::new(&trainer, &held, progress, choice)
}

pub fn figure(loss: f64) -> Figure {
    Figure {
        value: loss,
        rises: false,
    }
}

/// Whether the final model is not simply the last epoch's.
fn chooses(rules: &Rules, policy: &EpochPolicy) -> bool {
    let last = |held: &coordinator::epochs::ScoredEpoch| held.epoch == policy.epochs;
    rules.validates
        && !policy.held.is_empty()
        && !(policy.held.len() == 1 && policy.held.iter().all(last))
}
