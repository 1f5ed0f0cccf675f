//! The worker: a session with the coordinator, models in burn, the gradient of one micro-batch and
//! inference. It holds nothing that cannot be lost.

pub mod cache;
pub mod compute;
mod gpu;
pub mod gradient;
pub mod inference;
pub mod kernel;
pub mod loss;
pub mod measure;
pub mod network;
pub mod packing;
pub mod recurrent;
pub mod session;
pub mod stream;
pub mod transfer;
