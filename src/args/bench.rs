//! What was typed after `bench`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use proto::wire::Wire;
use speech::model::{Head, ModelKind};
use worker::compute::DeviceChoice;

use super::{
    At, OutputArgs,
    choice::{DEVICES, HEADS, MODEL_KINDS, WIRES, choice},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time a training step of one worker: forward, backward, update.
    Step(BenchStep),
    /// Time how fast audio becomes features.
    Features(BenchFeatures),
    /// Time the way from the last gradient to new weights in every worker, between real processes.
    Exchange(BenchExchange),
    /// A worker of `exchange`, started by it.
    #[command(hide = true)]
    ExchangeWorker(ExchangeWorker),
}

/// The shape of a micro-batch and a model.
#[derive(Debug, ClapArgs)]
pub(crate) struct BenchStep {
    /// Utterances.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Frames of the longest utterance.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub frames: u32,
    /// Features of a frame.
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub features: u32,
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub hidden: u32,
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub layers: u32,
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub outputs: u32,
    /// Labels of an utterance (CTC).
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=65536))]
    pub labels: u32,
    /// What the layers are.
    #[arg(long, value_parser = choice::<ModelKind>(MODEL_KINDS), default_value = "lstm")]
    pub kind: ModelKind,
    #[arg(long)]
    pub bidirectional: bool,
    /// Units that an LSTM's hidden state is projected to.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65536))]
    pub projection: u32,
    /// Normalise what each layer gives.
    #[arg(long)]
    pub layer_norm: bool,
    /// Channels of convolutions before the layers, 3 × 3 with stride 2 × 2.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub conv: Vec<u32>,
    #[arg(long, value_parser = choice::<Head>(HEADS), default_value = "ctc")]
    pub head: Head,
    /// Lengths from a quarter of `--frames` to all of them.
    #[arg(long)]
    pub ragged: bool,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Steps that are timed; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchFeatures {
    /// The recordings.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Passes over the manifest; the figure is their median.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchExchange {
    /// Elements of the gradient and of the weights, as nearly as a model has them.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(100..=250_000_000))]
    pub parameters: u32,
    /// Worker processes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// How gradients and weights are rounded and travel.
    #[arg(long, value_parser = choice::<Wire>(WIRES), default_value = "f32")]
    pub wire: Wire,
    /// Speak TLS, with certificates that are made for the measurement.
    #[arg(long)]
    pub tls: bool,
    /// Exchanges that are timed; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExchangeWorker {
    #[command(flatten)]
    pub at: At,
    #[arg(long, value_name = "N")]
    pub elements: usize,
    #[arg(long, value_parser = choice::<Wire>(WIRES))]
    pub wire: Wire,
    /// End when this process does.
    #[arg(long, value_name = "PID")]
    pub parent: u32,
}
