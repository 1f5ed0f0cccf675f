//! What a trained model is measured and compared with.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use speech::tolerance::MaxBad;

use speech::score::details::ErrorUnit;
use worker::compute::DeviceChoice;

use super::{
    DecodingArgs, OutputArgs,
    choice::{DEVICES, ERROR_UNITS, choice},
};

#[derive(Debug, ClapArgs)]
pub(crate) struct Evaluate {
    /// A run's `final` folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The utterances to measure on.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Write a page with rates, confusions and the worst utterances, in one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write what was said and heard in each utterance, as JSON lines, for `compare`.
    #[arg(long, value_name = "FILE")]
    pub utterances: Option<PathBuf>,
    /// How many utterances may be left out because their recording cannot be used: a count, or a share such
    /// as 2%. Default: 1 % or 10, whichever is more, and never more than half.
    #[arg(long, value_name = "N|N%")]
    pub max_bad: Option<MaxBad>,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Compare {
    /// A run's `final` folder, or what `evaluate --utterances` wrote.
    #[arg(value_name = "MODEL_A")]
    pub first: PathBuf,
    /// What it is compared with.
    #[arg(value_name = "MODEL_B")]
    pub second: PathBuf,
    /// The utterances to measure models on.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// What errors are counted in. Default: utterances for keyword models, words for all others.
    #[arg(long, value_parser = choice::<ErrorUnit>(ERROR_UNITS))]
    pub unit: Option<ErrorUnit>,
    /// How many utterances may be left out because their recording cannot be used, or because they are on one
    /// side alone: a count, or a share such as 2%. Default: 1 % or 10, whichever is more, and never more than
    /// half.
    #[arg(long, value_name = "N|N%")]
    pub max_bad: Option<MaxBad>,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub output: OutputArgs,
}
