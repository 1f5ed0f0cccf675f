//! Deaths of a worker process: how many are too many, and what one means.

use std::{
    collections::VecDeque, os::unix::process::ExitStatusExt as _, process::ExitStatus,
    time::Duration,
};

use rustix::process::Signal;
use speech::escape::escape_within;
use tokio::time::Instant;

/// A worker that dies without having finished anything is started again so often. One that has worked in between
/// begins with a fresh count: the limit is for those that have a reason to die each time.
pub(super) const MAX_RESTARTS: u32 = 5;
/// Deaths longer ago than this do not count either: a worker may have been idle.
const DEATHS_FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// From the second restart in a row on, the pause before it doubles from this.
const FIRST_RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Deaths of a worker in a row, in which it finished nothing.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

/// What follows from a death.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sequel {
    Again { count: u32, pause: Duration },
    End,
}

impl Deaths {
    /// Counts one more, of a life in which something was finished (`worked`) or not.
    pub(super) fn another(&mut self, worked: bool, now: Instant) -> Sequel {
        if worked {
            self.0.clear();
        }
        let long_ago = |at: &Instant| now.saturating_duration_since(*at) >= DEATHS_FORGOTTEN_AFTER;
        while self.0.front().is_some_and(long_ago) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if count > MAX_RESTARTS {
            return Sequel::End;
        }
        let pause = match count {
            0 | 1 => Duration::ZERO,
            more => FIRST_RESTART_PAUSE * 2_u32.pow(more - 2),
        };
        Sequel::Again { count, pause }
    }
}

/// How a worker ended, what that means, and what can be done. `for_memory`: the kernel has meanwhile killed a process
/// of this control group for memory.
pub(super) fn explained(status: ExitStatus, for_memory: bool) -> String {
    const LESS_MEMORY: &str = "fewer workers (`--workers`), fewer threads or a smaller `train.micro_batch` need less memory";
    let Some(number) = status.signal() else {
        return match status.code() {
            Some(75) => "it could not go on (exit code 75)".to_owned(),
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        };
    };
    // As the standard library writes it: `signal: 9 (SIGKILL)`.
    let written = status.to_string();
    let name = written.split(['(', ')']).nth(1);
    let name = name.map_or_else(|| format!("signal {number}"), str::to_owned);
    if number == Signal::KILL.as_raw() {
        return match for_memory {
            true => format!("the kernel killed it because memory ran out ({name}); {LESS_MEMORY}"),
            false => format!(
                "it was killed ({name}), as the kernel does when memory runs out (`dmesg` or `journalctl -k` tells) or as somebody has; {LESS_MEMORY}"
            ),
        };
    }
    let crash = [
        Signal::SEGV,
        Signal::BUS,
        Signal::ILL,
        Signal::FPE,
        Signal::ABORT,
        Signal::SYS,
    ];
    if crash.iter().any(|signal| signal.as_raw() == number) {
        return format!(
            "it crashed ({name}): a fault in a driver, in this machine's memory or in unisono; `--device cpu` leaves drivers out"
        );
    }
    if number == Signal::XCPU.as_raw() || number == Signal::XFSZ.as_raw() {
        return format!("a limit of this session ended it ({name}; `ulimit -a` shows them)");
    }
    format!("somebody ended it ({name})")
}

/// What a worker said last, to explain its end.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    lines: VecDeque<String>,
}

impl LastWords {
    const KEPT_LINES: usize = 16;
    const MAX_LINE_CHARACTERS: usize = 500;

    pub(super) fn hear(&mut self, line: &str) {
        if self.lines.len() == Self::KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines
            .push_back(escape_within(line, Self::MAX_LINE_CHARACTERS));
    }

    /// The error or the panic among them. What else it said is no reason to end.
    pub(super) fn reason(&self) -> Option<String> {
        let error = self.lines.iter().rev();
        if let Some(error) = error.filter_map(|line| line.strip_prefix("error: ")).next() {
            return Some(error.to_owned());
        }
        let panic = self
            .lines
            .iter()
            .rposition(|line| line.contains(" panicked at "))?;
        // The place, and what it said there.
        let told: Vec<&str> = self
            .lines
            .range(panic..)
            .take(2)
            .map(String::as_str)
            .collect();
        Some(told.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_death_in_a_row_without_work_is_the_last() {
        let start = Instant::now();
        let mut deaths = Deaths::default();
        let mut pauses = Vec::new();
        for second in 0..5 {
            match deaths.another(false, start + Duration::from_secs(second)) {
                Sequel::Again { count, pause } => {
                    assert_eq!(u64::from(count), second + 1);
                    pauses.push(pause.as_millis());
                }
                Sequel::End => panic!("too early"),
            }
        }
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000]);
        assert_eq!(
            deaths.another(false, start + Duration::from_secs(6)),
            Sequel::End
        );
    }

    #[test]
    fn work_in_between_and_time_are_forgiven() {
        let start = Instant::now();
        let mut deaths = Deaths::default();
        for death in 0..100 {
            let worked = death % 3 == 0;
            let sequel = deaths.another(worked, start + Duration::from_secs(death));
            assert!(
                matches!(sequel, Sequel::Again { count: 1..=3, .. }),
                "{death}"
            );
        }
        let mut deaths = Deaths::default();
        for death in 0..100 {
            let sequel = deaths.another(false, start + Duration::from_secs(death * 900));
            assert!(matches!(sequel, Sequel::Again { .. }), "{death}");
        }
    }

    #[test]
    fn deaths_are_explained() {
        let told = |raw: i32| explained(ExitStatus::from_raw(raw), false);
        let killed = told(9);
        assert!(
            killed.contains("SIGKILL") && killed.contains("memory runs out"),
            "{killed}"
        );
        assert!(killed.contains("--workers"), "{killed}");
        let killed = explained(ExitStatus::from_raw(9), true);
        assert!(killed.contains("because memory ran out"), "{killed}");
        assert!(told(11).contains("crashed (SIGSEGV)"), "{}", told(11));
        // With a core dump.
        assert!(
            told(128 + 7).contains("crashed (SIGBUS)"),
            "{}",
            told(128 + 7)
        );
        assert!(
            told(15).contains("somebody ended it (SIGTERM)"),
            "{}",
            told(15)
        );
        assert_eq!(told(101 << 8), "exit code 101");
    }

    #[test]
    fn the_last_words_are_the_reason_and_not_the_first_ones() {
        let mut words = LastWords::default();
        words.hear("computes on the CPU (avx512f): there is no GPU (1 thread)");
        assert_eq!(words.reason(), None);
        words.hear("thread 'compute' panicked at worker/src/x.rs:3:1:");
        words.hear("index out of bounds");
        words.hear("note: run with `RUST_BACKTRACE=1`");
        let panic = "thread 'compute' panicked at worker/src/x.rs:3:1: index out of bounds";
        assert_eq!(words.reason().unwrap(), panic);
        words.hear("error: the disk is gone");
        assert_eq!(words.reason().unwrap(), "the disk is gone");
        for line in 0..100 {
            words.hear(&line.to_string());
        }
        assert_eq!(words.reason(), None);
    }
}
