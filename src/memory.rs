//! The allocator, how long it keeps freed memory, and the peak memory use. It does not depend on who needs the
//! memory.

use std::ffi::{c_int, c_long, c_ulong};

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
    fn mi_option_set(option: c_int, value: c_long);
    fn mi_option_set_default(option: c_int, value: c_long);
    #[cfg(target_os = "linux")]
    fn prctl(option: c_int, ...) -> c_int;
}

/// The same for a coordinator: what a peer made it take is not to stay, and its large vectors come from a pool.
const COORDINATOR_KEPT_MS: c_long = 250;

/// Gives freed memory back to the system soon, and takes it in small pages: a huge page of 2 MiB becomes real by
/// its first byte, which a few bytes from a peer would bring about. What the environment says
/// (`MIMALLOC_PURGE_DELAY`) goes first.
pub(crate) fn give_back_soon() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: a plain assignment to an option.
        unsafe { mi_option_set(PURGE_DELAY, COORDINATOR_KEPT_MS) }
    }
    #[cfg(target_os = "linux")]
    {
        // prctl(2), `PR_SET_THP_DISABLE`.
        const SET_THP_DISABLE: c_int = 41;
        let [yes, none]: [c_ulong; 2] = [1, 0];
        // SAFETY: it takes five numbers and no memory. Where the kernel does not know it, pages stay as they are.
        unsafe { prctl(SET_THP_DISABLE, yes, none, none, none) };
    }
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
    fn the_option_that_is_set_is_the_one_with_the_delays_default_and_a_coordinators_is_short() {
        // SAFETY: reads an option.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1000);
        keep();
        assert_eq!(get(), KEPT_MS);
        give_back_soon();
        assert_eq!(get(), COORDINATOR_KEPT_MS);
    }
}
