//! Resource limits: how many connections and bytes, and how much time, the coordinator grants its peers. Only
//! numbers: whoever keeps one says what happens beyond it.

use std::time::Duration;

/// Times and numbers that no peer gets past. None of them reaches a number that is trained.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. A process may have 1024 files open, as a rule, and journals, checkpoints
    /// and audio want theirs.
    pub connections: usize,
    /// Connections from one IP address, so that no host shuts the others out. A worker has three and a
    /// person one or two: more than a hundred workers may share a host.
    pub connections_per_peer: usize,
    /// Time in which a connection must have shown that it speaks HTTP/2.
    pub greeting: Duration,
    /// Time in which a request must have come whole, pushes aside.
    pub request: Duration,
    /// Bytes of requests that one address may have under way: what came of each small one, and a
    /// whole message for each push.
    pub bytes_per_peer: usize,
    /// Time in which a chunk must come, where vectors come, and be taken, where chunks are sent:
    /// 35 kB/s at 30 s.
    pub stall: Duration,
    /// How often workers are asked to say that they are there.
    pub heartbeat: Duration,
    /// Silence after which a worker is lost.
    pub silence: Duration,
    /// How long a pass may come to nothing because its leases are returned undone, before its job fails:
    /// files may be out of reach for a while.
    pub returns: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 768,
            connections_per_peer: 384,
            greeting: Duration::from_secs(10),
            request: Duration::from_secs(30),
            bytes_per_peer: 1 << 30,
            stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            returns: Duration::from_secs(90),
        }
    }
}
