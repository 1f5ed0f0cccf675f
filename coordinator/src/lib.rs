//! The coordinator: plan, leases, reduction, clipping, optimizers, checkpoints and jobs. It knows
//! gradients and weights as flat vectors of `f32` and has no tensor library.

#![forbid(unsafe_code)]

pub use coordinator_core::{
    epochs, leases, limits, norm_bound, plan, run, schedule, select, stall,
};

mod broadcast;
pub mod buffer_pool;
pub mod chart;
pub mod checkpoint;
pub mod clip;
pub mod corpus;
pub mod curves;
pub mod driver;
pub mod events;
pub mod held;
mod initial;
pub mod job;
pub mod optimizer;
pub mod plots;
pub mod reduce;
pub mod report;
pub mod server;
pub mod store;
pub mod tensorboard;
pub mod times;
mod timestamp;
pub mod update;
