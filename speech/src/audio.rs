//! Audio files: WAV and its relatives, AIFF, CAF, AU, SPHERE, FLAC, MPEG audio, AAC, ALAC, Vorbis and Opus are
//! read, WAV is written; channels are selected or mixed down, and sampling rates converted. What a file is follows
//! from its bytes, never from its name.
//!
//! Decides which files are recordings and says precisely why the others are not. It trusts no header: every allocation
//! is bounded by the bytes that are really there, and what [`inspect`] accepts, everything else reads, as long as it
//! says. What is said in a recording, or what features are made of it, is not known here.

use std::fs::File;
use std::io::{self, Cursor};
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use crate::corpus_roots::CorpusRoots;
use crate::manifest::Utterance;

mod adpcm;
mod blocks;
mod chunked;
mod codec;
mod coded;
mod container;
mod decode_problem;
mod error;
mod file_type;
mod flac;
mod input;
mod layout;
mod mixing;
mod mp4;
mod mpeg;
mod ogg;
mod opus;
mod packet_stream;
mod pcm;
pub mod raw;
mod resample;
mod segments;
mod sphere;
mod stored_as;
mod track;
mod unsupported;
mod wave;
mod webm;
mod write;

pub use blocks::AudioBlocks;
pub use error::AudioError;
pub use resample::{resample, resampled_len};
pub use segments::Segments;
pub use write::{float_header, write_wav};

use error::read_error;
use stored_as::StoredAs;

/// Sampling rates that are believed and can be made, in Hz. Below, a second of audio could become
/// hundreds when resampled; above, no microphone for speech goes.
pub const RATES: RangeInclusive<u32> = 1_000..=384_000;

/// The loudest amplitude taken from a float file. Full scale is 1; files with floats on the 16-bit scale
/// exist and do no harm; far above that, squares would leave the range of `f32`.
pub const MAX_AMPLITUDE: f32 = 65_536.0;

/// Whether `value` can be computed with: finite, and not far beyond full scale.
pub(crate) fn is_amplitude(value: f32) -> bool {
    value.abs() <= MAX_AMPLITUDE
}

/// One channel of sound: amplitudes in `[-1, 1]`, `sample_rate` of them a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// Samples a second, in Hz.
    pub sample_rate: u32,
    /// One amplitude for each sample.
    pub samples: Vec<f32>,
}

impl Audio {
    /// The duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }
}

/// What a file's header says, once it agrees with the file's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioInfo {
    /// Samples of a channel a second, in Hz.
    pub sample_rate: u32,
    /// Channels that are interleaved in the file.
    pub channels: u16,
    /// Samples of one channel.
    pub frames: u64,
}

impl AudioInfo {
    /// The duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.sample_rate)
    }
}

/// A recording, or a part of one, that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedAudio {
    /// The selected or mixed channel.
    pub audio: Audio,
    /// Whether it has channels of opposite phase, of whose mean nothing is left. Another channel may be chosen.
    pub cancels: bool,
}

/// Reads a recording, channels averaged into one.
///
/// # Errors
/// When it is no recording that is read.
pub fn read(path: &Path) -> Result<Audio, AudioError> {
    read_part(path, None, None).map(|heard| heard.audio)
}

/// What a line of a manifest means: its recording, or the segment of it. Of many segments of one recording,
/// [`Segments`] reads it once.
///
/// # Errors
/// As [`read`], and where the segment or the channel is not in the recording.
pub fn read_utterance(utterance: &Utterance) -> Result<Audio, AudioError> {
    let path = utterance.audio.as_path();
    let (mut file, length) = open(path, &CorpusRoots::anywhere())?;
    let form = StoredAs::of(&mut file, length, path)?;
    let info = form.info(&mut file, path)?;
    let part = utterance.segment(info.frames, info.sample_rate);
    let heard = form.read(&mut file, part, utterance.channel, path)?;
    Ok(heard.audio)
}

/// The samples `part` of the recording at `path`, counted in its own sampling rate. Of plain samples, no
/// others are read; what is packed is unpacked up to the end of `part`.
///
/// # Errors
/// As [`read`], and where the part is not in the recording.
pub fn read_segment(path: &Path, part: Range<u64>) -> Result<Audio, AudioError> {
    read_part(path, Some(part), None).map(|heard| heard.audio)
}

/// The samples `part` of the recording at `path`, or all of it, of its channel `channel`, counted from 0, or of the
/// mean of all.
///
/// # Errors
/// As [`read_segment`], and where there is no such channel.
pub fn read_part(
    path: &Path,
    part: Option<Range<u64>>,
    channel: Option<u16>,
) -> Result<DecodedAudio, AudioError> {
    read_beneath(&CorpusRoots::anywhere(), path, part, channel)
}

/// As [`read_part`], of a file that lies beneath `roots`.
///
/// # Errors
/// As [`read_part`].
pub fn read_beneath(
    roots: &CorpusRoots,
    path: &Path,
    part: Option<Range<u64>>,
    channel: Option<u16>,
) -> Result<DecodedAudio, AudioError> {
    let (mut file, length) = open(path, roots)?;
    let form = StoredAs::of(&mut file, length, path)?;
    form.read(&mut file, part, channel, path)
}

/// [`read`] of a file that is already in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`read`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Audio, AudioError> {
    decode_part(name, bytes, None, None).map(|heard| heard.audio)
}

/// [`read_segment`] of a file that is already in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`read_segment`].
pub fn decode_segment(name: &str, bytes: &[u8], part: Range<u64>) -> Result<Audio, AudioError> {
    decode_part(name, bytes, Some(part), None).map(|heard| heard.audio)
}

/// [`read_part`] of a file that is already in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`read_part`].
pub fn decode_part(
    name: &str,
    bytes: &[u8],
    part: Option<Range<u64>>,
    channel: Option<u16>,
) -> Result<DecodedAudio, AudioError> {
    let path = Path::new(name);
    let form = StoredAs::of(&mut Cursor::new(bytes), bytes.len() as u64, path)?;
    if let StoredAs::Coded(container, at) = &form {
        let packed = &bytes[at.start as usize..at.end as usize];
        return coded::decode(*container, packed, part, channel, path);
    }
    form.read(&mut Cursor::new(bytes), part, channel, path)
}

/// The samples `part` of `audio`; `path` stands in errors.
///
/// # Errors
/// When they are not there.
pub fn cut(mut audio: Audio, part: Range<u64>, path: &Path) -> Result<Audio, AudioError> {
    let held = audio.samples.len() as u64;
    if part.is_empty() || part.end > held {
        return Err(AudioError::Segment {
            path: path.into(),
            part,
            held,
        });
    }
    audio.samples.truncate(part.end as usize);
    audio.samples.drain(..part.start as usize);
    Ok(audio)
}

/// Whether segments of the file with these `bytes` are cheap: its samples lie where they can be sought.
pub fn is_plain(bytes: &[u8]) -> bool {
    let form = StoredAs::of(&mut Cursor::new(bytes), bytes.len() as u64, Path::new(""));
    matches!(form, Ok(StoredAs::Plain(_)))
}

/// [`is_plain`] of the file at `path`.
fn is_plain_file(path: &Path, roots: &CorpusRoots) -> bool {
    let form =
        open(path, roots).and_then(|(mut file, length)| StoredAs::of(&mut file, length, path));
    matches!(form, Ok(StoredAs::Plain(_)))
}

/// What a recording is and how long it lasts, by its header and the file's size; where a header does not say how
/// long, the file is read through. What is accepted here is read by everything else, to the same length.
///
/// # Errors
/// When it is no recording that is read.
pub fn inspect(path: &Path) -> Result<AudioInfo, AudioError> {
    inspect_beneath(&CorpusRoots::anywhere(), path)
}

/// As [`inspect`], of a file that lies beneath `roots`.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_beneath(roots: &CorpusRoots, path: &Path) -> Result<AudioInfo, AudioError> {
    let (mut file, length) = open(path, roots)?;
    let form = StoredAs::of(&mut file, length, path)?;
    form.info(&mut file, path)
}

/// [`inspect`] of a file that is already in memory; `name` stands for the path in errors.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_bytes(name: &str, bytes: &[u8]) -> Result<AudioInfo, AudioError> {
    let (path, length) = (Path::new(name), bytes.len() as u64);
    let form = StoredAs::of(&mut Cursor::new(bytes), length, path)?;
    form.info(&mut Cursor::new(bytes), path)
}

fn open(path: &Path, roots: &CorpusRoots) -> Result<(File, u64), AudioError> {
    let failed = |source: io::Error| match source.kind() {
        // A folder, a pipe or a device.
        io::ErrorKind::InvalidInput => AudioError::NotAFile { path: path.into() },
        _ => read_error(path, source),
    };
    let file = roots.open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests;
