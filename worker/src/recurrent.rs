//! A recurrent layer over a batch of sequences of different lengths: LSTM, GRU or plain, in several
//! implementations. It decides that padding reaches neither a result nor a gradient.
//!
//! The equations are torch's, and a layer's parameters are one flat tensor in torch's order: see
//! [`Recurrent`].

pub mod cube;
pub mod fused;
pub(crate) mod kernel;
pub mod reference;

pub use speech::model::{Cell, Recurrent};
