//! `completions`: the script that teaches a shell the command line.

use clap::CommandFactory as _;

use crate::{args, exit::Result, output};

pub(super) fn run(args: args::Completions) -> Result<()> {
    let mut script = Vec::new();
    let mut command = args::Args::command();
    clap_complete::generate(args.shell, &mut command, "unisono", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
