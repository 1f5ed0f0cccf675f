//! Speech without a tensor library and without a network: audio, features, text, corpora, batching,
//! model specifications, decoding and scoring.
//!
//! Everything here is a function of its arguments: no clock, no thread count and no hash-map order
//! reaches a number.

#![forbid(unsafe_code)]

pub mod audio;
pub mod augment;
pub mod batching;
pub mod decode;
pub mod error_class;
pub mod features;
pub mod front_end;
pub mod import;
pub mod inspection;
pub mod left_out;
pub mod lexicon;
pub mod lm;
pub mod manifest;
pub mod model;
pub mod objective;
pub mod output_file;
pub mod pauses;
pub mod random;
pub mod recipe;
pub mod score;
pub mod strict;
pub mod synth;
pub mod text;
pub mod text_file;
pub mod tolerance;
pub mod unknown_text;
pub mod weights;
