//! A command's connection to a coordinator, and what its refusals mean to the user.

use std::error::Error as _;

use coordinator::records::events::Line;
use proto::{
    endpoint::{BadAddress, Connection, Credentials},
    pieces::{self, Joined},
    v1::{
        Cause, JobStatus, ListRequest, LogLine, ReportRequest, State, StatusRequest, SubmitRequest,
        SubmitResponse, jobs_client::JobsClient,
    },
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Response, Status, Streaming};

use crate::{args::At, exit::CommandError};

/// The verbs' side of a coordinator.
pub(crate) type CoordinatorClient = JobsClient<Connection>;

/// Connects to the coordinator that was named on the command line.
pub(crate) async fn connect(at: &At) -> Result<CoordinatorClient, CommandError> {
    connect_with(&at.coordinator, &at.credentials(false)).await
}

/// Connects to a coordinator of this process's own, over loopback.
pub(crate) async fn connect_local(url: &str) -> Result<CoordinatorClient, CommandError> {
    connect_with(url, &Credentials::default()).await
}

/// Connects to the coordinator at `url`.
pub(crate) async fn connect_with(
    url: &str,
    credentials: &Credentials,
) -> Result<CoordinatorClient, CommandError> {
    let endpoint =
        proto::endpoint::coordinator(url, credentials).map_err(|error| match error {
            BadAddress::Malformed(reason) => CommandError::Usage(format!(
                "`{url}` is not the address of a coordinator ({reason}); it looks like https://host:7700"
            )),
            other => CommandError::Data(format!("cannot connect to `{url}`: {other}")),
        })?;
    let channel = endpoint.connect().await.map_err(|error| {
        if let Some(told) = proto::tls::explained(&error) {
            return CommandError::Data(format!("cannot connect to {url}: {told}"));
        }
        CommandError::Infrastructure(format!(
            "cannot reach the coordinator at {url}: {}; start one with `unisono coordinator`, or \
             name another with `--coordinator`",
            innermost(&error)
        ))
    })?;
    Ok(JobsClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES))
}

/// What a coordinator's refusal means: the request was wrong, or the way to the coordinator is.
pub(crate) fn refused(status: &Status) -> CommandError {
    if let Some(told) = status.source().and_then(proto::tls::explained) {
        return CommandError::Data(told);
    }
    match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented => CommandError::Data(status.message().to_owned()),
        _ if is_away(status) => {
            CommandError::Infrastructure(format!("lost the coordinator: {}", innermost(status)))
        }
        code => CommandError::Infrastructure(format!(
            "the coordinator failed: {} ({code:?})",
            status.message()
        )),
    }
}

/// Whether nobody answered, or the answer was cut off: what a coordinator says itself has no cause on
/// this side of the wire.
pub(crate) fn is_away(status: &Status) -> bool {
    let cause = status.source();
    let refused = cause.is_some_and(|cause| proto::tls::explained(cause).is_some());
    !refused && (status.code() == Code::Unavailable || cause.is_some())
}

/// "Connection refused" says more than the "transport error" that wraps it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// How the job `id` stands, or the one that a person most likely means: the running one, or else
/// the newest.
pub(crate) async fn status(
    jobs: &mut CoordinatorClient,
    id: Option<String>,
) -> Result<JobStatus, CommandError> {
    let id = id.unwrap_or_default();
    let status = jobs.status(StatusRequest { id }).await;
    Ok(status.map_err(|status| refused(&status))?.into_inner())
}

/// All jobs, in the order of their submission.
pub(crate) async fn list(jobs: &mut CoordinatorClient) -> Result<Vec<JobStatus>, CommandError> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = jobs.list(ListRequest { after }).await;
        let page = page.map_err(|status| refused(&status))?.into_inner();
        let end = page.next.is_empty() || page.jobs.is_empty();
        all.extend(page.jobs);
        if end {
            return Ok(all);
        }
        after = page.next;
    }
}

/// `report.json` of a job, as it was written; empty of one that has not ended, or has none.
pub(crate) async fn report(jobs: &mut CoordinatorClient, id: &str) -> Result<String, CommandError> {
    let told = |status: Status| refused(&status);
    let request = ReportRequest { id: id.to_owned() };
    let mut report = jobs.report(request).await.map_err(told)?.into_inner();
    let malformed = |error| CommandError::Infrastructure(format!("the report of {id}: {error}"));
    let mut joined = Joined::default();
    while let Some(piece) = report.message().await.map_err(told)? {
        joined.push(&piece.data).map_err(malformed)?;
    }
    joined.take().map_err(malformed)
}

/// Submits a job, however long its text is.
pub(crate) async fn submit(
    jobs: &mut CoordinatorClient,
    request: SubmitRequest,
) -> Result<Response<SubmitResponse>, Status> {
    let mut parts = pieces::submission(&request);
    match parts.pop() {
        Some(only) if parts.is_empty() => jobs.submit(only).await,
        last => {
            parts.extend(last);
            jobs.submit_in_pieces(tokio_stream::iter(parts)).await
        }
    }
}

/// The lines of a log, those whole that come in several messages.
pub(crate) fn lines(messages: Streaming<LogLine>) -> impl Stream<Item = Result<Line, Status>> {
    let mut joined = Joined::default();
    messages.filter_map(move |message| {
        let LogLine { json, more, offset } = match message {
            Ok(line) => line,
            Err(status) => return Some(Err(status)),
        };
        if joined.is_empty() && !more {
            return Some(Ok(Line { offset, text: json }));
        }
        let whole = match joined.push(json.as_bytes()) {
            Ok(()) if more => return None,
            Ok(()) => joined.take(),
            Err(error) => Err(error),
        };
        let whole = whole.map(|text| Line { offset, text });
        Some(whole.map_err(|error| Status::data_loss(format!("a line of the log: {error}"))))
    })
}

/// A state as it is called on the command line.
pub(crate) const fn state_name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Queued => "queued",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

/// Why a job failed, as reports have it.
pub(crate) const fn cause_name(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Unspecified => None,
        Cause::Training => Some("training"),
        Cause::Data => Some("data"),
        Cause::Infrastructure => Some("infrastructure"),
    }
}

/// Whether a job stays as it is until somebody asks for more.
pub(crate) const fn has_ended(state: State) -> bool {
    matches!(state, State::Succeeded | State::Failed | State::Cancelled)
}
