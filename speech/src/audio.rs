//! Recordings as numbers: WAV files in and out, mixed down to one channel, and other sampling rates.
//!
//! Decides which files are recordings and says precisely why the others are not. It trusts no header:
//! every allocation is bounded by the bytes that are really there. It refuses to know what is said in a
//! recording, or what features are made of it.

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use thiserror::Error;

use crate::manifest::Utterance;

mod layout;
pub mod raw;
mod resample;

pub use resample::{resample, resampled_len};

use layout::{Encoding, Layout};

/// Sampling rates that are believed and can be made, in Hz. Below, a second of audio could become
/// hundreds when resampled; above, no microphone for speech goes.
pub const RATES: RangeInclusive<u32> = 1_000..=384_000;

/// The loudest amplitude taken from a float file. Full scale is 1; files with floats on the 16-bit scale
/// exist and do no harm; far above that, squares would leave the range of `f32`.
pub const LOUDEST: f32 = 65_536.0;

/// Whether `value` can be computed with: finite, and not far beyond full scale.
pub(crate) fn is_amplitude(value: f32) -> bool {
    value.abs() <= LOUDEST
}

/// One channel of sound: amplitudes in `[-1, 1]`, `sample_rate` of them a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    pub sample_rate: u32,
    pub samples: Vec<f32>,
}

impl Audio {
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }
}

/// What a WAV file's header says, once it agrees with the file's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioInfo {
    pub sample_rate: u32,
    pub channels: u16,
    /// Samples of one channel.
    pub frames: u64,
}

impl AudioInfo {
    pub fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.sample_rate)
    }
}

#[derive(Debug, Error)]
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
    #[error("{}: not a regular file: name the WAV file itself", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: the file is empty (0 bytes): copy or record it again", path.display())]
    Empty { path: PathBuf },
    #[error("{}: not a WAV file, but {found}: convert it, for example with `ffmpeg -i IN -c:a pcm_s16le OUT.wav`", path.display())]
    NotWav { path: PathBuf, found: &'static str },
    #[error("{}: the file was cut short: its header announces {announced} bytes and it holds {held}: copy it again", path.display())]
    Truncated {
        path: PathBuf,
        announced: u64,
        held: u64,
    },
    #[error("{}: the header claims {claimed} bytes of samples and the file holds {held}: the header was not completed \
             (a recording written to a pipe, or one that was stopped); rewrite it, for example with `ffmpeg -i IN OUT.wav`", path.display())]
    ClaimsMore {
        path: PathBuf,
        claimed: u64,
        held: u64,
    },
    #[error("{}: the recording has zero samples: leave it out or record it again", path.display())]
    NoSamples { path: PathBuf },
    #[error("{}: {encoding} is not supported: convert it to PCM, for example with `ffmpeg -i IN -c:a pcm_s16le OUT.wav`", path.display())]
    Unsupported { path: PathBuf, encoding: String },
    #[error("{}: malformed WAV: {reason}: write it again with another program", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{}: a sampling rate of {rate} Hz is outside {}..={} Hz: the header is wrong, or the file is not speech", path.display(), RATES.start(), RATES.end())]
    Rate { path: PathBuf, rate: u32 },
    #[error("{}: sample {index} is {value}, which is no amplitude: write the file again with finite values between -1 and 1", path.display())]
    BadSample {
        path: PathBuf,
        index: usize,
        value: f32,
    },
    #[error("{}: samples {} to {} of {held} are no segment: mend its `offset` or its `duration`", path.display(), part.start, part.end)]
    Segment {
        path: PathBuf,
        part: Range<u64>,
        held: u64,
    },
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Resample { from: u32, to: u32, reason: String },
}

/// Reads a WAV file: integers of 8, 16, 24 or 32 bits or 32-bit floats, channels averaged into one.
pub fn read(path: &Path) -> Result<Audio, AudioError> {
    let (_, length) = open(path)?;
    if length == 0 {
        return Err(AudioError::Empty { path: path.into() });
    }
    let bytes = fs::read(path).map_err(|source| read_error(path, source))?;
    decode_all(path, &bytes)
}

/// What a line of a manifest means: its recording, or the segment of it.
pub fn read_utterance(utterance: &Utterance) -> Result<Audio, AudioError> {
    let info = inspect(&utterance.audio)?;
    match utterance.segment(info.frames, info.sample_rate) {
        None => read(&utterance.audio),
        Some(part) => read_segment(&utterance.audio, part),
    }
}

/// The samples `part` of the recording at `path`, counted in its own sampling rate.
pub fn read_segment(path: &Path, part: Range<u64>) -> Result<Audio, AudioError> {
    cut(read(path)?, part, path)
}

/// [`read`] of a file that is already in memory; `name` stands for the path in errors.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Audio, AudioError> {
    decode_all(Path::new(name), bytes)
}

/// [`read_segment`] of a file that is already in memory; `name` stands for the path in errors.
pub fn decode_segment(name: &str, bytes: &[u8], part: Range<u64>) -> Result<Audio, AudioError> {
    cut(decode(name, bytes)?, part, Path::new(name))
}

/// What `part` leaves of `audio`.
fn cut(mut audio: Audio, part: Range<u64>, path: &Path) -> Result<Audio, AudioError> {
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

/// Reads the header alone and compares it with the file's size; no sample is decoded.
pub fn inspect(path: &Path) -> Result<AudioInfo, AudioError> {
    let (mut file, length) = open(path)?;
    let layout = Layout::read(&mut file, length, path)?;
    Ok(AudioInfo {
        sample_rate: layout.sample_rate,
        channels: layout.channels,
        frames: layout.frames(),
    })
}

/// Writes 16-bit PCM. Amplitudes beyond full scale are clipped.
pub fn write_wav(path: &Path, audio: &Audio) -> Result<(), AudioError> {
    if audio.samples.is_empty() {
        return Err(AudioError::NoSamples { path: path.into() });
    }
    if !RATES.contains(&audio.sample_rate) {
        return Err(AudioError::Rate {
            path: path.into(),
            rate: audio.sample_rate,
        });
    }
    let spec = WavSpec {
        channels: 1,
        sample_rate: audio.sample_rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let write_error = |error: hound::Error| AudioError::Write {
        path: path.into(),
        source: match error {
            hound::Error::IoError(source) => source,
            other => std::io::Error::other(other),
        },
    };
    // Encoded in memory first: an error above leaves no half-written file behind.
    let mut bytes = Vec::with_capacity(44 + 2 * audio.samples.len());
    let mut writer = WavWriter::new(Cursor::new(&mut bytes), spec).map_err(write_error)?;
    for (index, &sample) in audio.samples.iter().enumerate() {
        if !sample.is_finite() {
            return Err(AudioError::BadSample {
                path: path.into(),
                index,
                value: sample,
            });
        }
        let scaled = (sample * 32_768.0).round();
        let clipped = scaled.clamp(f32::from(i16::MIN), f32::from(i16::MAX));
        writer.write_sample(clipped as i16).map_err(write_error)?;
    }
    writer.finalize().map_err(write_error)?;
    fs::write(path, &bytes).map_err(|source| AudioError::Write {
        path: path.into(),
        source,
    })
}

fn open(path: &Path) -> Result<(File, u64), AudioError> {
    // Asked before opening: to open a named pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    if !metadata.is_file() {
        return Err(AudioError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    Ok((file, metadata.len()))
}

fn read_error(path: &Path, source: std::io::Error) -> AudioError {
    let path = path.into();
    match source.kind() {
        ErrorKind::NotFound => AudioError::Missing { path },
        _ => AudioError::Read { path, source },
    }
}

fn decode_all(path: &Path, bytes: &[u8]) -> Result<Audio, AudioError> {
    let layout = Layout::read(&mut Cursor::new(bytes), bytes.len() as u64, path)?;
    let interleaved = samples(bytes, &layout).map_err(|error| AudioError::Malformed {
        path: path.into(),
        reason: error.to_string(),
    })?;
    if let Some(index) = interleaved.iter().position(|&x| !is_amplitude(x)) {
        return Err(AudioError::BadSample {
            path: path.into(),
            index,
            value: interleaved[index],
        });
    }
    Ok(Audio {
        sample_rate: layout.sample_rate,
        samples: mix_down(interleaved, usize::from(layout.channels)),
    })
}

/// The samples on the scale of `[-1, 1]`. hound sees a canonical header before the data: it stumbles over
/// foreign chunks of odd length, and its lengths are then those that were checked.
fn samples(bytes: &[u8], layout: &Layout) -> Result<Vec<f32>, hound::Error> {
    // The layout was checked against the length of `bytes`, so both casts and the slice hold.
    let start = layout.data_at as usize;
    let data = &bytes[start..start + layout.data_bytes as usize];
    if let Encoding::Integer { bytes: 2 } = layout.encoding {
        // What most recordings are, and too many for a call for each sample.
        let (pairs, _) = data.as_chunks();
        let scaled = |&pair| f32::from(i16::from_le_bytes(pair)) * (1.0 / 32_768.0);
        return Ok(pairs.iter().map(scaled).collect());
    }
    let header = layout.canonical_header();
    let reader = WavReader::new(header.chain(data))?;
    match layout.encoding {
        Encoding::Float => reader.into_samples::<f32>().collect(),
        Encoding::Integer { bytes } => {
            // A power of two: only 32-bit integers are rounded, once, by the conversion to f32.
            let scale = 1.0 / (1u32 << (8 * bytes - 1)) as f32;
            let scaled = |sample: Result<i32, _>| sample.map(|value| value as f32 * scale);
            reader.into_samples::<i32>().map(scaled).collect()
        }
    }
}

/// The mean over channels: `[frames, channels]` to `[frames]`.
fn mix_down(interleaved: Vec<f32>, channels: usize) -> Vec<f32> {
    if channels == 1 {
        return interleaved;
    }
    interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .collect()
}

#[cfg(test)]
mod tests;
