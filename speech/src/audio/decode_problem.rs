//! What went wrong while something was unpacked, before it has a path; panics of decoders among it.

use std::cell::Cell;
use std::io::ErrorKind;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use symphonia::core::errors::Error;

use super::AudioError;

/// What went wrong, before it has a path.
#[derive(Debug)]
pub(super) enum DecodeProblem {
    Malformed(String),
    Damaged(String),
    Unsupported(String),
    NoSamples,
    Rate(u32),
    TooLong,
    Segment(Range<u64>, u64),
    BadSample(usize, f32),
    NoChannel { channel: u16, channels: u16 },
}

impl DecodeProblem {
    pub(super) fn of(self, path: &Path) -> AudioError {
        let path = path.to_owned();
        match self {
            Self::Malformed(reason) => AudioError::Malformed { path, reason },
            Self::Damaged(reason) => AudioError::Damaged { path, reason },
            Self::Unsupported(encoding) => AudioError::Unsupported { path, encoding },
            Self::NoSamples => AudioError::NoSamples { path },
            Self::Rate(rate) => AudioError::Rate { path, rate },
            Self::TooLong => AudioError::TooLong { path },
            Self::Segment(part, held) => AudioError::Segment { path, part, held },
            Self::BadSample(index, value) => AudioError::BadSample { path, index, value },
            Self::NoChannel { channel, channels } => AudioError::NoChannel {
                path,
                channel,
                channels,
            },
        }
    }
}

impl From<Error> for DecodeProblem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported(what) => Self::Unsupported(format!("its form ({what})")),
            Error::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Self::Malformed("it ends in the middle".to_owned())
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}

thread_local! {
    /// Whether a panic of this thread is caught and told as the file's.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is a damaged file, and is told by nobody else.
pub(super) fn guarded<T>(
    work: impl FnOnce() -> Result<T, DecodeProblem>,
) -> Result<T, DecodeProblem> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    // What `work` changes is not used again after an error.
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.unwrap_or_else(|_| {
        Err(DecodeProblem::Damaged(
            "the decoder gave up on it".to_owned(),
        ))
    })
}
