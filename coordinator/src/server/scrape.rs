//! The address of the monitoring system: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts
//! the coordinator or sends it work. It answers from what was written down, and asks nobody. Whoever connects costs
//! the coordinator no more than a few idle connections.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};

use crate::{driver::Handle, telemetry::Telemetry};

/// Connections at once. A monitoring system has one or two; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// The time that a connection has for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a connection has for everything: whoever does not read his answer holds no place for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// After an address could not accept: too many open files do not pass at once.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The address, and what answers there for as long as this lives.
#[derive(Debug)]
pub(super) struct Scraped {
    pub addr: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Answers on `listener`, to which `addr` belongs, while `disk` keeps what is known of the disk up to date.
pub(super) fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    telemetry: Telemetry,
    disk: impl Future<Output = ()> + Send + 'static,
    driver: Handle,
) -> Scraped {
    let mut tasks = JoinSet::new();
    tasks.spawn(disk);
    tasks.spawn(accept(listener, Answerer { telemetry, driver }));
    Scraped {
        addr,
        _tasks: tasks,
    }
}

async fn accept(listener: TcpListener, answerer: Answerer) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Gone with whoever stops this.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no scrape is accepted");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let answerer = answerer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answerer.answer(request.method(), request.uri().path());
                async { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // However it ends: whoever asked asks again.
            let _ = timeout(CONNECTION_TIMEOUT, served).await;
            drop(place);
        });
    }
}

#[derive(Clone)]
struct Answerer {
    telemetry: Telemetry,
    driver: Handle,
}

impl Answerer {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let of_state = |state: Result<(), String>| match state {
            Ok(()) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        };
        let (status, kind, text) = match (path, method) {
            (_, method) if method != Method::GET && method != Method::HEAD => {
                let text = "only GET and HEAD are answered\n";
                (StatusCode::METHOD_NOT_ALLOWED, TEXT, text.to_owned())
            }
            ("/metrics", _) => (
                StatusCode::OK,
                Telemetry::CONTENT_TYPE,
                self.telemetry.text(),
            ),
            ("/healthz", _) => of_state(self.health()),
            ("/readyz", _) => of_state(self.health().and_then(|()| self.telemetry.readiness())),
            _ => {
                let text = "there are /metrics, /healthz and /readyz\n";
                (StatusCode::NOT_FOUND, TEXT, text.to_owned())
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }

    /// Whether another start is not needed: a driver that is gone does not come back by itself.
    fn health(&self) -> Result<(), String> {
        match self.driver.is_gone() {
            false => Ok(()),
            true => Err("the coordinator has stopped working".to_owned()),
        }
    }
}
