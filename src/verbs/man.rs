//! `man`: the manual pages, from the same definition as the command line.

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::args;

pub fn run(args: args::Man) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(args::Args::command(), &args.out))
        .with_context(|| {
            format!(
                "the manual pages cannot be written to {}",
                args.out.display()
            )
        })
}
