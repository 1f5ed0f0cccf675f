//! Publishes each version of the weights to workers: encoded, or in shared memory behind a seqlock. It decides
//! where the bytes of a version lie: in a lane, written block by block as the update makes them, once a worker on
//! this host has asked for one; otherwise, or once a worker elsewhere asks, in this process's memory. It does not
//! depend on who reads them.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use proto::{CHUNK_BYTES, shared_memory::SharedMemory, tensor, wire::Wire};

/// One version of the weights, encoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    wire: Wire,
    bytes: OnceLock<Bytes>,
    lane: Option<(Arc<SharedMemory>, u64)>,
}

impl Encoded {
    /// In memory.
    pub(crate) fn new(weights: &[f32], wire: Wire) -> Self {
        Self {
            wire,
            bytes: tensor::encode(weights, wire).into(),
            lane: None,
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    /// Where it lies, if in a lane, and the number that the lane must be at.
    pub(crate) fn in_shared_memory(&self) -> Option<(&SharedMemory, u64)> {
        self.lane.as_ref().map(|(lane, number)| (&**lane, *number))
    }

    /// Its bytes, read back from the lane when they are wanted for the first time; `None` when a later
    /// version lies there by now. May take as long as copying them does.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        if let Some(bytes) = self.bytes.get() {
            return Some(bytes.clone());
        }
        let (lane, number) = self.in_shared_memory()?;
        let mut bytes = vec![0; usize::try_from(lane.handle().bytes).ok()?];
        lane.read(&mut bytes, 0).ok()?;
        if lane.number() != number {
            return None;
        }
        Some(self.bytes.get_or_init(|| bytes.into()).clone())
    }
}

/// Publishes a job's weights, version after version, in two buffers by turns.
#[derive(Debug)]
pub(crate) struct WeightPublisher {
    wire: Wire,
    /// Somebody on this host reads lanes.
    shared: AtomicBool,
    lanes: Arc<Mutex<SharedBuffers>>,
}

/// Two lanes: while one is written, the newest finished version lies in the other and can be read.
#[derive(Debug, Default)]
struct SharedBuffers {
    made: [Option<Arc<SharedMemory>>; 2],
    /// Versions begun so far; each has a number of its own, also one that is never finished.
    number: u64,
    /// The place in `made` of the newest finished version. A writer never begins there: a skipped
    /// step drops its writer, and the weights stay those of that version, however often in a row.
    newest: Option<usize>,
}

impl SharedBuffers {
    /// The place where the next version is written.
    fn free(&self) -> usize {
        self.newest.map_or(0, |newest| 1 - newest)
    }
}

/// A version that is being written into a lane. Dropped, it leaves the version before as it was.
pub(crate) struct WeightWriter {
    lane: Arc<SharedMemory>,
    place: usize,
    number: u64,
    wire: Wire,
    failed: AtomicBool,
    lanes: Arc<Mutex<SharedBuffers>>,
}

impl WeightPublisher {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            shared: AtomicBool::new(false),
            lanes: Arc::default(),
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    /// Uses lanes from the next version on.
    pub(crate) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Begins a version of `elements`; `None` where it is to be encoded in memory.
    pub(crate) fn writer(&self, elements: usize) -> Option<WeightWriter> {
        if !self.shared.load(Ordering::Relaxed) {
            return None;
        }
        let drafted = self.begin(elements);
        if let Err(error) = &drafted {
            tracing::debug!(%error, "there is no shared memory for weights");
        }
        drafted.ok()
    }

    fn begin(&self, elements: usize) -> io::Result<WeightWriter> {
        // Nothing panics while it is held.
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.number += 1;
        let (number, place) = (lanes.number, lanes.free());
        let made = &mut lanes.made[place];
        let lane = match made {
            Some(lane) => Arc::clone(lane),
            None => {
                let bytes = (self.wire.bytes() * elements) as u64;
                Arc::clone(made.insert(Arc::new(SharedMemory::create(bytes, false)?)))
            }
        };
        lane.begin()?;
        Ok(WeightWriter {
            lane,
            place,
            number,
            wire: self.wire,
            failed: AtomicBool::new(false),
            lanes: Arc::clone(&self.lanes),
        })
    }
}

impl WeightWriter {
    /// Writes weights that are final, the first of them at `place`. Any thread may, in any order.
    pub(crate) fn write(&self, place: usize, weights: &[f32]) {
        let size = self.wire.bytes();
        let mut room = Vec::new();
        for (run, weights) in weights.chunks(CHUNK_BYTES / size).enumerate() {
            let bytes = self.wire.bytes_of(weights, &mut room);
            let offset = (size * place + CHUNK_BYTES * run) as u64;
            if let Err(error) = self.lane.write(bytes, offset) {
                tracing::debug!(%error, "shared memory for weights cannot be written");
                self.failed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The version, once all of it was written; `None` where that failed.
    pub(crate) fn finish(self) -> Option<Encoded> {
        let Self {
            lane,
            place,
            number,
            wire,
            failed,
            lanes,
        } = self;
        if failed.into_inner() || lane.commit(number).is_err() {
            return None;
        }
        let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.newest = Some(place);
        Some(Encoded {
            wire,
            bytes: OnceLock::new(),
            lane: Some((lane, number)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(publisher: &WeightPublisher, weights: &[f32]) -> Encoded {
        let Some(writer) = publisher.writer(weights.len()) else {
            return Encoded::new(weights, publisher.wire());
        };
        let half = weights.len() / 2;
        writer.write(half, &weights[half..]);
        writer.write(0, &weights[..half]);
        writer.finish().unwrap()
    }

    #[test]
    fn a_version_has_the_same_bytes_wherever_it_lies() {
        for wire in [Wire::F32, Wire::Bf16] {
            let weights: Vec<f32> = (0..CHUNK_BYTES).map(|at| at as f32 * 0.7).collect();
            let publisher = WeightPublisher::new(wire);
            let in_memory = publish(&publisher, &weights);
            assert!(in_memory.in_shared_memory().is_none());
            publisher.share();
            let in_lane = publish(&publisher, &weights);
            assert!(in_lane.in_shared_memory().is_some());
            assert_eq!(in_memory.bytes(), in_lane.bytes());
            assert_eq!(in_memory.bytes(), Some(tensor::encode(&weights, wire)));
        }
    }

    #[test]
    fn a_version_outlives_the_next_one_and_not_the_one_after() {
        let publisher = WeightPublisher::new(Wire::F32);
        publisher.share();
        let [first, second] = [1.0, 2.0].map(|value| publish(&publisher, &[value]));
        let number = |encoded: &Encoded| encoded.in_shared_memory().unwrap().0.number();
        assert_eq!((number(&first), number(&second)), (1, 2));
        let writing = publisher.writer(1).unwrap();
        assert_eq!((number(&first), number(&second)), (0, 2));
        assert_eq!(first.bytes(), None);
        assert!(second.bytes().is_some());
        writing.write(0, &[3.0]);
        let third = writing.finish().unwrap();
        assert_eq!((number(&third), first.bytes()), (3, None));
    }

    #[test]
    fn drafts_that_are_dropped_leave_the_newest_version_however_many_they_are() {
        let publisher = WeightPublisher::new(Wire::F32);
        publisher.share();
        for applied in 1..6 {
            let value = applied as f32;
            let current = publish(&publisher, &[value]);
            for _skipped in 0..applied {
                let writer = publisher.writer(1).unwrap();
                writer.write(0, &[-1.0]);
                drop(writer);
                let (lane, number) = current.in_shared_memory().unwrap();
                assert_eq!(lane.number(), number);
            }
            assert_eq!(current.bytes(), Some(tensor::encode(&[value], Wire::F32)));
        }
    }

    #[test]
    fn a_version_that_went_to_memory_spares_neither_lane() {
        // As where a writer could not be finished: the weights are then sent from memory, and the next
        // writer may use either lane.
        let publisher = WeightPublisher::new(Wire::F32);
        publisher.share();
        let first = publish(&publisher, &[1.0]);
        drop(publisher.writer(1).unwrap());
        let second = Encoded::new(&[2.0], publisher.wire());
        let third = publish(&publisher, &[3.0]);
        assert_eq!(first.bytes(), Some(tensor::encode(&[1.0], Wire::F32)));
        assert_eq!(second.bytes(), Some(tensor::encode(&[2.0], Wire::F32)));
        assert_eq!(third.bytes(), Some(tensor::encode(&[3.0], Wire::F32)));
    }
}
