//! Signals that ask the program to end, as futures. What they end is decided where they are waited for.

use std::{fmt, time::Duration};

use rustix::process::Signal as Number;
use tokio::{
    signal::unix::{self, SignalKind},
    time::Instant,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    /// The terminal is gone, or the connection to it.
    Hangup,
    Quit,
    /// Slurm and other batch systems announce the end of a job's time with this one, the next, or SIGXCPU, as they
    /// are told to.
    User1,
    User2,
    CpuTime,
}

impl Signal {
    const ALL: [Self; 7] = [
        Self::Interrupt,
        Self::Terminate,
        Self::Hangup,
        Self::Quit,
        Self::User1,
        Self::User2,
        Self::CpuTime,
    ];

    const fn number(self) -> i32 {
        match self {
            Self::Interrupt => Number::INT.as_raw(),
            Self::Terminate => Number::TERM.as_raw(),
            Self::Hangup => Number::HUP.as_raw(),
            Self::Quit => Number::QUIT.as_raw(),
            Self::User1 => Number::USR1.as_raw(),
            Self::User2 => Number::USR2.as_raw(),
            Self::CpuTime => Number::XCPU.as_raw(),
        }
    }

    /// As shells report a process that it ended: 128 and its number.
    pub(crate) const fn exit_code(self) -> u8 {
        // Numbers of signals are below 65.
        128 + self.number() as u8
    }

    /// Whether it is heard although whoever started the program had it ignored. A shell without job control has
    /// its background processes ignore Ctrl-C and SIGQUIT, and they can be sent all the same; `nohup` means that
    /// SIGHUP is to end nothing.
    const fn is_always_heard(self) -> bool {
        matches!(self, Self::Interrupt | Self::Terminate | Self::Quit)
    }

    /// Whether sent again it means "now". A terminal that goes away sends SIGHUP from more than one side, and batch
    /// systems repeat their warnings.
    const fn insists(self) -> bool {
        matches!(self, Self::Interrupt | Self::Terminate | Self::Quit)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
            Self::Quit => "SIGQUIT",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
            Self::CpuTime => "SIGXCPU",
        })
    }
}

/// From its creation on, these signals no longer end the process. Those that were ignored before stay ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
    /// When [`Signals::next`] heard the last one.
    last: Option<Instant>,
}

impl Signals {
    /// Needs a tokio runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let heard = Signal::ALL.into_iter().filter(|signal| {
            let bit = 1 << (signal.number() - 1);
            signal.is_always_heard() || ignored & bit == 0
        });
        let stream = |signal: Signal| {
            let kind = SignalKind::from_raw(signal.number());
            Ok((signal, unix::signal(kind)?))
        };
        Ok(Self {
            streams: heard.map(stream).collect::<std::io::Result<_>>()?,
            last: None,
        })
    }

    /// The next one; safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Signal {
        let signal = std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if let std::task::Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await;
        self.last = Some(Instant::now());
        signal
    }

    /// Waits until somebody who has been heard insists: the same wish again, and not the same signal that came by
    /// way of a process group as well. Safe to drop while it waits.
    pub(crate) async fn insisted(&mut self) -> Signal {
        const TOGETHER: Duration = Duration::from_millis(300);
        let first = self.last;
        loop {
            let signal = self.next().await;
            let apart = first.is_none_or(|first| first.elapsed() >= TOGETHER);
            if signal.insists() && apart {
                return signal;
            }
        }
    }
}

impl Drop for Signals {
    /// What comes from now on ends the process as if nobody had listened: what is left to do may wait for whoever
    /// reads standard output.
    fn drop(&mut self) {
        for (signal, _) in &self.streams {
            // SAFETY: only a disposition is set; nothing that a handler uses is freed.
            unsafe { libc::signal(signal.number(), libc::SIG_DFL) };
        }
    }
}

/// The signals that a process ignores, by the bits of its `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_that_shells_report() {
        let codes = Signal::ALL.map(Signal::exit_code);
        assert_eq!(codes[..4], [130, 143, 129, 131]);
        for code in codes {
            assert!(code > 128, "{codes:?}");
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_status_of_a_process() {
        let status = "Name:\tunisono\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), 0x1001, "SIGHUP and SIGPIPE");
        assert_eq!(ignored("SigCgt:\t01\n"), 0);
    }
}
