//! Samples without a header, as programs and sound cards write them to a pipe. What they mean has to be
//! said: encoding, sampling rate, channels. They are read as they come.

use std::io::{self, Read};

use serde::Deserialize;
use thiserror::Error;

use crate::error_class::{self, Class, Classify};

use super::mixing::Mixer;
use super::{RATES, is_amplitude};

/// Most bytes that are taken at once.
const BLOCK: usize = 1 << 16;

/// How a sample is written, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawEncoding {
    /// Unsigned 8-bit integers, 128 being silence.
    U8,
    /// Signed 16-bit integers, little-endian.
    S16le,
    /// Signed 16-bit integers, big-endian.
    S16be,
    /// Signed 24-bit integers, little-endian.
    S24le,
    /// Signed 32-bit integers, little-endian.
    S32le,
    /// IEEE floats of 32 bits, little-endian, full scale being 1.
    F32le,
}

/// What samples without a header mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFormat {
    /// How a sample is written.
    pub encoding: RawEncoding,
    /// The sampling rate in Hz.
    pub rate: u32,
    /// Channels, interleaved.
    pub channels: u16,
}

#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum RawError {
    #[error("{name}: cannot be read: {source}")]
    Read { name: String, source: io::Error },
    #[error(
        "{name}: sample {index} is {value}, which is no amplitude: is it really of this encoding?"
    )]
    BadSample {
        name: String,
        index: u64,
        value: f32,
    },
    #[error("a sampling rate of {rate} Hz is outside {}..={} Hz", RATES.start(), RATES.end())]
    Rate { rate: u32 },
    #[error("{channels} channels are not from 1 to 64")]
    Channels { channels: u16 },
    #[error("channel {channel} (counted from 0) is not among {channels}")]
    NoChannel { channel: u16, channels: u16 },
}

impl Classify for RawError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl RawEncoding {
    const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16le | Self::S16be => 2,
            Self::S24le => 3,
            Self::S32le | Self::F32le => 4,
        }
    }

    /// On the scale of `[-1, 1]`.
    fn amplitude(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Self::S16le, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Self::S16be, &[a, b]) => f32::from(i16::from_be_bytes([a, b])) / 32_768.0,
            (Self::S24le, &[a, b, c]) => {
                (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / 8_388_608.0
            }
            (Self::S32le, &[a, b, c, d]) => {
                i32::from_le_bytes([a, b, c, d]) as f32 / 2_147_483_648.0
            }
            (Self::F32le, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            // Callers cut by `bytes`.
            _ => 0.0,
        }
    }
}

/// Reads samples without a header.
pub struct RawReader<R> {
    name: String,
    reader: R,
    format: RawFormat,
    mixer: Mixer,
    /// Bytes of a frame that has not come whole.
    begun: Vec<u8>,
    frames: u64,
}

impl<R: Read> RawReader<R> {
    /// `name` stands in errors.
    ///
    /// # Errors
    /// When the format cannot be.
    pub fn new(name: &str, reader: R, format: RawFormat) -> Result<Self, RawError> {
        let RawFormat { rate, channels, .. } = format;
        if !RATES.contains(&rate) {
            return Err(RawError::Rate { rate });
        }
        if !(1..=64).contains(&channels) {
            return Err(RawError::Channels { channels });
        }
        Ok(Self {
            name: name.to_owned(),
            reader,
            format,
            mixer: Mixer::new(channels, None),
            begun: Vec::new(),
            frames: 0,
        })
    }

    /// Reads `channel` alone, counted from 0, or the mean of all.
    ///
    /// # Errors
    /// When there is no such channel.
    pub fn of_channel(mut self, channel: Option<u16>) -> Result<Self, RawError> {
        let channels = self.format.channels;
        if let Some(channel) = channel.filter(|channel| *channel >= channels) {
            return Err(RawError::NoChannel { channel, channels });
        }
        self.mixer = Mixer::new(channels, channel);
        Ok(self)
    }

    /// Whether channels of opposite phase have cancelled in what was read.
    pub fn cancels(&self) -> bool {
        self.mixer.cancels()
    }

    /// The next samples of one channel, or of the mean of all: as many as are there, waiting for one at least.
    /// None at the end; what is left of a sample there is dropped.
    ///
    /// # Errors
    /// When they cannot be read, or are no amplitudes.
    pub fn read(&mut self) -> Result<Option<Vec<f32>>, RawError> {
        let RawFormat {
            encoding, channels, ..
        } = self.format;
        let size = encoding.bytes() * usize::from(channels);
        while self.begun.len() < size {
            let before = self.begun.len();
            self.begun.resize(before + BLOCK, 0);
            let read = loop {
                match self.reader.read(&mut self.begun[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let read = read.map_err(|source| RawError::Read {
                name: self.name.clone(),
                source,
            })?;
            self.begun.truncate(before + read);
            if read == 0 {
                return Ok(None);
            }
        }
        let whole = self.begun.len() / size * size;
        let all = self.begun[..whole].chunks_exact(encoding.bytes());
        let all: Vec<f32> = all.map(|one| encoding.amplitude(one)).collect();
        if let Some(index) = all.iter().position(|&value| !is_amplitude(value)) {
            return Err(RawError::BadSample {
                name: self.name.clone(),
                index: self.frames + (index / usize::from(channels)) as u64,
                value: all[index],
            });
        }
        let samples = self.mixer.interleaved(all);
        self.begun.drain(..whole);
        self.frames += samples.len() as u64;
        Ok(Some(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a pipe may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = self.0.len().min(3).min(buffer.len());
            buffer[..some].copy_from_slice(&self.0[..some]);
            self.0 = &self.0[some..];
            Ok(some)
        }
    }

    fn all(bytes: &[u8], encoding: RawEncoding, channels: u16) -> Result<Vec<f32>, RawError> {
        let format = RawFormat {
            encoding,
            rate: 8000,
            channels,
        };
        let mut reader = RawReader::new("a pipe", Slow(bytes), format)?;
        let mut samples = Vec::new();
        while let Some(some) = reader.read()? {
            samples.extend(some);
        }
        Ok(samples)
    }

    #[test]
    fn every_encoding_is_read_on_the_same_scale() {
        for (encoding, bytes) in [
            (RawEncoding::U8, vec![0x00, 0x80, 0xc0]),
            (RawEncoding::S16le, vec![0x00, 0x80, 0x00, 0x00, 0x00, 0x40]),
            (RawEncoding::S16be, vec![0x80, 0x00, 0x00, 0x00, 0x40, 0x00]),
            (RawEncoding::S24le, vec![0, 0, 0x80, 0, 0, 0, 0, 0, 0x40]),
            (
                RawEncoding::S32le,
                vec![0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x40],
            ),
            (
                RawEncoding::F32le,
                [-1.0f32, 0.0, 0.5]
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect(),
            ),
        ] {
            assert_eq!(
                all(&bytes, encoding, 1).unwrap(),
                [-1.0, 0.0, 0.5],
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn channels_are_averaged_and_what_is_left_of_a_sample_is_dropped() {
        let bytes: Vec<u8> = [100i16, 300, -100, 100]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let wanted = [200.0 / 32_768.0, 0.0];
        assert_eq!(all(&bytes, RawEncoding::S16le, 2).unwrap(), wanted);
        assert_eq!(
            all(&[&bytes[..], &[7, 7, 7]].concat(), RawEncoding::S16le, 2).unwrap(),
            wanted
        );
    }

    #[test]
    fn a_channel_can_be_chosen() {
        let bytes: Vec<u8> = [100i16, -100, 300, -300]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let format = RawFormat {
            encoding: RawEncoding::S16le,
            rate: 8000,
            channels: 2,
        };
        let reader = || RawReader::new("a pipe", &bytes[..], format).unwrap();
        let mut right = reader().of_channel(Some(1)).unwrap();
        let wanted = [-100.0 / 32_768.0, -300.0 / 32_768.0];
        assert_eq!(right.read().unwrap().unwrap(), wanted);
        let mut both = reader();
        assert_eq!(both.read().unwrap().unwrap(), [0.0, 0.0]);
        assert!(both.cancels() && !right.cancels());
        assert!(reader().of_channel(Some(2)).is_err());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let bad: Vec<u8> = [0.0f32, f32::NAN]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let message = all(&bad, RawEncoding::F32le, 1).unwrap_err().to_string();
        assert!(message.starts_with("a pipe: sample 1 is NaN"), "{message}");
        assert!(
            all(&[], RawEncoding::U8, 0)
                .unwrap_err()
                .to_string()
                .contains("0 channels")
        );
        let format = RawFormat {
            encoding: RawEncoding::U8,
            rate: 1,
            channels: 1,
        };
        assert!(RawReader::new("x", &[][..], format).is_err());
    }
}
