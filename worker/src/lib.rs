//! The worker: a session with the coordinator, models in burn, the gradient of one micro-batch and
//! inference. It holds nothing that cannot be lost.
//!
//! The order of calls: [`compute::Compute`] opens a device, [`network::Network`] holds a model's parameters on it,
//! [`gradient::gradient`] computes a micro-batch's gradient as a flat vector. [`session`] does so for a coordinator,
//! [`inference::Model`] recognises with a trained model, and [`stream`] does it frame by frame.
//!
//! ```
//! use speech::{
//!     features::Features,
//!     model::{ModelConfig, ModelSpec},
//!     objective::Normalize,
//! };
//! use worker::{
//!     compute::{Compute, DeviceChoice},
//!     gradient::{MicroBatch, gradient},
//!     network::Network,
//! };
//!
//! let compute = Compute::open(DeviceChoice::Cpu)?;
//! let config = ModelConfig { layers: 1, hidden: 8, ..ModelConfig::default() };
//! // 2 features a frame, 3 classes.
//! let spec = ModelSpec::new(&config, 2, 3);
//! let mut network = Network::new(&spec, &compute.device);
//! network.load(&spec.initialize(1))?;
//! let utterance = Features { frames: 4, dims: 2, data: vec![0.5; 8] };
//! let micro_batch = MicroBatch {
//!     features: vec![&utterance],
//!     targets: vec![&[2]], // its class
//!     step: 0,
//!     index: 0,
//! };
//! let found = gradient(&network, &micro_batch, Normalize::Utterances, 1)?;
//! assert_eq!(found.gradient.map(|flat| flat.len()), Some(spec.elements()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(unreachable_pub, missing_docs)]

pub mod bench;
mod blocking;
pub mod cache;
pub mod compute;
pub mod cpu;
#[cfg(feature = "wgpu")]
mod gpu;
pub mod gradient;
pub mod inference;
pub mod loss;
pub mod network;
pub mod ops;
pub mod session;
pub mod stream;
pub mod transfer;
