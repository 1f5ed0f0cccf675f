//! The process's own figures, by the names that Prometheus' client libraries share.

use std::{fmt, fs};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::exposition::Page;

/// Reads `/proc` on each scrape; what is not there is left out.
#[derive(Debug)]
pub(super) struct Process;

/// The unit of times in `/proc/PID/stat`: USER_HZ of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kilobytes) = number(&status, "VmRSS:") {
            page.gauge(
                "process_resident_memory_bytes",
                "Resident memory",
                1024 * kilobytes,
            )?;
        }
        if let Some(threads) = number(&status, "Threads:") {
            page.gauge(
                "process_threads",
                "Threads of the operating system",
                threads,
            )?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them reads the folder.
            let open = files.count().saturating_sub(1) as u64;
            page.gauge("process_open_fds", "Open file descriptors", open)?;
        }
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(ticks) = cpu_ticks(&stat) {
            page.counter(
                "process_cpu_seconds",
                "Time on processors, the system's for it included",
                ticks as f64 / TICKS_PER_SECOND,
            )?;
        }
        Ok(())
    }
}

/// The number behind `name` in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The fields 14 and 15; the second field is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_linux_writes() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!(number(status, "VmRSS:"), Some(2048));
        assert_eq!(number(status, "Threads:"), Some(7));
        assert_eq!(number(status, "VmHWM:"), None);
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 1 0 9 1 2";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("nonsense"), None);
    }
}
