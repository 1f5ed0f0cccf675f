//! Range checks of a job's numbers: an error names the key and what it must be. It does not depend on which
//! numbers there are; each section of a job says its own.

use std::fmt::Display;

use thiserror::Error;

/// A number that no job can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` is {value}; it must be {bounds}")]
pub struct OutOfRange {
    /// The key in the job, with its section: `clip.max_norm`.
    pub field: &'static str,
    /// The number as the job has it.
    pub value: String,
    /// What it must be, to be read after "it must be".
    pub bounds: &'static str,
}

/// Passes when `holds` does.
///
/// # Errors
/// Otherwise `field`, its `value` and the `bounds` it breaks.
pub fn require(
    holds: bool,
    field: &'static str,
    value: impl Display,
    bounds: &'static str,
) -> Result<(), OutOfRange> {
    if holds {
        return Ok(());
    }
    Err(OutOfRange {
        field,
        value: value.to_string(),
        bounds,
    })
}

/// A finite number above zero.
pub fn positive(field: &'static str, value: f64) -> Result<(), OutOfRange> {
    let holds = value.is_finite() && value > 0.0;
    require(holds, field, value, "a finite number above 0")
}

/// A finite number that is not negative.
pub fn not_negative(field: &'static str, value: f64) -> Result<(), OutOfRange> {
    let holds = value.is_finite() && value >= 0.0;
    require(holds, field, value, "a finite number of 0 or more")
}
