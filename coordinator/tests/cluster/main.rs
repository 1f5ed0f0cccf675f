//! A coordinator as workers and people meet it: over gRPC, with workers that compute next to nothing.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod proxy;
mod site;
mod toy;

mod channels;
mod corpora;
mod courses;
mod damaged;
mod doubts;
mod faults;
mod lanes;
mod lives;
mod refusals;
mod resumptions;
mod roads;
mod runs;
mod sizes;
mod strangers;
mod wire;
