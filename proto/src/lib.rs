//! The wire of unisono.
