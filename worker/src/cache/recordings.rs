//! Segments of recordings that many utterances lie in. It decides where their samples are sought, so that a
//! recording is verified and unpacked once and not once for each segment; it does not depend on which
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
use speech::audio::{self, Audio, AudioError, DecodedAudio};
use speech::regular_file;

use super::{
    AudioCache, CacheConfig, CacheError, Wanted,
    audio::{mixed, tell_of_cancelling},
    folder::Folder,
    prepared,
};

/// BLAKE3 of program, recording and all that is before, at the end of an unpacked copy.
const TAIL: usize = 32;

#[derive(Debug)]
pub(crate) struct Recordings {
    folder: Folder,
    /// By recording and channel, as [`Wanted::of_channel`] names them.
    known: Mutex<HashMap<Digest, Arc<Mutex<Option<Known>>>>>,
    /// Whose next build may unpack to other bits; `None` where it cannot be told, and nothing is kept.
    program: Option<Digest>,
}

/// The part of a recording that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The samples at the recording's own sampling rate.
    pub samples: Range<u64>,
    /// Counted from 0; `None` for the mean of all.
    pub channel: Option<u16>,
}

/// A file that was verified, with samples that can be sought.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    /// The channel to be read of it, or the mean of all: an unpacked copy has but one.
    channel: Option<u16>,
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

impl Known {
    /// The unpacked copy at `path`, which this process has just written.
    fn copy(path: PathBuf) -> Option<Self> {
        let stamp = Stamp::of(&path, true).ok()?;
        Some(Self {
            path,
            channel: None,
            stamp,
        })
    }

    fn read(&self, part: &Part) -> Result<DecodedAudio, AudioError> {
        audio::read_part(&self.path, Some(part.samples.clone()), self.channel)
    }
}

impl Recordings {
    /// # Errors
    /// When the folder can neither be found nor made.
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
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
    pub(crate) fn find(
        &self,
        audio: &AudioCache,
        wanted: &Wanted,
        part: &Part,
    ) -> Result<Option<Audio>, AudioError> {
        let source = wanted.of_channel(part.channel);
        let entry = self.entry(&source);
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
            if let Ok(heard) = found.read(part) {
                return Ok(Some(mixed(heard, &wanted.path)));
            }
        }
        *known = self.unpacked(&source);
        if let Some(found) = known.as_ref() {
            let heard = found.read(part)?;
            return Ok(Some(mixed(heard, &wanted.path)));
        }
        // Before they are read: what changes in between is another file then.
        let shared = audio.shared_path(wanted);
        let shared = shared.and_then(|path| Stamp::of(&path, false).ok());
        let kept = Stamp::of(&audio.kept_path(wanted), true).ok();
        let Some((bytes, path)) = audio.find_with_path(wanted) else {
            return Ok(None);
        };
        let stamp = if audio.is_shared(&path) { shared } else { kept };
        self.learn(&mut known, wanted, &bytes, path, stamp, part)
            .map(Some)
    }

    /// The samples `part` of `wanted`, whose `bytes` were fetched and kept.
    pub(crate) fn decode(
        &self,
        audio: &AudioCache,
        wanted: &Wanted,
        bytes: &[u8],
        part: &Part,
    ) -> Result<Audio, AudioError> {
        let source = wanted.of_channel(part.channel);
        let entry = self.entry(&source);
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
        part: &Part,
    ) -> Result<Audio, AudioError> {
        let name = wanted.path.to_string_lossy();
        let decoded = || audio::decode_part(&name, bytes, Some(part.samples.clone()), part.channel);
        if audio::is_plain(bytes) {
            *known = stamp.map(|stamp| Known {
                path,
                channel: part.channel,
                stamp,
            });
            return decoded().map(|heard| mixed(heard, &wanted.path));
        }
        let Some(program) = self.program else {
            return decoded().map(|heard| heard.audio);
        };
        if let Err(error) = self.unpack(&program, wanted, part.channel, bytes) {
            tracing::warn!(%error, path = %wanted.path.display(), "cannot keep an unpacked recording");
        }
        let path = self
            .folder
            .path(&file_name(&wanted.of_channel(part.channel)));
        *known = Known::copy(path);
        match known {
            Some(known) => known.read(part).map(|heard| heard.audio),
            // A recording that is damaged, or too long for the cache: what lies before the damage can be heard.
            None => decoded().map(|heard| heard.audio),
        }
    }

    /// Leaves an unpacked copy of `bytes`, block by block. A recording that cannot be unpacked leaves none.
    fn unpack(
        &self,
        program: &Digest,
        wanted: &Wanted,
        channel: Option<u16>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let source = wanted.of_channel(channel);
        let name = wanted.path.to_string_lossy();
        let Ok(info) = audio::inspect_bytes(&name, bytes) else {
            return Ok(());
        };
        let Ok(mut blocks) = audio::AudioBlocks::of_bytes(&name, bytes.to_vec(), channel) else {
            return Ok(());
        };
        let header = audio::float_header(info.sample_rate, info.frames);
        let size = header.len() as u64 + 4 * info.frames + TAIL as u64;
        let mut is_damaged = false;
        let written = self.folder.write_with(&file_name(&source), size, |file| {
            let mut hasher = begun(program, &source);
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
        let mut file = regular_file::open(&path).ok()?;
        let mut hasher = begun(&program, digest);
        let content = stamp.bytes.checked_sub(TAIL as u64)?;
        hasher.update_reader((&mut file).take(content)).ok()?;
        let mut found = Vec::with_capacity(TAIL);
        file.take(TAIL as u64).read_to_end(&mut found).ok()?;
        if *hasher.finalize().as_bytes() != *found {
            self.folder.remove(&file_name(digest));
            return None;
        }
        Some(Known {
            path,
            channel: None,
            stamp,
        })
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
mod tests;
