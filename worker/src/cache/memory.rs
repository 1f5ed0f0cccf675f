//! Things by their digests in memory, bounded in bytes: the longest unused make room. It does not depend on what
//! they are and how they are made.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use proto::contribution::Digest;

/// Bytes that an entry costs beside what it holds.
const BOOKKEEPING: u64 = 160;

/// What knows how much room it takes.
pub(super) trait Weighed {
    fn bytes(&self) -> u64;
}

#[derive(Debug)]
pub(super) struct Memory<T> {
    most: u64,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    held: u64,
    /// Counts uses; the smallest stamp was used longest ago.
    uses: u64,
    entries: HashMap<Digest, (u64, Arc<T>)>,
    by_use: BTreeMap<u64, Digest>,
}

impl<T: Weighed> Memory<T> {
    /// A cache of at most `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            inner: Mutex::new(Inner {
                held: 0,
                uses: 0,
                entries: HashMap::new(),
                by_use: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn get(&self, key: &Digest) -> Option<Arc<T>> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let (stamp, found) = inner.entries.get_mut(key)?;
        inner.by_use.remove(stamp);
        inner.uses += 1;
        *stamp = inner.uses;
        inner.by_use.insert(inner.uses, *key);
        Some(Arc::clone(found))
    }

    /// Keeps `what`; what is larger than all the room is not kept.
    pub(super) fn hold(&self, key: Digest, what: Arc<T>) {
        let bytes = size(&*what);
        if bytes > self.most {
            return;
        }
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.uses += 1;
        let stamp = inner.uses;
        inner.held += bytes;
        if let Some((stamp, old)) = inner.entries.insert(key, (stamp, what)) {
            inner.by_use.remove(&stamp);
            inner.held -= size(&*old);
        }
        inner.by_use.insert(stamp, key);
        while inner.held > self.most {
            let Some((_, key)) = inner.by_use.pop_first() else {
                break;
            };
            if let Some((_, old)) = inner.entries.remove(&key) {
                inner.held -= size(&*old);
            }
        }
    }
}

fn size(what: &impl Weighed) -> u64 {
    what.bytes() + BOOKKEEPING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Number(u8);

    impl Weighed for Number {
        fn bytes(&self) -> u64 {
            80
        }
    }

    const ONE: u64 = 80 + BOOKKEEPING;

    fn number(memory: &Memory<Number>, key: u8) -> Option<u8> {
        memory.get(&[key; 32]).map(|found| found.0)
    }

    fn hold(memory: &Memory<Number>, key: u8, value: u8) {
        memory.hold([key; 32], Arc::new(Number(value)));
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let memory = Memory::new(3 * ONE);
        for key in 0..3 {
            hold(&memory, key, key);
        }
        assert_eq!(number(&memory, 0), Some(0));
        hold(&memory, 3, 3);
        let held: Vec<bool> = (0..4).map(|key| number(&memory, key).is_some()).collect();
        assert_eq!(held, [true, false, true, true]);
    }

    #[test]
    fn keeping_again_replaces_and_counts_once() {
        let memory = Memory::new(2 * ONE);
        hold(&memory, 1, 1);
        for _ in 0..5 {
            hold(&memory, 0, 7);
        }
        assert_eq!(number(&memory, 0), Some(7));
        assert_eq!(number(&memory, 1), Some(1));
    }

    #[test]
    fn what_is_larger_than_the_room_is_not_kept() {
        let memory = Memory::new(ONE - 1);
        hold(&memory, 0, 0);
        assert_eq!(number(&memory, 0), None);
    }
}
