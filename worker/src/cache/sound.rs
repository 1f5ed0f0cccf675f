//! Decoded recordings in memory, for features that are made anew in each epoch. It does not depend on what is
//! made of them.

use std::sync::Arc;

use proto::contribution::Digest;

use super::{
    CacheConfig,
    memory::{Memory, Weighed},
};

/// A recording as features are computed from it.
#[derive(Debug)]
pub(crate) struct Sound {
    /// At the features' own rate.
    pub samples: Vec<f32>,
    pub seconds: f64,
}

impl Weighed for Sound {
    fn bytes(&self) -> u64 {
        size_of_val(self.samples.as_slice()) as u64
    }
}

#[derive(Debug)]
pub(crate) struct SoundCache {
    held: Memory<Sound>,
}

impl SoundCache {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        Self {
            held: Memory::new(config.sound_bytes),
        }
    }

    /// `key` names the audio and the rate.
    pub(crate) fn get(&self, key: &Digest) -> Option<Arc<Sound>> {
        self.held.get(key)
    }

    pub(crate) fn keep(&self, key: Digest, sound: Arc<Sound>) {
        self.held.hold(key, sound);
    }
}
