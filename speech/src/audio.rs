//! Recordings as numbers: WAV, SPHERE, FLAC, MP3 and Ogg Vorbis in, WAV out, mixed down to one channel, and
//! other sampling rates. What a file is follows from its bytes, never from its name.
//!
//! Decides which files are recordings and says precisely why the others are not. It trusts no header:
//! every allocation is bounded by the bytes that are really there. It refuses to know what is said in a
//! recording, or what features are made of it.

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use thiserror::Error;

use crate::manifest::Utterance;

mod coded;
mod kind;
mod layout;
mod pcm;
pub mod raw;
mod resample;
mod sphere;

pub use resample::{resample, resampled_len};

use coded::Container;
use kind::Kind;
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

/// What a file's header says, once it agrees with the file's size.
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
    #[error("{}: not a regular file: name the recording itself", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: the file is empty (0 bytes): copy or record it again", path.display())]
    Empty { path: PathBuf },
    #[error("{}: not WAV, FLAC, MP3, Ogg Vorbis or SPHERE, but {found}: convert it, for example with `ffmpeg -i IN OUT.flac`", path.display())]
    NotAudio { path: PathBuf, found: &'static str },
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
    #[error("{}: {encoding} is not supported: convert it, for example with `ffmpeg -i IN OUT.flac`", path.display())]
    Unsupported { path: PathBuf, encoding: String },
    #[error("{}: malformed: {reason}: write it again with another program", path.display())]
    Malformed { path: PathBuf, reason: String },
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
    #[error("{}: {bytes} bytes are more than the {} that a packed recording may have: cut it, or unpack it to WAV", path.display(), coded::MOST_BYTES)]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{}: samples {} to {} of {held} are no segment: mend its `offset` or its `duration`", path.display(), part.start, part.end)]
    Segment {
        path: PathBuf,
        part: Range<u64>,
        held: u64,
    },
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Resample { from: u32, to: u32, reason: String },
}

/// Reads a recording, channels averaged into one: WAV (integers of 8 to 32 bits, floats of 32 and 64, µ-law,
/// A-law, ADPCM), SPHERE that is not shortened, FLAC, MP3, Ogg Vorbis.
pub fn read(path: &Path) -> Result<Audio, AudioError> {
    let (mut file, length) = open(path)?;
    let form = Form::of(&mut file, length, path)?;
    form.read(&mut file, length, None, path)
}

/// What a line of a manifest means: its recording, or the segment of it.
pub fn read_utterance(utterance: &Utterance) -> Result<Audio, AudioError> {
    let path = utterance.audio.as_path();
    let (mut file, length) = open(path)?;
    let form = Form::of(&mut file, length, path)?;
    let info = form.info(&mut file, length, path)?;
    let part = utterance.segment(info.frames, info.sample_rate);
    form.read(&mut file, length, part, path)
}

/// The samples `part` of the recording at `path`, counted in its own sampling rate. Of plain samples, no
/// others are read; what is packed is unpacked up to the end of `part`.
pub fn read_segment(path: &Path, part: Range<u64>) -> Result<Audio, AudioError> {
    let (mut file, length) = open(path)?;
    let form = Form::of(&mut file, length, path)?;
    form.read(&mut file, length, Some(part), path)
}

/// [`read`] of a file that is already in memory; `name` stands for the path in errors.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Audio, AudioError> {
    decode_part(name, bytes, None)
}

/// [`read_segment`] of a file that is already in memory; `name` stands for the path in errors.
pub fn decode_segment(name: &str, bytes: &[u8], part: Range<u64>) -> Result<Audio, AudioError> {
    decode_part(name, bytes, Some(part))
}

fn decode_part(name: &str, bytes: &[u8], part: Option<Range<u64>>) -> Result<Audio, AudioError> {
    let (path, length) = (Path::new(name), bytes.len() as u64);
    match Form::of(&mut Cursor::new(bytes), length, path)? {
        Form::Plain(layout) => {
            let at = byte_range(&layout, part, path)?;
            // The layout was checked against the length of `bytes`.
            plain(&bytes[at.start as usize..at.end as usize], &layout, path)
        }
        Form::Coded(container, start) => {
            coded::decode(container, &bytes[start as usize..], part, path)
        }
    }
}

/// The samples `part` of `audio`; `path` stands in errors.
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

/// A WAV file of floats with these very samples; `None` where they are more than such a file can hold.
pub fn float_wav(audio: &Audio) -> Option<Vec<u8>> {
    let layout = Layout::of_floats(audio.sample_rate);
    let size = audio.samples.len().checked_mul(4)?;
    if size as u64 >= layout::PLACEHOLDER {
        return None;
    }
    let mut bytes = Vec::with_capacity(44 + size + 32);
    bytes.extend(layout.canonical_header(size));
    bytes.extend(audio.samples.iter().flat_map(|value| value.to_le_bytes()));
    Some(bytes)
}

/// Whether segments of the file with these `bytes` are cheap: its samples lie where they can be sought.
pub fn is_plain(bytes: &[u8]) -> bool {
    let form = Form::of(&mut Cursor::new(bytes), bytes.len() as u64, Path::new(""));
    matches!(form, Ok(Form::Plain(_)))
}

/// Reads the header alone and compares it with the file's size; no sample is decoded. Where a header does
/// not say how long the recording lasts, the file is read through.
pub fn inspect(path: &Path) -> Result<AudioInfo, AudioError> {
    let (mut file, length) = open(path)?;
    let form = Form::of(&mut file, length, path)?;
    form.info(&mut file, length, path)
}

/// [`inspect`] of a file that is already in memory; `name` stands for the path in errors.
pub fn inspect_bytes(name: &str, bytes: &[u8]) -> Result<AudioInfo, AudioError> {
    let (path, length) = (Path::new(name), bytes.len() as u64);
    let form = Form::of(&mut Cursor::new(bytes), length, path)?;
    form.info(&mut Cursor::new(bytes), length, path)
}

/// How a recording is stored.
enum Form {
    Plain(Layout),
    /// From the given byte on.
    Coded(Container, u64),
}

impl Form {
    fn of(file: &mut (impl Read + Seek), length: u64, path: &Path) -> Result<Self, AudioError> {
        if length == 0 {
            return Err(AudioError::Empty { path: path.into() });
        }
        let mut at = 0;
        loop {
            let container = match Kind::of(&start(file, at, path)?) {
                Kind::Wave if at == 0 => {
                    let layout = Layout::read(file, length, path)?;
                    if layout.encoding != Encoding::Adpcm {
                        return Ok(Self::Plain(layout));
                    }
                    Container::Wave
                }
                Kind::Sphere if at == 0 => {
                    return Ok(Self::Plain(sphere::read(file, length, path)?));
                }
                Kind::Flac => Container::Flac,
                Kind::Ogg => Container::Ogg,
                Kind::Mpeg => Container::Mpeg,
                // One tag, and what is behind it.
                Kind::Id3(bytes) if at == 0 && bytes < length => {
                    at = bytes;
                    continue;
                }
                Kind::Id3(bytes) if at == 0 => {
                    return Err(AudioError::Truncated {
                        path: path.into(),
                        announced: bytes,
                        held: length,
                    });
                }
                Kind::Other(found) if at == 0 => {
                    return Err(AudioError::NotAudio {
                        path: path.into(),
                        found,
                    });
                }
                _ => {
                    return Err(AudioError::NotAudio {
                        path: path.into(),
                        found: "something unknown behind an ID3 tag",
                    });
                }
            };
            if length > coded::MOST_BYTES {
                return Err(AudioError::TooLarge {
                    path: path.into(),
                    bytes: length,
                });
            }
            return Ok(Self::Coded(container, at));
        }
    }

    fn info(
        &self,
        file: &mut (impl Read + Seek),
        length: u64,
        path: &Path,
    ) -> Result<AudioInfo, AudioError> {
        match self {
            Self::Plain(layout) => Ok(AudioInfo {
                sample_rate: layout.sample_rate,
                channels: layout.channels,
                frames: layout.frames(),
            }),
            Self::Coded(container, at) => {
                if *container == Container::Flac
                    && let Some(info) = coded::flac_info(&start(file, *at, path)?)
                {
                    return Ok(info);
                }
                coded::inspect(*container, &bytes_at(file, *at..length, path)?, path)
            }
        }
    }

    fn read(
        &self,
        file: &mut (impl Read + Seek),
        length: u64,
        part: Option<Range<u64>>,
        path: &Path,
    ) -> Result<Audio, AudioError> {
        match self {
            Self::Plain(layout) => {
                let at = byte_range(layout, part, path)?;
                plain(&bytes_at(file, at, path)?, layout, path)
            }
            Self::Coded(container, at) => {
                let bytes = bytes_at(file, *at..length, path)?;
                coded::decode(*container, &bytes, part, path)
            }
        }
    }
}

/// The first bytes from `at` on, by which kinds are known.
fn start(file: &mut (impl Read + Seek), at: u64, path: &Path) -> Result<Vec<u8>, AudioError> {
    let mut start = Vec::with_capacity(kind::ENOUGH);
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.take(kind::ENOUGH as u64).read_to_end(&mut start))
        .map_err(|source| read_error(path, source))?;
    Ok(start)
}

/// The bytes `at` of a file that was found to have them.
fn bytes_at(
    file: &mut (impl Read + Seek),
    at: Range<u64>,
    path: &Path,
) -> Result<Vec<u8>, AudioError> {
    // All of it is in the file, by the file's own length.
    let mut bytes = Vec::with_capacity((at.end - at.start) as usize);
    file.seek(SeekFrom::Start(at.start))
        .and_then(|_| file.take(at.end - at.start).read_to_end(&mut bytes))
        .map_err(|source| read_error(path, source))?;
    // It may have been cut since its length was asked for.
    if (bytes.len() as u64) < at.end - at.start {
        return Err(AudioError::Truncated {
            path: path.into(),
            announced: at.end,
            held: at.start + bytes.len() as u64,
        });
    }
    Ok(bytes)
}

/// Where the bytes of the samples `part` lie, or those of all.
fn byte_range(
    layout: &Layout,
    part: Option<Range<u64>>,
    path: &Path,
) -> Result<Range<u64>, AudioError> {
    let held = layout.frames();
    let part = part.unwrap_or(0..held);
    if part.is_empty() || part.end > held {
        return Err(AudioError::Segment {
            path: path.into(),
            part,
            held,
        });
    }
    let frame = layout.frame_bytes();
    Ok(layout.data_at + part.start * frame..layout.data_at + part.end * frame)
}

/// Samples that lie one behind the other in `data`.
fn plain(data: &[u8], layout: &Layout, path: &Path) -> Result<Audio, AudioError> {
    let interleaved = pcm::samples(data, layout).map_err(|error| AudioError::Malformed {
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
