//! `man`: the manual pages, from the same definition as the command line.

use clap::CommandFactory as _;
use speech::error_class::Classify as _;

use crate::{
    args,
    exit::{Failure, Result},
};

pub fn run(args: args::Man) -> Result<()> {
    let written = std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(args::Args::command(), &args.out));
    written.map_err(|error| {
        let told = format!(
            "{}: the manual pages cannot be written: {error}",
            args.out.display()
        );
        Failure::of(error.class(), told).into()
    })
}
