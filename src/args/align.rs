//! Forced alignment: where the words of known transcripts lie.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use speech::tolerance::MaxBad;
use worker::compute::DeviceChoice;

use super::choice::{DEVICES, choice};

#[derive(Debug, ClapArgs)]
pub(crate) struct Align {
    /// The `final` folder of a run that trained a CTC model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The utterances and their transcripts.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// How the alignment is written.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = AlignmentFormat::Ctm)]
    pub format: AlignmentFormat,
    /// The file to write; for TextGrid a folder, which gets a file for each utterance. Default: standard output.
    #[arg(long, value_name = "FILE|DIR", required_if_eq("format", "textgrid"))]
    pub out: Option<PathBuf>,
    /// The model's units (characters, byte pairs) as well: in CTM instead of the words.
    #[arg(long)]
    pub units: bool,
    /// How far a word may reach into the frames before and behind it that the model takes for no unit. Two words share
    /// the frames between them.
    #[arg(long, value_name = "MS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub reach: u32,
    /// Move all boundaries by so much, within the utterance: for a model that recognises units too early (a positive
    /// number) or too late (a negative one).
    #[arg(long, value_name = "MS", default_value_t = 0, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-10_000..=10_000))]
    pub shift: i32,
    /// How many utterances may be left out: a count, or a share such as 2%. Default: any number whose transcript is too
    /// long for the sound, and of those that cannot be used otherwise 1 % or 10, whichever is more.
    #[arg(long, value_name = "N|N%")]
    pub max_bad: Option<MaxBad>,
    /// Threads. Their number changes no byte of the output. Default: the cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlignmentFormat {
    /// NIST's time-marked words.
    Ctm,
    /// Praat's TextGrid, a file for each utterance.
    Textgrid,
    /// An object for each utterance, with the log-likelihood of its transcript.
    Jsonl,
}
