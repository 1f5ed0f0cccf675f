//! Lexica of pronunciations.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::OutputArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum LexiconCommand {
    /// Say which words of transcripts have no pronunciation, which phones nothing trains, and which words sound
    /// alike. Ends with 78 if a word has no pronunciation.
    Check(LexiconCheck),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LexiconCheck {
    /// The pronunciations: CMU Sphinx's dictionary (a word and its phones, `WORD(2)` for a second pronunciation), or
    /// Kaldi's lexicon.txt or lexiconp.txt, perhaps packed with gzip.
    #[arg(long, value_name = "FILE")]
    pub lexicon: PathBuf,
    /// A manifest, for its transcripts. May be given often.
    #[arg(long = "manifest", value_name = "FILE", required = true)]
    pub manifests: Vec<PathBuf>,
    /// Write the transcripts as this job (a TOML file) or trained model (a run's `final` folder) does: by its `[text]`.
    #[arg(long, value_name = "JOB|DIR")]
    pub normalize_like: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}
