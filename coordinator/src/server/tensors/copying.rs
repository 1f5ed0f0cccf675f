//! A vector out of a lane into memory of our own, digested on the way, by all threads.

use std::io;

use proto::{
    contribution::{Digest, Hasher},
    failpoint::{self, Failpoint},
    shared_memory::SharedMemory,
    wire::Wire,
};
use rayon::prelude::*;

/// Bytes that are copied and digested at a time: they are still in the cache.
const COPY_BYTES: usize = 1 << 17;

/// Reads all of `values` and gives the digests of their blocks; `None` when they are not, or not any
/// more, those of `number`.
///
/// # Errors
/// When the lane cannot be read, or is shorter.
pub(super) fn copy(
    lane: &SharedMemory,
    number: u64,
    wire: Wire,
    values: &mut [f32],
) -> io::Result<Option<Vec<Digest>>> {
    let run = Hasher::BLOCK / wire.bytes();
    lane.read_version(number, || {
        values
            .par_chunks_mut(run)
            .enumerate()
            .map(|(block, values)| {
                let digest = copy_block(lane, wire, values, (Hasher::BLOCK * block) as u64)?;
                failpoint::reach(Failpoint::CoordinatorReceive);
                Ok(digest)
            })
            .collect()
    })
}

fn copy_block(
    lane: &SharedMemory,
    wire: Wire,
    values: &mut [f32],
    start: u64,
) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut room = Vec::new();
    for (piece, values) in values.chunks_mut(COPY_BYTES / wire.bytes()).enumerate() {
        let offset = start + (COPY_BYTES * piece) as u64;
        if let Some(bytes) = wire.bytes_in_place(values) {
            lane.read(bytes, offset)?;
            hasher.update(bytes);
        } else {
            room.resize(wire.bytes() * values.len(), 0);
            lane.read(&mut room, offset)?;
            hasher.update(&room);
            wire.decode(&room, values);
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proto::contribution::Contribution;

    use super::*;

    #[test]
    fn what_is_copied_has_the_digest_that_the_worker_gave_it() {
        for wire in [Wire::F32, Wire::Bf16] {
            let mut values: Vec<f32> = (0..Hasher::BLOCK + 5).map(|at| at as f32 / 7.0).collect();
            wire.round(&mut values);
            let lane = SharedMemory::create((wire.bytes() * values.len()) as u64, true).unwrap();
            lane.write(wire.bytes_of(&values, &mut Vec::new()), 0)
                .unwrap();
            let mut copied = vec![f32::NAN; values.len()];
            assert_eq!(copy(&lane, 3, wire, &mut copied).unwrap(), None);
            lane.commit(3).unwrap();
            let blocks = copy(&lane, 3, wire, &mut copied).unwrap().unwrap();
            assert_eq!(copied, values);
            let contribution = Contribution {
                sum: Some(values),
                wire,
                ..Contribution::default()
            };
            let numbers = Contribution {
                sum: None,
                ..contribution.clone()
            };
            let mut hasher = numbers.hasher();
            blocks.iter().for_each(|block| hasher.add(block));
            assert_eq!(hasher.digest(), contribution.digest());
        }
    }
}
