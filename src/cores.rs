//! The number of cores of this machine, and how they are divided among workers.

use std::collections::BTreeSet;

/// Logical processors that this process may use (its affinity and its control group count).
pub(crate) fn logical() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Physical cores among them: two threads of one core share its arithmetic units, which gradients
/// keep busy.
pub(crate) fn physical() -> usize {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let counted = distinct_cores(&described);
    if counted == 0 {
        logical()
    } else {
        counted.min(logical())
    }
}

fn distinct_cores(cpuinfo: &str) -> usize {
    let mut cores = BTreeSet::new();
    for processor in cpuinfo.split("\n\n") {
        let field = |name: &str| {
            processor
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim())
        };
        if let (Some(package), Some(core)) = (field("physical id"), field("core id")) {
            cores.insert((package, core));
        }
    }
    cores.len()
}

/// Workers of a run on this machine when nobody says how many.
pub(crate) fn default_workers() -> usize {
    physical().clamp(1, MOST_DEFAULT_WORKERS)
}

/// Beyond this, a person's machine is better left to say so: each worker holds a model of its own.
const MOST_DEFAULT_WORKERS: usize = 4;

/// Threads of each of `workers` workers.
pub(crate) fn threads_each(workers: usize) -> usize {
    (logical() / workers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_of_a_core_count_once() {
        let processor = |package: u32, core: u32| {
            format!("processor\t: 0\nphysical id\t: {package}\ncore id\t\t: {core}\n\n")
        };
        let cpuinfo = [(0, 0), (0, 0), (0, 1), (1, 0)]
            .map(|(package, core)| processor(package, core))
            .concat();
        assert_eq!(distinct_cores(&cpuinfo), 3);
        assert_eq!(distinct_cores("processor : 0\nBogoMIPS : 50\n"), 0);
    }

    #[test]
    fn every_worker_has_a_thread() {
        assert_eq!(threads_each(100_000), 1);
        assert!((1..=4).contains(&default_workers()));
        assert!(physical() <= logical());
    }
}
