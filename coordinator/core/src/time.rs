//! Time as the deciding modules know it: numbers that whoever has a clock hands in.

/// Milliseconds since any instant before the lease scheduler's first input.
pub type Millis = u64;
