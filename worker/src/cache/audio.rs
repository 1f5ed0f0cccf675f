//! Audio files by the digest of their bytes: where the coordinator reads them if the same bytes lie
//! there, else in the worker's own folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use proto::contribution::Digest;
use speech::audio::{Audio, DecodedAudio};
use speech::corpus_roots::CorpusRoots;
use speech::regular_file;

use super::{CacheConfig, CacheError, folder::Folder};

/// An audio file as a lease names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Where the coordinator reads it.
    pub path: PathBuf,
    pub bytes: u64,
    /// BLAKE3 of the bytes.
    pub digest: Digest,
}

impl Wanted {
    /// Names the samples of one channel of it, or of the mean of all, which are named as the file is.
    pub(crate) fn of_channel(&self, channel: Option<u16>) -> Digest {
        let Some(channel) = channel else {
            return self.digest;
        };
        let mut hasher =
            blake3::Hasher::new_derive_key("unisono 2026-11-27 channel of a recording");
        hasher.update(&self.digest).update(&channel.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Whether `bytes` are the file's.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.bytes && *blake3::hash(bytes).as_bytes() == self.digest
    }
}

#[derive(Debug)]
pub(crate) struct AudioCache {
    folder: Folder,
    /// The whole cache's.
    root: PathBuf,
    shared_files: CorpusRoots,
}

impl AudioCache {
    /// # Errors
    /// When the folder can neither be found nor made.
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        Ok(Self {
            folder: Folder::open(config.folder.join("audio"), config.audio_bytes)?,
            root: config.folder.clone(),
            shared_files: config.shared_files.clone(),
        })
    }

    /// The bytes of `wanted` from where they lie at hand, verified; `None` when they must be fetched.
    pub(crate) fn find(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        self.shared(wanted)
            .map(|(bytes, _)| bytes)
            .or_else(|| self.cached(wanted))
    }

    /// [`Self::find`], with where they lie.
    pub(super) fn find_with_path(&self, wanted: &Wanted) -> Option<(Vec<u8>, PathBuf)> {
        self.shared(wanted)
            .or_else(|| Some((self.cached(wanted)?, self.kept_path(wanted))))
    }

    /// Where [`Self::keep`] puts the bytes.
    pub(super) fn kept_path(&self, wanted: &Wanted) -> PathBuf {
        self.folder.path(&name(wanted))
    }

    /// Whether `path`, of a file that was found or unpacked, is outside the cache.
    pub(super) fn is_shared(&self, path: &Path) -> bool {
        !path.starts_with(&self.root)
    }

    /// Keeps bytes that were fetched. A full disk costs a later fetch and nothing else.
    pub(crate) fn keep(&self, wanted: &Wanted, bytes: &[u8]) {
        if let Err(error) = self.folder.write(&name(wanted), bytes) {
            tracing::warn!(%error, path = %wanted.path.display(), "cannot keep audio that was fetched");
        }
    }

    /// The path without symbolic links of the place where the coordinator says that the bytes lie, if they may be read
    /// there.
    pub(super) fn shared_path(&self, wanted: &Wanted) -> Option<PathBuf> {
        self.shared_files.locate(&wanted.path).ok()
    }

    /// The bytes where the coordinator says that they lie, and the path without symbolic links of that place.
    fn shared(&self, wanted: &Wanted) -> Option<(Vec<u8>, PathBuf)> {
        let path = self.shared_path(wanted)?;
        let file = self.shared_files.open(&path).ok()?;
        if file.metadata().ok()?.len() != wanted.bytes {
            return None;
        }
        let bytes = regular_file::read_bounded(&file, wanted.bytes).ok()?;
        wanted.is(&bytes).then_some((bytes, path))
    }

    fn cached(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        let name = name(wanted);
        let bytes = self.folder.read(&name, wanted.bytes)?;
        if wanted.is(&bytes) {
            return Some(bytes);
        }
        tracing::warn!(
            file = name,
            "a file of the audio cache is damaged: fetching it again"
        );
        self.folder.remove(&name);
        None
    }
}

/// The sound that was `heard` in the recording at `path`. Where channels of opposite phase have cancelled, that is
/// said, once for a recording and for a few of them.
pub(crate) fn mixed(heard: DecodedAudio, path: &Path) -> Audio {
    if heard.cancels {
        tell_of_cancelling(path);
    }
    heard.audio
}

pub(super) fn tell_of_cancelling(path: &Path) {
    /// Recordings that are named.
    const NAMED: usize = 5;
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() > NAMED || !told.insert(path.to_owned()) {
        return;
    }
    if told.len() > NAMED {
        tracing::warn!("the channels of more recordings cancel; they are not named");
        return;
    }
    tracing::warn!(
        path = %path.display(),
        "its channels are of opposite phase and cancel, so that hardly a sound is left of their mean: name the \
         channel that is meant with `channel` in the manifest"
    );
}

fn name(wanted: &Wanted) -> String {
    blake3::Hash::from(wanted.digest).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        cache: AudioCache,
        wanted: Wanted,
    }

    const BYTES: &[u8] = b"not a WAV, but bytes with a digest";

    fn fixture(shared_files: bool) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let shared_files = match shared_files {
            true => CorpusRoots::beneath(&[dir.path().to_owned()]).unwrap(),
            false => CorpusRoots::nowhere(),
        };
        let config = CacheConfig {
            shared_files,
            ..CacheConfig::new(dir.path().join("cache"))
        };
        let wanted = Wanted {
            path: dir.path().join("shared.wav"),
            bytes: BYTES.len() as u64,
            digest: *blake3::hash(BYTES).as_bytes(),
        };
        Fixture {
            cache: AudioCache::open(&config).unwrap(),
            dir,
            wanted,
        }
    }

    #[test]
    fn a_shared_file_with_the_right_bytes_is_read_there() {
        let Fixture {
            cache,
            wanted,
            dir: _dir,
        } = fixture(true);
        fs::write(&wanted.path, BYTES).unwrap();
        assert_eq!(cache.find(&wanted).unwrap(), BYTES);
    }

    #[test]
    fn a_shared_file_with_other_bytes_falls_through_to_the_cache() {
        let Fixture {
            cache,
            wanted,
            dir: _dir,
        } = fixture(true);
        let mut other = BYTES.to_vec();
        other[3] ^= 1;
        fs::write(&wanted.path, &other).unwrap();
        assert_eq!(cache.find(&wanted), None);
        cache.keep(&wanted, BYTES);
        assert_eq!(cache.find(&wanted).unwrap(), BYTES);
    }

    #[test]
    fn shared_files_are_not_touched_where_the_cluster_shares_none() {
        let Fixture {
            cache,
            wanted,
            dir: _dir,
        } = fixture(false);
        fs::write(&wanted.path, BYTES).unwrap();
        assert_eq!(cache.find(&wanted), None);
    }

    #[test]
    fn a_damaged_cache_file_is_dropped_and_can_be_kept_anew() {
        let Fixture { cache, wanted, dir } = fixture(true);
        cache.keep(&wanted, BYTES);
        let file = dir.path().join("cache/audio").join(name(&wanted));
        for damage in [&BYTES[..9], &[0; 34], &[0; 99]] {
            fs::write(&file, damage).unwrap();
            assert_eq!(cache.find(&wanted), None);
            cache.keep(&wanted, BYTES);
            assert_eq!(cache.find(&wanted).unwrap(), BYTES);
        }
    }

    #[test]
    fn a_folder_in_the_files_place_is_no_file() {
        let Fixture {
            cache,
            wanted,
            dir: _dir,
        } = fixture(true);
        fs::create_dir(&wanted.path).unwrap();
        assert_eq!(cache.find(&wanted), None);
    }
}
