//! Vectors of `f32` as little-endian bytes in chunks.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::{CHUNK_BYTES, v1};

/// Calls `visit` with the little-endian bytes of `values`, a chunk at a time.
pub fn for_each_chunk(values: &[f32], mut visit: impl FnMut(&[u8])) {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES.min(4 * values.len()));
    for run in values.chunks(CHUNK_BYTES / 4) {
        buffer.clear();
        buffer.extend(run.iter().flat_map(|value| value.to_le_bytes()));
        visit(&buffer);
    }
}

/// The whole vector as little-endian bytes: encode once, send to many with [`chunks`].
pub fn encode(values: &[f32]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 * values.len());
    for_each_chunk(values, |chunk| bytes.extend_from_slice(chunk));
    bytes.freeze()
}

/// Cuts an encoded vector into messages that share its memory.
pub fn chunks(encoded: Bytes) -> impl Iterator<Item = v1::TensorChunk> + Send + 'static {
    (0..encoded.len()).step_by(CHUNK_BYTES).map(move |start| {
        let end = (start + CHUNK_BYTES).min(encoded.len());
        v1::TensorChunk {
            offset: start as u64 / 4,
            data: encoded.slice(start..end),
        }
    })
}

/// Why chunks do not make the vector that was announced.
#[derive(Debug, Error, PartialEq, Eq)]
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
        })
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
        if !chunk.data.len().is_multiple_of(4) {
            return Err(AssembleError::Ragged(chunk.data.len()));
        }
        let length = expected + chunk.data.len() / 4;
        if length > self.expected {
            return Err(AssembleError::TooLong(self.expected));
        }
        self.make_room(length);
        let (elements, _) = chunk.data.as_chunks::<4>();
        self.values
            .extend(elements.iter().map(|bytes| f32::from_le_bytes(*bytes)));
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
        let mut assembler = Assembler::new(values.len() as u64, values.len()).unwrap();
        let messages: Vec<_> = chunks(encode(&values)).collect();
        assert_eq!(messages.len(), 2);
        for chunk in &messages {
            assembler.push(chunk).unwrap();
        }
        assert_eq!(assembler.finish().unwrap(), values);
    }

    #[test]
    fn memory_grows_with_what_has_come_and_ends_at_what_was_expected() {
        let whole = 5 * CHUNK_BYTES / 4 + 3;
        let mut assembler = Assembler::new(whole as u64, whole).unwrap();
        assert_eq!(assembler.values.capacity(), 0);
        for chunk in chunks(encode(&vec![1.0; whole])) {
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
