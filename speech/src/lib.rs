//! Speech without a tensor library and without a network: audio, features, text, corpora, batching,
//! model specifications, decoding and scoring.
//!
//! Everything here is a function of its arguments: no clock, no thread count and no hash-map order
//! reaches a number.
//!
//! A recording's way: a manifest's line ([`manifest::Utterance`]) names it, [`audio`] reads it,
//! [`front_end::FrontEnd`] computes [`features::Features`] `[frames, dims]`, and [`batching`] puts utterances into
//! micro-batches. A transcript's way: [`text::TextConfig`] normalises it, and [`text::Vocabulary`] encodes it as
//! labels. [`model::ModelSpec`] lays out a model's parameters. [`decode::Decoder`] turns a model's
//! log-probabilities into text again, and [`score`] compares that with the reference.
//!
//! ```
//! use speech::{audio::Audio, features::FeaturesConfig, front_end::FrontEnd, score};
//!
//! // A second of a 440 Hz tone.
//! let tone = (0..16_000).map(|n| (n as f32 * 440.0 * std::f32::consts::TAU / 16_000.0).sin());
//! let audio = Audio { sample_rate: 16_000, samples: tone.collect() };
//! let front_end = FrontEnd::new(&FeaturesConfig::default(), None)?;
//! let features = front_end.features(&audio)?;
//! assert_eq!((features.frames, features.dims), (98, 40)); // 25 ms every 10 ms, 40 mel bands
//!
//! let errors = score::word_errors("one two three", "one three");
//! assert_eq!((errors.deletions, errors.reference), (1, 3));
//! # Ok::<(), speech::front_end::FrontEndError>(())
//! ```

#![forbid(unsafe_code)]
#![warn(unreachable_pub, missing_docs)]

pub mod audio;
pub mod augment;
pub mod batching;
pub mod corpus_roots;
pub mod ctm;
pub mod decode;
pub mod error_class;
pub mod escape;
pub mod features;
pub mod front_end;
pub mod hmm;
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
pub mod regular_file;
pub mod score;
pub mod strict;
pub mod synth;
pub mod text;
pub mod text_file;
pub mod textgrid;
pub mod tolerance;
pub mod unknown_text;
pub mod weights;
pub mod word_segments;
