//! `corpus`: fetches, imports, synthesizes and inspects corpora.

mod fetch;
mod import;
mod inspect;
mod synthesize;

use crate::{args::Corpus, exit::Result};

pub fn run(verb: Corpus) -> Result<()> {
    match verb {
        Corpus::Fetch(args) => fetch::run(args),
        Corpus::Import(args) => import::run(args),
        Corpus::Synthesize(args) => synthesize::run(args),
        Corpus::Inspect(args) => inspect::run(args),
    }
}
