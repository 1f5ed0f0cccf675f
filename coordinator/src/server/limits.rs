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
    /// Connections beyond [`Self::connections`] that only this host's own addresses may have: an operator gets in
    /// when others have taken the rest.
    pub reserved: usize,
    /// Time in which a connection must have shown that it speaks HTTP/2.
    pub greeting: Duration,
    /// Time in which a request must have come whole, pushes aside.
    pub request: Duration,
    /// Bytes that one address may have under way: what came of its requests, and what answers hold that it has
    /// not taken.
    pub bytes_per_peer: usize,
    /// The same of all addresses together.
    pub bytes: usize,
    /// Time in which a chunk must come, where vectors come, and in which what is sent must be taken, whatever it
    /// is: 35 kB/s at 30 s.
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
            reserved: 32,
            greeting: Duration::from_secs(10),
            request: Duration::from_secs(30),
            bytes_per_peer: 512 << 20,
            bytes: 1 << 30,
            stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            returns: Duration::from_secs(90),
        }
    }
}
