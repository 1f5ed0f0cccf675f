//! Who may connect: by when a connection must have shown that it speaks HTTP/2, after its handshake where TLS is spoken, and when it ends. It closes what
//! does not, who is hung up on, and at the end what is left; how many there may be is `gate::guests`'. It does not
//! depend on what is asked.

mod guests;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use futures::{Stream, StreamExt as _, stream};
use proto::certificate::Certificate;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpIncoming};

use super::{allowance::Allowance, limits::Limits, tls::Trust};
use guests::{Guests, Seat};
pub(super) use guests::{OpenCall, OpenConnection};

/// What every client sends at once: the preface, and the head of its first frame (RFC 9113, 3.4).
const GREETING_BYTES: usize = 24 + 9;

/// A refused peer is named once in this time.
const NAME_REFUSED_EVERY: Duration = Duration::from_secs(60);

/// Peers that are remembered as named. Beyond them the log says nothing.
const MAX_REMEMBERED_PEERS: usize = 1024;

/// What a connection ends by that the peer did not end.
type End = Pin<Box<dyn Future<Output = io::Error> + Send>>;

/// The connections that `listener` accepts and the gate lets in, until `closed` turns true: then
/// those that are left end as well. With `trust` they speak TLS.
pub(super) fn connections(
    listener: TcpListener,
    limits: Limits,
    closed: watch::Receiver<bool>,
    trust: Option<Arc<Trust>>,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    /// A peer whose host is gone is found out by the kernel too, when HTTP/2 has nothing to say.
    const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
    /// What keeps connections from being accepted (too many open files) does not pass at once.
    const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(TCP_KEEPALIVE))
        .with_keepalive_interval(Some(Duration::from_secs(10)))
        .with_keepalive_retries(Some(3));
    let gate = Gate {
        limits,
        closed,
        guests: Arc::new(Guests::new(limits)),
        named: BTreeMap::new(),
        trust,
        handshakes: JoinSet::new(),
    };
    stream::unfold((incoming, gate), |(mut incoming, mut gate)| async move {
        loop {
            let connection = tokio::select! {
                accepted = incoming.next() => match accepted? {
                    Ok(stream) => gate.admit(stream),
                    Err(error) => {
                        gate.complain(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &error);
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                        None
                    }
                },
                Some(done) = gate.handshakes.join_next() => match done {
                    Ok(Ok(connection)) => Some(connection),
                    Ok(Err((peer, error))) => {
                        gate.complain(peer, &error);
                        None
                    }
                    Err(broken) => {
                        gate.complain(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &broken);
                        None
                    }
                },
            };
            if let Some(connection) = connection {
                return Some((Ok(connection), (incoming, gate)));
            }
        }
    })
}

struct Gate {
    limits: Limits,
    closed: watch::Receiver<bool>,
    guests: Arc<Guests>,
    /// When each refused peer was last named.
    named: BTreeMap<IpAddr, Instant>,
    trust: Option<Arc<Trust>>,
    /// Those that are under way; each holds the seat of its connection.
    handshakes: JoinSet<Result<Connection, (IpAddr, io::Error)>>,
}

impl Gate {
    fn admit(&mut self, stream: TcpStream) -> Option<Connection> {
        // Gone already.
        let peer = stream.peer_addr().ok()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match self.guests.seat(peer) {
            Ok(seat) => {
                let (limits, closed) = (self.limits, self.closed.clone());
                let Some(trust) = self.trust.clone() else {
                    let transport = Transport::Plain(stream);
                    return Some(Connection::new(transport, None, seat, &limits, closed));
                };
                self.handshakes.spawn(async move {
                    let failed = |error| (peer.ip(), error);
                    let accepted = tokio::time::timeout(limits.greeting, trust.accept(stream));
                    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake came");
                    let accepted = accepted.await.map_err(late).map_err(failed)?;
                    let (stream, certificate) = accepted.map_err(failed)?;
                    let transport = Transport::Tls(stream);
                    Ok(Connection::new(
                        transport,
                        certificate,
                        seat,
                        &limits,
                        closed,
                    ))
                });
                None
            }
            Err(reason) => {
                self.complain(peer.ip(), &reason);
                None
            }
        }
    }

    /// Says why nobody was let in, but not to whoever wants to fill the log.
    fn complain(&mut self, peer: IpAddr, reason: &dyn std::fmt::Display) {
        let now = Instant::now();
        self.named
            .retain(|_, at| now.duration_since(*at) < NAME_REFUSED_EVERY);
        if self.named.len() < MAX_REMEMBERED_PEERS && !self.named.contains_key(&peer) {
            self.named.insert(peer, now);
            tracing::warn!(%peer, "connections are not accepted: {reason}");
        }
    }
}

/// What carries a connection's bytes.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that was let in.
pub(super) struct Connection {
    stream: Transport,
    seat: Seat,
    /// The peer's, if it showed one.
    certificate: Option<Arc<Certificate>>,
    /// Bytes of the greeting that are still to come.
    awaited: usize,
    end: End,
    closed: watch::Receiver<bool>,
}

impl Connection {
    fn new(
        stream: Transport,
        certificate: Option<Certificate>,
        seat: Seat,
        limits: &Limits,
        closed: watch::Receiver<bool>,
    ) -> Self {
        let certificate = certificate.map(Arc::new);
        let patience = limits.greeting;
        let over = over(closed.clone(), seat.ending(), None);
        let end = async move {
            match tokio::time::timeout(patience, over).await {
                Ok(error) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface came"),
            }
        };
        Self {
            stream,
            seat,
            certificate,
            awaited: GREETING_BYTES,
            end: Box::pin(end),
            closed,
        }
    }

    /// Fails once the connection has to end, whichever way it is waited on.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(error) => {
                // What asks again is told the same.
                self.end = Box::pin(over(self.closed.clone(), self.seat.ending(), None));
                Err(error)
            }
            Poll::Pending => Ok(()),
        }
    }

    fn greeted(&mut self, bytes: usize) {
        if self.awaited > 0 {
            self.awaited = self.awaited.saturating_sub(bytes);
            if self.awaited == 0 {
                self.end = Box::pin(over(
                    self.closed.clone(),
                    self.seat.ending(),
                    self.certificate.clone(),
                ));
            }
        }
    }
}

/// Waits until the coordinator closes what is left, hangs up on this one, or until `certificate` has expired: the peer connects anew with
/// the one that it has by then.
async fn over(
    mut closed: watch::Receiver<bool>,
    mut ending: watch::Receiver<Option<&'static str>>,
    certificate: Option<Arc<Certificate>>,
) -> io::Error {
    let aborted = |reason| io::Error::new(io::ErrorKind::ConnectionAborted, reason);
    let expired = async {
        match certificate {
            Some(certificate) => expiry(SystemTime::from(certificate.not_after)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // A sender that is gone has nobody left who would wait.
        _ = closed.wait_for(|closed| *closed) => aborted("the coordinator ends"),
        Ok(reason) = ending.wait_for(Option::is_some) => aborted(reason.unwrap_or("the coordinator ends")),
        () = expired => aborted("the peer's certificate has expired"),
    }
}

/// Waits until `end` is over by the clock, which may be set meanwhile.
async fn expiry(end: SystemTime) {
    const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.clamp(Duration::from_millis(1), LONGEST_SLEEP)).await;
    }
}

/// What the gate knows of the peer of a connection; each request of the connection carries it.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub peer: SocketAddr,
    pub allowance: Arc<Allowance>,
    pub connection: Arc<OpenConnection>,
    pub certificate: Option<Arc<Certificate>>,
}

impl Connected for Connection {
    type ConnectInfo = Guest;

    fn connect_info(&self) -> Guest {
        Guest {
            peer: self.seat.peer(),
            allowance: Arc::clone(self.seat.allowance()),
            connection: Arc::clone(self.seat.connection()),
            certificate: self.certificate.clone(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.greeted(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
