//! Vectors as little-endian bytes in chunks.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::{CHUNK_BYTES, v1, wire::Wire};

/// Calls `visit` with the little-endian bytes of `values`, a chunk at a time.
pub fn for_each_chunk(values: &[f32], mut visit: impl FnMut(&[u8])) {
    let mut room = Vec::new();
    for run in values.chunks(CHUNK_BYTES / 4) {
        visit(Wire::F32.bytes_of(run, &mut room));
    }
}

/// The whole vector as it travels: encode once, send to many with [`chunks`].
pub fn encode(values: &[f32], wire: Wire) -> Bytes {
    let mut room = Vec::new();
    match wire {
        Wire::F32 => Bytes::copy_from_slice(wire.bytes_of(values, &mut room)),
        Wire::Bf16 => {
            wire.bytes_of(values, &mut room);
            room.into()
        }
    }
}

/// Cuts an encoded vector into messages that share its memory.
pub fn chunks(
    encoded: Bytes,
    wire: Wire,
) -> impl Iterator<Item = v1::TensorChunk> + Send + 'static {
    (0..encoded.len()).step_by(CHUNK_BYTES).map(move |start| {
        let end = (start + CHUNK_BYTES).min(encoded.len());
        v1::TensorChunk {
            offset: (start / wire.bytes()) as u64,
            data: encoded.slice(start..end),
            in_lane: None,
        }
    })
}

/// Encodes a vector message by message, as they are taken.
pub fn encoded_chunks(
    values: Arc<Vec<f32>>,
    wire: Wire,
) -> impl Iterator<Item = v1::TensorChunk> + Send + 'static {
    let run = CHUNK_BYTES / wire.bytes();
    (0..values.len()).step_by(run).map(move |start| {
        let end = (start + run).min(values.len());
        v1::TensorChunk {
            offset: start as u64,
            data: encode(&values[start..end], wire),
            in_lane: None,
        }
    })
}

/// Why chunks do not make the vector that was announced.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum AssembleError {
    #[error("the vector has {announced} elements where {expected} were expected")]
    Length { announced: u64, expected: usize },
    #[error("a chunk starts at element {found} where {expected} was due")]
    Order { found: u64, expected: usize },
    #[error("a chunk of {0} bytes does not hold whole elements")]
    Ragged(usize),
    #[error("the chunks hold more than the {0} elements announced")]
    TooLong(usize),
    #[error("the stream ended after {found} of {expected} elements")]
    TooShort { found: usize, expected: usize },
}

/// Puts chunks together that come in order. Its memory is bounded by what the caller expects, not
/// by what the sender announces, and grows with what has come.
#[derive(Debug)]
pub struct Assembler {
    values: Vec<f32>,
    expected: usize,
    wire: Wire,
}

impl Assembler {
    /// For a vector of `expected` elements of which the sender announces `announced`.
    ///
    /// # Errors
    /// When the two differ.
    pub fn new(announced: u64, expected: usize) -> Result<Self, AssembleError> {
        if announced != expected as u64 {
            return Err(AssembleError::Length {
                announced,
                expected,
            });
        }
        Ok(Self {
            values: Vec::new(),
            expected,
            wire: Wire::F32,
        })
    }

    /// The same for elements that travel in another way than as `f32`.
    #[must_use]
    pub fn of(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// # Errors
    /// When the chunk is not the next one, is cut inside an element or goes too far.
    pub fn push(&mut self, chunk: &v1::TensorChunk) -> Result<(), AssembleError> {
        let expected = self.values.len();
        if chunk.offset != expected as u64 {
            return Err(AssembleError::Order {
                found: chunk.offset,
                expected,
            });
        }
        if !chunk.data.len().is_multiple_of(self.wire.bytes()) {
            return Err(AssembleError::Ragged(chunk.data.len()));
        }
        let length = expected + chunk.data.len() / self.wire.bytes();
        if length > self.expected {
            return Err(AssembleError::TooLong(self.expected));
        }
        self.make_room(length);
        match self.wire {
            Wire::F32 => {
                let (elements, _) = chunk.data.as_chunks::<4>();
                self.values
                    .extend(elements.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            wire @ Wire::Bf16 => {
                self.values.resize(length, 0.0);
                wire.decode(&chunk.data, &mut self.values[expected..]);
            }
        }
        Ok(())
    }

    /// For `length` elements: twice what it had, so that a vector is moved a few times and not with
    /// every chunk, but never more than the whole.
    fn make_room(&mut self, length: usize) {
        if length > self.values.capacity() {
            let room = (2 * self.values.capacity()).clamp(length, self.expected);
            self.values.reserve_exact(room - self.values.len());
        }
    }

    /// # Errors
    /// When elements are missing.
    pub fn finish(self) -> Result<Vec<f32>, AssembleError> {
        if self.values.len() < self.expected {
            let (found, expected) = (self.values.len(), self.expected);
            return Err(AssembleError::TooShort { found, expected });
        }
        Ok(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_survives_its_chunks() {
        let values: Vec<f32> = (0..CHUNK_BYTES / 2).map(|i| i as f32 * 0.5).collect();
        for (wire, expected) in [(Wire::F32, 2), (Wire::Bf16, 1)] {
            let mut assembler = Assembler::new(values.len() as u64, values.len())
                .unwrap()
                .of(wire);
            let messages: Vec<_> = chunks(encode(&values, wire), wire).collect();
            assert_eq!(messages.len(), expected);
            let by_and_by = encoded_chunks(Arc::new(values.clone()), wire);
            assert_eq!(by_and_by.collect::<Vec<_>>(), messages);
            for chunk in &messages {
                assembler.push(chunk).unwrap();
            }
            let mut rounded = values.clone();
            wire.round(&mut rounded);
            assert_eq!(assembler.finish().unwrap(), rounded);
        }
    }

    #[test]
    fn memory_grows_with_what_has_come_and_ends_at_what_was_expected() {
        let whole = 5 * CHUNK_BYTES / 4 + 3;
        let mut assembler = Assembler::new(whole as u64, whole).unwrap();
        assert_eq!(assembler.values.capacity(), 0);
        for chunk in chunks(encode(&vec![1.0; whole], Wire::F32), Wire::F32) {
            assembler.push(&chunk).unwrap();
            assert!(assembler.values.capacity() <= whole.min(2 * assembler.values.len()));
        }
        assert_eq!(assembler.finish().unwrap().capacity(), whole);
    }

    #[test]
    fn wrong_chunks_are_told_apart() {
        let chunk = |offset, bytes: usize| v1::TensorChunk {
            offset,
            data: vec![0; bytes].into(),
            in_lane: None,
        };
        let refused =
            |chunk: v1::TensorChunk| Assembler::new(4, 4).unwrap().push(&chunk).unwrap_err();
        assert_eq!(
            Assembler::new(1 << 60, 4).unwrap_err(),
            AssembleError::Length {
                announced: 1 << 60,
                expected: 4
            }
        );
        assert_eq!(
            refused(chunk(1, 4)),
            AssembleError::Order {
                found: 1,
                expected: 0
            }
        );
        assert_eq!(refused(chunk(0, 5)), AssembleError::Ragged(5));
        assert_eq!(refused(chunk(0, 20)), AssembleError::TooLong(4));
        let mut assembler = Assembler::new(4, 4).unwrap();
        assembler.push(&chunk(0, 8)).unwrap();
        assert_eq!(
            assembler.finish(),
            Err(AssembleError::TooShort {
                found: 2,
                expected: 4
            })
        );
    }
}
