//! Features by what they were computed from: in memory, and behind it in files. Computed once: after
//! the first epoch, an utterance costs a look-up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use proto::contribution::Digest;

use super::{
    CacheConfig, CacheError,
    prepared::{FeatureFiles, Prepared},
};

/// Names features: BLAKE3 of the front end's settings and of the audio's bytes.
pub type FeatureKey = Digest;

#[derive(Debug)]
pub struct FeatureCache {
    most: u64,
    inner: Mutex<Inner>,
    files: Option<FeatureFiles>,
}

#[derive(Debug, Default)]
struct Inner {
    held: u64,
    /// Counts uses; the smallest stamp was used longest ago.
    uses: u64,
    entries: HashMap<FeatureKey, (u64, Arc<Prepared>)>,
    by_use: BTreeMap<u64, FeatureKey>,
}

impl FeatureCache {
    /// # Errors
    /// When the folder of its files can neither be found nor made.
    pub fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        Ok(Self {
            most: config.feature_bytes,
            inner: Mutex::default(),
            files: FeatureFiles::open(config)?,
        })
    }

    pub fn get(&self, key: &FeatureKey) -> Option<Arc<Prepared>> {
        let held = self.recall(key);
        held.or_else(|| {
            let found = Arc::new(self.files.as_ref()?.read(key)?);
            self.hold(*key, Arc::clone(&found));
            Some(found)
        })
    }

    /// Keeps `prepared`, in memory and in a file; the longest unused make room.
    pub fn keep(&self, key: FeatureKey, prepared: Arc<Prepared>) {
        if let Some(files) = &self.files {
            files.write(&key, &prepared);
        }
        self.hold(key, prepared);
    }

    fn recall(&self, key: &FeatureKey) -> Option<Arc<Prepared>> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let (stamp, prepared) = inner.entries.get_mut(key)?;
        inner.by_use.remove(stamp);
        inner.uses += 1;
        *stamp = inner.uses;
        inner.by_use.insert(inner.uses, *key);
        Some(Arc::clone(prepared))
    }

    /// Keeps `prepared` in memory. What is larger than all the room is not kept.
    fn hold(&self, key: FeatureKey, prepared: Arc<Prepared>) {
        let bytes = size(&prepared);
        if bytes > self.most {
            return;
        }
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.uses += 1;
        let stamp = inner.uses;
        inner.held += bytes;
        if let Some((stamp, old)) = inner.entries.insert(key, (stamp, prepared)) {
            inner.by_use.remove(&stamp);
            inner.held -= size(&old);
        }
        inner.by_use.insert(stamp, key);
        while inner.held > self.most {
            let Some((_, key)) = inner.by_use.pop_first() else {
                break;
            };
            if let Some((_, old)) = inner.entries.remove(&key) {
                inner.held -= size(&old);
            }
        }
    }
}

/// Bytes that an entry costs, its bookkeeping included.
fn size(prepared: &Prepared) -> u64 {
    const BOOKKEEPING: usize = 160;
    (size_of_val(prepared.features.data.as_slice()) + BOOKKEEPING) as u64
}

#[cfg(test)]
mod tests {
    use speech::features::Features;

    use super::*;

    fn cache(most: u64) -> FeatureCache {
        FeatureCache {
            most,
            inner: Mutex::default(),
            files: None,
        }
    }

    fn features(value: f32) -> Arc<Prepared> {
        let features = Features {
            frames: 5,
            dims: 4,
            data: vec![value; 20],
        };
        Arc::new(Prepared {
            features,
            seconds: 0.5,
        })
    }

    fn key(number: u8) -> FeatureKey {
        [number; 32]
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let cache = cache(3 * size(&features(0.0)));
        for number in 0..3 {
            cache.keep(key(number), features(f32::from(number)));
        }
        assert_eq!(cache.get(&key(0)).unwrap().features.data[0], 0.0);
        cache.keep(key(3), features(3.0));
        let held: Vec<bool> = (0..4).map(|n| cache.get(&key(n)).is_some()).collect();
        assert_eq!(held, [true, false, true, true]);
    }

    #[test]
    fn keeping_again_replaces_and_counts_once() {
        let cache = cache(2 * size(&features(0.0)));
        cache.keep(key(1), features(1.0));
        for _ in 0..5 {
            cache.keep(key(0), features(7.0));
        }
        assert_eq!(cache.get(&key(0)).unwrap().features.data[0], 7.0);
        assert!(cache.get(&key(1)).is_some());
    }

    #[test]
    fn what_memory_has_no_room_for_comes_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig {
            feature_bytes: size(&features(0.0)),
            ..CacheConfig::new(dir.path().to_owned())
        };
        let cache = FeatureCache::open(&config).unwrap();
        cache.keep(key(0), features(1.0));
        cache.keep(key(1), features(2.0));
        assert!(cache.recall(&key(0)).is_none());
        assert_eq!(cache.get(&key(0)).unwrap().features.data[0], 1.0);
        assert!(cache.recall(&key(0)).is_some());
        let elsewhere = CacheConfig {
            feature_file_bytes: 0,
            ..config
        };
        assert!(
            FeatureCache::open(&elsewhere)
                .unwrap()
                .get(&key(0))
                .is_none()
        );
    }

    #[test]
    fn what_is_larger_than_the_room_is_not_kept() {
        let cache = cache(size(&features(0.0)) - 1);
        cache.keep(key(0), features(0.0));
        assert!(cache.get(&key(0)).is_none());
    }
}
