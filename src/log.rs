//! The log of the program and of its libraries, on standard error. It decides which of it is shown, and that what
//! is said again and again is counted instead.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

use crate::{exit::CommandError, output, stderr::Stderr};

/// Sets what is shown, by module.
pub(crate) const VARIABLE: &str = "UNISONO_LOG";
/// Our own crates.
const OWN_CRATES: [&str; 5] = ["unisono", "coordinator", "worker", "speech", "proto"];

/// Sends the log to standard error, from `level` on; `UNISONO_LOG` (as `tracing` filters are written) says
/// otherwise. Libraries below speak only of trouble.
///
/// # Errors
/// When `UNISONO_LOG` is no such filter.
pub(crate) fn start(level: &str) -> Result<(), CommandError> {
    let directives: Vec<String> = OWN_CRATES
        .iter()
        .map(|name| format!("{name}={level}"))
        .collect();
    let default = format!("error,{}", directives.join(","));
    let filter = match std::env::var(VARIABLE) {
        Ok(wanted) if !wanted.is_empty() => EnvFilter::try_new(&wanted).map_err(|error| {
            CommandError::Usage(format!(
                "{VARIABLE}={wanted:?} is no filter for the log ({error}); it looks like `info` or `worker=debug,coordinator=warn`"
            ))
        })?,
        _ => EnvFilter::new(default),
    };
    let throttle = Arc::clone(THROTTLE.get_or_init(Arc::default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .with_ansi(output::wants_color())
        .with_target(false)
        .map_event_format(|inner| Throttled { inner, throttle })
        .init();
    Ok(())
}

/// What in a filter is taken by `tracing`, and means nothing here: a word that is neither a level nor the name of a
/// module counts as a module that never says anything.
pub(crate) fn meaningless(filter: &str) -> Vec<&str> {
    let words = filter.split(',').map(str::trim);
    words
        .filter(|word| {
            let name = word.split(['=', '[', ':']).next().unwrap_or_default();
            let is_level = name.parse::<tracing::level_filters::LevelFilter>().is_ok();
            !word.is_empty()
                && !is_level
                && !OWN_CRATES.contains(&name)
                && !OTHER_CRATES.contains(&name)
        })
        .collect()
}

/// Libraries below that say something.
const OTHER_CRATES: [&str; 14] = [
    "burn",
    "burn_cubecl",
    "burn_wgpu",
    "cubecl",
    "cubecl_runtime",
    "cubecl_wgpu",
    "h2",
    "hyper",
    "naga",
    "symphonia",
    "tonic",
    "tower",
    "wgpu",
    "wgpu_hal",
];

/// Says how much was left out at the end.
pub(crate) fn finish() {
    let Some(throttle) = THROTTLE.get() else {
        return;
    };
    for (said, count) in throttle.rest() {
        output::message(&format!(
            "({count} more warnings like this one were not shown: {said})"
        ));
    }
}

static THROTTLE: OnceLock<Arc<Throttle>> = OnceLock::new();

/// Warnings of one kind, which are those of one place in the program, that are shown in a while.
const MAX_BURST: u64 = 5;
const BURST_WINDOW: Duration = Duration::from_secs(60);

/// Counts warnings by the place in the program that they come from.
#[derive(Debug, Default)]
struct Throttle(Mutex<BTreeMap<CallSite, Count>>);

type CallSite = (&'static str, u32);

#[derive(Debug)]
struct Count {
    since: Instant,
    shown: u64,
    left_out: u64,
    /// The first one that was left out.
    said: String,
}

/// Whether a warning is shown.
#[derive(Debug, PartialEq, Eq)]
enum WarningAction {
    /// After so many that were left out.
    Shown(u64),
    LeftOut,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CallSite, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, place: CallSite, now: Instant, said: impl FnOnce() -> String) -> WarningAction {
        let mut counts = self.lock();
        let count = counts.entry(place).or_insert_with(|| Count {
            since: now,
            shown: 0,
            left_out: 0,
            said: String::new(),
        });
        if now.saturating_duration_since(count.since) >= BURST_WINDOW {
            (count.since, count.shown) = (now, 0);
        }
        if count.shown < MAX_BURST {
            count.shown += 1;
            return WarningAction::Shown(std::mem::take(&mut count.left_out));
        }
        if count.left_out == 0 {
            count.said = said();
        }
        count.left_out += 1;
        WarningAction::LeftOut
    }

    /// What was left out and not counted in the log yet.
    fn rest(&self) -> Vec<(String, u64)> {
        let mut counts = self.lock();
        let rest = counts.values_mut().filter(|count| count.left_out > 0);
        rest.map(|count| {
            (
                std::mem::take(&mut count.said),
                std::mem::take(&mut count.left_out),
            )
        })
        .collect()
    }
}

/// Events as usual, fewer of them.
struct Throttled {
    inner: Format<Full>,
    throttle: Arc<Throttle>,
}

impl<S, N> FormatEvent<S, N> for Throttled
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let Some(place) = place(metadata).filter(|_| *metadata.level() <= Level::WARN) else {
            return self.inner.format_event(context, writer, event);
        };
        let said = || {
            let mut said = String::new();
            // Only for a message to people.
            let _ = context.format_fields(Writer::new(&mut said), event);
            said
        };
        match self.throttle.judge(place, Instant::now(), said) {
            WarningAction::LeftOut => Ok(()),
            WarningAction::Shown(0) => self.inner.format_event(context, writer, event),
            WarningAction::Shown(left_out) => {
                self.inner.format_event(context, writer.by_ref(), event)?;
                writeln!(
                    writer,
                    "({left_out} more like this one were not shown before it)"
                )
            }
        }
    }
}

fn place(metadata: &'static Metadata<'static>) -> Option<CallSite> {
    Some((metadata.file()?, metadata.line()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: CallSite = ("here.rs", 1);

    #[test]
    fn warnings_of_one_place_are_shown_a_few_times_a_minute_and_counted_otherwise() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let mut shown = Vec::new();
        for tenth in 0..1200 {
            let now = start + Duration::from_millis(100 * tenth);
            let verdict = throttle.judge(HERE, now, || format!("number {tenth}"));
            if let WarningAction::Shown(before) = verdict {
                shown.push((tenth, before));
            }
        }
        let first = (0..5).map(|tenth| (tenth, 0));
        let second = [(600, 595), (601, 0), (602, 0), (603, 0), (604, 0)];
        assert_eq!(shown, first.chain(second).collect::<Vec<_>>());
        assert_eq!(throttle.rest(), [("number 605".to_owned(), 595)]);
        assert_eq!(throttle.rest(), []);
    }

    #[test]
    fn another_place_has_a_count_of_its_own() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..100 {
            throttle.judge(HERE, now, String::new);
        }
        let there = throttle.judge(("there.rs", 1), now, String::new);
        assert_eq!(there, WarningAction::Shown(0));
    }

    #[test]
    fn words_of_a_filter_that_mean_nothing_are_found() {
        for sensible in [
            "",
            "info",
            "WARN,worker=debug",
            "coordinator::driver=trace",
            "off,h2=info",
            "3",
        ] {
            assert!(meaningless(sensible).is_empty(), "{sensible}");
        }
        assert_eq!(meaningless("dbug"), ["dbug"]);
        assert_eq!(meaningless("info, wroker=debug"), ["wroker=debug"]);
    }
}
