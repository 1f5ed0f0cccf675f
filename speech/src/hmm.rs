//! Hidden Markov models (Rabiner 1989): graphs of states that emit frames, and the sums over their paths. A graph is made of
//! a transcript, by its pronunciations or by CTC's labels; what scores a frame under a state's density is somebody
//! else's.

pub mod graph;
pub mod sums;
pub mod topology;
pub mod transcript;

pub use graph::{Arc, Graph, GraphBuilder};
pub use sums::{Path, Scores};
pub use topology::{PhoneStates, PhoneTopology, TopologyError};
pub use transcript::{TranscriptGraph, WordsWithoutPronunciation};

#[cfg(test)]
mod tests;
