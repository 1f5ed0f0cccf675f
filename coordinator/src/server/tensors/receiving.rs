//! How a contribution comes in. It decides what a push may make the coordinator hold: one vector a
//! worker, of the model's size, from who was leased its node, and as long as it keeps coming.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    CHUNK_BYTES,
    contribution::{Contribution, Digest, Hasher, Key},
    convert::ConvertError,
    failpoint::{self, Failpoint},
    shared_memory::SharedMemory,
    tensor::Assembler,
    v1::{self, push_request::Part},
    wire::Wire,
};
use tokio::{sync::oneshot, time::Instant};
use tonic::{Code, Streaming};

use crate::{
    driver::{Announced, Command, Expected, Handle},
    leases::ContributionOutcome,
    records::times::Times,
    server::{
        messages,
        refusal::Refusal,
        session::{Claim, Sessions},
    },
};

use super::copying;

type Parts = Streaming<v1::PushRequest>;

/// Receives contributions for a driver.
#[derive(Clone)]
pub(super) struct Receiver {
    handle: Handle,
    pushes: Arc<Pushes>,
    sessions: Arc<Sessions>,
    /// Time in which a chunk, or the end, must come.
    stall: Duration,
}

impl Receiver {
    pub(super) fn new(handle: Handle, stall: Duration, sessions: Arc<Sessions>) -> Self {
        Self {
            handle,
            pushes: Arc::default(),
            sessions,
            stall,
        }
    }

    /// Receives a push of a worker that shows `identity`.
    pub(super) async fn receive(
        self,
        mut parts: Parts,
        identity: String,
    ) -> Result<ContributionOutcome, Refusal> {
        let Some(Part::Header(mut header)) = self.first(&mut parts).await? else {
            return Err(Refusal::NoHeader);
        };
        let claim = Claim::new(header.worker, &header.session, &identity);
        let worker = self.sessions.check(claim)?;
        let key: Key = header
            .key
            .take()
            .ok_or(ConvertError::Missing("key"))?
            .try_into()?;
        if header.in_lane > 0 {
            return self.receive_in_lane(worker, key, header).await;
        }
        let digest = Digest::try_from(header.digest.as_ref());
        let digest = digest.map_err(|_| ConvertError::OutOfRange {
            field: "digest",
            value: format!("{} bytes", header.digest.len()),
        })?;
        let announced = self.announce(worker, key.clone(), Some(digest)).await?;
        let Announced::Expected(Expected { elements, wire, .. }) = announced else {
            self.drain(parts).await;
            return Ok(ContributionOutcome::Stale);
        };
        let times = messages::times(header.spent);
        let received = self.receive_vector(&mut parts, worker, &key, header, (elements, wire));
        let (contribution, finite, found) = self.judged(worker, &key, received).await?;
        if found != digest {
            let lie = async { Err::<(), _>(Refusal::Digest) };
            return self
                .judged(worker, &key, lie)
                .await
                .map(|()| ContributionOutcome::Stale);
        }
        self.contribute(worker, key, (contribution, times), digest, finite)
            .await
    }

    /// The contribution that `header` announces with the vector that follows it, whether that is finite, and the digest
    /// of both.
    async fn receive_vector(
        &self,
        parts: &mut Parts,
        worker: u64,
        key: &Key,
        header: v1::ContributionHeader,
        (elements, wire): (usize, Wire),
    ) -> Result<(Contribution, bool, Digest), Refusal> {
        let announced = header.elements;
        let mut contribution = header.into_contribution(None)?;
        contribution.wire = wire;
        let mut hasher = contribution.hasher();
        let mut finite = true;
        if announced > 0 {
            let assembler = Assembler::new(announced, elements)?.of(wire);
            let vector = self.assemble(parts, assembler, &mut hasher);
            let vector = self.guarded(worker, key, vector).await?;
            finite = is_finite(&vector);
            contribution.sum = Some(vector);
        }
        Ok((contribution, finite, hasher.digest()))
    }

    /// What `receive` gives. Where what the worker sent cannot be a contribution, that is its fault, and said to the
    /// driver.
    async fn judged<T>(
        &self,
        worker: u64,
        key: &Key,
        receive: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let received = receive.await;
        if let Err(fault @ (Refusal::Message(_) | Refusal::Vector(_) | Refusal::Digest)) = &received
        {
            let (key, reason) = (key.clone(), fault.to_string());
            self.handle
                .tell(Command::Reject {
                    worker,
                    key,
                    reason,
                })
                .await;
        }
        received
    }

    /// Receives a contribution whose vector lies in the worker's lane.
    async fn receive_in_lane(
        &self,
        worker: u64,
        key: Key,
        header: v1::ContributionHeader,
    ) -> Result<ContributionOutcome, Refusal> {
        let (expected, asked) = match self.announce(worker, key.clone(), None).await? {
            Announced::Expected(expected) => (expected, true),
            Announced::Unasked(expected) => (expected, false),
            Announced::Stale => return Ok(ContributionOutcome::Stale),
        };
        let Expected {
            elements,
            wire,
            lane,
        } = expected;
        let lane = lane.ok_or(Refusal::NoLane)?;
        let (number, times) = (header.in_lane, messages::times(header.spent));
        let announced = async {
            // No element of it comes in chunks.
            Assembler::new(header.elements, elements)?;
            Ok(header.into_contribution(None)?)
        };
        let mut contribution = self.judged(worker, &key, announced).await?;
        contribution.wire = wire;
        let mut hasher = contribution.hasher();
        let copied = self.copy(lane, number, wire, elements);
        let (values, blocks) = self.guarded(worker, &key, copied).await?;
        blocks.iter().for_each(|block| hasher.add(block));
        let digest = hasher.digest();
        if !asked {
            self.handle.buffers().give(values);
            self.announce(worker, key, Some(digest)).await?;
            return Ok(ContributionOutcome::Stale);
        }
        let finite = is_finite(&values);
        contribution.sum = Some(values);
        self.contribute(worker, key, (contribution, times), digest, finite)
            .await
    }

    async fn contribute(
        &self,
        worker: u64,
        key: Key,
        (contribution, times): (Contribution, Times),
        digest: Digest,
        finite: bool,
    ) -> Result<ContributionOutcome, Refusal> {
        let contributed = self.handle.ask(|reply| Command::Contribute {
            worker,
            key,
            contribution: Box::new(contribution),
            digest,
            times,
            finite,
            reply,
        });
        Ok(contributed.await??)
    }

    async fn announce(
        &self,
        worker: u64,
        key: Key,
        digest: Option<Digest>,
    ) -> Result<Announced, Refusal> {
        let announced = self.handle.ask(|reply| Command::Announce {
            worker,
            key,
            digest,
            reply,
        });
        Ok(announced.await?)
    }

    /// What `receive` gives, unless the worker begins another push. That it broke off is said to the
    /// driver.
    async fn guarded<T>(
        &self,
        worker: u64,
        key: &Key,
        receive: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let mut pushing = Arc::clone(&self.pushes).begin(worker);
        let received = tokio::select! {
            received = receive => received,
            _ = &mut pushing.superseded => Err(Refusal::Superseded),
        };
        if let Err(Refusal::Broken(_) | Refusal::Stalled { .. } | Refusal::Superseded) = received {
            let key = key.clone();
            self.handle.tell(Command::Interrupted { worker, key }).await;
        }
        received
    }

    /// What lies in a lane, copied before it is looked at: the worker may still write there. Nobody is
    /// waited for.
    async fn copy(
        &self,
        lane: Arc<SharedMemory>,
        number: u64,
        wire: Wire,
        elements: usize,
    ) -> Result<(Vec<f32>, Vec<Digest>), Refusal> {
        let buffers = self.handle.buffers().clone();
        let copied = tokio::task::spawn_blocking(move || {
            let mut values = buffers.take(elements);
            let blocks = copying::copy(&lane, number, wire, &mut values)?;
            Ok(blocks.map(|blocks| (values, blocks)))
        });
        let copied = copied.await;
        let copied = copied.unwrap_or_else(|broken| Err(io::Error::other(broken)));
        // It was written again: a newer push comes, or has come.
        copied.map_err(Refusal::Lane)?.ok_or(Refusal::Superseded)
    }

    async fn assemble(
        &self,
        parts: &mut Parts,
        mut assembler: Assembler,
        hasher: &mut Hasher,
    ) -> Result<Vec<f32>, Refusal> {
        let mut due = Instant::now() + self.stall;
        let mut since = 0;
        while let Some(part) = self.next(parts, due).await? {
            let Part::Chunk(chunk) = part else {
                return Err(Refusal::NoHeader);
            };
            assembler.push(&chunk)?;
            // While the next ones are on their way: afterwards it would be waited for.
            hasher.update(&chunk.data);
            failpoint::reach(Failpoint::CoordinatorReceive);
            since += chunk.data.len();
            // Many small chunks are worth one: what trickles counts as silence.
            if since >= CHUNK_BYTES {
                since = 0;
                due = Instant::now() + self.stall;
            }
        }
        Ok(assembler.finish()?)
    }

    async fn first(&self, parts: &mut Parts) -> Result<Option<Part>, Refusal> {
        self.next(parts, Instant::now() + self.stall).await
    }

    async fn next(&self, parts: &mut Parts, due: Instant) -> Result<Option<Part>, Refusal> {
        match tokio::time::timeout_at(due, parts.message()).await {
            Ok(Ok(part)) => Ok(part.and_then(|part| part.part)),
            // The body was not even begun.
            Ok(Err(status)) if status.code() == Code::Unavailable => Err(Refusal::TooMuch),
            Ok(Err(status)) => Err(Refusal::Broken(status.message().to_owned())),
            Err(_) => Err(Refusal::Stalled { within: self.stall }),
        }
    }

    /// Reads what still comes, so that the sender finds its answer instead of a reset; not for ever.
    async fn drain(&self, mut parts: Parts) {
        let due = Instant::now() + self.stall;
        while let Ok(Some(_)) = self.next(&mut parts, due).await {}
    }
}

/// Whether no element is infinite or not a number. Without a branch for each, so that the loop is vectorised.
fn is_finite(values: &[f32]) -> bool {
    let block = |block: &[f32]| {
        block
            .iter()
            .fold(true, |all, value| all & value.is_finite())
    };
    values.chunks(FINITE_BLOCK).all(block)
}

/// Elements that are looked at before it is asked whether to go on.
const FINITE_BLOCK: usize = 1 << 12;

/// The pushes that are under way, one a worker: a newer one ends the older, whose connection the
/// worker has given up.
#[derive(Default)]
struct Pushes {
    by_worker: Mutex<BTreeMap<u64, (u64, oneshot::Sender<()>)>>,
}

struct Pushing {
    pushes: Arc<Pushes>,
    worker: u64,
    number: u64,
    superseded: oneshot::Receiver<()>,
}

impl Pushes {
    fn begin(self: Arc<Self>, worker: u64) -> Pushing {
        let (end, superseded) = oneshot::channel();
        let mut by_worker = self.lock();
        let number = by_worker.get(&worker).map_or(0, |(number, _)| number + 1);
        by_worker.insert(worker, (number, end));
        drop(by_worker);
        Pushing {
            pushes: self,
            worker,
            number,
            superseded,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, oneshot::Sender<()>)>> {
        // Nothing panics while it is held, and the map is whole in any case.
        self.by_worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let mut by_worker = self.pushes.lock();
        if by_worker.get(&self.worker).map(|(number, _)| *number) == Some(self.number) {
            by_worker.remove(&self.worker);
        }
    }
}
