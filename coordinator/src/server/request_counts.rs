//! Counts calls by method and by the code that the answer begins with. Of a call that is answered by a stream, a
//! failure in the middle is not counted.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
};

use crate::telemetry::Telemetry;

/// A service, and where its calls are counted.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    telemetry: Telemetry,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, telemetry: Telemetry) -> Self {
        Self { inner, telemetry }
    }
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Unpin,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = method(request.uri().path());
        Answer {
            inner: self.inner.call(request),
            method,
            telemetry: self.telemetry.clone(),
        }
    }
}

/// An answer that is awaited.
pub(super) struct Answer<F> {
    inner: F,
    method: &'static str,
    telemetry: Telemetry,
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<http::Response<Body>, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(Pin::new(&mut self.inner).poll(context));
        if let Ok(answer) = &answer {
            let status = Status::from_header_map(answer.headers());
            let code = status.map_or(Code::Ok, |status| status.code());
            self.telemetry.record_request(self.method, name(code));
        }
        Poll::Ready(answer)
    }
}

/// The service and method that `path` names, among those that there are: a peer may send any path.
fn method(path: &str) -> &'static str {
    const METHODS: [&str; 25] = [
        "Workers/Join",
        "Workers/DescribeJob",
        "Workers/Recipe",
        "Workers/Lease",
        "Workers/LeaseInParts",
        "Workers/Heartbeat",
        "Workers/Report",
        "Workers/ReportInParts",
        "Workers/GiveBack",
        "Workers/Leave",
        "Tensors/Push",
        "Tensors/Pull",
        "Tensors/OpenLane",
        "Tensors/FetchAudio",
        "Jobs/Submit",
        "Jobs/SubmitInPieces",
        "Jobs/List",
        "Jobs/Status",
        "Jobs/Report",
        "Jobs/Logs",
        "Jobs/Metrics",
        "Jobs/Cancel",
        "Jobs/Resume",
        "Jobs/Prune",
        "Jobs/ListWorkers",
    ];
    let name = path.strip_prefix("/unisono.v1.").unwrap_or_default();
    let known = METHODS.into_iter().find(|method| *method == name);
    known.unwrap_or("other")
}

/// As gRPC's documents write it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_method_of_the_wire_is_counted_by_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/unisono/v1");
        let mut methods = 0;
        for service in ["Workers", "Tensors", "Jobs"] {
            let file = folder.join(format!("{}.proto", service.to_lowercase()));
            for line in fs::read_to_string(file).unwrap().lines() {
                let Some(rpc) = line.trim().strip_prefix("rpc ") else {
                    continue;
                };
                let (rpc, _) = rpc.split_once('(').unwrap();
                methods += 1;
                let name = format!("{service}/{rpc}");
                assert_eq!(method(&format!("/unisono.v1.{name}")), name);
            }
        }
        assert!(methods > 20, "{methods} methods");
        for path in [
            "/",
            "",
            "/unisono.v1.Jobs/None",
            "/grpc.health.v1.Health/Check",
            "Jobs/List",
        ] {
            assert_eq!(method(path), "other");
        }
    }
}
