//! Segments of recordings that many utterances lie in. A recording with plain samples is sought; one that is packed is
//! unpacked once for all of its segments, into a temporary file without a name, of which segments in any order are
//! read. Memory does not grow with the recording.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blocks::AudioBlocks;
use super::{
    Audio, AudioError, AudioInfo, DecodedAudio, inspect_beneath, is_plain_file, read_beneath,
};
use crate::corpus_roots::CorpusRoots;
use crate::manifest::Utterance;

/// Bytes of all unpacked copies together; the one that was made first goes first.
const MAX_DECODED_BYTES: u64 = 8 << 30;

/// A recording, and the channel of it that is heard, or all of them.
type RecordingChannel = (PathBuf, Option<u16>);

/// Reads segments of recordings, from any number of threads.
pub struct Segments {
    roots: CorpusRoots,
    recordings: BTreeMap<RecordingChannel, SharedRecording>,
    /// The copies, in the order in which they were made, and their bytes.
    copies: Mutex<VecDeque<(RecordingChannel, u64)>>,
}

/// A recording in which several segments lie.
struct SharedRecording {
    state: Mutex<RecordingState>,
}

struct RecordingState {
    /// How often it will be read yet.
    uses: usize,
    info: Option<AudioInfo>,
    place: SampleAccess,
}

#[derive(Clone)]
enum SampleAccess {
    Unknown,
    /// In the file itself: its samples can be sought, or it cannot be unpacked beside it.
    Itself,
    Copy(Arc<Copy>),
}

/// The samples of a recording as 32-bit floats in the order of this machine's bytes.
struct Copy {
    file: File,
    samples: u64,
    rate: u32,
    cancels: bool,
}

impl Segments {
    /// For segments of the recordings `paths` and their channels, each named as often as it will be read; what is
    /// named once is not worth a copy.
    pub fn of<'a>(paths: impl IntoIterator<Item = (&'a Path, Option<u16>)>) -> Self {
        Self::beneath(CorpusRoots::anywhere(), paths)
    }

    /// As [`Self::of`], of recordings that lie beneath `roots`.
    pub fn beneath<'a>(
        roots: CorpusRoots,
        paths: impl IntoIterator<Item = (&'a Path, Option<u16>)>,
    ) -> Self {
        let mut uses: BTreeMap<RecordingChannel, usize> = BTreeMap::new();
        for (path, channel) in paths {
            *uses.entry((path.to_owned(), channel)).or_default() += 1;
        }
        let recordings = uses.into_iter().filter(|(_, uses)| *uses > 1);
        let recordings = recordings.map(|(path, uses)| {
            let state = RecordingState {
                uses,
                info: None,
                place: SampleAccess::Unknown,
            };
            let state = Mutex::new(state);
            (path, SharedRecording { state })
        });
        Self {
            roots,
            recordings: recordings.collect(),
            copies: Mutex::default(),
        }
    }

    /// What a line of a manifest means: its recording, or the segment of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn utterance(&self, utterance: &Utterance) -> Result<DecodedAudio, AudioError> {
        let path = utterance.audio.as_path();
        let key = (path.to_owned(), utterance.channel);
        let info = match self.recordings.get(&key) {
            None => inspect_beneath(&self.roots, path)?,
            Some(recording) => {
                let mut state = lock(&recording.state);
                match state.info {
                    Some(info) => info,
                    None => *state.info.insert(inspect_beneath(&self.roots, path)?),
                }
            }
        };
        let part = utterance.segment(info.frames, info.sample_rate);
        self.read(path, part, utterance.channel)
    }

    /// The samples `part` of the recording at `path`, or all of it, of `channel` or the mean of all.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(
        &self,
        path: &Path,
        part: Option<Range<u64>>,
        channel: Option<u16>,
    ) -> Result<DecodedAudio, AudioError> {
        let key = (path.to_owned(), channel);
        let Some(recording) = self.recordings.get(&key) else {
            return read_beneath(&self.roots, path, part, channel);
        };
        let place = {
            // Held while it is unpacked: others that want a segment of it wait rather than unpack it as well.
            let mut state = lock(&recording.state);
            if let SampleAccess::Unknown = state.place {
                state.place = self.place(&key, state.uses);
            }
            state.uses = state.uses.saturating_sub(1);
            let place = state.place.clone();
            if state.uses == 0 {
                state.place = SampleAccess::Unknown;
                drop(state);
                self.forget(&key);
            }
            place
        };
        match place {
            SampleAccess::Copy(copy) => copy.read(part, path),
            _ => read_beneath(&self.roots, path, part, channel),
        }
    }

    fn place(&self, key: &RecordingChannel, uses: usize) -> SampleAccess {
        let (path, channel) = key;
        if uses < 2 || is_plain_file(path, &self.roots) {
            return SampleAccess::Itself;
        }
        // A recording that is damaged is read segment by segment: those before the damage are sound.
        let Some(copy) = AudioBlocks::open_beneath(&self.roots, path, *channel)
            .ok()
            .and_then(|blocks| Copy::of(blocks).ok())
        else {
            return SampleAccess::Itself;
        };
        let mut copies = lock(&self.copies);
        copies.push_back((key.clone(), copy.bytes()));
        let mut held: u64 = copies.iter().map(|(_, bytes)| bytes).sum();
        while held > MAX_DECODED_BYTES
            && let Some((oldest, bytes)) = copies.pop_front()
        {
            held -= bytes;
            if oldest == *key {
                return SampleAccess::Itself;
            }
            // One that is being made at this moment holds its own lock and is not waited for.
            if let Some(recording) = self.recordings.get(&oldest)
                && let Ok(mut state) = recording.state.try_lock()
            {
                state.place = SampleAccess::Unknown;
            }
        }
        SampleAccess::Copy(Arc::new(copy))
    }

    fn forget(&self, key: &RecordingChannel) {
        lock(&self.copies).retain(|(held, _)| held != key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no copy.
enum NoCopy {
    Audio,
    Disk,
}

impl From<AudioError> for NoCopy {
    fn from(_: AudioError) -> Self {
        Self::Audio
    }
}

impl From<io::Error> for NoCopy {
    fn from(_: io::Error) -> Self {
        Self::Disk
    }
}

impl Copy {
    fn of(mut blocks: AudioBlocks) -> Result<Self, NoCopy> {
        let mut file = BufWriter::new(tempfile::tempfile()?);
        let mut samples = 0;
        while let Some(block) = blocks.read()? {
            samples += block.len() as u64;
            if 4 * samples > MAX_DECODED_BYTES {
                return Err(NoCopy::Disk);
            }
            for value in block {
                file.write_all(&value.to_ne_bytes())?;
            }
        }
        Ok(Self {
            file: file.into_inner().map_err(io::IntoInnerError::into_error)?,
            samples,
            rate: blocks.rate(),
            cancels: blocks.cancels(),
        })
    }

    fn bytes(&self) -> u64 {
        4 * self.samples
    }

    fn read(&self, part: Option<Range<u64>>, path: &Path) -> Result<DecodedAudio, AudioError> {
        let part = part.unwrap_or(0..self.samples);
        if part.is_empty() || part.end > self.samples {
            return Err(AudioError::Segment {
                path: path.into(),
                part,
                held: self.samples,
            });
        }
        let mut bytes = vec![0; 4 * (part.end - part.start) as usize];
        let read = self.file.read_exact_at(&mut bytes, 4 * part.start);
        read.map_err(|source| AudioError::Read {
            path: path.into(),
            source,
        })?;
        let (values, _) = bytes.as_chunks();
        Ok(DecodedAudio {
            audio: Audio {
                sample_rate: self.rate,
                samples: values
                    .iter()
                    .map(|four| f32::from_ne_bytes(*four))
                    .collect(),
            },
            cancels: self.cancels,
        })
    }
}
