//! `bench`: how fast this machine trains, measured with the parts that training uses.

mod exchange;
mod features;
mod step;

use crate::{args, exit::Result};

pub(super) fn run(verb: args::Bench) -> Result<()> {
    match verb {
        args::Bench::Step(args) => step::run(args),
        args::Bench::Features(args) => features::run(args),
        args::Bench::Exchange(args) => exchange::run(args),
        args::Bench::ExchangeWorker(args) => exchange::member::run(args),
    }
}

/// The middle one; the upper of two.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}
