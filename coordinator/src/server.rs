//! The running coordinator: its address, its services and its shutdown. It decides who may connect and how long a
//! shutdown may take; it does not depend on what is answered.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::Stream;
use proto::{
    CONNECTION_WINDOW, MAX_MESSAGE_BYTES, STREAM_WINDOW,
    v1::{
        self, jobs_server::JobsServer, tensors_server::TensorsServer, workers_server::WorkersServer,
    },
};
use speech::{
    corpus_roots::CorpusRoots,
    error_class::{Class, Classify},
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{service::Routes, transport::Server};

use crate::{
    driver::{self, Command, Handle, Refused, WorkerPolicy},
    job::Job,
    records::audit_log::{AuditLog, Retention},
    store::{Layout, Store, StoreError},
    telemetry::{self, Telemetry},
    tokens::TokenError,
};

mod allowance;
mod answers;
mod audit;
pub(crate) mod caller;
mod gate;
mod jobs;
mod leases;
mod limits;
mod messages;
mod methods;
mod refusal;
mod request_counts;
mod requests;
mod scrape;
mod session;
mod tensors;
mod tls;
mod workers;

pub use limits::Limits;
pub use tls::{REVOKED, TlsFiles};

use audit::Logged;
use caller::Authorised;
use gate::Connection;
use request_counts::Counted;
use requests::Bounded;
use scrape::Scraped;
use session::Sessions;
use tls::Trust;

/// The audit log in a coordinator's data folder.
const AUDIT_LOG: &str = "audit.jsonl";

/// What a coordinator is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host and port; port 0 takes a free one.
    pub listen: String,
    /// Host and port at which a monitoring system may read figures and readiness; port 0 takes a free one. Nobody
    /// is asked who he is there.
    pub metrics: Option<String>,
    /// Where its data lies, and whether it serves a queue of jobs or a single one.
    pub layout: Layout,
    /// Whether an address that other hosts reach may be listened on, although nothing that is sent
    /// is encrypted or authenticated.
    pub allow_plaintext: bool,
    /// Where the files of submitted jobs may lie. With [`Layout::Single`] none are submitted by others, and the
    /// job's files may lie anywhere.
    pub corpus_roots: CorpusRoots,
    /// Certificates and tokens; `None` speaks plaintext.
    pub tls: Option<TlsFiles>,
    /// Where digests of recordings and statistics over them are kept, so that the next start need not read a
    /// corpus again; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
    /// Whether workers are to end when it stops; they wait for its return otherwise. With
    /// [`Layout::Single`] they end in any case.
    pub dismiss_workers: bool,
}

/// Why a coordinator did not start.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum StartError {
    #[error(
        "{0} can be reached from other hosts, and nothing that is sent is encrypted or authenticated; give `--certs-dir` (see `unisono certs`), listen on a loopback address, or allow it with `--allow-plaintext` in a network that you trust"
    )]
    Plaintext(SocketAddr),
    #[error(
        "the port of {0} is in use; stop what listens there, or choose another with `--listen`"
    )]
    InUse(SocketAddr),
    #[error(transparent)]
    Tls(#[from] TokenError),
    #[error("{0:?} is not an address to listen on; write it as HOST:PORT")]
    Address(String),
    #[error(
        "the name in {listen} cannot be resolved: {source}; it was tried for {} s", within.as_secs()
    )]
    Resolve {
        listen: String,
        source: io::Error,
        within: Duration,
    },
    #[error("cannot listen on {listen}: {source}")]
    Listen { listen: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random numbers for the secrets of workers' sessions: {0}")]
    Random(#[from] getrandom::Error),
    #[error("the thread that writes the audit log cannot be started: {0}")]
    Audit(io::Error),
    #[error("the gRPC reflection service cannot be made: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Classify for StartError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Tls(error) => error.class(),
            // A port may be in use because whoever had it has not ended yet.
            Self::Listen { .. }
            | Self::Resolve { .. }
            | Self::InUse(_)
            | Self::Random(_)
            | Self::Audit(_)
            | Self::Reflection(_) => Class::Infrastructure,
            Self::Plaintext(_) | Self::Address(_) => Class::Data,
        }
    }
}

/// How a coordinator stopped that was not asked to.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Stopped {
    #[error("the server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the coordinator broke off: {0}")]
    Broken(String),
}

impl Classify for Stopped {
    fn class(&self) -> Class {
        Class::Infrastructure
    }
}

/// A coordinator, before it runs.
pub struct Coordinator;

impl Coordinator {
    /// Takes the data directory, listens and goes on with the queue. Must be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the address or the directory cannot be had; nothing is left running then.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        Self::start_within(config, Limits::default()).await
    }

    /// Like [`Self::start`], with other limits than the usual ones.
    ///
    /// # Errors
    /// Likewise.
    pub async fn start_within(config: Config, limits: Limits) -> Result<Running, StartError> {
        let Config {
            listen,
            metrics,
            layout,
            allow_plaintext,
            corpus_roots,
            tls,
            cache_dir,
            dismiss_workers,
        } = config;
        let wanted = resolve(&listen).await?;
        let one_job = matches!(layout, Layout::Single { .. });
        let terms = WorkerPolicy {
            heartbeat: limits.heartbeat,
            silence: limits.silence,
            returns: limits.returns,
            dismisses: dismiss_workers || one_job,
            one_job,
        };
        if !wanted.ip().is_loopback() && !allow_plaintext && tls.is_none() {
            return Err(StartError::Plaintext(wanted));
        }
        let trust = tls.map(Trust::open).transpose()?;
        let (addr, listener) = bind(wanted).await?;
        let scraped = match metrics {
            Some(metrics) => Some(bind(resolve(&metrics).await?).await?),
            None => None,
        };
        if !addr.ip().is_loopback() && trust.is_none() {
            tracing::warn!(%addr, "other hosts can connect, and nothing is encrypted or authenticated");
        }
        let root = layout.root().to_owned();
        let audit = match &layout {
            Layout::Queue { data_dir } => Some(data_dir.join(AUDIT_LOG)),
            Layout::Single { .. } => None,
        };
        let opened = tokio::task::spawn_blocking(|| Store::open(layout));
        let store = opened.await.expect("opening the store does not panic")?;
        let generation = store.generation();
        let telemetry = Telemetry::default();
        let disk = telemetry::watch(root, telemetry.clone());
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .build_v1()?;
        let roots = match one_job {
            true => CorpusRoots::anywhere(),
            false => corpus_roots.clone(),
        };
        let audit = audit.map(|path| AuditLog::open(path, Retention::default()));
        let audit = audit.transpose().map_err(StartError::Audit)?;
        let (handle, driver) = driver::spawn(store, roots, cache_dir, terms, telemetry.clone());
        let sessions = Sessions::new(generation, handle.members().clone())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let closed = watch::Sender::new(false);
        let incoming = gate::connections(listener, limits, closed.subscribe(), trust.clone());
        let routes = routes(&handle, corpus_roots, limits, sessions)
            .await
            .add_service(reflection);
        let scraped = scraped.map(|(addr, listener)| {
            tracing::info!(%addr, "metrics");
            scrape::serve(listener, addr, telemetry.clone(), disk, handle.clone())
        });
        let watched = (telemetry, audit.map(Arc::new));
        let server = tokio::spawn(serve(incoming, routes, limits, watched, trust, stopped));
        tracing::info!(%addr, generation, "listening");
        Ok(Running {
            addr,
            generation,
            handle,
            stop,
            closed,
            server,
            driver,
            scraped,
        })
    }
}

/// Listens on `wanted`; gives the address with the port that was taken.
async fn bind(wanted: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let bound = TcpListener::bind(wanted).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse(wanted),
        _ => StartError::Listen {
            listen: wanted.to_string(),
            source,
        },
    })
}

/// The address to listen on. A name that cannot be resolved is tried for a while: that of a machine that is
/// just starting, or of a network that is.
///
/// # Errors
/// When it is no address, or its name cannot be resolved.
async fn resolve(listen: &str) -> Result<SocketAddr, StartError> {
    const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
    const RESOLVE_RETRY_DELAY: Duration = Duration::from_secs(1);
    if let Ok(address) = listen.parse() {
        return Ok(address);
    }
    let malformed = || StartError::Address(listen.to_owned());
    let (host, port) = listen.rsplit_once(':').ok_or_else(malformed)?;
    // IPv6 addresses were parsed above, in their brackets.
    let named = |one: char| one.is_alphanumeric() || matches!(one, '-' | '_' | '.');
    if host.is_empty() || !host.chars().all(named) || port.parse::<u16>().is_err() {
        return Err(malformed());
    }
    let began = Instant::now();
    loop {
        let source = match tokio::net::lookup_host(listen).await {
            Ok(mut addresses) => match addresses.next() {
                Some(address) => return Ok(address),
                None => io::Error::other("the name has no address"),
            },
            Err(error) => error,
        };
        if began.elapsed() >= RESOLVE_TIMEOUT {
            return Err(StartError::Resolve {
                listen: listen.to_owned(),
                source,
                within: RESOLVE_TIMEOUT,
            });
        }
        tracing::warn!("{listen} cannot be resolved yet: {source}");
        tokio::time::sleep(RESOLVE_RETRY_DELAY).await;
    }
}

/// What can be asked.
async fn routes(handle: &Handle, roots: CorpusRoots, limits: Limits, sessions: Sessions) -> Routes {
    let sessions = Arc::new(sessions);
    let workers = workers::WorkersService::new(handle.clone(), Arc::clone(&sessions));
    let workers = WorkersServer::new(workers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let tensors = tensors::TensorsService::new(handle.clone(), limits, sessions);
    let tensors = TensorsServer::new(tensors)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let jobs = jobs::JobsService {
        handle: handle.clone(),
        roots,
    };
    let jobs = JobsServer::new(jobs)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<WorkersServer<workers::WorkersService>>()
        .await;
    health
        .set_serving::<TensorsServer<tensors::TensorsService>>()
        .await;
    health.set_serving::<JobsServer<jobs::JobsService>>().await;
    Routes::new(health_service)
        .add_service(workers)
        .add_service(tensors)
        .add_service(jobs)
}

async fn serve(
    incoming: impl Stream<Item = Result<Connection, Infallible>>,
    routes: Routes,
    limits: Limits,
    (telemetry, audit): (Telemetry, Option<Arc<AuditLog>>),
    trust: Option<Arc<Trust>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    /// A connection's calls at once: a worker has a handful, and none is worth more.
    const MAX_CONCURRENT_CALLS: u32 = 64;
    /// Bytes of a call's headers: ours have a few hundred.
    const MAX_HEADER_BYTES: u32 = 8 << 10;
    /// Calls that a peer has taken back before they were looked at, beyond which its connection ends.
    const MAX_RESET_CALLS: usize = 32;
    /// The same for calls that broke the protocol; tonic would set no limit.
    const MAX_BROKEN_CALLS: usize = 64;
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_CALLS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESET_CALLS))
        .http2_max_local_error_reset_streams(Some(MAX_BROKEN_CALLS))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .serve_with_incoming_shutdown(
            Counted::new(
                Logged::new(
                    Authorised::new(Bounded::new(routes.prepare(), limits), trust),
                    audit,
                ),
                telemetry,
            ),
            incoming,
            async {
                // Dropped or sent: either way it is the end.
                let _ = stopped.await;
            },
        )
        .await
}

/// A coordinator that runs, and what the program that runs it may ask.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    generation: u64,
    handle: Handle,
    /// Lets connections finish what they are at.
    stop: oneshot::Sender<()>,
    /// Ends those that are left.
    closed: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    driver: JoinHandle<Result<(), StoreError>>,
    scraped: Option<Scraped>,
}

impl Running {
    /// The address that is listened on, with the port that was taken where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the monitoring system, with the port that was taken where 0 was asked for.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.scraped.as_ref().map(|scraped| scraped.addr)
    }

    /// Counts the starts on this data directory.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts a job into the queue and gives its id. The job's paths must be absolute.
    pub async fn submit(&self, job: Job) -> Result<String, Refused> {
        let job = Box::new(job);
        self.handle
            .ask(|reply| Command::Submit { job, reply })
            .await?
    }

    /// Ends the running job as failed, for a reason that only the program knows which runs the
    /// coordinator. It leaves a checkpoint, and can be resumed.
    pub async fn give_up(&self, reason: String, cause: Class) {
        let command = |reply| Command::GiveUp {
            reason,
            cause,
            reply,
        };
        // A driver that is gone has no job to end.
        let _ = self.handle.ask(command).await;
    }

    /// Waits until the coordinator breaks off by itself.
    pub async fn broken(&mut self) -> Stopped {
        tokio::select! {
            server = &mut self.server => match server {
                Ok(Ok(())) => Stopped::Broken("the server ended".to_owned()),
                Ok(Err(error)) => error.into(),
                Err(panicked) => Stopped::Broken(panicked.to_string()),
            },
            driver = &mut self.driver => match driver {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => Stopped::Broken("the driver ended".to_owned()),
                Err(panicked) => Stopped::Broken(panicked.to_string()),
            },
        }
    }

    /// Writes the running job's checkpoint, says goodbye to the workers and ends, within `deadline`.
    /// What is not done by then is taken up from the checkpoint before.
    pub async fn shutdown(self, deadline: Duration) {
        /// For open connections, once there is nothing more to say.
        const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
        /// For those that are cut off: no peer is waited for then.
        const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
        const GOODBYE_TIMEOUT: Duration = Duration::from_millis(1500);
        let end = Instant::now() + deadline;
        let at_rest = self.handle.ask(|reply| Command::Stop { reply });
        let rested = tokio::time::timeout(deadline.saturating_sub(DRAIN_TIMEOUT), at_rest).await;
        if !matches!(rested, Ok(Ok(()))) {
            tracing::warn!("there was no time for a checkpoint; the one before it stands");
        }
        // Workers that still compute will ask for more; those that are gone will not.
        let left = end.saturating_duration_since(Instant::now() + DRAIN_TIMEOUT);
        let farewell = self.handle.ask(|reply| Command::Farewell { reply });
        let _ = tokio::time::timeout(left.min(GOODBYE_TIMEOUT), farewell).await;
        let _ = self.stop.send(());
        // Tonic waits for connections that say nothing (hyper #4170), and for pushes to their end.
        let left = end.saturating_duration_since(Instant::now() + CLOSE_TIMEOUT);
        let mut server = self.server;
        if tokio::time::timeout(left.min(DRAIN_TIMEOUT), &mut server)
            .await
            .is_err()
        {
            self.closed.send_replace(true);
            if tokio::time::timeout(CLOSE_TIMEOUT, &mut server)
                .await
                .is_err()
            {
                server.abort();
            }
        }
        self.driver.abort();
        // The data directory's lock is gone with the driver.
        let _ = self.driver.await;
    }
}
