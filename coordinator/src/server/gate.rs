//! Who may connect: by when a connection must have shown that it speaks HTTP/2, and when it ends. It closes what
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
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::transport::server::{Connected, TcpIncoming};

use super::{allowance::Allowance, limits::Limits};
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
/// those that are left end as well.
pub(super) fn connections(
    listener: TcpListener,
    limits: Limits,
    closed: watch::Receiver<bool>,
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
    };
    stream::unfold((incoming, gate), |(mut incoming, mut gate)| async move {
        loop {
            match incoming.next().await? {
                Ok(stream) => {
                    if let Some(connection) = gate.admit(stream) {
                        return Some((Ok(connection), (incoming, gate)));
                    }
                }
                Err(error) => {
                    gate.complain(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &error);
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
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
}

impl Gate {
    fn admit(&mut self, stream: TcpStream) -> Option<Connection> {
        // Gone already.
        let peer = stream.peer_addr().ok()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match self.guests.seat(peer) {
            Ok(seat) => Some(Connection::new(stream, seat, &self.limits, &self.closed)),
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

/// A connection that was let in.
pub(super) struct Connection {
    stream: TcpStream,
    seat: Seat,
    /// Bytes of the greeting that are still to come.
    awaited: usize,
    end: End,
    closed: watch::Receiver<bool>,
}

impl Connection {
    fn new(stream: TcpStream, seat: Seat, limits: &Limits, closed: &watch::Receiver<bool>) -> Self {
        let patience = limits.greeting;
        let over = over(closed.clone(), seat.ending());
        let end = async move {
            match tokio::time::timeout(patience, over).await {
                Ok(error) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface came"),
            }
        };
        Self {
            stream,
            seat,
            awaited: GREETING_BYTES,
            end: Box::pin(end),
            closed: closed.clone(),
        }
    }

    /// Fails once the connection has to end, whichever way it is waited on.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(error) => {
                // What asks again is told the same.
                self.end = Box::pin(over(self.closed.clone(), self.seat.ending()));
                Err(error)
            }
            Poll::Pending => Ok(()),
        }
    }

    fn greeted(&mut self, bytes: usize) {
        if self.awaited > 0 {
            self.awaited = self.awaited.saturating_sub(bytes);
            if self.awaited == 0 {
                self.end = Box::pin(over(self.closed.clone(), self.seat.ending()));
            }
        }
    }
}

/// Waits until the coordinator closes what is left, or hangs up on this one.
async fn over(
    mut closed: watch::Receiver<bool>,
    mut ending: watch::Receiver<Option<&'static str>>,
) -> io::Error {
    let reason = tokio::select! {
        // A sender that is gone has nobody left who would wait.
        _ = closed.wait_for(|closed| *closed) => None,
        Ok(reason) = ending.wait_for(Option::is_some) => *reason,
    };
    let reason = reason.unwrap_or("the coordinator ends");
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}

/// What the gate knows of the peer of a connection; each request of the connection carries it.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub peer: SocketAddr,
    pub allowance: Arc<Allowance>,
    pub connection: Arc<OpenConnection>,
}

impl Connected for Connection {
    type ConnectInfo = Guest;

    fn connect_info(&self) -> Guest {
        Guest {
            peer: self.seat.peer(),
            allowance: Arc::clone(self.seat.allowance()),
            connection: Arc::clone(self.seat.connection()),
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
