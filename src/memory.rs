//! The allocator, how long it keeps freed memory, and the peak memory use. It does not depend on who needs the
//! memory.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long freed memory is kept before the system gets it back: an hour. A training step frees what
/// the next one needs again, and pages that come back from the system have to be zeroed first, which
/// took a seventh of each step of a large model. The time counts from the first of what was freed, not
/// from the last use, so it has to be long beside a step.
const KEPT_MS: c_long = 3_600_000;

/// `mi_option_purge_delay`, milliseconds; 1000 unless set. mimalloc's numbers are stable, its crate
/// does not name this one.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Keeps freed memory for the next step. What the environment says (`MIMALLOC_PURGE_DELAY`) goes first.
pub(crate) fn keep() {
    // SAFETY: a plain assignment to an option; this is before any other thread begins.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

/// The most memory that this program has held so far, in bytes; `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_that_is_set_is_the_one_with_the_delays_default() {
        // SAFETY: reads an option.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1000);
        keep();
        assert_eq!(get(), KEPT_MS);
    }
}
