//! What a coordinator costs: processor time, memory and steps by the number of workers and of
//! micro-batches, and how fast vectors move, near and far. A program that prints tables; nothing fails.
//!
//! `cargo bench -p coordinator --bench cluster`, or with `-- steps` or `-- exchange` one half of it. The
//! coordinator is a process of its own, so that the workers' work is not in its figures.

#![allow(clippy::unwrap_used, reason = "a measurement that fails may panic")]

#[allow(dead_code, reason = "tests need more of it")]
#[path = "../../tests/cluster/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../../tests/cluster/site.rs"]
mod site;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../../tests/cluster/toy.rs"]
mod toy;

mod child;
mod exchange;
mod steps;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let asked = arguments.next().unwrap_or_default();
    if asked == child::ARGUMENT {
        return child::coordinate(&arguments.next().unwrap());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if asked != "exchange" {
        runtime.block_on(steps::measure());
    }
    if asked != "steps" {
        runtime.block_on(exchange::measure());
    }
}
