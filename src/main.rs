//! The one binary: what was typed becomes a verb, the verb runs, and how it ended becomes an exit
//! code.

#![warn(unreachable_pub)]

mod args;
mod cache_folder;
mod certs;
mod client;
mod control_group;
mod cores;
mod corpus_roots;
mod decoding;
mod device;
mod environment;
mod evaluation;
mod exit;
mod fetch;
mod fleet;
mod follow;
mod html;
mod jobs;
mod log;
mod memory;
mod model_folder;
mod narrate;
mod output;
mod portions;
mod process;
mod progress;
mod runtime;
mod screen;
mod signals;
mod stderr;
mod summary;
mod transcript_style;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    memory::keep();
    output::silence_drivers();
    environment::drop_empty();
    let args = args::Args::parse_from(args::words(std::env::args_os()));
    let done = log::start(args.log_level()).map_err(exit::Error::from);
    let code = match done.and_then(|()| verbs::run(args.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::message(&error.message());
            error.exit_code()
        }
    };
    log::finish();
    output::finish();
    code
}
