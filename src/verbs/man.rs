//! `man`: the manual pages, from the same definition as the command line.

use clap::CommandFactory as _;

use crate::{
    args,
    exit::{Context as _, Result},
};

pub(super) fn run(args: args::Man) -> Result<()> {
    let written = std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(args::Args::command(), &args.out));
    written.with_context(|| format!("{}: the manual pages cannot be written", args.out.display()))
}
