//! A road between workers and a coordinator: as long, as narrow and as bad as a test wants it. It
//! carries bytes and knows nothing of what they mean. A long road holds many bytes at once: delay is
//! no throttle.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

/// What a road is like.
#[derive(Clone, Copy, Default)]
pub struct Road {
    /// One way.
    pub delay: Duration,
    /// Bytes a second each way; `None` without end.
    pub bandwidth: Option<f64>,
    /// Whoever connects, connects twice; the second connection says nothing.
    pub twice: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From workers to the coordinator.
    Up,
    Down,
}

/// Connections to be reset once so many bytes went that way.
#[derive(Clone, Copy)]
struct Trap {
    way: Way,
    bytes: u64,
    connections: u32,
}

struct Shared {
    target: SocketAddr,
    road: Road,
    frozen: watch::Sender<bool>,
    /// Counts how often everything was reset.
    cuts: watch::Sender<u64>,
    trap: Mutex<Option<Trap>>,
    accepted: AtomicU64,
    trapped: AtomicU64,
}

pub struct Proxy {
    pub url: String,
    shared: Arc<Shared>,
    listening: tokio::task::AbortHandle,
}

impl Proxy {
    /// A road to `url`.
    pub async fn start(url: &str, road: Road) -> Self {
        let target = url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target,
            road,
            frozen: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            trap: Mutex::new(None),
            accepted: AtomicU64::new(0),
            trapped: AtomicU64::new(0),
        });
        let served = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                served.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Arc::clone(&served).connect(stream));
            }
        });
        Self {
            url,
            shared,
            listening: listening.abort_handle(),
        }
    }

    /// Resets every connection, both ways, as a power cut does.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing arrives any more, and nobody is told.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.shared.frozen.send_replace(false);
    }

    /// Resets the next `connections` over which `bytes` have gone that way.
    pub fn cut_after(&self, way: Way, bytes: u64, connections: u32) {
        *self.shared.trap.lock().unwrap() = Some(Trap {
            way,
            bytes,
            connections,
        });
    }

    /// How many connections there were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many were reset by [`Self::cut_after`].
    pub fn trapped(&self) -> u64 {
        self.shared.trapped.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

/// Why carrying ended.
enum Ended {
    Closed,
    Trapped,
}

impl Shared {
    async fn connect(self: Arc<Self>, mut client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        self.thawed().await;
        let _second = if self.road.twice {
            Some(TcpStream::connect(self.target).await)
        } else {
            None
        };
        let Ok(mut server) = TcpStream::connect(self.target).await else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let ended = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let up = self.carry(Way::Up, from_client, to_server);
            let down = self.carry(Way::Down, from_server, to_client);
            let both = async { tokio::try_join!(up, down).err().unwrap_or(Ended::Closed) };
            tokio::select! {
                ended = both => ended,
                _ = cuts.changed() => Ended::Trapped,
            }
        };
        if matches!(ended, Ended::Trapped) {
            for stream in [client, server] {
                let _ = stream.set_zero_linger();
            }
        }
    }

    async fn thawed(&self) {
        let mut frozen = self.frozen.subscribe();
        frozen.wait_for(|frozen| !frozen).await.unwrap();
    }

    async fn carry(&self, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Ended> {
        /// Pieces under way: far more than any window has.
        const UNDER_WAY: usize = 1 << 14;
        let (enter, leave) = mpsc::channel(UNDER_WAY);
        tokio::try_join!(self.enter(from, enter), self.leave(way, to, leave))?;
        Ok(())
    }

    /// Reads pieces and says when each is due at the other end.
    async fn enter(
        &self,
        mut from: ReadHalf<'_>,
        pieces: mpsc::Sender<(Instant, Bytes)>,
    ) -> Result<(), Ended> {
        const PIECE: usize = 256 << 10;
        let mut free = Instant::now();
        loop {
            self.thawed().await;
            let mut piece = BytesMut::with_capacity(PIECE);
            match from.read_buf(&mut piece).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(Ended::Trapped),
            }
            free = free.max(Instant::now());
            if let Some(bandwidth) = self.road.bandwidth {
                free += Duration::from_secs_f64(piece.len() as f64 / bandwidth);
            }
            let sent = pieces.send((free + self.road.delay, piece.freeze())).await;
            sent.map_err(|_| Ended::Closed)?;
        }
    }

    async fn leave(
        &self,
        way: Way,
        mut to: WriteHalf<'_>,
        mut pieces: mpsc::Receiver<(Instant, Bytes)>,
    ) -> Result<(), Ended> {
        let mut carried = 0;
        while let Some((due, piece)) = pieces.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            self.thawed().await;
            let sent = to.write_all(&piece).await;
            sent.map_err(|_| Ended::Trapped)?;
            carried += piece.len() as u64;
            if self.springs(way, carried) {
                return Err(Ended::Trapped);
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    }

    /// Whether a connection that carried so much that way is to be reset.
    fn springs(&self, way: Way, carried: u64) -> bool {
        let mut trap = self.trap.lock().unwrap();
        let Some(set) = trap.as_mut() else {
            return false;
        };
        let springs = set.way == way && carried >= set.bytes && set.connections > 0;
        if springs {
            set.connections -= 1;
            self.trapped.fetch_add(1, Ordering::Relaxed);
        }
        springs
    }
}
