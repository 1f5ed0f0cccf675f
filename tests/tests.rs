//! The program as its users meet it: real processes, real gRPC, real files. What needs only a
//! function is tested beside the function.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "e2e/alignment.rs"]
mod alignment;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/bench.rs"]
mod bench;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/corpora.rs"]
mod corpora;
#[path = "e2e/decoding.rs"]
mod decoding;
#[path = "e2e/deploy.rs"]
mod deploy;
#[path = "e2e/disk.rs"]
mod disk;
#[path = "e2e/documents.rs"]
mod documents;
#[path = "e2e/evaluate.rs"]
mod evaluate;
#[path = "e2e/fetch.rs"]
mod fetch;
#[path = "e2e/fixture.rs"]
mod fixture;
#[path = "e2e/hosts.rs"]
mod hosts;
#[path = "e2e/import_graph.rs"]
mod import_graph;
#[path = "e2e/kills.rs"]
mod kills;
#[path = "e2e/kinds.rs"]
mod kinds;
#[path = "e2e/kubernetes.rs"]
mod kubernetes;
#[path = "e2e/left_out.rs"]
mod left_out;
#[path = "e2e/manifests.rs"]
mod manifests;
#[path = "e2e/module_map.rs"]
mod module_map;
#[path = "e2e/observability.rs"]
mod observability;
#[path = "e2e/outputs.rs"]
mod outputs;
#[path = "e2e/private_files.rs"]
mod private_files;
#[path = "e2e/processes.rs"]
mod processes;
#[path = "e2e/queue.rs"]
mod queue;
#[path = "e2e/random_jobs.rs"]
mod random_jobs;
#[path = "e2e/resumptions.rs"]
mod resumptions;
#[path = "e2e/run.rs"]
mod run;
#[path = "e2e/segments.rs"]
mod segments;
#[path = "e2e/signals.rs"]
mod signals;
#[path = "e2e/slurm.rs"]
mod slurm;
#[path = "e2e/structure.rs"]
mod structure;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/verify.rs"]
mod verify;
#[cfg(feature = "wgpu")]
#[path = "e2e/wgpu.rs"]
mod wgpu;
#[cfg(not(feature = "wgpu"))]
#[path = "e2e/without_wgpu.rs"]
mod without_wgpu;
