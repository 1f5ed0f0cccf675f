//! `bench step`: the time of a training step on one worker, the update included.

use std::time::Instant;

use coordinator::{
    schedule::ScheduleConfig,
    trainer::{Trainer, TrainerConfig, clip::ClipConfig, optimizer::OptimizerConfig},
};
use proto::contribution::Contribution;
use serde::Serialize;
use speech::model::{ConvConfig, ModelConfig, ModelKind, Pooling};
use worker::{
    bench::step::{Measure, Shape},
    compute::{self, Compute},
};

use super::median;
use crate::{args, exit::Result, output};

/// Medians, in seconds.
#[derive(Debug, Serialize)]
struct StepTimes {
    /// Network and loss.
    forward_s: f64,
    /// To the gradient as one flat vector.
    backward_s: f64,
    /// Clipping and Adam.
    update_s: f64,
    step_s: f64,
    utterances_per_s: f64,
    /// The rate of forward and backward; a multiply-add counts as two.
    gflops: f64,
    parameters: usize,
    compute_class: String,
    threads: u32,
}

fn model(args: &args::BenchStep) -> ModelConfig {
    let (head, kind) = (args.head, args.kind);
    let config = ModelConfig {
        head,
        kind,
        layer_norm: args.layer_norm,
        projection: args.projection as usize,
        bidirectional: args.bidirectional,
        conv: ConvConfig {
            channels: args
                .conv
                .iter()
                .map(|&channels| channels as usize)
                .collect(),
            ..ConvConfig::default()
        },
        ..ModelConfig::default()
    };
    match kind {
        // What a residual network and a dense one know of an utterance is in all its frames.
        ModelKind::Cnn => ModelConfig {
            pooling: Pooling::Mean,
            ..config
        },
        ModelKind::Dnn => ModelConfig {
            layers: args.layers as usize,
            hidden: args.hidden as usize,
            pooling: Pooling::Mean,
            ..config
        },
        _ => ModelConfig {
            layers: args.layers as usize,
            hidden: args.hidden as usize,
            ..config
        },
    }
}

pub(super) fn run(args: args::BenchStep) -> Result<()> {
    compute::set_threads(args.threads as usize)?;
    let compute = Compute::open(args.device)?;
    let shape = Shape {
        batch: args.batch as usize,
        frames: args.frames as usize,
        ragged: args.ragged,
        features: args.features as usize,
        model: model(&args),
        outputs: args.outputs as usize,
        labels: args.labels as usize,
    };
    shape.model.check()?;
    let measure = Measure::new(shape.clone(), &compute.device);
    let spec = measure.spec();
    let config = TrainerConfig {
        optimizer: OptimizerConfig::default(),
        clip: ClipConfig::default(),
        schedule: ScheduleConfig::default(),
        ema: None,
        total_steps: u64::from(args.repeats) + WARM_UP,
    };
    let steps = config.total_steps;
    let mut trainer = Trainer::new(spec, config, spec.initialize(1));
    let (mut forward, mut backward, mut update) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps {
        let halves = measure.once()?;
        let began = Instant::now();
        trainer.apply(Contribution {
            sum: Some(halves.gradient),
            weight: shape.batch as f64,
            ..Contribution::default()
        })?;
        if step >= WARM_UP {
            forward.push(halves.forward_s);
            backward.push(halves.backward_s);
            update.push(began.elapsed().as_secs_f64());
        }
    }
    let steps = forward.iter().zip(&backward).zip(&update);
    let whole = steps.map(|((forward, backward), update)| forward + backward + update);
    let step_s = median(whole.collect());
    let (forward_s, backward_s) = (median(forward), median(backward));
    let figures = StepTimes {
        forward_s,
        backward_s,
        update_s: median(update),
        step_s,
        utterances_per_s: shape.batch as f64 / step_s,
        gflops: shape.operations() / (forward_s + backward_s) / 1e9,
        parameters: spec.elements(),
        compute_class: compute.class,
        threads: args.threads,
    };
    output::print(args.output.format, &figures, text)
}

/// Steps that are not counted: kernels are compiled and caches filled.
const WARM_UP: u64 = 2;

fn text(figures: &StepTimes) -> String {
    let StepTimes {
        forward_s,
        backward_s,
        update_s,
        step_s,
        utterances_per_s,
        gflops,
        parameters,
        compute_class,
        threads,
    } = figures;
    format!(
        "step         {:.2} ms: forward {:.2}, backward {:.2}, update {:.2} ({parameters} parameters)\n\
         speed        {utterances_per_s:.1} utterances/s, {gflops:.1} GFLOP/s\n\
         computed on  {compute_class}, {threads} threads",
        1e3 * step_s,
        1e3 * forward_s,
        1e3 * backward_s,
        1e3 * update_s,
    )
}
