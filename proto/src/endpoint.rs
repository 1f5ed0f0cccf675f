//! The HTTP/2 settings of every connection to a coordinator.

use std::time::Duration;

use thiserror::Error;
use tonic::transport::Endpoint;

/// A connection that is not there in this time is given up.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that neither answers nor closes is found dead after the sum of the two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something is not the address of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadAddress(String);

/// The coordinator at `address`, `HOST:PORT` or `http://HOST:PORT`: with flow-control windows for round trips of any
/// length, without Nagle's delay, and with pings that find a dead peer.
///
/// # Errors
/// If `address` is no address, has another scheme or names no host.
pub fn coordinator(address: &str) -> Result<Endpoint, BadAddress> {
    let bad = |reason: &str| BadAddress(reason.to_owned());
    let url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let endpoint = Endpoint::from_shared(url).map_err(|error| bad(&error.to_string()))?;
    match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
        (Some("http"), Some(_)) => {}
        (Some("http"), None) => return Err(bad("it names no host")),
        _ => return Err(bad("only http:// is spoken")),
    }
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(crate::STREAM_WINDOW)
        .initial_connection_window_size(crate::CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_its_scheme_out_and_has_a_host() {
        for address in ["127.0.0.1:7700", "http://127.0.0.1:7700"] {
            let endpoint = coordinator(address).expect("an address");
            assert_eq!(endpoint.uri().authority().unwrap(), "127.0.0.1:7700");
        }
        for wrong in ["https://host:7700", "http://", "a b", "://", ""] {
            assert!(coordinator(wrong).is_err(), "{wrong:?}");
        }
    }
}
