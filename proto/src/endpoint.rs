//! The way to a coordinator: its address, the HTTP/2 settings of every connection to it, and what a client shows
//! there. It decides which connections may go without TLS.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use thiserror::Error;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
    transport::{Channel, Endpoint},
};

use crate::tls::{self, Connector, TlsError};

/// A connection that is not there in this time is given up.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that neither answers nor closes is found dead after the sum of the two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something is not the address of a coordinator that may be talked to.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum BadAddress {
    #[error("{0}")]
    Malformed(String),
    #[error(
        "{0} is another host, and http:// is neither encrypted nor authenticated; write https:// and give `--certs-dir`, or allow it with `--allow-plaintext` in a network that you trust"
    )]
    Plaintext(String),
    #[error("a token is sent over https:// alone")]
    TokenInClear,
    #[error("https:// needs the authority's certificate; give its folder with `--certs-dir`")]
    NoCertificates,
    #[error(transparent)]
    Files(#[from] TlsError),
}

/// What a client shows a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A folder of certificates (see [`crate::tls`]).
    pub certs_dir: Option<PathBuf>,
    /// A file with a token, where no certificate of the client's own is at hand.
    pub token_file: Option<PathBuf>,
    /// Whether other hosts may be reached without TLS.
    pub allow_plaintext: bool,
    /// Whether it is for a worker: of several client certificates, that of a worker is taken then, and another
    /// one otherwise.
    pub worker: bool,
}

/// A connection, or one that is made when it is first used.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Puts a token into the headers of each call, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A coordinator that can be connected to.
#[derive(Clone, Debug)]
pub struct Coordinator {
    endpoint: Endpoint,
    tls: Option<Connector>,
    bearer: Bearer,
    url: String,
}

impl Coordinator {
    /// Its address with the scheme.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection that is made when it is first used, and again when it breaks. Must be called within a tokio
    /// runtime.
    pub fn connect_lazy(&self) -> Connection {
        let channel = match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector_lazy(tls.clone()),
            None => self.endpoint.connect_lazy(),
        };
        InterceptedService::new(channel, self.bearer.clone())
    }

    /// A connection that is made now, and again when it breaks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn connect(&self) -> Result<Connection, tonic::transport::Error> {
        let channel = match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector(tls.clone()).await?,
            None => self.endpoint.connect().await?,
        };
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }
}

/// The coordinator at `address`, `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`: with flow-control windows for
/// round trips of any length, without Nagle's delay, and with pings that find a dead peer. An address without a
/// scheme is one of TLS if there is a folder of certificates, and its host is not loopback.
///
/// # Errors
/// If `address` is no address, has another scheme or names no host; if it is another host in plaintext and that is
/// not allowed; if the certificates cannot be used.
pub fn coordinator(address: &str, credentials: &Credentials) -> Result<Coordinator, BadAddress> {
    let bad = |reason: &str| BadAddress::Malformed(reason.to_owned());
    let parse =
        |url: &str| Endpoint::from_shared(url.to_owned()).map_err(|error| bad(&error.to_string()));
    let mut url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let mut endpoint = parse(&url)?;
    if !address.contains("://")
        && credentials.certs_dir.is_some()
        && !endpoint.uri().host().is_some_and(is_loopback)
    {
        url = format!("https://{address}");
        endpoint = parse(&url)?;
    }
    let host = endpoint.uri().host().map(str::to_owned);
    let (Some(host), authority) = (host, endpoint.uri().authority()) else {
        return Err(bad("it names no host"));
    };
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad(
            "it has a user or a secret in it; give a token by `--token-file`",
        ));
    }
    let (tls, bearer) = match endpoint.uri().scheme_str() {
        Some("http") if is_loopback(&host) => (None, Bearer::default()),
        Some("http") if !credentials.allow_plaintext => return Err(BadAddress::Plaintext(host)),
        Some("http") if credentials.token_file.is_some() => return Err(BadAddress::TokenInClear),
        Some("http") => (None, Bearer::default()),
        Some("https") => {
            let dir = credentials.certs_dir.as_deref();
            let dir = dir.ok_or(BadAddress::NoCertificates)?;
            let token = credentials.token_file.as_deref().map(tls::token);
            let token = token.transpose()?;
            let connector = Connector::open(dir, credentials.worker, token.is_some())?;
            let header = token.map(|token| format!("Bearer {token}").parse());
            let mut header = header
                .transpose()
                .map_err(|_| bad("the token is malformed"))?;
            header
                .iter_mut()
                .for_each(|header: &mut MetadataValue<Ascii>| header.set_sensitive(true));
            (Some(connector), Bearer(header))
        }
        _ => return Err(bad("only http:// and https:// are spoken")),
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(crate::STREAM_WINDOW)
        .initial_connection_window_size(crate::CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(Coordinator {
        endpoint,
        tls,
        bearer,
        url,
    })
}

/// Whether nobody but this host can be behind `host`.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let ip = bare.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_its_scheme_out_and_has_a_host() {
        let none = Credentials::default();
        for address in ["127.0.0.1:7700", "http://127.0.0.1:7700"] {
            let found = coordinator(address, &none).expect("an address");
            assert_eq!(found.url(), "http://127.0.0.1:7700");
        }
        for wrong in [
            "ftp://host:7700",
            "http://",
            "a b",
            "://",
            "",
            "https://u:secret@host:1",
        ] {
            let told = coordinator(wrong, &none);
            assert!(
                matches!(told, Err(BadAddress::Malformed(_))),
                "{wrong:?}: {told:?}"
            );
        }
    }

    #[test]
    fn another_host_is_not_reached_in_plaintext_unless_that_is_allowed() {
        let (strict, mut lax) = (Credentials::default(), Credentials::default());
        lax.allow_plaintext = true;
        for near in [
            "localhost:1",
            "http://127.0.0.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(coordinator(near, &strict).is_ok(), "{near}");
        }
        for far in [
            "host:1",
            "10.0.0.1:1",
            "http://localhost.example:1",
            "0.0.0.0:1",
        ] {
            let told = coordinator(far, &strict);
            assert!(
                matches!(told, Err(BadAddress::Plaintext(_))),
                "{far}: {told:?}"
            );
            assert!(coordinator(far, &lax).is_ok(), "{far}");
        }
        lax.token_file = Some("token".into());
        assert!(matches!(
            coordinator("host:1", &lax),
            Err(BadAddress::TokenInClear)
        ));
        assert!(matches!(
            coordinator("https://host:1", &strict),
            Err(BadAddress::NoCertificates)
        ));
    }
}
