//! Which calls the audit log tells of: those that change something, and those that are refused. It sees the answer
//! of every call and changes none; how it is written is [`crate::records::audit_log`]'s.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use proto::v1::{jobs_server, workers_server};
use tonic::{
    Code, Request, Status,
    body::Body,
    codegen::{Service, http},
};

use super::gate::Guest;
use crate::records::{
    audit_log::{AuditLog, AuditRecord},
    timestamp,
};

/// What becomes known of a call while it is answered.
#[derive(Debug, Default)]
pub(super) struct Audited {
    caller: OnceLock<(Option<String>, String, String)>,
    job: OnceLock<String>,
    refused: OnceLock<String>,
}

impl Audited {
    /// Says who makes the call: a name, where the caller has one, its roles, and what it was known by.
    pub(super) fn name_caller(
        request: &http::Request<Body>,
        name: Option<&str>,
        roles: &str,
        authentication: &str,
    ) {
        if let Some(audited) = request.extensions().get::<Arc<Self>>() {
            let name = name.map(str::to_owned);
            let described = (name, roles.to_owned(), words(authentication));
            // A call has one caller.
            let _ = audited.caller.set(described);
        }
    }

    /// What is told of a call, by whoever answers it.
    pub(super) fn of<T>(request: &Request<T>) -> Arc<Self> {
        let audited = request.extensions().get::<Arc<Self>>();
        audited.cloned().unwrap_or_default()
    }

    /// Says which job the call is about.
    pub(super) fn name_job(&self, id: &str) {
        let _ = self.job.set(id.to_owned());
    }

    /// Says that the answer is a refusal, although it is no error.
    pub(super) fn refuse(&self, reason: &str) {
        let _ = self.refused.set(reason.to_owned());
    }
}

/// The services, before an audit log.
#[derive(Clone)]
pub(super) struct Logged<S> {
    services: S,
    log: Option<Arc<AuditLog>>,
}

impl<S> Logged<S> {
    pub(super) const fn new(services: S, log: Option<Arc<AuditLog>>) -> Self {
        Self { services, log }
    }
}

/// What a method does, as far as the log is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It changes the queue.
    Changes,
    /// It changes who works, which a worker may do as often as it likes.
    ChangesOften,
    /// It reads, or it is part of the work, which the run's events tell of.
    None,
}

/// The method at `path` as the log names it, and what it does.
fn method(path: &str) -> (&str, Effect) {
    let name = path.strip_prefix('/').unwrap_or(path);
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    let short = service.rfind('.').map_or(name, |dot| &name[dot + 1..]);
    let effect = match (service, method) {
        (
            jobs_server::SERVICE_NAME,
            "Submit" | "SubmitInPieces" | "Cancel" | "Resume" | "Prune",
        ) => Effect::Changes,
        (workers_server::SERVICE_NAME, "Join" | "Leave" | "GiveBack") => Effect::ChangesOften,
        _ => Effect::None,
    };
    (short, effect)
}

/// Whether the code says that the caller may not do what it asked for, or not so; others are the course of the work,
/// such as weights that are over.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::InvalidArgument
            | Code::Unavailable
            | Code::Unimplemented
    )
}

/// `permission-denied` for `PermissionDenied` and so on.
fn words(name: &str) -> String {
    let mut told = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !told.is_empty() {
            told.push('-');
        }
        told.push(letter.to_ascii_lowercase());
    }
    told
}

impl<S> Service<http::Request<Body>> for Logged<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let guest = request.extensions().get::<Guest>();
        let from = guest.map(|guest| guest.peer);
        let path = request.uri().path().to_owned();
        let (Some(from), Some(log)) = (from, self.log.clone()) else {
            return Box::pin(self.services.call(request));
        };
        let audited = Arc::new(Audited::default());
        request.extensions_mut().insert(Arc::clone(&audited));
        let answered = self.services.call(request);
        Box::pin(async move {
            let response = answered.await?;
            let (method, effect) = method(&path);
            // An answer that is an error is one without a body, whose headers say so.
            let status = Status::from_header_map(response.headers());
            let refused = status.filter(|status| status.code() != Code::Ok);
            let told = match (&refused, effect) {
                (Some(status), Effect::None) => is_refusal(status.code()),
                (_, effect) => effect != Effect::None,
            };
            if told {
                let (who, roles, authentication) =
                    audited.caller.get().cloned().unwrap_or_default();
                let said_no = audited.refused.get().cloned();
                let record = AuditRecord {
                    time: timestamp::now(),
                    from,
                    who,
                    roles,
                    authentication,
                    method: method.to_owned(),
                    job: audited.job.get().cloned(),
                    result: match (&refused, &said_no) {
                        (Some(status), _) => words(&format!("{:?}", status.code())),
                        (None, Some(_)) => "refused".to_owned(),
                        (None, None) => "ok".to_owned(),
                    },
                    reason: refused
                        .map(|status| status.message().to_owned())
                        .or(said_no),
                    suppressed: 0,
                    lost: 0,
                };
                match record.result.as_str() {
                    "ok" if effect == Effect::Changes => log.write(record),
                    _ => log.write_paced(record),
                }
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_short_names_and_only_some_change_something() {
        let known = [
            ("/unisono.v1.Jobs/Submit", "Jobs/Submit", Effect::Changes),
            ("/unisono.v1.Jobs/Prune", "Jobs/Prune", Effect::Changes),
            ("/unisono.v1.Jobs/List", "Jobs/List", Effect::None),
            (
                "/unisono.v1.Workers/Join",
                "Workers/Join",
                Effect::ChangesOften,
            ),
            ("/unisono.v1.Tensors/Push", "Tensors/Push", Effect::None),
            ("/a.b.Jobs/Submit", "Jobs/Submit", Effect::None),
            ("/odd", "odd", Effect::None),
            ("", "", Effect::None),
        ];
        for (path, name, effect) in known {
            assert_eq!(method(path), (name, effect), "{path}");
        }
    }

    #[test]
    fn codes_are_named_as_grpc_names_them() {
        assert_eq!(words("PermissionDenied"), "permission-denied");
        assert_eq!(words("Ok"), "ok");
    }
}
