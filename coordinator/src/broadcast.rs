//! Weights as they are sent. It decides where the bytes of a version lie: in a lane, written block by
//! block as the update makes them, once a worker on this host has asked for one; otherwise, or once a
//! worker elsewhere asks, in this process's memory. It refuses to know who reads them.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use proto::{CHUNK_BYTES, lane::Lane, tensor, wire::Wire};

/// One version of the weights, encoded.
#[derive(Debug)]
pub struct Encoded {
    wire: Wire,
    bytes: OnceLock<Bytes>,
    lane: Option<(Arc<Lane>, u64)>,
}

impl Encoded {
    /// In memory.
    pub fn new(weights: &[f32], wire: Wire) -> Self {
        Self {
            wire,
            bytes: tensor::encode(weights, wire).into(),
            lane: None,
        }
    }

    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Where it lies, if in a lane, and the number that the lane must be at.
    pub fn in_lane(&self) -> Option<(&Lane, u64)> {
        self.lane.as_ref().map(|(lane, number)| (&**lane, *number))
    }

    /// Its bytes, read back from the lane when they are wanted for the first time; `None` when a later
    /// version lies there by now. May take as long as copying them does.
    pub fn bytes(&self) -> Option<Bytes> {
        if let Some(bytes) = self.bytes.get() {
            return Some(bytes.clone());
        }
        let (lane, number) = self.in_lane()?;
        let mut bytes = vec![0; usize::try_from(lane.place().bytes).ok()?];
        lane.read(&mut bytes, 0).ok()?;
        if lane.number() != number {
            return None;
        }
        Some(self.bytes.get_or_init(|| bytes.into()).clone())
    }
}

/// Where a job's weights are published, version after version.
#[derive(Debug)]
pub struct Board {
    wire: Wire,
    /// Somebody on this host reads lanes.
    shared: AtomicBool,
    lanes: Arc<Mutex<Lanes>>,
}

/// Two lanes: while one is written, the newest finished version lies in the other and can be read.
#[derive(Debug, Default)]
struct Lanes {
    made: [Option<Arc<Lane>>; 2],
    /// Versions begun so far; each has a number of its own, also one that is never finished.
    number: u64,
    /// The place in `made` of the newest finished version. A draft never begins there: a skipped
    /// step drops its draft, and the weights stay those of that version, however often in a row.
    newest: Option<usize>,
}

impl Lanes {
    /// The place where the next version is written.
    fn free(&self) -> usize {
        self.newest.map_or(0, |newest| 1 - newest)
    }
}

/// A version that is being written into a lane. Dropped, it leaves the version before as it was.
pub struct Draft {
    lane: Arc<Lane>,
    place: usize,
    number: u64,
    wire: Wire,
    failed: AtomicBool,
    lanes: Arc<Mutex<Lanes>>,
}

impl Board {
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            shared: AtomicBool::new(false),
            lanes: Arc::default(),
        }
    }

    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Uses lanes from the next version on.
    pub fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Begins a version of `elements`; `None` where it is to be encoded in memory.
    pub fn draft(&self, elements: usize) -> Option<Draft> {
        if !self.shared.load(Ordering::Relaxed) {
            return None;
        }
        let drafted = self.begin(elements);
        if let Err(error) = &drafted {
            tracing::debug!(%error, "there is no shared memory for weights");
        }
        drafted.ok()
    }

    fn begin(&self, elements: usize) -> io::Result<Draft> {
        // Nothing panics while it is held.
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.number += 1;
        let (number, place) = (lanes.number, lanes.free());
        let made = &mut lanes.made[place];
        let lane = match made {
            Some(lane) => Arc::clone(lane),
            None => {
                let bytes = (self.wire.bytes() * elements) as u64;
                Arc::clone(made.insert(Arc::new(Lane::create(bytes, false)?)))
            }
        };
        lane.begin()?;
        Ok(Draft {
            lane,
            place,
            number,
            wire: self.wire,
            failed: AtomicBool::new(false),
            lanes: Arc::clone(&self.lanes),
        })
    }
}

impl Draft {
    /// Writes weights that are final, the first of them at `place`. Any thread may, in any order.
    pub fn write(&self, place: usize, weights: &[f32]) {
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
    pub fn finish(self) -> Option<Encoded> {
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

    fn publish(board: &Board, weights: &[f32]) -> Encoded {
        let Some(draft) = board.draft(weights.len()) else {
            return Encoded::new(weights, board.wire());
        };
        let half = weights.len() / 2;
        draft.write(half, &weights[half..]);
        draft.write(0, &weights[..half]);
        draft.finish().unwrap()
    }

    #[test]
    fn a_version_has_the_same_bytes_wherever_it_lies() {
        for wire in [Wire::F32, Wire::Bf16] {
            let weights: Vec<f32> = (0..CHUNK_BYTES).map(|at| at as f32 * 0.7).collect();
            let board = Board::new(wire);
            let in_memory = publish(&board, &weights);
            assert!(in_memory.in_lane().is_none());
            board.share();
            let in_lane = publish(&board, &weights);
            assert!(in_lane.in_lane().is_some());
            assert_eq!(in_memory.bytes(), in_lane.bytes());
            assert_eq!(in_memory.bytes(), Some(tensor::encode(&weights, wire)));
        }
    }

    #[test]
    fn a_version_outlives_the_next_one_and_not_the_one_after() {
        let board = Board::new(Wire::F32);
        board.share();
        let [first, second] = [1.0, 2.0].map(|value| publish(&board, &[value]));
        let number = |encoded: &Encoded| encoded.in_lane().unwrap().0.number();
        assert_eq!((number(&first), number(&second)), (1, 2));
        let writing = board.draft(1).unwrap();
        assert_eq!((number(&first), number(&second)), (0, 2));
        assert_eq!(first.bytes(), None);
        assert!(second.bytes().is_some());
        writing.write(0, &[3.0]);
        let third = writing.finish().unwrap();
        assert_eq!((number(&third), first.bytes()), (3, None));
    }

    #[test]
    fn drafts_that_are_dropped_leave_the_newest_version_however_many_they_are() {
        let board = Board::new(Wire::F32);
        board.share();
        for applied in 1..6 {
            let value = applied as f32;
            let current = publish(&board, &[value]);
            for _skipped in 0..applied {
                let draft = board.draft(1).unwrap();
                draft.write(0, &[-1.0]);
                drop(draft);
                let (lane, number) = current.in_lane().unwrap();
                assert_eq!(lane.number(), number);
            }
            assert_eq!(current.bytes(), Some(tensor::encode(&[value], Wire::F32)));
        }
    }

    #[test]
    fn a_version_that_went_to_memory_spares_neither_lane() {
        // As where a draft could not be finished: the weights are then sent from memory, and the next
        // draft may use either lane.
        let board = Board::new(Wire::F32);
        board.share();
        let first = publish(&board, &[1.0]);
        drop(board.draft(1).unwrap());
        let second = Encoded::new(&[2.0], board.wire());
        let third = publish(&board, &[3.0]);
        assert_eq!(first.bytes(), Some(tensor::encode(&[1.0], Wire::F32)));
        assert_eq!(second.bytes(), Some(tensor::encode(&[2.0], Wire::F32)));
        assert_eq!(third.bytes(), Some(tensor::encode(&[3.0], Wire::F32)));
    }
}
