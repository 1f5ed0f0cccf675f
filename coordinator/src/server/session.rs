//! Workers' sessions: each call of a worker carries the secret of its admission, so that nobody acts in another one's
//! name. It decides which secrets are genuine; what a worker may do with one is the driver's to say.
//!
//! A secret is a message authentication code (keyed BLAKE3) of the worker's number, and of the identity that its
//! certificate or token showed at the admission, under a random key that this life of the coordinator alone knows.
//! So there is nothing to store and nothing that can be guessed; a session outlives the connection, and ends with the
//! coordinator's process.

use std::net::{IpAddr, Ipv6Addr};

use blake3::Hash;
use bytes::Bytes;
use proto::v1;
use tonic::Request;

use super::{caller::Caller, refusal::Refusal};
use crate::{driver::Members, fault_budget::Peer, leases::WorkerId};

/// Issues and checks sessions.
pub(super) struct Sessions {
    key: [u8; 32],
    generation: u64,
    members: Members,
}

/// What a call says of the worker that makes it.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    /// The number of its admission.
    worker: u64,
    secret: &'a [u8],
    /// The identity that its connection or token shows; empty where there is none.
    identity: &'a str,
}

impl<'a> Claim<'a> {
    pub(super) const fn new(worker: u64, secret: &'a [u8], identity: &'a str) -> Self {
        Self {
            worker,
            secret,
            identity,
        }
    }
}

/// A message of a worker, which carries the session of its admission.
pub(super) trait InSession {
    /// The number of the admission, and its secret.
    fn session(&self) -> (u64, &[u8]);
}

macro_rules! in_session {
    ($($message:ty),* $(,)?) => {
        $(impl InSession for $message {
            fn session(&self) -> (u64, &[u8]) {
                (self.worker, &self.session)
            }
        })*
    };
}

in_session!(
    v1::DescribeJobRequest,
    v1::EvaluationReport,
    v1::FetchAudioRequest,
    v1::GiveBackRequest,
    v1::HeartbeatRequest,
    v1::LeaseInPartsRequest,
    v1::LeaseRequest,
    v1::LeaveRequest,
    v1::OpenLaneRequest,
    v1::PullRequest,
);

/// The identity that a call shows, to which its session is bound; empty where it shows none.
pub(super) fn identity<T>(request: &Request<T>) -> String {
    let caller = Caller::of(request);
    let identity = caller.identity.as_ref();
    identity.map_or_else(String::new, |identity| identity.name.clone())
}

/// Who stands behind a call, by whom faults are counted: its identity, or else its address.
pub(super) fn peer<T>(request: &Request<T>) -> Peer {
    let caller = Caller::of(request);
    Peer(match &caller.identity {
        Some(identity) => format!("identity `{}`", identity.name),
        None => format!("address {}", network(caller.peer.ip())),
    })
}

/// An address, or the network that a host of IPv6 chooses its addresses from.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) if address.is_loopback() => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Sessions {
    /// Those of one life of the coordinator.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn new(generation: u64, members: Members) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            generation,
            members,
        })
    }

    /// The secret of `worker`'s admission.
    pub(super) fn issue(&self, worker: u64, identity: &str) -> Bytes {
        Bytes::copy_from_slice(self.secret(worker, identity).as_bytes())
    }

    fn secret(&self, worker: u64, identity: &str) -> Hash {
        let mut code = blake3::Hasher::new_keyed(&self.key);
        code.update(&worker.to_le_bytes());
        code.update(identity.as_bytes());
        code.finalize()
    }

    /// The message of a call, if its session is genuine; the worker may have left or fallen silent since.
    ///
    /// # Errors
    /// [`Refusal::NoSession`] otherwise.
    pub(super) fn message<T: InSession>(&self, request: Request<T>) -> Result<T, Refusal> {
        let identity = identity(&request);
        let (worker, secret) = request.get_ref().session();
        self.check(Claim::new(worker, secret, &identity))?;
        Ok(request.into_inner())
    }

    /// The message of a call by a worker that is here.
    ///
    /// # Errors
    /// [`Refusal::NoSession`] otherwise.
    pub(super) fn message_of_member<T: InSession>(
        &self,
        request: Request<T>,
    ) -> Result<T, Refusal> {
        let identity = identity(&request);
        let (worker, secret) = request.get_ref().session();
        self.check_member(Claim::new(worker, secret, &identity))?;
        Ok(request.into_inner())
    }

    /// The message of a call that names the life of the coordinator which it means: whoever comes from another one is
    /// told that it is not known, and its session is not looked at.
    ///
    /// # Errors
    /// [`Refusal::NoSession`] if it means this life, and its session is not genuine.
    pub(super) fn message_of<T: InSession>(
        &self,
        request: Request<T>,
        generation: u64,
    ) -> Result<T, Refusal> {
        if generation == self.generation {
            return self.message(request);
        }
        Ok(request.into_inner())
    }

    /// The worker that makes a call, if its session is genuine; it may have left or fallen silent since.
    ///
    /// # Errors
    /// [`Refusal::NoSession`] otherwise.
    pub(super) fn check(&self, claim: Claim<'_>) -> Result<u64, Refusal> {
        let Claim {
            worker,
            secret,
            identity,
        } = claim;
        let said = <[u8; 32]>::try_from(secret).map(Hash::from_bytes);
        // Hashes are compared in constant time.
        match said {
            Ok(said) if said == self.secret(worker, identity) => Ok(worker),
            _ => Err(Refusal::NoSession { worker }),
        }
    }

    /// The same of a worker that is here.
    ///
    /// # Errors
    /// [`Refusal::NoSession`] otherwise.
    pub(super) fn check_member(&self, claim: Claim<'_>) -> Result<u64, Refusal> {
        let worker = self.check(claim)?;
        match self.members.contains(WorkerId(worker)) {
            true => Ok(worker),
            false => Err(Refusal::NoSession { worker }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_ipv6_is_one_peer_by_whatever_address_of_its_network() {
        let network = |address: &str| network(address.parse().unwrap());
        assert_eq!(network("10.0.0.3"), "10.0.0.3");
        assert_eq!(network("::1"), "::1");
        assert_eq!(network("2001:db8:1:2::7"), "2001:db8:1:2::/64");
        assert_eq!(network("2001:db8:1:2:ffff::9"), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_session_is_of_one_worker_one_identity_and_one_life() {
        let sessions = Sessions::new(3, Members::default()).unwrap();
        let secret = sessions.issue(7, "gpu-a");
        let claim = Claim::new;
        assert_eq!(sessions.check(claim(7, &secret, "gpu-a")).unwrap(), 7);
        let mut wrong = secret.to_vec();
        wrong[31] ^= 1;
        let longer = [&secret[..], &[0]].concat();
        for claim in [
            claim(8, &secret, "gpu-a"),
            claim(7, &secret, "gpu-b"),
            claim(7, &secret, ""),
            claim(7, &wrong, "gpu-a"),
            claim(7, &secret[..16], "gpu-a"),
            claim(7, &longer, "gpu-a"),
            claim(7, b"", "gpu-a"),
        ] {
            let refused = sessions.check(claim).unwrap_err().to_string();
            assert!(refused.contains("join again"), "{refused}");
        }
        let later = Sessions::new(3, Members::default()).unwrap();
        assert!(later.check(claim(7, &secret, "gpu-a")).is_err());
        // It has left.
        assert!(sessions.check_member(claim(7, &secret, "gpu-a")).is_err());
        // Only a call that means this life has to prove anything.
        let leave = || Request::new(v1::LeaveRequest::default());
        assert!(sessions.message_of(leave(), 3).is_err());
        assert!(sessions.message_of(leave(), 2).is_ok());
    }
}
