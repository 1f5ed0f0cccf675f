//! The coordinator: plan, leases, reduction, clipping, optimizers, checkpoints and jobs. It knows
//! gradients and weights as flat vectors of `f32` and has no tensor library.

mod broadcast;
pub mod chart;
pub mod checkpoint;
pub mod clip;
pub mod corpus;
pub mod course;
pub mod curves;
pub mod driver;
pub mod events;
mod initial;
pub mod job;
pub mod limits;
pub mod machine;
pub mod norms;
pub mod optimizer;
pub mod plan;
pub mod plots;
pub mod reduce;
pub mod report;
pub mod schedule;
pub mod select;
pub mod server;
pub mod spares;
pub mod store;
pub mod tensorboard;
pub mod times;
mod timestamp;
pub mod update;
