//! Where the samples lie in a RIFF WAVE file, and how they are written: the header read with suspicion.
//!
//! hound's own reader believes announced lengths and stumbles over chunks of odd length, so the chunks are
//! walked here first, against the file's real size. Knows no amplitudes.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{AudioError, RATES, read_error};

/// How one sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Little-endian integers, unsigned when of one byte; 1 to 4 bytes.
    Integer {
        bytes: u16,
    },
    /// Integers of 16 bits, the other way round.
    Big,
    /// IEEE 754, 32 bits.
    Float,
    /// IEEE 754, 64 bits.
    Double,
    /// G.711.
    MuLaw,
    ALaw,
    /// Differences in blocks, IMA's or Microsoft's: how long they last is not to be seen from here.
    Adpcm,
}

impl Encoding {
    pub(super) fn bytes(self) -> u16 {
        match self {
            Self::Integer { bytes } => bytes,
            Self::Big => 2,
            Self::Float => 4,
            Self::Double => 8,
            Self::MuLaw | Self::ALaw | Self::Adpcm => 1,
        }
    }
}

/// A header that agrees with the file: `data_at + data_bytes` is inside it, and is whole frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) encoding: Encoding,
    pub(super) channels: u16,
    pub(super) sample_rate: u32,
    pub(super) data_at: u64,
    pub(super) data_bytes: u64,
}

/// Lengths from here on are what programs write who cannot seek back: a placeholder, not a length.
pub(super) const PLACEHOLDER: u64 = 0x7fff_0000;

impl Layout {
    /// Of one channel of floats; where they lie is left open.
    pub(super) fn of_floats(sample_rate: u32) -> Self {
        Self {
            encoding: Encoding::Float,
            channels: 1,
            sample_rate,
            data_at: 0,
            data_bytes: 0,
        }
    }

    pub(super) fn frames(&self) -> u64 {
        self.data_bytes / self.frame_bytes()
    }

    /// Bytes of one sample of every channel.
    pub(super) fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * u64::from(self.encoding.bytes())
    }

    /// A header that says the same of `data_bytes` bytes alone, integers or floats: nothing between it and
    /// them.
    pub(super) fn canonical_header(&self, data_bytes: usize) -> [u8; 44] {
        let tag: u16 = match self.encoding {
            Encoding::Float => 3,
            _ => 1,
        };
        // A data chunk's length is a field of 32 bits, and so is this no more; a frame's is one of 16.
        let data_bytes = data_bytes as u32;
        let frame_bytes = self.frame_bytes() as u16;
        let byte_rate = self.sample_rate.wrapping_mul(u32::from(frame_bytes));
        let mut header = [0; 44];
        header[..4].copy_from_slice(b"RIFF");
        header[4..8].copy_from_slice(&data_bytes.saturating_add(36).to_le_bytes());
        header[8..16].copy_from_slice(b"WAVEfmt ");
        header[16..20].copy_from_slice(&16u32.to_le_bytes());
        header[20..22].copy_from_slice(&tag.to_le_bytes());
        header[22..24].copy_from_slice(&self.channels.to_le_bytes());
        header[24..28].copy_from_slice(&self.sample_rate.to_le_bytes());
        header[28..32].copy_from_slice(&byte_rate.to_le_bytes());
        header[32..34].copy_from_slice(&frame_bytes.to_le_bytes());
        header[34..36].copy_from_slice(&(8 * self.encoding.bytes()).to_le_bytes());
        header[36..40].copy_from_slice(b"data");
        header[40..].copy_from_slice(&data_bytes.to_le_bytes());
        header
    }

    /// `length` is the number of bytes that `file` holds; `path` names it in errors.
    pub(super) fn read(
        file: &mut (impl Read + Seek),
        length: u64,
        path: &Path,
    ) -> Result<Self, AudioError> {
        let mut header = Header { file, length, path };
        let announced = header.riff()?;
        let mut format = None;
        let mut at = 12;
        loop {
            if at + 8 > length {
                return Err(header.ended(at + 8, announced, "it has no data chunk"));
            }
            let mut chunk = [0; 8];
            header.read_at(at, &mut chunk)?;
            let size = u64::from(u32_at(&chunk, 4));
            at += 8;
            match &chunk[..4] {
                b"fmt " => format = Some(header.format(at, size, announced)?),
                b"data" => {
                    let Some((encoding, channels, sample_rate)) = format else {
                        return Err(header.malformed("the data chunk comes before the fmt chunk"));
                    };
                    header.samples(at, size, announced, encoding, channels)?;
                    return Ok(Self {
                        encoding,
                        channels,
                        sample_rate,
                        data_at: at,
                        data_bytes: size,
                    });
                }
                _ => {}
            }
            // Chunks are padded to an even length.
            at += size + (size & 1);
        }
    }
}

struct Header<'a, R> {
    file: &'a mut R,
    length: u64,
    path: &'a Path,
}

impl<R: Read + Seek> Header<'_, R> {
    /// The size of the file as the RIFF header announces it.
    fn riff(&mut self) -> Result<u64, AudioError> {
        if self.length == 0 {
            return Err(AudioError::Empty {
                path: self.path.into(),
            });
        }
        let mut start = [0; 12];
        if self.length < 12 {
            return Err(AudioError::Truncated {
                path: self.path.into(),
                announced: 12,
                held: self.length,
            });
        }
        self.read_at(0, &mut start)?;
        Ok(u64::from(u32_at(&start, 4)) + 8)
    }

    /// Encoding, channels and rate from the fmt chunk of `size` bytes at `at`.
    fn format(
        &mut self,
        at: u64,
        size: u64,
        announced: u64,
    ) -> Result<(Encoding, u16, u32), AudioError> {
        if size < 16 {
            return Err(self.malformed(&format!("a fmt chunk of {size} bytes")));
        }
        if at + size > self.length {
            return Err(self.ended(
                at + size,
                announced,
                "its fmt chunk passes the end of the file",
            ));
        }
        let mut chunk = [0; 40];
        let held = size.min(40) as usize;
        self.read_at(at, &mut chunk[..held])?;
        let channels = u16_at(&chunk, 2);
        let rate = u32_at(&chunk, 4);
        let block = u16_at(&chunk, 12);
        let bits = u16_at(&chunk, 14);
        let tag = match u16_at(&chunk, 0) {
            // WAVE_FORMAT_EXTENSIBLE: the tag is the head of the sub-format's GUID.
            0xfffe if held == 40 => u16_at(&chunk, 24),
            0xfffe => return Err(self.malformed("an extensible fmt chunk that is too short")),
            tag => tag,
        };
        let encoding = self.encoding(tag, channels, block, bits)?;
        if !RATES.contains(&rate) {
            return Err(AudioError::Rate {
                path: self.path.into(),
                rate,
            });
        }
        Ok((encoding, channels, rate))
    }

    fn encoding(
        &self,
        tag: u16,
        channels: u16,
        block: u16,
        bits: u16,
    ) -> Result<Encoding, AudioError> {
        let name = match tag {
            1 | 2 | 3 | 6 | 7 | 0x11 => None,
            0x31 => Some("GSM 6.10".to_owned()),
            0x50 | 0x55 => Some("MPEG audio in WAV".to_owned()),
            other => Some(format!("encoding 0x{other:04x}")),
        };
        if let Some(encoding) = name {
            return Err(self.unsupported(encoding));
        }
        if channels == 0 {
            return Err(self.malformed("it has zero channels"));
        }
        if let 2 | 0x11 = tag {
            return Ok(Encoding::Adpcm);
        }
        // The container decides how samples are read: fewer valid bits are left-justified in it, so that
        // full scale stays full scale.
        let bytes = block / channels;
        if bytes * channels != block || bytes == 0 || bits == 0 || bits > bytes.saturating_mul(8) {
            return Err(self.malformed(&format!(
                "{channels} channels of {bits} bits do not make frames of {block} bytes"
            )));
        }
        match (tag, bytes) {
            (3, 4) if bits == 32 => Ok(Encoding::Float),
            (3, 8) if bits == 64 => Ok(Encoding::Double),
            (6, 1) => Ok(Encoding::ALaw),
            (7, 1) => Ok(Encoding::MuLaw),
            (6 | 7, _) => Err(self.unsupported(format!("{bits}-bit G.711"))),
            (3, _) => Err(self.unsupported(format!("{bits}-bit float"))),
            (_, 1..=4) => Ok(Encoding::Integer { bytes }),
            _ => Err(self.unsupported(format!("{bits}-bit PCM in {bytes} bytes"))),
        }
    }

    /// Checks that the data chunk of `size` bytes at `at` is there and is whole frames.
    fn samples(
        &self,
        at: u64,
        size: u64,
        announced: u64,
        encoding: Encoding,
        channels: u16,
    ) -> Result<(), AudioError> {
        let held = self.length - at;
        if size > held {
            // A file that was cut is shorter than its RIFF header says as well; where that header agrees
            // with the file and only the data chunk does not, or where nobody could have meant the length,
            // the header lies.
            return Err(if announced > self.length && size < PLACEHOLDER {
                AudioError::Truncated {
                    path: self.path.into(),
                    announced: announced.max(at + size),
                    held: self.length,
                }
            } else {
                AudioError::ClaimsMore {
                    path: self.path.into(),
                    claimed: size,
                    held,
                }
            });
        }
        if size == 0 {
            return Err(AudioError::NoSamples {
                path: self.path.into(),
            });
        }
        let frame = match encoding {
            // Whole blocks are the decoder's to ask for.
            Encoding::Adpcm => 1,
            _ => u64::from(encoding.bytes()) * u64::from(channels),
        };
        if !size.is_multiple_of(frame) {
            return Err(self.malformed(&format!(
                "{size} bytes of samples are not whole frames of {frame} bytes"
            )));
        }
        Ok(())
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), AudioError> {
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(|source| read_error(self.path, source))
    }

    /// The chunks ran past the end of the file: because it was cut, or for `reason`.
    fn ended(&self, needed: u64, announced: u64, reason: &str) -> AudioError {
        if announced > self.length {
            AudioError::Truncated {
                path: self.path.into(),
                announced: announced.max(needed),
                held: self.length,
            }
        } else {
            self.malformed(reason)
        }
    }

    fn malformed(&self, reason: &str) -> AudioError {
        AudioError::Malformed {
            path: self.path.into(),
            reason: reason.to_owned(),
        }
    }

    fn unsupported(&self, encoding: String) -> AudioError {
        AudioError::Unsupported {
            path: self.path.into(),
            encoding,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
