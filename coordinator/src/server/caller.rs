//! Who makes a call, and which role each method needs. A call of a role that its caller does not have is refused
//! here, before its body is read; what a permitted call does is no matter of this module.

use std::{
    fmt,
    future::{Ready, ready},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use proto::{
    identity::{Identity, Role, Roles},
    v1::{jobs_server, tensors_server, workers_server},
};
use tonic::{
    Request,
    body::Body,
    codegen::{Service, http},
};

use super::{audit::Audited, gate::Guest, refusal::Refusal, tls::Trust};

/// What says who a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// Nothing: it is on this host, and comes over loopback in plaintext.
    Loopback,
    /// Nothing: plaintext between hosts was allowed explicitly.
    AllowedPlaintext,
    /// A client certificate, which the handshake has verified.
    Certificate,
    /// A token in the headers of the call, over TLS.
    Token,
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The address that it comes from; IPv4 in its own form, also on a socket of IPv6.
    pub peer: SocketAddr,
    /// `None` of a caller without TLS, who is anonymous and may do everything.
    pub identity: Option<Identity>,
    /// What says who it is.
    pub authentication: Authentication,
    roles: Roles,
}

impl Caller {
    /// A caller in plaintext, with all roles.
    fn anonymous(peer: SocketAddr) -> Self {
        let authentication = if peer.ip().is_loopback() {
            Authentication::Loopback
        } else {
            Authentication::AllowedPlaintext
        };
        Self {
            peer,
            identity: None,
            authentication,
            roles: Roles::ALL,
        }
    }

    /// A caller over TLS, with the roles of its certificate or token.
    fn named(peer: SocketAddr, identity: Identity, by_token: bool) -> Self {
        Self {
            peer,
            roles: identity.roles,
            identity: Some(identity),
            authentication: if by_token {
                Authentication::Token
            } else {
                Authentication::Certificate
            },
        }
    }

    /// Who makes `request`. One that did not come through the gate, which no call over the network does, is of a
    /// caller without any role.
    pub(crate) fn of<T>(request: &Request<T>) -> Arc<Self> {
        let caller = request.extensions().get::<Arc<Self>>();
        caller.cloned().unwrap_or_else(|| {
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let roles = Roles::default();
            Arc::new(Self {
                roles,
                ..Self::anonymous(nowhere)
            })
        })
    }

    /// The roles that it was given.
    pub(crate) const fn roles(&self) -> Roles {
        self.roles
    }

    /// Whether it has the role, by itself or by one that comes with it.
    pub(crate) const fn has(&self, role: Role) -> bool {
        self.roles.include(role)
    }
}

/// The name, or else the address, as messages and logs show it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "`{}` ({})", identity.name, self.peer),
            None => write!(f, "{}", self.peer),
        }
    }
}

/// What a caller needs for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Anybody may whom the gate let in.
    Nothing,
    Role(Role),
}

/// What the method at `path` (`/package.Service/Method`) needs. This is the one list of methods and roles; a method
/// that is missing from it needs [`Role::Admin`].
fn need(path: &str) -> Need {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/'))
    else {
        return Need::Role(Role::Admin);
    };
    match (service, method) {
        ("grpc.health.v1.Health", _) => Need::Nothing,
        ("grpc.reflection.v1.ServerReflection", _) => Need::Role(Role::Read),
        (workers_server::SERVICE_NAME | tensors_server::SERVICE_NAME, _) => {
            Need::Role(Role::Worker)
        }
        (jobs_server::SERVICE_NAME, "Submit" | "SubmitInPieces" | "Cancel" | "Resume") => {
            Need::Role(Role::Submit)
        }
        (
            jobs_server::SERVICE_NAME,
            "List" | "Status" | "Report" | "Logs" | "Metrics" | "ListWorkers",
        ) => Need::Role(Role::Read),
        _ => Need::Role(Role::Admin),
    }
}

/// The services, behind the check of roles.
#[derive(Clone)]
pub(super) struct Authorised<S> {
    services: S,
    /// `None` without TLS.
    trust: Option<Arc<Trust>>,
}

impl<S> Authorised<S> {
    pub(super) const fn new(services: S, trust: Option<Arc<Trust>>) -> Self {
        Self { services, trust }
    }
}

impl<S> Service<http::Request<Body>> for Authorised<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<http::Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match admitted(&request, self.trust.as_deref()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.services.call(request))
            }
            Err(refusal) => {
                let status = tonic::Status::from(refusal);
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

/// Who makes the call, if that may.
fn admitted(request: &http::Request<Body>, trust: Option<&Trust>) -> Result<Arc<Caller>, Refusal> {
    let path = request.uri().path();
    let guest = request.extensions().get::<Guest>();
    let unknown = || Refusal::Unauthenticated("nothing says where it comes from".to_owned());
    let Guest {
        peer, certificate, ..
    } = guest.ok_or_else(unknown)?;
    let caller = match trust {
        None => Caller::anonymous(*peer),
        Some(trust) => {
            let header = request.headers().get(http::header::AUTHORIZATION);
            let token = header.map(bearer).transpose()?;
            let identified = trust.identify(certificate.as_deref(), token);
            let (identity, by_token) = identified.map_err(|reason| {
                tracing::warn!(%peer, method = path, "refused: {reason}");
                Refusal::Unauthenticated(reason)
            })?;
            Caller::named(*peer, identity, by_token)
        }
    };
    Audited::name_caller(
        request,
        caller.identity.as_ref().map(|one| one.name.as_str()),
        &caller.roles().to_string(),
        &format!("{:?}", caller.authentication),
    );
    match need(path) {
        Need::Role(role) if !caller.has(role) => {
            tracing::warn!(%caller, authentication = ?caller.authentication, method = path, "refused: the caller lacks the role `{role}`");
            Err(Refusal::Role {
                caller: caller.to_string(),
                roles: caller.roles.to_string(),
                needed: role,
            })
        }
        _ => Ok(Arc::new(caller)),
    }
}

/// The token in an `authorization` header.
fn bearer(header: &http::HeaderValue) -> Result<&str, Refusal> {
    let text = header.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        let told = "the header `authorization` is not of the form `Bearer TOKEN`";
        return Err(Refusal::Unauthenticated(told.to_owned()));
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The methods of the descriptors, so that one that is added to a `.proto` has to be listed here.
    fn methods() -> Vec<String> {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(proto::v1::DESCRIPTORS).unwrap();
        let mut found = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    found.push(format!("/{package}.{service}/{}", method.name()));
                }
            }
        }
        found
    }

    #[test]
    fn each_method_needs_the_role_that_is_meant_for_it() {
        let mut by_role = BTreeMap::<_, Vec<String>>::new();
        for path in methods() {
            let Need::Role(role) = need(&path) else {
                panic!("{path} needs nothing");
            };
            let short = path.rsplit('.').next().unwrap().to_owned();
            by_role.entry(role).or_default().push(short);
        }
        let worker = &by_role[&Role::Worker];
        assert!(
            worker
                .iter()
                .all(|path| path.starts_with("Workers/") || path.starts_with("Tensors/"))
        );
        assert_eq!(
            by_role[&Role::Submit],
            [
                "Jobs/Submit",
                "Jobs/SubmitInPieces",
                "Jobs/Cancel",
                "Jobs/Resume"
            ]
        );
        assert_eq!(
            by_role[&Role::Read],
            [
                "Jobs/List",
                "Jobs/Status",
                "Jobs/Report",
                "Jobs/Logs",
                "Jobs/Metrics",
                "Jobs/ListWorkers"
            ]
        );
        assert_eq!(by_role[&Role::Admin], ["Jobs/Prune"]);
        for unknown in [
            "",
            "/",
            "/x",
            "/unisono.v1.Jobs/New",
            "/unisono.v1.Jobs/submit",
        ] {
            assert_eq!(need(unknown), Need::Role(Role::Admin), "{unknown:?}");
        }
    }

    #[test]
    fn a_request_that_did_not_come_through_the_gate_has_no_role() {
        let caller = Caller::of(&Request::new(()));
        assert!(Role::ALL.into_iter().all(|role| !caller.has(role)));
        assert!(admitted(&http::Request::new(Body::default()), None).is_err());
    }
}
