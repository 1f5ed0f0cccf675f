//! `corpus`: fetches, imports, synthesizes, cuts and inspects corpora.

mod cut;
mod fetch;
mod import;
mod inspect;
mod synthesize;

use crate::{args::CorpusCommand, exit::Result};

pub(super) fn run(verb: CorpusCommand) -> Result<()> {
    match verb {
        CorpusCommand::Fetch(args) => fetch::run(args),
        CorpusCommand::Import(args) => import::run(args),
        CorpusCommand::Synthesize(args) => synthesize::run(args),
        CorpusCommand::Cut(args) => cut::run(args),
        CorpusCommand::Inspect(args) => inspect::run(args),
    }
}
