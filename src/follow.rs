//! Follows a job over the network: its events and steps as they happen, through restarts of the coordinator, until
//! it ends.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    time::Duration,
};

use coordinator::records::events::{Line, Record, StepMetrics};
use proto::v1::{JobStatus, LogsRequest, StatusRequest, logs_request::Begin};
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::{
    client::{self, CoordinatorClient, has_ended, is_away, refused},
    exit::CommandError,
    output,
};

/// How long a coordinator may be away (restarted, perhaps) before following a job is given up.
pub(crate) const MAX_COORDINATOR_ABSENCE: Duration = Duration::from_secs(300);

/// What is new.
pub(crate) enum Update {
    Event(Record),
    Step(StepMetrics),
    /// An event as it was written.
    Line(String),
}

/// What of a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Its events and its steps.
    Everything,
    /// The lines of its events.
    Lines,
}

/// From where on a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// From its first line.
    FirstLine,
    /// From where its run was last taken up: what an earlier start of the run wrote, and what a resumed run has
    /// behind it, is not read.
    CurrentStart,
}

/// What is to be followed, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowRequest {
    pub what: What,
    pub since: Since,
    /// How long the coordinator may be away.
    pub patience: Duration,
}

/// Shows the news of job `id` until it ends; then how it stands.
///
/// # Errors
/// When the coordinator refuses, or stays away for too long.
pub(crate) async fn follow(
    jobs: &mut CoordinatorClient,
    id: &str,
    wanted: FollowRequest,
    mut show: impl FnMut(Update),
) -> Result<JobStatus, CommandError> {
    const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
    let mut seen = ShownLines::new(wanted.since);
    let mut away: Option<Instant> = None;
    loop {
        let lost = match once(jobs, id, wanted.what, &mut seen, &mut show).await {
            Ok(Over::Ended(status)) if has_ended(status.state()) => return Ok(*status),
            // The coordinator is shutting down, and the job with it: it goes on after a restart.
            Ok(Over::Ended(_)) => Status::unavailable("the coordinator is shutting down"),
            Ok(Over::Rewritten) => continue,
            Err(status) if is_away(&status) => status,
            Err(status) => return Err(refused(&status)),
        };
        if seen.take_progress() {
            away = None;
        }
        let since = match away {
            Some(since) => since,
            None if wanted.patience.is_zero() => return Err(refused(&lost)),
            None => {
                output::message("the coordinator is away; waiting for it");
                *away.insert(Instant::now())
            }
        };
        if since.elapsed() >= wanted.patience {
            return Err(refused(&lost));
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// What was shown, so that a stream that is opened again goes on behind it. A coordinator that died without a
/// checkpoint writes the lines behind its last one anew: from the first line that is another one than before,
/// everything is new. No clock has a say in it.
#[derive(Debug)]
struct ShownLines {
    events: Vec<LineMark>,
    last_step: Option<LineMark>,
    step: u64,
    since: Since,
    /// The line that was seen last in a stream is another one now: where the lines began to differ is not known.
    rewritten: bool,
    progress: bool,
}

/// A line that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LineMark {
    /// The byte of the file at which it begins.
    offset: u64,
    hash: u64,
}

impl LineMark {
    fn of(line: &Line) -> Self {
        let mut hasher = DefaultHasher::new();
        line.text.hash(&mut hasher);
        Self {
            offset: line.offset,
            hash: hasher.finish(),
        }
    }
}

impl ShownLines {
    const fn new(since: Since) -> Self {
        Self {
            events: Vec::new(),
            last_step: None,
            step: 0,
            since,
            rewritten: false,
            progress: false,
        }
    }

    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Whether an event is news.
    fn event(&mut self, line: &Line) -> bool {
        let mark = LineMark::of(line);
        let before = self
            .events
            .partition_point(|seen| seen.offset < mark.offset);
        if self.events.get(before) == Some(&mark) {
            return false;
        }
        self.events.truncate(before);
        self.events.push(mark);
        self.progress = true;
        true
    }

    /// Whether the step that `line` tells of is news.
    fn step(&mut self, line: &Line, step: u64) -> bool {
        self.last_step = Some(LineMark::of(line));
        let is_new = step > self.step;
        self.step = self.step.max(step);
        self.progress |= is_new;
        is_new
    }

    /// The first line that a stream is to bring of which the line `last` was seen last.
    fn begin(&self, last: Option<LineMark>) -> Option<Begin> {
        match (last, self.since) {
            _ if self.rewritten => Some(Begin::CurrentStart(true)),
            (Some(last), _) => Some(Begin::Offset(last.offset)),
            (None, Since::FirstLine) => None,
            (None, Since::CurrentStart) => Some(Begin::CurrentStart(true)),
        }
    }
}

/// How a stream of news came to its end.
enum Over {
    Ended(Box<JobStatus>),
    /// The line that was seen last is another one now.
    Rewritten,
}

/// A line of one of a job's two files.
enum Told {
    Event(Line),
    Step(Line),
}

type UpdateStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<Told, Status>> + Send>>;

async fn once(
    jobs: &mut CoordinatorClient,
    id: &str,
    what: What,
    seen: &mut ShownLines,
    show: &mut impl FnMut(Update),
) -> Result<Over, Status> {
    let request = |begin| LogsRequest {
        id: id.to_owned(),
        follow: true,
        begin,
    };
    let mut last_event = seen.events.last().copied();
    let mut last_step = seen.last_step;
    let events = jobs.logs(request(seen.begin(last_event))).await?;
    let events = client::lines(events.into_inner()).map(|line| line.map(Told::Event));
    let mut news: UpdateStream = match what {
        What::Lines => Box::pin(events),
        What::Everything => {
            let steps = jobs.metrics(request(seen.begin(last_step))).await?;
            let steps = client::lines(steps.into_inner()).map(|line| line.map(Told::Step));
            Box::pin(events.merge(steps))
        }
    };
    if std::mem::take(&mut seen.rewritten) {
        (last_event, last_step) = (None, None);
    }
    while let Some(told) = news.next().await {
        let told = told?;
        let (line, last) = match &told {
            Told::Event(line) => (line, &mut last_event),
            Told::Step(line) => (line, &mut last_step),
        };
        if let Some(last) = last.take()
            && last.offset == line.offset
            && last != LineMark::of(line)
        {
            seen.rewritten = true;
            return Ok(Over::Rewritten);
        }
        // A newer coordinator may write lines that this program's version does not know: they are passed over,
        // unless they are shown as they are.
        match told {
            Told::Event(line) if !seen.event(&line) => {}
            Told::Event(line) => match what {
                What::Lines => show(Update::Line(line.text)),
                What::Everything => {
                    if let Ok(record) = serde_json::from_str(&line.text) {
                        show(Update::Event(record));
                    }
                }
            },
            Told::Step(line) => {
                if let Ok(metrics) = serde_json::from_str::<StepMetrics>(&line.text)
                    && seen.step(&line, metrics.step)
                {
                    show(Update::Step(metrics));
                }
            }
        }
    }
    let request = StatusRequest { id: id.to_owned() };
    let status = jobs.status(request).await?.into_inner();
    Ok(Over::Ended(Box::new(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines one behind the other, from `offset` on.
    fn lines(offset: u64, texts: &[&str]) -> Vec<Line> {
        let mut offset = offset;
        let lines = texts.iter().map(|text| {
            let line = Line {
                offset,
                text: (*text).to_owned(),
            };
            offset += text.len() as u64 + 1;
            line
        });
        lines.collect()
    }

    fn show(seen: &mut ShownLines, lines: Vec<Line>) -> Vec<String> {
        let new = lines.into_iter().filter(|line| seen.event(line));
        new.map(|line| line.text).collect()
    }

    #[test]
    fn a_stream_that_is_opened_again_shows_what_is_new_whatever_the_clock_says() {
        let mut seen = ShownLines::new(Since::FirstLine);
        assert_eq!(seen.begin(None), None);
        let first = ["12:00 a", "11:00 b"];
        assert_eq!(show(&mut seen, lines(0, &first)), first);
        assert_eq!(
            seen.begin(seen.events.last().copied()),
            Some(Begin::Offset(8)),
            "the last line is read again, to know that it is the same"
        );
        let later = lines(8, &["11:00 b", "10:00 c"]);
        assert_eq!(show(&mut seen, later), ["10:00 c"]);
        assert!(seen.take_progress() && !seen.take_progress());
        let all = lines(0, &["12:00 a", "11:00 b", "10:00 c"]);
        assert!(show(&mut seen, all).is_empty());
        assert!(!seen.take_progress());
    }

    #[test]
    fn what_a_coordinator_wrote_anew_behind_its_checkpoint_is_shown() {
        let mut seen = ShownLines::new(Since::FirstLine);
        show(&mut seen, lines(0, &["a", "b", "c", "d"]));
        // Cut off behind `b`, and longer or shorter than before.
        assert_eq!(show(&mut seen, lines(4, &["x"])), ["x"]);
        let again = lines(0, &["a", "b", "x", "d", "e"]);
        assert_eq!(show(&mut seen, again), ["d", "e"]);
        assert_eq!(show(&mut seen, lines(2, &["longer", "e"])), ["longer", "e"]);
    }

    #[test]
    fn a_file_that_was_written_anew_beyond_the_last_line_is_read_from_where_its_run_was_taken_up() {
        let mut seen = ShownLines::new(Since::FirstLine);
        show(&mut seen, lines(0, &["a", "b", "c"]));
        seen.rewritten = true;
        let last = seen.events.last().copied();
        assert_eq!(seen.begin(last), Some(Begin::CurrentStart(true)));
        // What is as it was is not shown again.
        assert_eq!(show(&mut seen, lines(2, &["b", "x", "c"])), ["x", "c"]);
    }

    #[test]
    fn steps_are_shown_once() {
        let mut seen = ShownLines::new(Since::CurrentStart);
        let line = &lines(0, &["{}"])[0];
        let shown: Vec<u64> = [1, 2, 3, 2, 3, 4]
            .into_iter()
            .filter(|&step| seen.step(line, step))
            .collect();
        assert_eq!(shown, [1, 2, 3, 4]);
    }
}
