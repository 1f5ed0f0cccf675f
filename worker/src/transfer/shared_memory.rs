//! The shared-memory transport of a worker on the coordinator's host: its own shared memory, which it writes gradients
//! into, and those that the coordinator writes weights into. Where it cannot be used, vectors go over the connection.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use proto::{
    CHUNK_BYTES,
    endpoint::Connection,
    failpoint::{self, Failpoint},
    shared_memory::{self, SharedMemory},
    v1::{self, tensors_client::TensorsClient},
    wire::Wire,
};

use super::{Vector, answer};

/// `off` keeps a worker's vectors on the connection.
pub const VARIABLE: &str = "UNISONO_SHARED_MEMORY";

/// Whether the environment lets vectors move through memory: unless it says no.
///
/// # Errors
/// What [`VARIABLE`] says, where that means nothing.
pub fn is_wanted() -> Result<bool, String> {
    std::env::var_os(VARIABLE).map_or(Ok(true), |value| says_on(&value.to_string_lossy()))
}

fn says_on(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err(value.to_owned()),
    }
}

/// Weights that are read by turns.
const REMEMBERED: usize = 2;

/// Whom shared memory is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    worker: u64,
    generation: u64,
    job: String,
}

#[derive(Debug, Default)]
pub(super) struct SharedMemoryTransport {
    boot_id: Option<String>,
    /// It was tried and cannot be used.
    closed: AtomicBool,
    /// The worker's own, or that there is none.
    own: tokio::sync::Mutex<Option<(Owner, Option<Arc<SharedMemory>>)>>,
    /// Shared memory with weights, the newest at the end.
    weights: Mutex<Vec<Arc<SharedMemory>>>,
}

impl SharedMemoryTransport {
    pub(super) fn new() -> Self {
        // What means nothing was refused when the program began.
        let wanted = is_wanted().unwrap_or(true);
        Self {
            boot_id: shared_memory::boot_id().filter(|_| wanted),
            ..Self::default()
        }
    }

    /// What to tell the coordinator of this host, as long as shared memory may be used.
    pub(super) fn boot_id(&self) -> Option<&str> {
        let closed = self.closed.load(Ordering::Relaxed);
        self.boot_id.as_deref().filter(|_| !closed)
    }

    /// Gives shared memory up, after it failed.
    pub(super) fn close(&self, error: &io::Error) {
        tracing::debug!(%error, "vectors go over the connection: the coordinator's memory is out of reach");
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The shared memory for the vector that `header` announces.
    pub(super) async fn own(
        &self,
        client: &TensorsClient<Connection>,
        header: &v1::ContributionHeader,
        bytes: u64,
    ) -> Option<Arc<SharedMemory>> {
        let boot_id = self.boot_id()?;
        let key = header.key.as_ref()?;
        let owner = Owner {
            worker: header.worker,
            generation: key.generation,
            job: key.job.clone(),
        };
        let mut own = self.own.lock().await;
        if let Some((_, memory)) = own.as_ref().filter(|(of, _)| *of == owner) {
            return memory.clone();
        }
        let request = v1::OpenLaneRequest {
            worker: owner.worker,
            generation: owner.generation,
            job: owner.job.clone(),
            boot_id: boot_id.to_owned(),
            session: header.session.clone(),
        };
        let mut client = client.clone();
        let opened = answer("OpenLane", super::SILENCE, client.open_lane(request)).await;
        let memory = opened.ok()?.into_inner().lane;
        let place =
            memory.and_then(|memory| shared_memory::SharedMemoryHandle::try_from(memory).ok());
        let memory = place
            .filter(|place| place.bytes == bytes)
            .and_then(|place| {
                let opened = SharedMemory::open(place, true);
                opened.map_err(|error| self.close(&error)).ok()
            });
        let memory = memory.map(Arc::new);
        *own = Some((owner, memory.clone()));
        memory
    }

    /// The coordinator does not know the shared memory any more: another one is to be asked for.
    pub(super) async fn forget(&self) {
        *self.own.lock().await = None;
    }

    /// Shared memory that the coordinator writes weights into.
    pub(super) fn open_weights(
        &self,
        place: shared_memory::SharedMemoryHandle,
    ) -> io::Result<Arc<SharedMemory>> {
        // Nothing panics while it is held.
        let mut known = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = known.iter().find(|memory| memory.handle() == place) {
            return Ok(Arc::clone(memory));
        }
        let memory = Arc::new(SharedMemory::open(place, false)?);
        known.push(Arc::clone(&memory));
        if known.len() > REMEMBERED {
            known.remove(0);
        }
        Ok(memory)
    }
}

/// Writes a vector into the worker's own shared memory, and gives the number that it has there.
///
/// # Errors
/// When the system refuses, for want of memory for instance.
pub(super) fn write(memory: &SharedMemory, vector: &Vector) -> io::Result<u64> {
    /// The bytes that this process has ever written.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = 1 + WRITTEN.fetch_add(1, Ordering::Relaxed);
    memory.begin()?;
    let mut room = Vec::new();
    let runs = vector.values.chunks(CHUNK_BYTES / vector.wire.bytes());
    for (run, values) in runs.enumerate() {
        let bytes = vector.wire.bytes_of(values, &mut room);
        memory.write(bytes, (CHUNK_BYTES * run) as u64)?;
        failpoint::reach(Failpoint::WorkerPush);
    }
    memory.commit(number)?;
    Ok(number)
}

/// Reads `values` out of shared memory; false when they are not, or not any more, those of `number`.
///
/// # Errors
/// When the system refuses, or the shared memory is shorter.
pub(super) fn read(
    memory: &SharedMemory,
    number: u64,
    wire: Wire,
    values: &mut [f32],
) -> io::Result<bool> {
    let copied = memory.read_version(number, || {
        let mut room = Vec::new();
        for (run, values) in values.chunks_mut(CHUNK_BYTES / wire.bytes()).enumerate() {
            let offset = (CHUNK_BYTES * run) as u64;
            if let Some(bytes) = wire.bytes_in_place(values) {
                memory.read(bytes, offset)?;
            } else {
                room.resize(wire.bytes() * values.len(), 0);
                memory.read(&mut room, offset)?;
                wire.decode(&room, values);
            }
            failpoint::reach(Failpoint::WorkerPull);
        }
        Ok(())
    });
    Ok(copied?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_change_while_they_are_read_are_not_taken() {
        for wire in [Wire::F32, Wire::Bf16] {
            let vector = Vector::new((0..300).map(|at| at as f32).collect(), wire);
            let memory = SharedMemory::create(vector.bytes(), true).unwrap();
            let number = write(&memory, &vector).unwrap();
            let mut values = vec![0.0; 300];
            assert!(!read(&memory, number + 1, wire, &mut values).unwrap());
            assert!(read(&memory, number, wire, &mut values).unwrap());
            let mut rounded = (*vector.values).clone();
            wire.round(&mut rounded);
            assert_eq!(values, rounded);
            memory.begin().unwrap();
            assert!(!read(&memory, number, wire, &mut values).unwrap());
        }
    }

    #[test]
    fn shared_memory_is_turned_off_in_any_spelling_and_nonsense_is_an_error() {
        for off in ["off", "OFF", "0", "false", "No", " off "] {
            assert_eq!(says_on(off), Ok(false), "{off}");
        }
        for on in ["", "on", "1", "TRUE", "yes"] {
            assert_eq!(says_on(on), Ok(true), "{on}");
        }
        for nonsense in ["offf", "disable", "-1"] {
            assert_eq!(says_on(nonsense), Err(nonsense.to_owned()));
        }
    }

    #[test]
    fn shared_memory_with_weights_is_opened_once() {
        let transport = SharedMemoryTransport::new();
        let made = SharedMemory::create(10, false).unwrap();
        let first = transport.open_weights(made.handle()).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &transport.open_weights(made.handle()).unwrap()
        ));
        let others: Vec<SharedMemory> = (0..REMEMBERED)
            .map(|_| SharedMemory::create(10, false).unwrap())
            .collect();
        for other in &others {
            transport.open_weights(other.handle()).unwrap();
        }
        let again = transport.open_weights(made.handle()).unwrap();
        assert!(!Arc::ptr_eq(&first, &again));
    }
}
