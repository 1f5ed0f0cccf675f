//! The one binary: what was typed becomes a verb, the verb runs, and how it ended becomes an exit
//! code.

mod args;
mod client;
mod cores;
mod exit;
mod fetch;
mod fleet;
mod follow;
mod html;
mod memory;
mod narrate;
mod output;
mod process;
mod progress;
mod signals;
mod summary;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    memory::keep();
    let args = args::Args::parse_from(args::words(std::env::args_os()));
    output::silence_drivers();
    output::log(args.log_level());
    match verbs::run(args.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
