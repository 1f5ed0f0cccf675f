//! How a CTC model is decoded, and language models by themselves.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::Output;

/// What is changed of the decoder that a model was left with.
#[derive(Debug, ClapArgs)]
pub struct Decoding {
    /// Take the best label of every frame: no beam, language model or lexicon.
    #[arg(long, conflicts_with_all = ["lm", "lexicon", "beam", "lm_weight", "word_bonus", "hot_words", "hot_boost"])]
    pub greedy: bool,
    /// A language model (ARPA), or `none`.
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

#[derive(Debug, Subcommand)]
pub enum Lm {
    /// Make a word n-gram model of text: interpolated modified Kneser-Ney.
    Train(LmTrain),
    /// Say how well a language model knows a text: perplexity and unknown words.
    Score(LmScore),
}

#[derive(Debug, ClapArgs)]
pub struct LmTrain {
    /// A sentence a line. May be given often.
    #[arg(long, value_name = "FILE", required_unless_present = "manifests")]
    pub text: Vec<PathBuf>,
    /// A manifest, for its transcripts. May be given often.
    #[arg(long = "manifest", value_name = "FILE")]
    pub manifests: Vec<PathBuf>,
    /// Words of the longest n-grams, from 1 to 6.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub order: usize,
    /// The ARPA file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, ClapArgs)]
pub struct LmScore {
    /// The language model (ARPA).
    pub model: PathBuf,
    /// A sentence a line.
    #[arg(required_unless_present = "manifest")]
    pub text: Option<PathBuf>,
    /// A manifest, for its transcripts.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}
