//! What is typed to see and tidy the queue of a coordinator.

use clap::Args as ClapArgs;

use super::{At, OutputArgs};

#[derive(Debug, ClapArgs)]
pub(crate) struct JobsArgs {
    /// Take jobs off the list that have ended and were submitted more than so many days ago. Their folders
    /// stay, with models, reports and logs.
    #[arg(long, value_name = "DAYS")]
    pub prune: Option<u32>,
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub output: OutputArgs,
}
