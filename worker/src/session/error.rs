//! Why a session ended before its time, and whose fault it was.

use std::time::Duration;

use speech::error_class::{Class, Classify};
use thiserror::Error;

use crate::{cache::CacheError, transfer::CallError};

/// What ends a session before its time.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum SessionError {
    #[error(
        "`{url}` is no coordinator that can be worked for: {reason}; an address looks like https://host:7700"
    )]
    Url { url: String, reason: String },
    #[error(
        "the coordinator at {url} cannot be reached ({reason}), tried for {tried_for:.0?}: see that \
         `unisono coordinator` runs there and that the address and the port are right"
    )]
    Unreachable {
        url: String,
        tried_for: Duration,
        reason: String,
    },
    #[error("the coordinator at {url} refuses this worker: {reason}")]
    Refused {
        url: String,
        reason: String,
        /// It may be taken later: after an upgrade of either side, for instance.
        may_pass: bool,
    },
    #[error("the coordinator at {url} does not speak as one: {source}")]
    Protocol { url: String, source: CallError },
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("this worker cannot compute: {reason}")]
    Computing { reason: String },
}

impl Classify for SessionError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Protocol { .. }
            | Self::Computing { .. }
            | Self::Refused { may_pass: true, .. } => Class::Infrastructure,
            // Another program, another machine or another setting is needed.
            Self::Refused {
                may_pass: false, ..
            }
            | Self::Url { .. } => Class::Data,
            Self::Cache(error) => error.class(),
        }
    }
}
