//! Following a job over the wire: its events and its steps as they come, through restarts of the
//! coordinator, until it ends. It refuses to know how they are shown.

use std::{pin::pin, time::Duration};

use coordinator::events::{Record, StepMetrics};
use jiff::Timestamp;
use proto::v1::{JobStatus, LogLine, LogsRequest, StatusRequest};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use crate::{
    client::{self, Jobs, has_ended, is_away, refused},
    exit::Failure,
    output,
};

/// What is new.
pub enum News {
    Event(Record),
    Step(StepMetrics),
}

/// Shows the news of job `id` until it ends; then how it stands.
///
/// # Errors
/// When the coordinator refuses, or stays away for longer than `patience`.
pub async fn follow(
    jobs: &mut Jobs,
    id: &str,
    patience: Duration,
    mut show: impl FnMut(News),
) -> Result<JobStatus, Failure> {
    let mut seen = Seen::default();
    let mut away = Duration::ZERO;
    loop {
        let lost = match once(jobs, id, &mut seen, &mut show).await {
            Ok(status) if has_ended(status.state()) => return Ok(status),
            // The coordinator is shutting down, and the job with it: it goes on after a restart.
            Ok(_) => Status::unavailable("the coordinator is shutting down"),
            Err(status) if is_away(&status) => status,
            Err(status) => return Err(refused(&status)),
        };
        if away >= patience {
            return Err(refused(&lost));
        }
        if away.is_zero() {
            output::message("the coordinator is away; waiting for it");
        }
        sleep(PAUSE).await;
        away += PAUSE;
        if seen.take_progress() {
            away = Duration::ZERO;
        }
    }
}

const PAUSE: Duration = Duration::from_millis(500);

/// Streams start from the first line each time they are opened; what was shown is not shown again.
/// A coordinator that died without a checkpoint writes the lines behind its last one anew: those are
/// younger than all that was shown.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    time: Timestamp,
    step: u64,
    progress: bool,
}

impl Seen {
    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }
}

async fn once(
    jobs: &mut Jobs,
    id: &str,
    seen: &mut Seen,
    show: &mut impl FnMut(News),
) -> Result<JobStatus, Status> {
    let request = || LogsRequest {
        id: id.to_owned(),
        follow: true,
    };
    let events = jobs.logs(request()).await?.into_inner();
    let steps = jobs.metrics(request()).await?.into_inner();
    let events = parsed(events).map(|record| record.map(News::Event));
    let steps = parsed(steps).map(|metrics| metrics.map(News::Step));
    let mut news = pin!(events.merge(steps));
    let mut events = 0;
    while let Some(item) = news.next().await {
        let item = item?;
        let is_new = match &item {
            News::Event(record) => {
                events += 1;
                (record.time, events) > (seen.time, seen.events)
            }
            News::Step(metrics) => metrics.step > seen.step,
        };
        if !is_new {
            continue;
        }
        match &item {
            News::Event(record) => (seen.time, seen.events) = (record.time, events),
            News::Step(metrics) => seen.step = metrics.step,
        }
        seen.progress = true;
        show(item);
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
