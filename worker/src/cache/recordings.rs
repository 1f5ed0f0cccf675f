//! Segments of recordings that many utterances lie in. It decides where their samples are sought, so that a
//! recording is verified and unpacked once and not once for each segment; it refuses to know which
//! segments there are, and trusts no file that it has not verified.
//!
//! A recording with plain samples is sought where it lies, one that is packed in an unpacked copy. Having
//! been verified in full, a file is known by its inode, and one that is not this cache's own by its times
//! as well; when these differ, it is verified again.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use proto::contribution::Digest;
use speech::audio::{self, Audio, AudioError};

use super::{
    AudioCache, CacheConfig, CacheError, Wanted,
    audio::{mixed, tell_of_cancelling},
    folder::Folder,
    prepared,
};

/// BLAKE3 of program, recording and all that is before, at the end of an unpacked copy.
const TAIL: usize = 32;

#[derive(Debug)]
pub struct Recordings {
    folder: Folder,
    known: Mutex<HashMap<Digest, Arc<Mutex<Option<Known>>>>>,
    /// Whose next build may unpack to other bits; `None` where it cannot be told, and nothing is kept.
    program: Option<Digest>,
}

/// A file that was verified, with samples that can be sought.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    stamp: Stamp,
}

/// What stays the same while a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change; of the cache's own files, whose times tell when they
    /// were used, zero.
    changed: [i64; 4],
}

impl Stamp {
    fn of(path: &Path, own: bool) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let times = [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ];
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: if own { [0; 4] } else { times },
        })
    }
}

impl Recordings {
    /// # Errors
    /// When the folder can neither be found nor made.
    pub fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        let program = prepared::program()
            .inspect_err(|error| {
                tracing::warn!(%error, "unpacked recordings are not kept: the program cannot be read");
            })
            .ok();
        Ok(Self {
            folder: Folder::open(config.folder.join("unpacked"), config.audio_bytes)?,
            known: Mutex::default(),
            program,
        })
    }

    /// The samples `part` of `wanted`; `None` when its bytes must be fetched.
    pub fn find(
        &self,
        audio: &AudioCache,
        wanted: &Wanted,
        part: &Range<u64>,
    ) -> Result<Option<Audio>, AudioError> {
        let entry = self.entry(&wanted.digest);
        // Held while it is read: others that want a segment of it wait rather than unpack it as well.
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.as_ref()
            && let Some(own) = self.still(audio, found)
        {
            if own {
                // Only the order of removal suffers when the time cannot be set.
                let now = std::time::SystemTime::now();
                let _ = fs::File::open(&found.path).and_then(|file| file.set_modified(now));
            }
            if let Ok(heard) = audio::read_part(&found.path, Some(part.clone()), None) {
                return Ok(Some(mixed(heard, &wanted.path)));
            }
        }
        *known = self.unpacked(&wanted.digest);
        if let Some(found) = known.as_ref() {
            let heard = audio::read_part(&found.path, Some(part.clone()), None)?;
            return Ok(Some(mixed(heard, &wanted.path)));
        }
        // Before they are read: what changes in between is another file then.
        let shared = Stamp::of(&wanted.path, false).ok();
        let kept = Stamp::of(&audio.kept_path(wanted), true).ok();
        let Some((bytes, path)) = audio.find_with_path(wanted) else {
            return Ok(None);
        };
        let stamp = if audio.is_shared(&path) { shared } else { kept };
        self.learn(&mut known, wanted, &bytes, path, stamp, part)
            .map(Some)
    }

    /// The samples `part` of `wanted`, whose `bytes` were fetched and kept.
    pub fn hear(
        &self,
        audio: &AudioCache,
        wanted: &Wanted,
        bytes: &[u8],
        part: &Range<u64>,
    ) -> Result<Audio, AudioError> {
        let entry = self.entry(&wanted.digest);
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let path = audio.kept_path(wanted);
        // Kept by this process a moment ago, from bytes that were verified.
        let stamp = Stamp::of(&path, true).ok();
        self.learn(&mut known, wanted, bytes, path, stamp, part)
    }

    /// Keeps in mind where the samples of `bytes`, which were verified, can be sought.
    fn learn(
        &self,
        known: &mut Option<Known>,
        wanted: &Wanted,
        bytes: &[u8],
        path: PathBuf,
        stamp: Option<Stamp>,
        part: &Range<u64>,
    ) -> Result<Audio, AudioError> {
        let name = wanted.path.to_string_lossy();
        if audio::is_plain(bytes) {
            *known = stamp.map(|stamp| Known { path, stamp });
            let heard = audio::decode_part(&name, bytes, Some(part.clone()), None)?;
            return Ok(mixed(heard, &wanted.path));
        }
        let Some(program) = self.program else {
            return audio::decode_segment(&name, bytes, part.clone());
        };
        if let Err(error) = self.unpack(&program, wanted, bytes) {
            tracing::warn!(%error, path = %wanted.path.display(), "cannot keep an unpacked recording");
        }
        let path = self.folder.path(&file_name(&wanted.digest));
        *known = Stamp::of(&path, true)
            .ok()
            .map(|stamp| Known { path, stamp });
        match known {
            Some(known) => audio::read_segment(&known.path, part.clone()),
            // A recording that is damaged, or too long for the cache: what lies before the damage can be heard.
            None => audio::decode_segment(&name, bytes, part.clone()),
        }
    }

    /// Leaves an unpacked copy of `bytes`, block by block. A recording that cannot be unpacked leaves none.
    fn unpack(&self, program: &Digest, wanted: &Wanted, bytes: &[u8]) -> io::Result<()> {
        let name = wanted.path.to_string_lossy();
        let Ok(info) = audio::inspect_bytes(&name, bytes) else {
            return Ok(());
        };
        let Ok(mut blocks) = audio::Blocks::of_bytes(&name, bytes.to_vec(), None) else {
            return Ok(());
        };
        let header = audio::float_header(info.sample_rate, info.frames);
        let size = header.len() as u64 + 4 * info.frames + TAIL as u64;
        let mut is_damaged = false;
        let written = self
            .folder
            .write_with(&file_name(&wanted.digest), size, |file| {
                let mut hasher = begun(program, &wanted.digest);
                hasher.update(&header);
                file.write_all(&header)?;
                let mut samples = 0;
                loop {
                    let block = match blocks.read() {
                        Ok(Some(block)) => block,
                        Ok(None) if samples == info.frames => break,
                        Ok(None) | Err(_) => {
                            is_damaged = true;
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                    };
                    samples += block.len() as u64;
                    let block: Vec<u8> = block.iter().flat_map(|it| it.to_le_bytes()).collect();
                    hasher.update(&block);
                    file.write_all(&block)?;
                }
                file.write_all(hasher.finalize().as_bytes())
            });
        if blocks.cancels() {
            tell_of_cancelling(&wanted.path);
        }
        if is_damaged { Ok(()) } else { written }
    }

    /// An unpacked copy that this program left, verified.
    fn unpacked(&self, digest: &Digest) -> Option<Known> {
        let program = self.program?;
        let path = self.folder.path(&file_name(digest));
        let stamp = Stamp::of(&path, true).ok()?;
        let mut file = fs::File::open(&path).ok()?;
        let mut hasher = begun(&program, digest);
        let content = stamp.bytes.checked_sub(TAIL as u64)?;
        hasher.update_reader((&mut file).take(content)).ok()?;
        let mut found = Vec::with_capacity(TAIL);
        file.take(TAIL as u64).read_to_end(&mut found).ok()?;
        if *hasher.finalize().as_bytes() != *found {
            self.folder.remove(&file_name(digest));
            return None;
        }
        Some(Known { path, stamp })
    }

    /// Whether `known` is the file that was verified, and then whether it is the cache's own.
    fn still(&self, audio: &AudioCache, known: &Known) -> Option<bool> {
        let own = !audio.is_shared(&known.path);
        (Stamp::of(&known.path, own).ok()? == known.stamp).then_some(own)
    }

    fn entry(&self, digest: &Digest) -> Arc<Mutex<Option<Known>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(*digest).or_default())
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}.wav", blake3::Hash::from(*digest).to_hex())
}

/// The checksum at the end of a copy, begun.
fn begun(program: &Digest, recording: &Digest) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(program).update(recording);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        audio: AudioCache,
        recordings: Recordings,
        wanted: Wanted,
        samples: Vec<f32>,
    }

    /// A recording of 1,000 samples at a path that the coordinator shares: WAV, or FLAC-like packed where
    /// `packed` (ADPCM, as the tests can write it).
    fn fixture(packed: bool) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig::new(dir.path().join("cache"));
        let path = dir.path().join("long.wav");
        if packed {
            fs::write(&path, ima_adpcm()).unwrap();
        } else {
            let samples = (0..1000).map(|at| at as f32 / 32_768.0).collect();
            let sound = Audio {
                sample_rate: 8000,
                samples,
            };
            audio::write_wav(&path, &sound).unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        Fixture {
            audio: AudioCache::open(&config).unwrap(),
            recordings: Recordings::open(&config).unwrap(),
            samples: audio::read(&path).unwrap().samples,
            wanted: Wanted {
                path,
                bytes: bytes.len() as u64,
                digest: *blake3::hash(&bytes).as_bytes(),
            },
            dir,
        }
    }

    /// Two blocks of IMA ADPCM, 505 samples each.
    fn ima_adpcm() -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x14\0\0\0\x11\0\x01\0".to_vec();
        file.extend(8000u32.to_le_bytes());
        file.extend(4055u32.to_le_bytes());
        file.extend([0, 1, 4, 0, 2, 0]);
        file.extend(505u16.to_le_bytes());
        file.extend(b"data");
        file.extend(512u32.to_le_bytes());
        for block in 0..2u8 {
            file.extend([0, block, 20, 0]);
            file.extend((0..252).map(|at: u8| at.wrapping_mul(29) ^ block));
        }
        let size = (file.len() as u32 - 8).to_le_bytes();
        file[4..8].copy_from_slice(&size);
        file
    }

    impl Fixture {
        fn find(&self, part: Range<u64>) -> Option<Vec<f32>> {
            let found = self.recordings.find(&self.audio, &self.wanted, &part);
            found.unwrap().map(|heard| heard.samples)
        }

        fn expect(&self, part: Range<u64>) {
            let samples = &self.samples[part.start as usize..part.end as usize];
            assert_eq!(self.find(part).as_deref(), Some(samples));
        }

        fn known(&self) -> PathBuf {
            let entry = self.recordings.entry(&self.wanted.digest);
            let known = entry.lock().unwrap();
            known.as_ref().unwrap().path.clone()
        }
    }

    #[test]
    fn a_plain_recording_is_sought_where_it_lies_and_verified_again_when_it_changes() {
        let fixture = fixture(false);
        fixture.expect(100..200);
        assert_eq!(fixture.known(), fixture.wanted.path);
        fixture.expect(900..1000);
        // Bytes that a second reading in full would find changed and a reading of the segment would not.
        let mut other = fs::read(&fixture.wanted.path).unwrap();
        let last = other.len() - 1;
        other[last] ^= 1;
        fs::write(&fixture.wanted.path, &other).unwrap();
        assert_eq!(fixture.find(100..200), None);
        other[last] ^= 1;
        fs::write(&fixture.wanted.path, &other).unwrap();
        fixture.expect(100..200);
    }

    #[test]
    fn a_packed_recording_is_unpacked_once_and_its_copy_is_verified() {
        let fixture = fixture(true);
        assert_eq!(fixture.samples.len(), 1010);
        fixture.expect(300..700);
        let copy = fixture.known();
        assert!(copy.starts_with(fixture.dir.path().join("cache")));
        // From the copy alone.
        fs::remove_file(&fixture.wanted.path).unwrap();
        fixture.expect(0..1010);
        let config = CacheConfig::new(fixture.dir.path().join("cache"));
        let again = Fixture {
            recordings: Recordings::open(&config).unwrap(),
            ..fixture
        };
        again.expect(1..2);
        let mut damaged = fs::read(&copy).unwrap();
        damaged[60] ^= 1;
        fs::write(&copy, damaged).unwrap();
        let once_more = Fixture {
            recordings: Recordings::open(&config).unwrap(),
            ..again
        };
        assert_eq!(once_more.find(1..2), None);
    }

    #[test]
    fn what_lies_before_the_damage_of_a_packed_recording_is_heard() {
        let mut fixture = fixture(true);
        let coded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../speech/testdata/coded");
        let mut bytes = fs::read(coded.join("chirp.mp3")).unwrap();
        let whole = audio::decode("chirp.mp3", &bytes).unwrap().samples;
        // The side information of the last frame announces more values than a frame has.
        let headers = bytes.windows(2);
        let last = headers.rev().position(|two| two == [0xff, 0xf3]);
        let last = bytes.len() - 2 - last.unwrap();
        bytes[last + 4..last + 13].fill(0xff);
        fs::write(&fixture.wanted.path, &bytes).unwrap();
        fixture.wanted.bytes = bytes.len() as u64;
        fixture.wanted.digest = *blake3::hash(&bytes).as_bytes();
        assert!(audio::decode("chirp.mp3", &bytes).is_err());
        assert_eq!(fixture.find(3..40).as_deref(), Some(&whole[3..40]));
        let behind = whole.len() as u64 - 1..whole.len() as u64;
        let found = fixture
            .recordings
            .find(&fixture.audio, &fixture.wanted, &behind);
        assert!(found.is_err());
    }

    #[test]
    fn what_was_fetched_is_sought_in_the_cache() {
        let fixture = fixture(false);
        let bytes = fs::read(&fixture.wanted.path).unwrap();
        fs::remove_file(&fixture.wanted.path).unwrap();
        assert_eq!(fixture.find(5..10), None);
        fixture.audio.keep(&fixture.wanted, &bytes);
        let heard = fixture
            .recordings
            .hear(&fixture.audio, &fixture.wanted, &bytes, &(5..10))
            .unwrap();
        assert_eq!(heard.samples, fixture.samples[5..10]);
        assert_eq!(fixture.known(), fixture.audio.kept_path(&fixture.wanted));
        fixture.expect(10..20);
    }
}
