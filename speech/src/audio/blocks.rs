//! Recordings that are read from their beginning to their end, block by block, so that a long one is never in memory
//! unpacked.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use super::coded::Unpacker;
use super::layout::Layout;
use super::mixing::Mixer;
use super::stored_as::{StoredAs, byte_range, bytes_at, mixer, plain};
use super::{AudioError, open};
use crate::corpus_roots::CorpusRoots;

/// Seconds of a block, about.
const BLOCK_SECONDS: u64 = 10;

/// A recording that is being read.
pub struct AudioBlocks(BlockReader);

enum BlockReader {
    Plain {
        file: Box<dyn ReadSeek>,
        layout: Layout,
        mixer: Mixer,
        path: PathBuf,
        /// The next sample.
        at: u64,
    },
    Coded(Box<Unpacker<'static>>),
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl AudioBlocks {
    /// Opens the file at `path`: its channel `channel`, counted from 0, or the mean of all.
    ///
    /// # Errors
    /// When it is no recording that is read, or has no such channel.
    pub fn open(path: &Path, channel: Option<u16>) -> Result<Self, AudioError> {
        Self::open_beneath(&CorpusRoots::anywhere(), path, channel)
    }

    /// As [`Self::open`], of a file that lies beneath `roots`.
    pub(super) fn open_beneath(
        roots: &CorpusRoots,
        path: &Path,
        channel: Option<u16>,
    ) -> Result<Self, AudioError> {
        let (file, length) = open(path, roots)?;
        Self::new::<File>(file, length, channel, path)
    }

    /// Opens a file that is in memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_bytes(name: &str, bytes: Vec<u8>, channel: Option<u16>) -> Result<Self, AudioError> {
        let length = bytes.len() as u64;
        Self::new(Cursor::new(bytes), length, channel, Path::new(name))
    }

    fn new<S: ReadSeek + 'static>(
        mut file: S,
        length: u64,
        channel: Option<u16>,
        path: &Path,
    ) -> Result<Self, AudioError> {
        Ok(Self(match StoredAs::of(&mut file, length, path)? {
            StoredAs::Plain(layout) => BlockReader::Plain {
                mixer: mixer(&layout, channel, path)?,
                file: Box::new(file),
                layout,
                path: path.to_owned(),
                at: 0,
            },
            StoredAs::Coded(container, at) => {
                let bytes = Cow::Owned(bytes_at(&mut file, at, path)?);
                let unpacker = Unpacker::open(container, bytes, channel, path)?;
                BlockReader::Coded(Box::new(unpacker))
            }
        }))
    }

    /// In Hz.
    pub fn rate(&self) -> u32 {
        match &self.0 {
            BlockReader::Plain { layout, .. } => layout.sample_rate,
            BlockReader::Coded(unpacker) => unpacker.rate(),
        }
    }

    /// Whether channels of opposite phase have cancelled in what was read.
    pub fn cancels(&self) -> bool {
        match &self.0 {
            BlockReader::Plain { mixer, .. } => mixer.cancels(),
            BlockReader::Coded(unpacker) => unpacker.cancels(),
        }
    }

    /// The next samples; none at the end.
    ///
    /// # Errors
    /// When they cannot be read or decoded.
    pub fn read(&mut self) -> Result<Option<Vec<f32>>, AudioError> {
        match &mut self.0 {
            BlockReader::Plain {
                file,
                layout,
                mixer,
                path,
                at,
            } => {
                let end = *at + BLOCK_SECONDS * u64::from(layout.sample_rate);
                let part = *at..end.min(layout.frames());
                if part.is_empty() {
                    return Ok(None);
                }
                let bytes = bytes_at(file, byte_range(layout, Some(part.clone()), path)?, path)?;
                *at = part.end;
                plain(&bytes, layout, mixer, path).map(|audio| Some(audio.samples))
            }
            BlockReader::Coded(unpacker) => {
                let enough = (BLOCK_SECONDS * u64::from(unpacker.rate())) as usize;
                let mut samples = Vec::new();
                while samples.len() < enough {
                    let Some((_, block)) = unpacker.next()? else {
                        break;
                    };
                    samples.extend(block);
                }
                Ok((!samples.is_empty()).then_some(samples))
            }
        }
    }
}
