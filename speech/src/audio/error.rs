//! Why a recording cannot be read or written: each error names the file and says what can be done.

use std::{io::ErrorKind, ops::Range, path::Path, path::PathBuf};

use thiserror::Error;

use crate::error_class::{self, Class, Classify};

use super::{RATES, coded};

#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum AudioError {
    #[error("{}: no such file: check the path, and the folder that relative paths start from", path.display())]
    Missing { path: PathBuf },
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a regular file: name the recording itself", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: the file is empty (0 bytes): copy or record it again", path.display())]
    Empty { path: PathBuf },
    #[error("{}: not a form of audio that is read (WAV, AIFF, CAF, AU, FLAC, MP3, AAC, M4A, WebM, Ogg Vorbis, Opus, SPHERE), but \
             {found}: convert it, for example with `ffmpeg -i IN OUT.flac`", path.display())]
    NotAudio { path: PathBuf, found: &'static str },
    #[error("{}: the file was cut short: its header announces {announced} bytes and it holds {held}: copy it again", path.display())]
    Truncated {
        path: PathBuf,
        announced: u64,
        held: u64,
    },
    #[error("{}: the header claims {claimed} bytes of samples and the file holds {held}: the header was not completed \
             (a recording that was stopped), or the file was cut: copy it again, or rewrite it, for example with \
             `ffmpeg -i IN OUT.wav`", path.display())]
    ClaimsMore {
        path: PathBuf,
        claimed: u64,
        held: u64,
    },
    #[error("{}: the recording has zero samples: leave it out or record it again", path.display())]
    NoSamples { path: PathBuf },
    #[error("{}: {encoding} is not read: convert it, for example with `ffmpeg -i IN OUT.flac`", path.display())]
    Unsupported { path: PathBuf, encoding: String },
    #[error("{}: malformed: {reason}: write it again with another program", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{}: the file is damaged: {reason}: copy it again from where it came", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{}: a sampling rate of {rate} Hz is outside {}..={} Hz: the header is wrong, or the file is not speech", path.display(), RATES.start(), RATES.end())]
    Rate { path: PathBuf, rate: u32 },
    #[error("{}: sample {index} is {value}, which is no amplitude: write the file again with finite values between -1 and 1", path.display())]
    BadSample {
        path: PathBuf,
        index: usize,
        value: f32,
    },
    #[error("{}: it unpacks to more than a recording of its size can hold, or to more than a day: cut it", path.display())]
    TooLong { path: PathBuf },
    #[error("{}: {bytes} bytes are more than the {} that a packed recording may have: cut it, or unpack it to WAV", path.display(), coded::MAX_DECODED_BYTES)]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{}: samples {} to {} of {held} are no segment: mend its `offset` or its `duration`", path.display(), part.start, part.end)]
    Segment {
        path: PathBuf,
        part: Range<u64>,
        held: u64,
    },
    #[error("{}: channel {channel} (counted from 0) is not among its {channels}: name one that is there, or none for their mean", path.display())]
    NoChannel {
        path: PathBuf,
        channel: u16,
        channels: u16,
    },
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Resample { from: u32, to: u32, reason: String },
}

impl Classify for AudioError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// What the system said of a file that cannot be read.
pub(super) fn read_error(path: &Path, source: std::io::Error) -> AudioError {
    let path = path.into();
    match source.kind() {
        ErrorKind::NotFound => AudioError::Missing { path },
        _ => AudioError::Read { path, source },
    }
}
