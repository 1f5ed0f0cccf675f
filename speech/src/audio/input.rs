//! A file of known length whose header is read with suspicion: what is read lies inside it, and what is wrong
//! with it is told with its path.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{AudioError, RATES, error::read_error, layout::Layout};

pub(super) struct HeaderInput<'a, R> {
    pub(super) file: &'a mut R,
    /// Bytes of the file.
    pub(super) length: u64,
    pub(super) path: &'a Path,
}

impl<R: Read + Seek> HeaderInput<'_, R> {
    /// The `N` bytes at `at`; where the file ends before, it was cut short.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], AudioError> {
        let mut bytes = [0; N];
        if at.saturating_add(N as u64) > self.length {
            return Err(self.truncated(at.saturating_add(N as u64)));
        }
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| read_error(self.path, source))?;
        Ok(bytes)
    }

    /// Up to `most` bytes at `at`: fewer where the file ends.
    pub(super) fn some(&mut self, at: u64, most: u64) -> Result<Vec<u8>, AudioError> {
        let most = most.min(self.length.saturating_sub(at));
        let mut bytes = Vec::with_capacity(most as usize);
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| (&mut self.file).take(most).read_to_end(&mut bytes))
            .map_err(|source| read_error(self.path, source))?;
        Ok(bytes)
    }

    pub(super) fn truncated(&self, announced: u64) -> AudioError {
        AudioError::Truncated {
            path: self.path.into(),
            announced,
            held: self.length,
        }
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> AudioError {
        AudioError::Malformed {
            path: self.path.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn unsupported(&self, encoding: impl Into<String>) -> AudioError {
        AudioError::Unsupported {
            path: self.path.into(),
            encoding: encoding.into(),
        }
    }

    /// `rate` in Hz, if it is one that is believed.
    pub(super) fn rate(&self, rate: f64) -> Result<u32, AudioError> {
        // The cast saturates, and NaN becomes 0.
        let whole = rate.round() as u32;
        if RATES.contains(&whole) {
            return Ok(whole);
        }
        Err(AudioError::Rate {
            path: self.path.into(),
            rate: whole,
        })
    }

    /// `layout` with its samples bounded: whole frames, and not none. What is left of a frame at the end is
    /// passed over, as writers leave it that were stopped in the middle of one.
    pub(super) fn whole_frames(&self, mut layout: Layout) -> Result<Layout, AudioError> {
        layout.data_bytes -= layout.data_bytes % layout.frame_bytes();
        if layout.data_bytes == 0 {
            return Err(AudioError::NoSamples {
                path: self.path.into(),
            });
        }
        Ok(layout)
    }
}
