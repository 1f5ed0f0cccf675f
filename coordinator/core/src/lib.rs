//! What a coordinator decides, without I/O: who computes what ([`leases`]); what comes next in a run, from its preparation
//! to its end ([`run`]); when the learning rate falls, training ends and whose weights are held ([`epochs`]); which
//! utterances make up a step ([`plan`]); which workers may compute for a job ([`compute_class`]); whether a contribution can be the answer to its lease
//! ([`contribution_check`]); when a worker is turned away ([`fault_budget`]); whose turn it is in the
//! queue ([`queue`]); what is left out for its norm ([`norm_bound`]); when people are told what a run
//! lacks ([`stall`]); and the settings that these decisions go by ([`select`], [`schedule`]).
//!
//! Time is an argument everywhere, and equal inputs in equal order give equal outputs. The crate has no runtime, no
//! files and no sockets among its dependencies. How the two state machines are driven is said in [`run`].
//!
//! Beside the two state machines there are functions:
//!
//! ```
//! use coordinator_core::schedule::{ScheduleConfig, ScheduleKind};
//!
//! let schedule = ScheduleConfig {
//!     kind: ScheduleKind::Step,
//!     step_size: 100,
//!     gamma: 0.5,
//!     ..ScheduleConfig::default()
//! };
//! // The learning rate of the step after 250 applied ones, of 1,000; no plateau was met.
//! assert_eq!(schedule.learning_rate(0.4, 250, 1000, 0), 0.1);
//! ```

#![forbid(unsafe_code)]
#![warn(unreachable_pub, missing_docs)]

pub mod compute_class;
pub mod contribution_check;
pub mod epochs;
pub mod fault_budget;
pub mod leases;
pub mod limits;
pub mod norm_bound;
pub mod plan;
pub mod queue;
pub mod run;
pub mod schedule;
pub mod select;
pub mod stall;
mod time;
