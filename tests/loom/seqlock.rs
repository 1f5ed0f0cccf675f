//! The seqlock of shared memory under loom, which tries every interleaving of a writer and a reader, and every value
//! that a load may see by the memory model. It is the code of `proto`, compiled here with loom's atomic number.
#![cfg(test)]

#[path = "../../proto/src/seqlock.rs"]
mod seqlock;

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use loom::{
    sync::atomic::{AtomicU64, fence},
    thread,
};

use seqlock::{SequenceNumber, begin, commit, read};

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
        let words = || Ok::<_, Infallible>([0, 1].map(|k| self.words[k].load(Ordering::Relaxed)));
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
