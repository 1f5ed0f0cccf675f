//! What a coordinator decides, without I/O: who computes what ([`leases`]), when the learning rate falls and training
//! ends ([`epochs`]), what comes next in a run ([`run`]), which utterances make up a step ([`plan`]), and the settings that these decisions go by.
//! Time is an argument everywhere; equal inputs in equal order give equal outputs.

#![forbid(unsafe_code)]

pub mod epochs;
pub mod leases;
pub mod limits;
pub mod norm_bound;
pub mod plan;
pub mod run;
pub mod schedule;
pub mod select;
