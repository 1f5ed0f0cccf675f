//! A worker's caches: audio by the digest of its bytes, features by what they were computed from. It decides where
//! bytes may come from without asking anybody and what is kept; it does not depend on the network, and trusts no
//! file that it has not verified.

mod audio;
mod features;
mod folder;
mod memory;
mod prepared;
mod recordings;
mod sound;

pub(crate) use audio::mixed;
pub(crate) use audio::{AudioCache, Wanted};
pub(crate) use features::FeatureCache;
pub(crate) use prepared::Prepared;
pub(crate) use recordings::{Part, Recordings};
pub(crate) use sound::{Sound, SoundCache};

use std::{io, path::PathBuf};

use speech::{
    corpus_roots::CorpusRoots,
    error_class::{Class, Classify},
};
use thiserror::Error;

/// Where a worker keeps what it may need again, and how much of it.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The folder of audio, features and unpacked recordings.
    pub folder: PathBuf,
    /// Most bytes of audio on disk, and as many of unpacked recordings; the longest unused goes first.
    pub audio_bytes: u64,
    /// Most bytes of decoded audio in memory, where each epoch makes features of it anew.
    pub sound_bytes: u64,
    /// Most bytes of features in memory.
    pub feature_bytes: u64,
    /// Most bytes of features on disk; 0 keeps none there.
    pub feature_file_bytes: u64,
    /// Where audio may be read that lies where the coordinator reads it, if the same bytes lie there.
    /// Everything else comes over the wire.
    pub shared_files: CorpusRoots,
}

impl CacheConfig {
    /// 16 GiB of audio and as much of features below `folder`, and 1 GiB of features and
    /// of decoded audio in memory; all audio comes over the wire.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            audio_bytes: 16 << 30,
            sound_bytes: 1 << 30,
            feature_bytes: 1 << 30,
            feature_file_bytes: 16 << 30,
            shared_files: CorpusRoots::nowhere(),
        }
    }

    /// Nothing is kept on disk: everything else is as in [`Self::new`].
    pub fn in_memory() -> Self {
        Self {
            audio_bytes: 0,
            feature_file_bytes: 0,
            // Nothing lies there, and no file that is read does.
            ..Self::new(PathBuf::from("/dev/null/unisono"))
        }
    }
}

/// A cache that cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum CacheError {
    #[error(
        "{}: the cache folder cannot be used: {source}; name one that this user may write with `--cache-dir`, or free some space",
        path.display()
    )]
    Folder { path: PathBuf, source: io::Error },
}

impl Classify for CacheError {
    fn class(&self) -> Class {
        let Self::Folder { source, .. } = self;
        source.class()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_pass_and_a_folder_that_may_not_be_written_does_not() {
        let class = |kind: io::ErrorKind| {
            let source = io::Error::from(kind);
            let path = PathBuf::new();
            CacheError::Folder { path, source }.class()
        };
        use io::ErrorKind as Kind;
        for kind in [
            Kind::StorageFull,
            Kind::QuotaExceeded,
            Kind::StaleNetworkFileHandle,
            Kind::Other,
        ] {
            assert_eq!(class(kind), Class::Infrastructure, "{kind:?}");
        }
        for kind in [
            Kind::PermissionDenied,
            Kind::ReadOnlyFilesystem,
            Kind::NotADirectory,
        ] {
            assert_eq!(class(kind), Class::Data, "{kind:?}");
        }
    }
}
