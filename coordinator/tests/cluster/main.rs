//! A coordinator as workers and people meet it: over gRPC, with workers that compute next to nothing.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod proxy;
mod site;
mod toy;

mod audit;
mod channels;
mod contributions;
mod corpora;
mod corpus_roots;
mod damaged_recordings;
mod earlier_version;
mod epoch_policy;
mod faults;
mod faulty_workers;
mod refusals;
mod resource_limits;
mod restarts;
mod resumptions;
mod runs;
mod scrapes;
mod sessions;
mod shared_memory;
mod sizes;
mod slow_networks;
mod wire;
