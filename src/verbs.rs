//! The commands: one module for each, with a `run` that takes its arguments. No verb imports another one: what
//! several share has a module beside `verbs`.

mod align;
mod bench;
mod cancel;
mod certs;
mod compare;
mod completions;
mod coordinator;
mod corpus;
mod doctor;
mod evaluate;
mod explain;
mod jobs;
mod lexicon;
mod lm;
mod logs;
mod man;
mod model;
mod resume;
mod status;
mod submit;
mod token;
mod train;
mod transcribe;
mod verify;
mod worker;
mod workers;

use crate::{
    args::{self, Verb},
    environment,
    exit::{CommandError, Result},
    output, process,
};

/// Runs a verb to its end.
pub(crate) fn run(verb: Verb) -> Result<()> {
    // Before anything is done: a name that is mistyped would never be noticed.
    proto::failpoint::ordered().map_err(|unknown| CommandError::Usage(unknown.to_string()))?;
    let warnings = environment::check()?;
    // A worker's parent has said it.
    if !matches!(
        &verb,
        Verb::Worker(args::WorkerArgs {
            parent: Some(_),
            ..
        })
    ) {
        for warning in warnings {
            output::message(&format!("warning: {warning}"));
        }
    }
    if matches!(
        &verb,
        Verb::Train(_)
            | Verb::Verify(_)
            | Verb::Coordinator(_)
            | Verb::Worker(_)
            | Verb::Resume(_)
            | Verb::Certs(_)
            | Verb::Token(_)
    ) {
        process::keep_files_private();
    }
    match verb {
        Verb::Train(args) => train::run(args),
        Verb::Verify(args) => verify::run(args),
        Verb::Coordinator(args) => coordinator::run(args),
        Verb::Worker(args) => worker::run(args),
        Verb::Submit(args) => submit::run(args),
        Verb::Jobs(args) => jobs::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Logs(args) => logs::run(args),
        Verb::Cancel(args) => cancel::run(args),
        Verb::Resume(args) => resume::run(args),
        Verb::Workers(args) => workers::run(args),
        Verb::Evaluate(args) => evaluate::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Transcribe(args) => transcribe::run(args),
        Verb::Align(args) => align::run(args),
        Verb::Model(args) => model::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Corpus(verb) => corpus::run(verb),
        Verb::Lexicon(verb) => lexicon::run(verb),
        Verb::Lm(verb) => lm::run(verb),
        Verb::Bench(verb) => bench::run(verb),
        Verb::Certs(verb) => certs::run(verb),
        Verb::Token(verb) => token::run(verb),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }
}
