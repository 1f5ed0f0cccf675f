//! The coordinator: plan, leases, reduction, clipping, optimizers, checkpoints and jobs. It knows
//! gradients and weights as flat vectors of `f32` and has no tensor library.
//!
//! The order of calls in a run: [`job::Job`] is parsed, `corpus` prepares its data, [`plan`] orders the utterances,
//! `driver` opens a pass for each step and leases its nodes, [`trainer::reduce::Reducer`] adds the contributions, and
//! [`trainer::Trainer`] divides, clips and applies the optimizer. [`checkpoint`] and [`store`] write that down;
//! [`records`] tell it. `server` starts all of it behind gRPC.
//!
//! ```
//! use std::path::Path;
//!
//! use coordinator::{
//!     job::Job,
//!     trainer::{StepOutcome, Trainer, TrainerConfig},
//! };
//! use proto::contribution::Contribution;
//! use speech::model::ModelSpec;
//!
//! let text = "[corpus]\ntrain = \"train.jsonl\"\n[clip]\nmax_norm = 1.0\n";
//! let job = Job::parse(text, Path::new("job.toml"), &[])?;
//! // 40 features a frame, 10 classes.
//! let spec = ModelSpec::new(&job.model, 40, 10);
//! let config = TrainerConfig {
//!     optimizer: job.optimizer,
//!     clip: job.clip,
//!     schedule: job.schedule,
//!     total_steps: 100,
//!     ema: job.train.ema,
//! };
//! let mut trainer = Trainer::new(&spec, config, spec.initialize(job.train.seed));
//! // The sum of the gradients of 32 utterances, all ones.
//! let sum = Contribution {
//!     sum: Some(vec![1.0; spec.elements()]),
//!     weight: 32.0,
//!     ..Contribution::default()
//! };
//! let StepOutcome::Applied(step) = trainer.apply(sum)? else {
//!     panic!("there is a gradient");
//! };
//! assert!(step.clipped && step.grad_norm > 1.0);
//! assert_eq!(trainer.step(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(unreachable_pub, missing_docs)]

pub use coordinator_core::{
    compute_class, contribution_check, epochs, fault_budget, leases, limits, norm_bound, plan,
    queue, run, schedule, select, stall,
};

mod broadcast;
pub mod checkpoint;
pub mod corpus;
mod driver;
mod durable;
mod initial_weights;
pub mod job;
pub mod job_memory;
pub mod records;
pub mod server;
pub mod store;
mod telemetry;
pub mod tokens;
pub mod trainer;
