//! What was typed after `bench`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{At, Device, Output};

#[derive(Debug, Subcommand)]
pub enum Bench {
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
pub struct BenchStep {
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
    #[arg(long, value_enum, default_value_t = Kind::Lstm)]
    pub kind: Kind,
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
    #[arg(long, value_enum, default_value_t = HeadKind::Ctc)]
    pub head: HeadKind,
    /// Lengths from a quarter of `--frames` to all of them.
    #[arg(long)]
    pub ragged: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Steps that are timed; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: Output,
}

/// What a model's layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Lstm,
    Gru,
    Rnn,
    Dnn,
    Cnn,
}

#[derive(Debug, ClapArgs)]
pub struct BenchFeatures {
    /// The recordings.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Passes over the manifest; the figure is their median.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeadKind {
    Ctc,
    Keyword,
}

#[derive(Debug, ClapArgs)]
pub struct BenchExchange {
    /// Elements of the gradient and of the weights, as nearly as a model has them.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(100..=250_000_000))]
    pub parameters: u32,
    /// Worker processes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// How gradients and weights are rounded and travel.
    #[arg(long, value_enum, default_value_t = Wire::F32)]
    pub wire: Wire,
    /// Exchanges that are timed; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    F32,
    Bf16,
}

impl Wire {
    /// As a job has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct ExchangeWorker {
    #[command(flatten)]
    pub at: At,
    #[arg(long, value_name = "N")]
    pub elements: usize,
    #[arg(long, value_enum)]
    pub wire: Wire,
    /// End when this process does.
    #[arg(long, value_name = "PID")]
    pub parent: u32,
}
