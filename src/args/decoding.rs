//! How a CTC model is decoded, and language models by themselves.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use speech::{audio::raw::RawEncoding, tolerance::MaxBad};
use worker::compute::DeviceChoice;

use super::{
    OutputArgs,
    choice::{DEVICES, RAW_ENCODINGS, choice},
};

/// What is changed of the decoder that a model was left with.
#[derive(Debug, ClapArgs)]
pub(crate) struct DecodingArgs {
    /// Take the best label of every frame: no beam, language model or lexicon.
    #[arg(long, conflicts_with_all = ["lm", "lexicon", "beam", "lm_weight", "word_bonus", "hot_words", "hot_boost"])]
    pub greedy: bool,
    /// A language model (ARPA, or ARPA packed with gzip), or `none`.
    #[arg(long, value_name = "FILE")]
    pub lm: Option<PathBuf>,
    /// The words that may come out, one a line, or `none` for any.
    #[arg(long, value_name = "FILE")]
    pub lexicon: Option<PathBuf>,
    /// Hypotheses that are followed at once.
    #[arg(long, value_name = "N")]
    pub beam: Option<usize>,
    /// What the language model's logarithms are multiplied by.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lm_weight: Option<f64>,
    /// Added for each word.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub word_bonus: Option<f64>,
    /// A word or phrase that is expected. May be given often.
    #[arg(long = "hot-word", value_name = "PHRASE")]
    pub hot_words: Vec<String>,
    /// What each hot word is worth.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub hot_boost: Option<f64>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Transcribe {
    /// A run's `final` folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The recordings; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Listen to sound as it comes in, and print what is said when it has been said. For models that
    /// only look back.
    #[arg(long)]
    pub stream: bool,
    /// The files are samples without a header, of this encoding.
    #[arg(long, value_parser = choice::<RawEncoding>(RAW_ENCODINGS), value_name = "ENCODING")]
    pub raw: Option<RawEncoding>,
    /// Samples a second, with `--raw`
    #[arg(long, value_name = "HZ", requires = "raw")]
    pub rate: Option<u32>,
    /// Channels, with `--raw`
    #[arg(long, value_name = "N", requires = "raw", default_value_t = 1)]
    pub channels: u16,
    /// Hear this channel alone, counted from 0, and not the mean of all.
    #[arg(long, value_name = "N")]
    pub channel: Option<u16>,
    /// Cut recordings that are longer where they are quiet.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 16.0,
        conflicts_with = "stream"
    )]
    pub longest: f64,
    /// Hypotheses of each piece that JSON has.
    #[arg(long, value_name = "N")]
    pub n_best: Option<usize>,
    /// How many recordings may fail without an exit code that says so: a count, or a share such as 2%. All
    /// others are transcribed however many fail. Default: none.
    #[arg(long, value_name = "N|N%", conflicts_with = "stream")]
    pub max_bad: Option<MaxBad>,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    /// How transcripts are printed on standard output.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = TranscriptFormat::Text)]
    pub format: TranscriptFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TranscriptFormat {
    Text,
    /// With the times and confidences of words; for `--stream`, an object a line.
    Json,
    /// Subtitles.
    Srt,
    /// NIST's time-marked words.
    Ctm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lm {
    /// Make a word n-gram model of text: interpolated modified Kneser-Ney.
    Train(LmTrain),
    /// Say how well a language model knows a text: perplexity and unknown words.
    Score(LmScore),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LmTrain {
    /// A sentence a line, perhaps packed with gzip. May be given often.
    #[arg(long, value_name = "FILE", required_unless_present = "manifests")]
    pub text: Vec<PathBuf>,
    /// A manifest, for its transcripts. May be given often.
    #[arg(long = "manifest", value_name = "FILE")]
    pub manifests: Vec<PathBuf>,
    /// Write the sentences as this job (a TOML file) or trained model (a run's `final` folder) writes its
    /// transcripts: by its `[text]`.
    #[arg(long, value_name = "JOB|DIR")]
    pub normalize_like: Option<PathBuf>,
    /// Words of the longest n-grams, from 1 to 6.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub order: usize,
    /// The ARPA file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LmScore {
    /// The language model (ARPA).
    pub model: PathBuf,
    /// A sentence a line.
    #[arg(required_unless_present = "manifest")]
    pub text: Option<PathBuf>,
    /// A manifest, for its transcripts.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub manifest: Option<PathBuf>,
    /// Write the sentences as this job (a TOML file) or trained model (a run's `final` folder) writes its
    /// transcripts: by its `[text]`.
    #[arg(long, value_name = "JOB|DIR")]
    pub normalize_like: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}
