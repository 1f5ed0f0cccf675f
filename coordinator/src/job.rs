//! Stub: replaced by its owner.
