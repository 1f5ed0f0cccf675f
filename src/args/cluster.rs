//! What is typed to run the long-lived processes of a cluster: coordinators and workers.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use proto::identity::TRUST_DOMAIN;

use worker::compute::DeviceChoice;

use super::{
    At,
    choice::{DEVICES, choice},
};

#[derive(Debug, ClapArgs)]
pub(crate) struct CoordinatorArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    pub listen: String,
    /// Address at which Prometheus reads figures (/metrics), and supervisors health and readiness (/healthz, /readyz);
    /// port 0 takes a free one. Nobody is asked who he is there; names of jobs, workers and files are not told.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// Where jobs, checkpoints and the queue are kept.
    #[arg(long, value_name = "DIR", default_value = "unisono-data")]
    pub data_dir: PathBuf,
    /// Write the port to this file once it listens.
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Speak TLS with the certificates of this folder (`ca.crt`, `node.crt`, `node.key`), which are read again
    /// when they change. See `unisono certs`.
    #[arg(long, value_name = "DIR")]
    pub certs_dir: Option<PathBuf>,
    /// File of tokens, with which clients without a certificate may call too. See `unisono token`.
    #[arg(long, value_name = "FILE", requires = "certs_dir")]
    pub tokens: Option<PathBuf>,
    /// Trust domain of the SPIFFE ids (`spiffe://DOMAIN/ROLE/NAME`) that give certificates their roles.
    #[arg(long, value_name = "DOMAIN", requires = "certs_dir", default_value = TRUST_DOMAIN)]
    pub trust_domain: String,
    /// Listen beyond loopback although nothing is encrypted or authenticated: whoever reaches the
    /// port can submit jobs and read their audio.
    #[arg(long, conflicts_with = "certs_dir")]
    pub allow_plaintext: bool,
    /// Folder beneath which submitted jobs may name files: manifests and their audio, language models, lexicons and
    /// weights. May be given several times. Without it, jobs can be trained on synthetic speech alone.
    #[arg(long = "corpus-root", value_name = "DIR")]
    pub corpus_roots: Vec<PathBuf>,
    /// When it stops, send the workers away for good. Otherwise they wait until it is started again, for as
    /// long as their `--give-up-after` says.
    #[arg(long)]
    pub dismiss_workers: bool,
    /// End when this process does (set by `verify` for its coordinators).
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub at: At,
    /// Where to compute.
    #[arg(long, value_parser = choice::<DeviceChoice>(DEVICES), default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads to compute with. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// What people see it called. Default: host and process.
    #[arg(long)]
    pub name: Option<String>,
    /// Where received audio and features are kept. Default: `unisono/worker` in XDG_CACHE_HOME or ~/.cache, or
    /// a folder among the temporary files where that cannot be written.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Folder beneath which audio is read where the coordinator says that it lies, if the same bytes lie there. May
    /// be given several times. Without it, the coordinator sends all audio.
    #[arg(long = "corpus-root", value_name = "DIR")]
    pub corpus_roots: Vec<PathBuf>,
    /// Read no audio where the coordinator says that it lies: have all of it sent.
    #[arg(long, conflicts_with = "corpus_roots")]
    pub no_shared_files: bool,
    /// Give up when the coordinator cannot be reached, or has been stopped, for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub give_up_after: u64,
    /// End when this process does (set by `train` and `verify` for their workers).
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
}
