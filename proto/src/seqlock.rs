//! The sequence number that protects data in shared memory: a seqlock with one writer. The writer takes the number
//! away ([`begin`]), changes the data, and sets another number ([`commit`]); a reader copies between two looks at the
//! number ([`read`]). The order of loads, stores and fences is generic over the atomic number, so that a model checker
//! runs the same code (the tests below, with loom).

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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use loom::{
        sync::atomic::{AtomicU64, fence},
        thread,
    };

    use super::*;

    impl SequenceNumber for AtomicU64 {
        fn load(&self, ordering: Ordering) -> u64 {
            self.load(ordering)
        }

        fn store(&self, number: u64, ordering: Ordering) {
            self.store(number, ordering);
        }

        fn fence(ordering: Ordering) {
            fence(ordering);
        }
    }

    /// The number without its fences: what the model has to find fault with.
    struct Unfenced(AtomicU64);

    impl SequenceNumber for Unfenced {
        fn load(&self, ordering: Ordering) -> u64 {
            self.0.load(ordering)
        }

        fn store(&self, number: u64, ordering: Ordering) {
            self.0.store(number, ordering);
        }

        fn fence(_: Ordering) {}
    }

    /// A number and two words of data. The copies of shared memory are not atomic; as relaxed atomic words they are
    /// ordered by the number and its fences alone, as much as those are.
    struct Shared<N> {
        sequence: N,
        words: [AtomicU64; 2],
    }

    impl<N: SequenceNumber> Shared<N> {
        fn write(&self, number: u64) {
            begin(&self.sequence);
            for word in &self.words {
                word.store(number, Ordering::Relaxed);
            }
            commit(&self.sequence, number);
        }

        fn read(&self, number: u64) -> Option<[u64; 2]> {
            let words =
                || Ok::<_, Infallible>([0, 1].map(|k| self.words[k].load(Ordering::Relaxed)));
            let Ok(copied) = read(&self.sequence, number, words);
            copied
        }
    }

    /// Every interleaving and every value that a load may see, of a writer that replaces version 1 by version 2 and a
    /// reader of `number`.
    fn model<N: SequenceNumber + Send + Sync + 'static>(sequence: fn() -> N, number: u64) {
        loom::model(move || {
            let words = [0, 1].map(|_| AtomicU64::new(0));
            let sequence = sequence();
            let shared = Arc::new(Shared { sequence, words });
            shared.write(1);
            let writer = {
                let shared = shared.clone();
                thread::spawn(move || shared.write(2))
            };
            if let Some(words) = shared.read(number) {
                assert_eq!(words, [number; 2], "a torn version");
            }
            writer.join().unwrap();
            assert_eq!(shared.read(1), None);
            assert_eq!(shared.read(2), Some([2; 2]));
        });
    }

    #[test]
    fn a_version_that_is_replaced_while_it_is_read_is_not_taken() {
        model(|| AtomicU64::new(0), 1);
    }

    #[test]
    fn a_version_that_is_written_while_it_is_read_is_whole_or_not_taken() {
        model(|| AtomicU64::new(0), 2);
    }

    #[test]
    #[should_panic(expected = "a torn version")]
    fn without_fences_a_torn_version_would_be_taken() {
        model(|| Unfenced(AtomicU64::new(0)), 1);
    }
}
