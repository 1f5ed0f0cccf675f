//! The sequence number that protects data in shared memory: a seqlock with one writer. The writer takes the number
//! away ([`begin`]), changes the data, and sets another number ([`commit`]); a reader copies between two looks at the
//! number ([`read`]). The order of loads, stores and fences is generic over the atomic number, so that a model checker
//! runs the same code (`tests/loom`).

use std::sync::atomic::{self, AtomicU64, Ordering};

/// An atomic number, and the fence of whoever implements it.
pub(crate) trait SequenceNumber {
    fn load(&self, ordering: Ordering) -> u64;

    fn store(&self, number: u64, ordering: Ordering);

    fn fence(ordering: Ordering);
}

impl SequenceNumber for AtomicU64 {
    fn load(&self, ordering: Ordering) -> u64 {
        self.load(ordering)
    }

    fn store(&self, number: u64, ordering: Ordering) {
        self.store(number, ordering);
    }

    fn fence(ordering: Ordering) {
        atomic::fence(ordering);
    }
}

/// What the number is while the data change.
const CHANGING: u64 = 0;

/// To be called before the data change: no reader takes them until [`commit`].
pub(crate) fn begin<N: SequenceNumber>(sequence: &N) {
    sequence.store(CHANGING, Ordering::Relaxed);
    // No store to the data becomes visible before the one above.
    N::fence(Ordering::SeqCst);
}

/// To be called when the data are whole: they are number `number` of what was ever there, never 0.
pub(crate) fn commit<N: SequenceNumber>(sequence: &N, number: u64) {
    sequence.store(number, Ordering::Release);
}

/// The number of the data; 0 while they change.
pub(crate) fn current<N: SequenceNumber>(sequence: &N) -> u64 {
    // No load of the data that came before it happens after the one below.
    N::fence(Ordering::SeqCst);
    sequence.load(Ordering::Acquire)
}

/// What `copy` gives, if the data were those of `number` from its beginning to its end; otherwise `None`.
///
/// # Errors
/// Those of `copy`.
pub(crate) fn read<N: SequenceNumber, T, E>(
    sequence: &N,
    number: u64,
    copy: impl FnOnce() -> Result<T, E>,
) -> Result<Option<T>, E> {
    if current(sequence) != number {
        return Ok(None);
    }
    let copied = copy()?;
    Ok((current(sequence) == number).then_some(copied))
}
