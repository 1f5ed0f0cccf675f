//! What `unisono bench` times in a worker: training steps and the exchange of vectors.

pub mod exchange;
pub mod step;
