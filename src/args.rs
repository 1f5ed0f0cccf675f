//! The command line: every command with its arguments, parsed and checked by themselves. It does not depend on
//! what a verb does; that is in [`crate::verbs`].

mod align;
mod bench;
mod certs;
mod choice;
mod cluster;
mod decoding;
mod evaluation;
mod jobs;
mod lexicon;
mod train;

use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, builder::BoolishValueParser};
use proto::endpoint::Credentials;
use speech::{synth::Task, tolerance::MaxBad};
use worker::compute::DeviceChoice;

use crate::output::OutputFormat;
pub(crate) use align::{Align, AlignmentFormat};
pub(crate) use bench::{Bench, BenchExchange, BenchFeatures, BenchStep, ExchangeWorker};
pub(crate) use certs::{CertsCommand, CertsFiles, TokenCommand};
use choice::{DEVICES, SYNTHETIC_TASKS, choice};
pub(crate) use cluster::{CoordinatorArgs, WorkerArgs};
pub(crate) use decoding::{DecodingArgs, Lm, LmScore, LmTrain, Transcribe, TranscriptFormat};
pub(crate) use evaluation::{Compare, Evaluate};
pub(crate) use jobs::JobsArgs;
pub(crate) use lexicon::{LexiconCheck, LexiconCommand};
pub(crate) use train::{Resume, ResumeJob, Train, words};

/// Trains speech recognisers on many machines at once, with the same bits on any number of them.
#[derive(Debug, Parser)]
#[command(name = "unisono", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub verb: Verb,
    /// Say more on standard error; twice for more still. UNISONO_LOG sets it by module.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the job failed, or `verify` found a difference; 2 usage; 75 infrastructure, worth a retry; \
78 bad configuration or data, which no retry mends; 130, 143, 129, 131, 138, 140 and 152 ended by Ctrl-C, SIGTERM, \
SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGXCPU.";

impl Args {
    /// A coordinator and a worker run unattended, so that they log what they do; the other verbs
    /// speak to a person.
    pub(crate) fn log_level(&self) -> &'static str {
        let attended = !matches!(self.verb, Verb::Coordinator(_) | Verb::Worker(_));
        match (self.verbose, attended) {
            (0, true) => "warn",
            (0, false) | (1, true) => "info",
            (1, false) | (2, true) => "debug",
            _ => "trace",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Train on this machine: a coordinator, worker processes, progress and a report.
    Train(Train),
    /// Prove that a job gives the same bits on any number of workers, through faults too.
    Verify(Verify),
    /// Run the coordinator of a cluster: it keeps the queue of jobs and leads their training.
    Coordinator(CoordinatorArgs),
    /// Run a worker: it computes gradients for a coordinator until it is sent away or ended.
    Worker(WorkerArgs),
    /// Submit a job to a coordinator and follow it.
    Submit(Submit),
    /// List the jobs of a coordinator.
    Jobs(JobsArgs),
    /// Show how a job stands (the running one, or else the newest, when none is named).
    Status(OneJob),
    /// Print a job's events as they were written.
    Logs(Logs),
    /// Cancel a job; it keeps a checkpoint to resume from.
    Cancel(NamedJob),
    /// Put a job that has ended back into the queue; it goes on from its last checkpoint, for more epochs too.
    Resume(ResumeJob),
    /// List the workers of a coordinator.
    Workers(Query),
    /// Measure a trained model on a manifest.
    Evaluate(Evaluate),
    /// Say whether one model is better than another on a manifest, or by chance.
    Compare(Compare),
    /// Say what a trained model hears in recordings, or in sound that is still coming in.
    Transcribe(Transcribe),
    /// Say where the words of known transcripts lie in their recordings (forced alignment).
    Align(Align),
    /// Show a model's layers, parameters and operations.
    Model(ModelArgs),
    /// Explain the keys of a job file: type, default, an example, and meaning.
    Explain(Explain),
    /// Import, synthesize and inspect corpora.
    #[command(subcommand)]
    Corpus(CorpusCommand),
    /// Check pronunciations.
    #[command(subcommand)]
    Lexicon(LexiconCommand),
    /// Make and measure language models.
    #[command(subcommand)]
    Lm(Lm),
    /// Measure how fast this machine trains.
    #[command(subcommand)]
    Bench(Bench),
    /// Make, show, renew and revoke the certificates of a cluster.
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Make, show and revoke tokens, for clients where certificates are too much.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show this machine's adapters and cores, and what `--device auto` picks and why.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// Write the manual pages, one for each command.
    Man(Man),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The job (TOML).
    #[arg(required_unless_present = "random_jobs")]
    pub job: Option<PathBuf>,
    /// In place of a job, draw so many valid ones at random (models, heads, augmentation, wires, selection,
    /// clipping) and compare all that their runs leave behind. `--seed` is the first one's.
    #[arg(long, value_name = "N", conflicts_with_all = ["job", "chaos", "stop", "sets"],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub random_jobs: Option<u32>,
    /// Sizes to run it at, each a number of worker processes.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2",
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Vec<u32>,
    /// Run it once undisturbed at the first size, then at every size with processes killed, stopped,
    /// leaving and late.
    #[arg(long)]
    pub chaos: bool,
    /// Seed of the fault schedule, or of the first random job; job K of them is drawn with SEED + K.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long the fault schedule suspends a worker (SIGSTOP).
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub stop: u64,
    /// Where the workers compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of each worker. Default: the cores, shared out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where the workers keep features, in a folder for each. Default: with the runs.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Where the runs and the logs of their processes are kept. Default: runs/verify-NAME-TIME.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Change a key of the job: `train.epochs=3`. May be given often.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Submit {
    /// The job (TOML). Its manifests must lie on the coordinator's host.
    pub job: PathBuf,
    /// Return at once instead of following the job.
    #[arg(long)]
    pub no_wait: bool,
    /// Change a key of the job: `train.epochs=3`. May be given often.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Query {
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OneJob {
    /// The job's id.
    pub id: Option<String>,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct NamedJob {
    /// The job's id.
    pub id: String,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logs {
    /// The job's id. Default: the running one, or else the newest.
    pub id: Option<String>,
    /// Go on until the job ends, through restarts of the coordinator, and end with the exit code that
    /// `submit` would.
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    /// A job (TOML), or a run's `final` folder.
    #[arg(value_name = "JOB.toml|DIR")]
    pub what: PathBuf,
    /// Outputs of the job's model, where its corpus is not at hand.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub outputs: Option<u32>,
    /// Change a key of the job: `model.kind=gru`. May be given often.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CorpusCommand {
    /// Get a free corpus from its publisher; without a name, list those that are known.
    Fetch(Fetch),
    /// Write the manifest of a corpus that is laid out as its publishers do.
    Import(Import),
    /// Make a corpus of spoken digits with the built-in formant synthesiser.
    Synthesize(Synthesize),
    /// Make a manifest of single words that an alignment has found in utterances. No sound is copied.
    Cut(Cut),
    /// Show what manifests hold: hours, speakers, lengths, vocabulary, and what is better looked at.
    Inspect(Inspect),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// How the corpus is laid out: `an4`, `common-voice`, `festvox`, `folders` (one for each class), `fsdd`,
    /// `kaldi`, `librispeech`, `ljspeech`, `speech-commands` or `speech-commands-12` (ten words, the
    /// unknown ones and silence).
    #[arg(long = "format", value_name = "FORMAT")]
    pub layout: String,
    /// The corpus's folder.
    pub source: PathBuf,
    /// The manifest to write; or a folder (`out/`), for a manifest of each part that the publisher made.
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
    /// Keep utterances out of `--out` and write them to a manifest of their own: `index:5-9`,
    /// `speaker:A,B`, `fraction:0.1`, `id:PREFIX` or `split:NAME`. May be given often; the first rule that
    /// fits counts.
    #[arg(long = "hold-out", value_name = "RULE=FILE.jsonl")]
    pub hold_out: Vec<String>,
    /// How many lines and recordings that cannot be used may be left out: a count or a share (25, 2%). `0`
    /// refuses the first. Default: 1 % or 10, whichever is more, and never more than half.
    #[arg(long, value_name = "N|N%")]
    pub max_bad: Option<MaxBad>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Synthesize {
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What is said: one digit, or a string of digits.
    #[arg(long, value_parser = choice::<Task>(SYNTHETIC_TASKS), default_value = "digits")]
    pub task: Task,
    /// Utterances to train on.
    #[arg(long, value_name = "N")]
    pub train: Option<usize>,
    /// Utterances by other speakers, to measure on.
    #[arg(long, value_name = "N")]
    pub valid: Option<usize>,
    /// Speakers of the training utterances.
    #[arg(long, value_name = "N")]
    pub speakers: Option<usize>,
    /// Speakers of the held-out utterances.
    #[arg(long, value_name = "N")]
    pub valid_speakers: Option<usize>,
    /// Seed of the random numbers that the corpus is drawn with.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[arg(long, value_name = "HZ")]
    pub sample_rate: Option<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Fetch {
    /// The corpus, such as `librispeech-dev-clean`.
    pub name: Option<String>,
    /// The folder to put it into, in a folder of its name.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
    /// Get its archive from here instead.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// The SHA-256 that the archive must have, instead of the one that is known.
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Keep the archive.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Inspect {
    /// The manifest; of several, what they share is told as well.
    #[arg(required = true, value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Cut {
    /// Where the words lie: time-marked words (CTM) whose recordings are the manifest's utterances, as `align` writes
    /// them.
    #[arg(long, value_name = "FILE")]
    pub align: PathBuf,
    /// The utterances that were aligned.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// The words that are wanted, in any case; the new manifest has them as they are written here. Default: every word.
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    pub words: Vec<String>,
    /// Sound before and behind each word, within its utterance.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub padding: u32,
    /// The manifest to write.
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
    /// How many of the alignment's words may be left out because they do not lie in an utterance of the manifest: a
    /// count, or a share such as 2%. Default: 1 % or 10, whichever is more, and never more than half.
    #[arg(long, value_name = "N|N%")]
    pub max_bad: Option<MaxBad>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// A key (`train.audit`) or a section (`train`). Default: all of them.
    pub key: Option<String>,
    /// Print the JSON schema of a job file, with which editors complete and check its keys.
    #[arg(long, conflicts_with_all = ["key", "format"])]
    pub schema: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Man {
    /// The folder for the pages, such as /usr/local/share/man/man1. It is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Which coordinator is meant.
#[derive(Debug, ClapArgs)]
pub(crate) struct At {
    /// The coordinator.
    #[arg(
        long,
        value_name = "URL",
        env = "UNISONO_COORDINATOR",
        default_value = "http://127.0.0.1:7700"
    )]
    pub coordinator: String,
    #[command(flatten)]
    pub credentials: CredentialsArgs,
}

impl At {
    /// What is shown to the coordinator, as a worker or as somebody who asks for jobs.
    pub(crate) fn credentials(&self, worker: bool) -> Credentials {
        let CredentialsArgs {
            certs_dir,
            token_file,
            allow_plaintext,
        } = self.credentials.clone();
        Credentials {
            certs_dir,
            token_file,
            allow_plaintext,
            worker,
        }
    }
}

/// What a client shows a coordinator on another host.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct CredentialsArgs {
    /// Folder with `ca.crt`, and the client's certificate and key (`client.NAME.crt`, `client.NAME.key`), for a
    /// coordinator at https://. See `unisono certs`.
    #[arg(long, value_name = "DIR", env = "UNISONO_CERTS_DIR")]
    pub certs_dir: Option<PathBuf>,
    /// File with a token, in place of a client certificate. See `unisono token`.
    #[arg(long, value_name = "FILE", env = "UNISONO_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Talk to another host by http:// although nothing is encrypted or authenticated.
    #[arg(long, env = "UNISONO_ALLOW_PLAINTEXT", value_parser = BoolishValueParser::new())]
    pub allow_plaintext: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OutputArgs {
    /// How data is printed on standard output.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
