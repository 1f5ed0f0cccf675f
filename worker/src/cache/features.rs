//! Features by what they were computed from: in memory, and behind it in files. Computed once: after
//! the first epoch, an utterance costs a look-up.

use std::sync::Arc;

use super::{
    CacheConfig, CacheError,
    memory::{Memory, Weighed},
    prepared::{FeatureFiles, FeatureKey, Prepared},
};

#[derive(Debug)]
pub(crate) struct FeatureCache {
    held: Memory<Prepared>,
    files: Option<FeatureFiles>,
}

impl Weighed for Prepared {
    fn bytes(&self) -> u64 {
        size_of_val(self.features.data.as_slice()) as u64
    }
}

impl FeatureCache {
    /// # Errors
    /// When the folder of its files can neither be found nor made.
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        Ok(Self {
            held: Memory::new(config.feature_bytes),
            files: FeatureFiles::open(config)?,
        })
    }

    pub(crate) fn get(&self, key: &FeatureKey) -> Option<Arc<Prepared>> {
        self.held.get(key).or_else(|| {
            let found = Arc::new(self.files.as_ref()?.read(key)?);
            self.held.hold(*key, Arc::clone(&found));
            Some(found)
        })
    }

    /// Keeps `prepared`, in memory and in a file; the longest unused make room.
    pub(crate) fn keep(&self, key: FeatureKey, prepared: Arc<Prepared>) {
        if let Some(files) = &self.files {
            files.write(&key, &prepared);
        }
        self.held.hold(key, prepared);
    }
}

#[cfg(test)]
mod tests {
    use speech::features::Features;

    use super::*;

    #[test]
    fn what_memory_has_no_room_for_comes_from_a_file() {
        let features = |value: f32| {
            let features = Features {
                frames: 5,
                dims: 4,
                data: vec![value; 20],
            };
            Arc::new(Prepared {
                features,
                seconds: 0.5,
            })
        };
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig {
            feature_bytes: 300,
            ..CacheConfig::new(dir.path().to_owned())
        };
        let cache = FeatureCache::open(&config).unwrap();
        let keys: [FeatureKey; 2] = [[0; 32], [1; 32]];
        cache.keep(keys[0], features(1.0));
        cache.keep(keys[1], features(2.0));
        assert!(cache.held.get(&keys[0]).is_none());
        assert_eq!(cache.get(&keys[0]).unwrap().features.data[0], 1.0);
        assert!(cache.held.get(&keys[0]).is_some());
        let elsewhere = CacheConfig {
            feature_file_bytes: 0,
            ..config
        };
        let elsewhere = FeatureCache::open(&elsewhere).unwrap();
        assert!(elsewhere.get(&keys[0]).is_none());
    }
}
