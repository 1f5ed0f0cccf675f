//! What was typed after `train` and `resume`: a run that begins, or goes on.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use worker::compute::DeviceChoice;

use super::{
    At, OutputArgs,
    choice::{DEVICES, choice},
};

#[derive(Debug, ClapArgs)]
pub(crate) struct Train {
    /// The job (TOML).
    pub job: PathBuf,
    /// Worker processes. Default: one for each physical core, up to four.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// Threads of each worker. Default: the cores, shared out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where the workers compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    /// Where features, and what is known of recordings, are kept. Default: `unisono` in XDG_CACHE_HOME or ~/.cache, or a
    /// folder among the temporary files where that cannot be written.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The run's directory. Default: runs/NAME-TIME.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in `--out` (default: the newest of this job). `--resume=auto` begins one where there
    /// is none and ends well where it is finished: a command that a requeued job can repeat.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "now")]
    pub resume: Option<Resume>,
    /// With `--resume`: go on although the job, or this machine's compute class, differs from what the run was
    /// begun with in what its bits depend on. The report then says `bit_identity: false`.
    #[arg(long, requires = "resume")]
    pub allow_change: bool,
    /// Begin with the weights of this run, `final` folder or safetensors file (`--set train.init=PATH`).
    #[arg(long, value_name = "PATH")]
    pub init_from: Option<PathBuf>,
    /// Change a key of the job: `train.epochs=3`. May be given often.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// When a run is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    /// There has to be one that is not finished.
    Now,
    /// If there is one; otherwise it is begun.
    Auto,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ResumeJob {
    /// The job's id.
    pub id: String,
    /// Change a key of the job: `train.epochs=30`. May be given often. A file lies on the coordinator's host.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Go on although the job, or the workers' compute class, differs from what it was begun with in what its
    /// bits depend on. The report then says `bit_identity: false`.
    #[arg(long)]
    pub allow_change: bool,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The words of the command line, with `--resume auto` as `--resume=auto`: a value that may be left out has
/// to stand behind `=`, or the job's file would be taken for it.
pub(crate) fn words(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for word in typed {
        match words.last_mut().filter(|last| *last == "--resume") {
            Some(last) if word == "auto" => last.push("=auto"),
            _ => words.push(word),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Verb};
    use clap::Parser as _;

    #[test]
    fn a_run_is_resumed_with_a_word_or_without() {
        let resume = |line: &str| {
            let typed = line.split(' ').map(OsString::from);
            let args = Args::try_parse_from(words(typed)).unwrap();
            match args.verb {
                Verb::Train(train) => (train.job, train.resume),
                other => panic!("{other:?}"),
            }
        };
        let job = || PathBuf::from("j.toml");
        assert_eq!(resume("unisono train j.toml"), (job(), None));
        for line in ["train --resume j.toml", "train j.toml --resume"] {
            let line = format!("unisono {line}");
            assert_eq!(resume(&line), (job(), Some(Resume::Now)));
        }
        for line in [
            "train j.toml --resume=auto",
            "train --resume auto j.toml",
            "train j.toml --resume auto --out run",
        ] {
            let line = format!("unisono {line}");
            assert_eq!(resume(&line), (job(), Some(Resume::Auto)));
        }
    }
}
