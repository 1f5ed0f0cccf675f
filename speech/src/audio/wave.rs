//! WAV and its relatives: RIFF and RIFX (the same, big-endian), RF64 and BW64 (ITU-R BS.2088) with sizes of 64 bits,
//! and Sony's Wave64. The chunks are walked against the file's real size, and no announced length is believed.

use std::io::{Read, Seek};
use std::ops::Range;

use super::AudioError;
use super::adpcm::{Adpcm, Predictor};
use super::input::HeaderInput;
use super::layout::{ByteOrder, Layout, SampleEncoding, Stored, is_placeholder};

/// How the heads of chunks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Riff,
    /// All numbers and samples big-endian.
    Rifx,
    /// RF64 and BW64: sizes that do not fit are in a chunk `ds64`.
    Rf64,
    /// Names of 16 bytes, sizes of 64 bits that count the head, chunks padded to 8 bytes.
    Wave64,
}

/// The first four bytes and the tail that all names of chunks have in Wave64.
const WAVE64_TAIL: [u8; 12] = [
    0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0x00, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a,
];

/// What the fmt chunk says.
enum FmtChunk {
    Plain(SampleEncoding),
    Adpcm(Adpcm),
    Mpeg,
}

struct Chunk {
    name: [u8; 4],
    /// The size of what it holds, as announced.
    size: u64,
    /// Where that begins.
    at: u64,
}

/// What the header at the beginning of `input` leads to.
pub(super) fn read<R: Read + Seek>(
    input: &mut HeaderInput<'_, R>,
    dialect: Dialect,
) -> Result<Stored, AudioError> {
    let mut walk = ChunkReader { input, dialect };
    let (mut at, announced) = walk.head()?;
    let mut sizes: Option<[u64; 2]> = None;
    let mut announced = announced;
    let mut format = None;
    loop {
        let Some(chunk) = walk.chunk(at)? else {
            return Err(walk.ended(at, announced, "it has no data chunk"));
        };
        match &chunk.name {
            b"ds64" if dialect == Dialect::Rf64 && chunk.size >= 24 => {
                let bytes = walk.input.array::<16>(chunk.at)?;
                let (halves, _) = bytes.as_chunks::<8>();
                let [whole, data] = [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])];
                announced = whole.saturating_add(8);
                sizes = Some([whole, data]);
            }
            b"fmt " => format = Some(walk.format(&chunk, announced)?),
            b"data" => {
                let Some((format, channels, rate)) = format else {
                    return Err(walk
                        .input
                        .malformed("the data chunk comes before the fmt chunk"));
                };
                let mut size = chunk.size;
                if let Some([_, data]) = sizes
                    && size == 0xffff_ffff
                {
                    size = data;
                }
                let held = walk.samples(chunk.at, size, announced)?;
                return walk.stored(format, channels, rate, held);
            }
            _ => {}
        }
        at = walk.behind(&chunk);
    }
}

struct ChunkReader<'a, 'b, R> {
    input: &'a mut HeaderInput<'b, R>,
    dialect: Dialect,
}

impl<R: Read + Seek> ChunkReader<'_, '_, R> {
    /// Where the first chunk begins, and how long the file is as announced.
    fn head(&mut self) -> Result<(u64, u64), AudioError> {
        if self.dialect == Dialect::Wave64 {
            let head = self.input.array::<40>(0)?;
            let size = self.u64_at(&head, 16);
            return Ok((40, size));
        }
        let head = self.input.array::<12>(0)?;
        Ok((12, u64::from(self.u32_at(&head, 4)) + 8))
    }

    /// The chunk whose head is at `at`, if the file has all of its head.
    fn chunk(&mut self, at: u64) -> Result<Option<Chunk>, AudioError> {
        let head = if self.dialect == Dialect::Wave64 {
            24
        } else {
            8
        };
        if at.saturating_add(head) > self.input.length {
            return Ok(None);
        }
        if self.dialect == Dialect::Wave64 {
            let bytes = self.input.array::<24>(at)?;
            let mut name = [bytes[0], bytes[1], bytes[2], bytes[3]];
            if bytes[4..16] != WAVE64_TAIL {
                // Another kind of chunk, whatever its first letters are.
                name = *b"\0\0\0\0";
            }
            let size = self.u64_at(&bytes, 16).saturating_sub(24);
            return Ok(Some(Chunk {
                name,
                size,
                at: at + 24,
            }));
        }
        let bytes = self.input.array::<8>(at)?;
        Ok(Some(Chunk {
            name: [bytes[0], bytes[1], bytes[2], bytes[3]],
            size: u64::from(self.u32_at(&bytes, 4)),
            at: at + 8,
        }))
    }

    /// Where the chunk behind `chunk` begins.
    fn behind(&self, chunk: &Chunk) -> u64 {
        let end = chunk.at.saturating_add(chunk.size);
        match self.dialect {
            Dialect::Wave64 => end.checked_next_multiple_of(8).unwrap_or(u64::MAX),
            // Padded to an even length.
            _ => end.saturating_add(chunk.size & 1),
        }
    }

    /// Encoding, channels and rate from the fmt chunk.
    fn format(
        &mut self,
        chunk: &Chunk,
        announced: u64,
    ) -> Result<(FmtChunk, u16, u32), AudioError> {
        if chunk.size < 16 {
            let told = format!("a fmt chunk of {} bytes", chunk.size);
            return Err(self.input.malformed(told));
        }
        let end = chunk.at.saturating_add(chunk.size);
        if end > self.input.length {
            return Err(self.ended(end, announced, "its fmt chunk passes the end of the file"));
        }
        let bytes = self.input.some(chunk.at, chunk.size.min(256))?;
        let channels = self.u16_at(&bytes, 2);
        let rate = self.u32_at(&bytes, 4);
        let block = self.u16_at(&bytes, 12);
        let bits = self.u16_at(&bytes, 14);
        let tag = self.u16_at(&bytes, 0);
        if channels == 0 {
            return Err(self.input.malformed("it has zero channels"));
        }
        let format = match tag {
            // WAVE_FORMAT_EXTENSIBLE: the tag is the head of the sub-format's GUID, and the container may have
            // more bits than are said to be valid.
            0xfffe if bytes.len() >= 40 => {
                let container = match block / channels {
                    bytes
                        if bytes * channels == block && 8 * u32::from(bytes) >= u32::from(bits) =>
                    {
                        bytes * 8
                    }
                    _ => bits,
                };
                self.encoding(self.u16_at(&bytes, 24), container)
            }
            0xfffe => Err(self
                .input
                .malformed("an extensible fmt chunk that is too short")),
            0x02 | 0x11 => {
                let predictor = if tag == 0x02 {
                    Predictor::Microsoft
                } else {
                    Predictor::Ima
                };
                if predictor == Predictor::Microsoft && !Adpcm::has_usual_coefficients(&bytes) {
                    let told = "Microsoft ADPCM with coefficients of its own";
                    return Err(self.input.unsupported(told));
                }
                let told = |reason| self.input.malformed(reason);
                Adpcm::new(predictor, channels, bits, block)
                    .map(FmtChunk::Adpcm)
                    .map_err(told)
            }
            0x50 | 0x55 => Ok(FmtChunk::Mpeg),
            tag => self.encoding(tag, bits),
        }?;
        Ok((format, channels, self.input.rate(f64::from(rate))?))
    }

    /// The encoding of samples in containers of `bits` bits. The bits decide and not the block align, which writers
    /// get wrong
    /// and hardly a reader looks at.
    fn encoding(&self, tag: u16, bits: u16) -> Result<FmtChunk, AudioError> {
        let order = if self.dialect == Dialect::Rifx {
            ByteOrder::Big
        } else {
            ByteOrder::Little
        };
        if bits == 0 && matches!(tag, 1 | 3 | 6 | 7) {
            return Err(self.input.malformed("its samples have zero bits"));
        }
        let bytes = bits.div_ceil(8);
        let encoding = match (tag, bytes) {
            (1, 1) => SampleEncoding::Unsigned8,
            (1, 2..=4) => SampleEncoding::Integer { bytes, order },
            (3, 4 | 8) if bits == 8 * bytes => SampleEncoding::Float { bytes, order },
            (6, 1) => SampleEncoding::ALaw,
            (7, 1) => SampleEncoding::MuLaw,
            (1, _) => return Err(self.input.unsupported(format!("WAV with {bits}-bit PCM"))),
            (3, _) => return Err(self.input.unsupported(format!("WAV with {bits}-bit float"))),
            (6 | 7, _) => return Err(self.input.unsupported(format!("WAV with {bits}-bit G.711"))),
            _ => return Err(self.input.unsupported(format!("WAV with {}", name(tag)))),
        };
        Ok(FmtChunk::Plain(encoding))
    }

    /// The bytes of the samples, of which the data chunk at `at` announces `size`.
    fn samples(&mut self, at: u64, size: u64, announced: u64) -> Result<Range<u64>, AudioError> {
        let held = self.input.length - at;
        if is_placeholder(size) && size > held {
            return Ok(at..self.input.length);
        }
        if size == 0 {
            // A writer that was stopped, or that wrote to a pipe, leaves 0. In a file that is whole, chunks or
            // nothing follow.
            return match self.chunks_follow(at)? {
                true => Err(AudioError::NoSamples {
                    path: self.input.path.into(),
                }),
                false => Ok(at..self.input.length),
            };
        }
        if size <= held {
            return Ok(at..at + size);
        }
        // A file that was cut is shorter than its RIFF header says as well; where that header agrees with the
        // file and only the data chunk does not, the header lies.
        Err(if announced > self.input.length {
            self.input.truncated(announced.max(at.saturating_add(size)))
        } else {
            AudioError::ClaimsMore {
                path: self.input.path.into(),
                claimed: size,
                held,
            }
        })
    }

    /// Whether what lies at `at` is chunks up to the end of the file, or nothing.
    fn chunks_follow(&mut self, mut at: u64) -> Result<bool, AudioError> {
        while at < self.input.length {
            let Some(chunk) = self.chunk(at)? else {
                return Ok(false);
            };
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b" _-".contains(byte);
            let end = chunk.at.saturating_add(chunk.size);
            if !chunk.name.iter().all(is_name) || end > self.input.length {
                return Ok(false);
            }
            at = self.behind(&chunk);
        }
        Ok(true)
    }

    fn stored(
        &self,
        format: FmtChunk,
        channels: u16,
        sample_rate: u32,
        held: Range<u64>,
    ) -> Result<Stored, AudioError> {
        let none = || AudioError::NoSamples {
            path: self.input.path.into(),
        };
        match format {
            FmtChunk::Plain(encoding) => {
                let layout = Layout {
                    encoding,
                    channels,
                    sample_rate,
                    data_at: held.start,
                    data_bytes: held.end - held.start,
                };
                Ok(Stored::Plain(self.input.whole_frames(layout)?))
            }
            _ if held.is_empty() => Err(none()),
            FmtChunk::Adpcm(adpcm) => Ok(Stored::Adpcm(adpcm.at_rate(sample_rate), held)),
            FmtChunk::Mpeg => Ok(Stored::Mpeg(held)),
        }
    }

    /// The chunks ran past the end of the file: because it was cut, or for `reason`.
    fn ended(&self, needed: u64, announced: u64, reason: &str) -> AudioError {
        if announced > self.input.length && !is_placeholder(announced) {
            return self.input.truncated(announced.max(needed));
        }
        self.input.malformed(reason)
    }

    fn u16_at(&self, bytes: &[u8], at: usize) -> u16 {
        let two = [bytes[at], bytes[at + 1]];
        match self.dialect {
            Dialect::Rifx => u16::from_be_bytes(two),
            _ => u16::from_le_bytes(two),
        }
    }

    fn u32_at(&self, bytes: &[u8], at: usize) -> u32 {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self.dialect {
            Dialect::Rifx => u32::from_be_bytes(four),
            _ => u32::from_le_bytes(four),
        }
    }

    /// Little-endian; in Wave64 alone.
    fn u64_at(&self, bytes: &[u8], at: usize) -> u64 {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(eight)
    }
}

/// What a format tag stands for, by Microsoft's mmreg.h and RFC 2361.
fn name(tag: u16) -> String {
    let name = match tag {
        0x0008 | 0x2001 => "DTS",
        0x0010 => "OKI ADPCM",
        0x0014 | 0x0040 | 0x0045 | 0x0064 | 0x0085 => "G.726 ADPCM",
        0x0017 => "Dialogic ADPCM",
        0x0020 => "Yamaha ADPCM",
        0xa109 => "Speex",
        0x0022 => "TrueSpeech",
        0x0028 | 0x0065 | 0x028f => "G.722 ADPCM",
        0x0031 => "GSM 6.10",
        0x0042 | 0x0111 => "G.723.1",
        0x0057 | 0x7361 | 0x7362 => "AMR",
        0x0083 | 0x0134 => "G.729",
        0x0092 | 0x2000 => "AC-3",
        0x00ff | 0x1600 | 0x1601 | 0x1602 | 0x1610 | 0x706d | 0xa106 => "AAC",
        0x0160..=0x0163 => "WMA",
        0x674f..=0x6751 | 0x676f..=0x6771 => "Vorbis",
        0x704f => "Opus",
        0xf1ac => "FLAC",
        other => return format!("an encoding with the tag 0x{other:04x}"),
    };
    name.to_owned()
}
