//! Features on disk, one file for each audio and front end: the next run, or another worker of this
//! machine, need not compute them again. It decides the file's layout, and trusts none that is not whole.

use std::{fs, io, sync::Arc};

use proto::contribution::Digest;
use speech::features::Features;

use super::{CacheConfig, CacheError, folder::Folder};

/// Names features: BLAKE3 of the front end's settings and of the audio's bytes.
pub(crate) type FeatureKey = Digest;

/// What is kept of an utterance.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub features: Features,
    /// The length of its audio.
    pub seconds: f64,
}

/// Bytes before the features: frames and dims as `u32`, seconds of audio as `f64`, little-endian.
const HEAD: usize = 16;
/// BLAKE3 of the key and of everything before, at the end.
const TAIL: usize = 32;
/// Longer ones are computed each time.
const MOST: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct FeatureFiles {
    folder: Folder,
    /// The digest of the program, whose next build may compute other bits.
    program: Digest,
}

impl FeatureFiles {
    /// `None` where no files are wanted, or the program cannot tell its builds apart.
    ///
    /// # Errors
    /// When the folder can neither be found nor made.
    pub(super) fn open(config: &CacheConfig) -> Result<Option<Self>, CacheError> {
        if config.feature_file_bytes == 0 {
            return Ok(None);
        }
        let program = match program() {
            Ok(program) => program,
            Err(error) => {
                tracing::warn!(%error, "features are not kept on disk: the program cannot be read");
                return Ok(None);
            }
        };
        let folder = config.folder.join("features");
        Ok(Some(Self {
            folder: Folder::open(folder, config.feature_file_bytes)?,
            program,
        }))
    }

    pub(super) fn read(&self, key: &FeatureKey) -> Option<Prepared> {
        let name = self.name(key);
        let bytes = self.folder.read(&name, MOST)?;
        let prepared = decode(key, &bytes);
        if prepared.is_none() {
            tracing::warn!(
                file = name,
                "a file of the feature cache is damaged: computing it again"
            );
            self.folder.remove(&name);
        }
        prepared
    }

    /// A full disk costs a computation later and nothing else.
    pub(super) fn write(&self, key: &FeatureKey, prepared: &Arc<Prepared>) {
        let bytes = encode(key, prepared);
        if bytes.len() as u64 > MOST {
            return;
        }
        if let Err(error) = self.folder.write(&self.name(key), &bytes) {
            tracing::warn!(%error, "cannot keep features");
        }
    }

    fn name(&self, key: &FeatureKey) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.program).update(key);
        hasher.finalize().to_hex().to_string()
    }
}

/// BLAKE3 of the running program and of what its arithmetic depends on beside it.
pub(super) fn program() -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(std::env::current_exe()?)?)?;
    hasher.update(crate::cpu::Level::detect().name().as_bytes());
    Ok(*hasher.finalize().as_bytes())
}

fn encode(key: &FeatureKey, prepared: &Prepared) -> Vec<u8> {
    let Prepared { features, seconds } = prepared;
    let mut bytes = Vec::with_capacity(HEAD + 4 * features.data.len() + TAIL);
    // Frames and dims of a vector in memory: less than 2^32 each in any audio that is read.
    bytes.extend((features.frames as u32).to_le_bytes());
    bytes.extend((features.dims as u32).to_le_bytes());
    bytes.extend(seconds.to_le_bytes());
    bytes.extend(features.data.iter().flat_map(|value| value.to_le_bytes()));
    let tail = tail(key, &bytes);
    bytes.extend(tail);
    bytes
}

fn decode(key: &FeatureKey, bytes: &[u8]) -> Option<Prepared> {
    let (content, found) = bytes.split_last_chunk::<TAIL>()?;
    if tail(key, content) != *found {
        return None;
    }
    let (frames, rest) = content.split_first_chunk()?;
    let (dims, rest) = rest.split_first_chunk()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let (frames, dims) = (u32::from_le_bytes(*frames), u32::from_le_bytes(*dims));
    let (values, left_over) = rest.as_chunks::<4>();
    let whole = u64::from(frames) * u64::from(dims) == values.len() as u64;
    if !whole || !left_over.is_empty() {
        return None;
    }
    Some(Prepared {
        features: Features {
            frames: frames as usize,
            dims: dims as usize,
            data: values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        },
        seconds: f64::from_le_bytes(*seconds),
    })
}

fn tail(key: &FeatureKey, content: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(content);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FeatureKey = [3; 32];

    fn prepared() -> Arc<Prepared> {
        let features = Features {
            frames: 3,
            dims: 2,
            data: vec![0.5, -1.0, 2.0, f32::MIN_POSITIVE, 0.0, 7.25],
        };
        Arc::new(Prepared {
            features,
            seconds: 0.375,
        })
    }

    fn files(dir: &tempfile::TempDir) -> FeatureFiles {
        let config = CacheConfig::new(dir.path().to_owned());
        FeatureFiles::open(&config).unwrap().unwrap()
    }

    #[test]
    fn features_are_found_again_by_another_worker() {
        let dir = tempfile::tempdir().unwrap();
        files(&dir).write(&KEY, &prepared());
        let found = files(&dir).read(&KEY).unwrap();
        assert_eq!(found.features.data, prepared().features.data);
        assert_eq!((found.features.frames, found.features.dims), (3, 2));
        assert_eq!(found.seconds, 0.375);
        assert!(files(&dir).read(&[4; 32]).is_none());
    }

    #[test]
    fn a_damaged_file_is_computed_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let whole = encode(&KEY, &prepared());
        for end in 0..whole.len() {
            assert!(decode(&KEY, &whole[..end]).is_none(), "{end} bytes");
        }
        assert!(decode(&[9; 32], &whole).is_none(), "another key's");
        files.write(&KEY, &prepared());
        let path = dir.path().join("features").join(files.name(&KEY));
        let mut bytes = fs::read(&path).unwrap();
        bytes[HEAD + 1] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(files.read(&KEY).is_none());
        assert!(!path.exists());
    }

    #[test]
    fn another_program_finds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        files(&dir).write(&KEY, &prepared());
        let mut other = files(&dir);
        other.program[0] ^= 1;
        assert!(other.read(&KEY).is_none());
    }
}
