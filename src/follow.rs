//! Following a job over the wire: its events and its steps as they come, through restarts of the
//! coordinator, until it ends. It refuses to know how they are shown.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    time::Duration,
};

use coordinator::events::{Record, StepMetrics};
use proto::v1::{JobStatus, LogLine, LogsRequest, StatusRequest};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use crate::{
    client::{self, Jobs, has_ended, is_away, refused},
    exit::Failure,
    output,
};

/// How long a coordinator may be away (restarted, perhaps) before following a job is given up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What is new.
pub enum News {
    Event(Record),
    Step(StepMetrics),
    /// An event as it was written.
    Line(String),
}

/// What of a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its events and its steps.
    Everything,
    /// The lines of its events.
    Lines,
}

/// Shows the news of job `id` until it ends; then how it stands.
///
/// # Errors
/// When the coordinator refuses, or stays away for longer than `patience`.
pub async fn follow(
    jobs: &mut Jobs,
    id: &str,
    what: What,
    patience: Duration,
    mut show: impl FnMut(News),
) -> Result<JobStatus, Failure> {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut seen = Seen::default();
    let mut away: Option<Instant> = None;
    loop {
        let lost = match once(jobs, id, what, &mut seen, &mut show).await {
            Ok(status) if has_ended(status.state()) => return Ok(status),
            // The coordinator is shutting down, and the job with it: it goes on after a restart.
            Ok(_) => Status::unavailable("the coordinator is shutting down"),
            Err(status) if is_away(&status) => status,
            Err(status) => return Err(refused(&status)),
        };
        if seen.take_progress() {
            away = None;
        }
        let since = match away {
            Some(since) => since,
            None if patience.is_zero() => return Err(refused(&lost)),
            None => {
                output::message("the coordinator is away; waiting for it");
                *away.insert(Instant::now())
            }
        };
        if since.elapsed() >= patience {
            return Err(refused(&lost));
        }
        sleep(PAUSE).await;
    }
}

/// Streams start from the first line each time they are opened; what was shown is not shown again.
/// A coordinator that died without a checkpoint writes the lines behind its last one anew: from the
/// first line that is another one than before, everything is new. No clock has a say in it.
#[derive(Debug, Default)]
struct Seen {
    /// Of each event, in the order of the file.
    events: Vec<u64>,
    step: u64,
    progress: bool,
}

impl Seen {
    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Whether the event at `place` of the file is news.
    fn event(&mut self, place: usize, line: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let hash = hasher.finish();
        if self.events.get(place) == Some(&hash) {
            return false;
        }
        self.events.truncate(place);
        self.events.push(hash);
        self.progress = true;
        true
    }

    fn step(&mut self, step: u64) -> bool {
        let is_new = step > self.step;
        self.step = self.step.max(step);
        self.progress |= is_new;
        is_new
    }
}

type Lines = Pin<Box<dyn Stream<Item = Result<News, Status>> + Send>>;

async fn once(
    jobs: &mut Jobs,
    id: &str,
    what: What,
    seen: &mut Seen,
    show: &mut impl FnMut(News),
) -> Result<JobStatus, Status> {
    let request = || LogsRequest {
        id: id.to_owned(),
        follow: true,
    };
    let events = client::lines(jobs.logs(request()).await?.into_inner());
    let events = events.map(|line| line.map(News::Line));
    let mut news: Lines = match what {
        What::Lines => Box::pin(events),
        What::Everything => {
            let steps = jobs.metrics(request()).await?.into_inner();
            let steps = parsed(steps).map(|metrics| metrics.map(News::Step));
            Box::pin(events.merge(steps))
        }
    };
    let mut place = 0;
    while let Some(item) = news.next().await {
        match item? {
            News::Line(line) => {
                let is_new = seen.event(place, &line);
                place += 1;
                match what {
                    _ if !is_new => {}
                    What::Lines => show(News::Line(line)),
                    // A newer coordinator may say more than this program's version knows.
                    What::Everything => {
                        if let Ok(record) = serde_json::from_str(&line) {
                            show(News::Event(record));
                        }
                    }
                }
            }
            News::Step(metrics) if seen.step(metrics.step) => show(News::Step(metrics)),
            News::Step(_) | News::Event(_) => {}
        }
    }
    let request = StatusRequest { id: id.to_owned() };
    Ok(jobs.status(request).await?.into_inner())
}

/// Lines that this program's version does not know are passed over: a newer coordinator may say
/// more.
fn parsed<T: DeserializeOwned>(
    messages: Streaming<LogLine>,
) -> impl Stream<Item = Result<T, Status>> {
    client::lines(messages).filter_map(|line| match line {
        Ok(line) => serde_json::from_str(&line).ok().map(Ok),
        Err(status) => Some(Err(status)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(seen: &mut Seen, lines: &[&str]) -> Vec<String> {
        let new = lines.iter().enumerate();
        let new = new.filter(|(place, line)| seen.event(*place, line));
        new.map(|(_, line)| (*line).to_owned()).collect()
    }

    #[test]
    fn a_stream_that_is_opened_again_shows_what_is_new_whatever_the_clock_says() {
        let mut seen = Seen::default();
        assert_eq!(
            show(&mut seen, &["12:00 a", "11:00 b"]),
            ["12:00 a", "11:00 b"]
        );
        assert_eq!(
            show(&mut seen, &["12:00 a", "11:00 b", "10:00 c"]),
            ["10:00 c"]
        );
        assert!(seen.take_progress() && !seen.take_progress());
        assert!(show(&mut seen, &["12:00 a", "11:00 b", "10:00 c"]).is_empty());
        assert!(!seen.take_progress());
    }

    #[test]
    fn what_a_coordinator_wrote_anew_behind_its_checkpoint_is_shown() {
        let mut seen = Seen::default();
        show(&mut seen, &["a", "b", "c", "d"]);
        // Cut off behind `b`, and longer or shorter than before.
        assert_eq!(show(&mut seen, &["a", "b", "x"]), ["x"]);
        assert_eq!(show(&mut seen, &["a", "b", "x", "d", "e"]), ["d", "e"]);
    }

    #[test]
    fn steps_are_shown_once() {
        let mut seen = Seen::default();
        let shown: Vec<u64> = [1, 2, 3, 2, 3, 4]
            .into_iter()
            .filter(|&step| seen.step(step))
            .collect();
        assert_eq!(shown, [1, 2, 3, 4]);
    }
}
