//! Who is connected: how many connections there may be, how many from one address, and who makes room when all
//! places are taken. It decides nothing about calls, which it counts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use crate::server::{
    allowance::{Allowance, Total},
    limits::Limits,
};

/// All connections.
pub(super) struct Guests {
    limits: Limits,
    total: Arc<Total>,
    by_peer: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    /// Counts connections.
    last: u64,
    peers: BTreeMap<IpAddr, Peer>,
}

/// The connections of one address, in the order in which they came.
struct Peer {
    allowance: Arc<Allowance>,
    connections: BTreeMap<u64, Arc<OpenConnection>>,
}

/// A connection, as its calls know it.
#[derive(Debug)]
pub(in crate::server) struct OpenConnection {
    number: u64,
    /// Calls that are under way.
    open: AtomicUsize,
    /// Calls so far.
    calls: AtomicUsize,
    /// Why it is to end.
    ending: watch::Sender<Option<&'static str>>,
}

impl OpenConnection {
    /// Counts a call for as long as it is under way.
    pub(in crate::server) fn begin_call(self: &Arc<Self>) -> OpenCall {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(self))
    }

    /// Ends the connection.
    pub(in crate::server) fn hang_up(&self, reason: &'static str) {
        self.ending.send_replace(Some(reason));
    }

    /// Which of an address's connections makes room: one that never called anything before one that has no call
    /// under way, and that before others; of such, the one that came last.
    fn worth(&self) -> (bool, bool, std::cmp::Reverse<u64>) {
        let [open, calls] = [&self.open, &self.calls].map(|count| count.load(Ordering::Relaxed));
        (open > 0, calls > 0, std::cmp::Reverse(self.number))
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(in crate::server) struct OpenCall(Arc<OpenConnection>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guests {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: Total::new(limits.bytes),
            by_peer: Mutex::default(),
        }
    }

    /// A place for a connection of the peer `from`. When all are taken, the address that has the most makes room for
    /// one that has less; if there is none, this host's own addresses have a few more places.
    pub(super) fn seat(self: &Arc<Self>, from: SocketAddr) -> Result<Seat, String> {
        let local = from.ip().is_loopback();
        let address = group(from.ip());
        let limits = &self.limits;
        let mut all = self.lock();
        let count = |peer: &Peer| peer.connections.len();
        let own = all.peers.get(&address).map_or(0, count);
        if own >= limits.connections_per_peer {
            return Err(format!("{own} from one address are the most"));
        }
        let taken: usize = all.peers.values().map(count).sum();
        if taken >= limits.connections && !all.make_room(own) {
            let most = limits.connections + if local { limits.reserved } else { 0 };
            if taken >= most {
                return Err(format!("{taken} are the most"));
            }
        }
        all.forget_idle_peers();
        all.last += 1;
        let number = all.last;
        let new = || Peer {
            allowance: Allowance::new(limits.bytes_per_peer, &self.total, local),
            connections: BTreeMap::new(),
        };
        let peer = all.peers.entry(address).or_insert_with(new);
        let allowance = Arc::clone(&peer.allowance);
        let connection = Arc::new(OpenConnection {
            number,
            open: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            ending: watch::Sender::new(None),
        });
        peer.connections.insert(number, Arc::clone(&connection));
        Ok(Seat {
            guests: Arc::clone(self),
            peer: from,
            allowance,
            connection,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        // Nothing panics while it is held, and the map is whole in any case.
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Hangs up on a connection of the address that has the most, if that has two more than `own`.
    fn make_room(&mut self, own: usize) -> bool {
        let most = self
            .peers
            .values_mut()
            .max_by_key(|peer| peer.connections.len())
            .filter(|peer| peer.connections.len() > own + 1);
        let Some(peer) = most else { return false };
        let worth = |one: &&Arc<OpenConnection>| one.worth();
        let Some(least) = peer.connections.values().min_by_key(worth).cloned() else {
            return false;
        };
        peer.connections.remove(&least.number);
        least.hang_up("others need the connections of this address");
        true
    }

    /// An address that has no connection is remembered for as long as it has called more than it may.
    fn forget_idle_peers(&mut self) {
        /// Addresses that are remembered in any case.
        const FEW: usize = 1024;
        /// Beyond these, those that have no connection are forgotten.
        const MANY: usize = 16 * FEW;
        if self.peers.len() > FEW {
            let many = self.peers.len() > MANY;
            self.peers.retain(|_, peer| {
                !peer.connections.is_empty() || !(many || peer.allowance.is_fresh())
            });
        }
    }
}

/// Addresses that count as one: whoever has an IPv6 address has a network of them (RFC 6177).
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        other => other,
    }
}

/// A connection's place among the guests.
pub(super) struct Seat {
    guests: Arc<Guests>,
    peer: SocketAddr,
    allowance: Arc<Allowance>,
    connection: Arc<OpenConnection>,
}

impl Seat {
    pub(super) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What its address may hold.
    pub(super) const fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    pub(super) const fn connection(&self) -> &Arc<OpenConnection> {
        &self.connection
    }

    /// Turns to a reason when the connection is to end.
    pub(super) fn ending(&self) -> watch::Receiver<Option<&'static str>> {
        self.connection.ending.subscribe()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.guests.lock();
        let address = group(self.peer.ip());
        if let Some(peer) = all.peers.get_mut(&address) {
            peer.connections.remove(&self.connection.number);
            if peer.connections.is_empty() && peer.allowance.is_fresh() {
                all.peers.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(connections: usize, connections_per_peer: usize) -> Arc<Guests> {
        Arc::new(Guests::new(Limits {
            connections,
            connections_per_peer,
            reserved: 1,
            ..Limits::default()
        }))
    }

    fn from(address: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(address.into(), 1234)
    }

    fn ends(seat: &Seat) -> bool {
        seat.connection.ending.borrow().is_some()
    }

    #[test]
    fn however_many_addresses_take_all_places_others_get_theirs() {
        let guests = guests(12, 6);
        let mut seats = BTreeMap::<u8, Vec<Seat>>::new();
        for round in 0..6 {
            for last in 1..=3 {
                let seat = guests.seat(from([10, 0, 0, last]));
                assert!(seat.is_ok() || round >= 4);
                seats.entry(last).or_default().extend(seat);
            }
        }
        let working = seats[&1][0].connection.begin_call();
        let called = seats[&1][1].connection.begin_call();
        drop(called);
        let late: Vec<Seat> = (4..=11)
            .map(|last| guests.seat(from([10, 0, 0, last])).unwrap())
            .collect();
        let left = |last: u8| seats[&last].iter().filter(|seat| !ends(seat)).count();
        assert_eq!([left(1), left(2), left(3)].iter().sum::<usize>(), 12 - 8);
        assert!(!ends(&seats[&1][0]), "it is in the middle of a call");
        assert!(late.iter().all(|seat| !ends(seat)));
        drop(working);
    }

    #[test]
    fn an_address_has_its_share_and_this_host_a_place_more() {
        let guests = guests(2, 2);
        let address = |last| from([10, 0, 0, last]);
        let _held = [
            guests.seat(address(1)).unwrap(),
            guests.seat(address(2)).unwrap(),
        ];
        assert!(guests.seat(address(3)).is_err());
        let own = guests.seat(from([127, 0, 0, 1])).unwrap();
        assert!(guests.seat(from([127, 0, 0, 1])).is_err());
        drop(own);
        guests.seat((Ipv6Addr::LOCALHOST, 9).into()).unwrap();
        assert_eq!(guests.lock().peers.len(), 2);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let guests = guests(9, 2);
        let one = |host: u16| from([0x2001, 0xdb8, 0, 1, 7, 0, 0, host]);
        let _held = [guests.seat(one(1)).unwrap(), guests.seat(one(2)).unwrap()];
        assert!(guests.seat(one(3)).is_err());
        guests
            .seat(from([0x2001, 0xdb8, 0, 2, 7, 0, 0, 1]))
            .unwrap();
    }

    #[test]
    fn who_has_called_too_often_is_remembered_when_gone() {
        let guests = guests(9, 2);
        let address = from([10, 0, 0, 1]);
        let seat = guests.seat(address).unwrap();
        let patience = std::time::Duration::ZERO;
        let turn = |seat: &Seat| {
            let counted = crate::server::methods::Counted::QueueChanges;
            seat.allowance.turn(counted, patience).is_some()
        };
        while turn(&seat) {}
        drop(seat);
        assert!(!turn(&guests.seat(address).unwrap()));
    }
}
