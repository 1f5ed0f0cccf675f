//! AIFF and AIFC, Core Audio files with plain samples, and AU: headers by chunks or in one piece, big-endian.

use std::io::{Read, Seek};

use super::AudioError;
use super::input::HeaderInput;
use super::layout::{ByteOrder, Layout, SampleEncoding, is_placeholder};

/// The layout of an AIFF or AIFC file.
pub(super) fn aiff<R: Read + Seek>(input: &mut HeaderInput<'_, R>) -> Result<Layout, AudioError> {
    let head = input.array::<12>(0)?;
    let announced = u64::from(u32_at(&head, 4)) + 8;
    let is_compressed = &head[8..] == b"AIFC";
    let mut common: Option<Common> = None;
    let mut sound: Option<(u64, u64)> = None;
    let mut at = 12;
    while at + 8 <= input.length && (common.is_none() || sound.is_none()) {
        let chunk = input.array::<8>(at)?;
        let size = u64::from(u32_at(&chunk, 4));
        at += 8;
        match &chunk[..4] {
            b"COMM" => common = Some(Common::read(input, at, size, is_compressed)?),
            b"SSND" => {
                // How far in the samples begin, and a size of blocks that nobody uses.
                let skipped = u64::from(u32_at(&input.array::<8>(at)?, 0));
                let first = at + 8 + skipped;
                let bytes = match size {
                    0 => u64::MAX,
                    size if is_placeholder(size) => u64::MAX,
                    size => size.saturating_sub(8 + skipped),
                };
                sound = Some((first, bytes));
            }
            _ => {}
        }
        at += size + (size & 1);
    }
    let (Some(common), Some((data_at, bytes))) = (common, sound) else {
        let missing = if announced > input.length {
            input.truncated(announced)
        } else {
            input.malformed("it has no COMM chunk, or no SSND chunk")
        };
        return Err(missing);
    };
    let frame = u64::from(common.channels) * u64::from(common.encoding.bytes());
    let counted = match common.frames {
        0 => u64::MAX,
        frames if is_placeholder(frames) => u64::MAX,
        frames => frames * frame,
    };
    bounded(input, common.layout(data_at), bytes.min(counted))
}

/// An AIFF file's COMM chunk.
struct Common {
    channels: u16,
    frames: u64,
    encoding: SampleEncoding,
    rate: u32,
}

impl Common {
    fn read<R: Read + Seek>(
        input: &mut HeaderInput<'_, R>,
        at: u64,
        size: u64,
        is_compressed: bool,
    ) -> Result<Self, AudioError> {
        let chunk = input.array::<18>(at)?;
        let channels = u16::from_be_bytes([chunk[0], chunk[1]]);
        if channels == 0 {
            return Err(input.malformed("it has zero channels"));
        }
        let bits = u16::from_be_bytes([chunk[6], chunk[7]]);
        let kind = if is_compressed && size >= 22 {
            input.array::<4>(at + 18)?
        } else {
            *b"NONE"
        };
        let bytes = bits.div_ceil(8);
        let integer = |bytes, order| SampleEncoding::Integer { bytes, order };
        let encoding = match (&kind, bytes) {
            (b"NONE" | b"twos" | b"in24" | b"in32", 1..=4) => integer(bytes, ByteOrder::Big),
            (b"sowt" | b"42ni" | b"23ni", 1..=4) => integer(bytes, ByteOrder::Little),
            (b"raw ", 1) => SampleEncoding::Unsigned8,
            (b"fl32" | b"FL32", _) => SampleEncoding::Float {
                bytes: 4,
                order: ByteOrder::Big,
            },
            (b"fl64" | b"FL64", _) => SampleEncoding::Float {
                bytes: 8,
                order: ByteOrder::Big,
            },
            (b"ulaw" | b"ULAW", _) => SampleEncoding::MuLaw,
            (b"alaw" | b"ALAW", _) => SampleEncoding::ALaw,
            (b"NONE" | b"twos" | b"sowt" | b"raw ", _) => {
                return Err(input.unsupported(format!("AIFF with {bits}-bit PCM")));
            }
            (kind, _) => {
                return Err(input.unsupported(format!("AIFC with {}", kind.escape_ascii())));
            }
        };
        Ok(Self {
            channels,
            frames: u64::from(u32_at(&chunk, 2)),
            encoding,
            rate: input.rate(extended(&chunk[8..18]))?,
        })
    }

    fn layout(&self, data_at: u64) -> Layout {
        Layout {
            encoding: self.encoding,
            channels: self.channels,
            sample_rate: self.rate,
            data_at,
            data_bytes: 0,
        }
    }
}

/// An IEEE 754 number of 80 bits that is not negative: 16 bits of sign and exponent, 64 of the fraction.
fn extended(bytes: &[u8]) -> f64 {
    let exponent = i32::from(u16::from_be_bytes([bytes[0], bytes[1]]) & 0x7fff);
    let fraction = bytes[2..10]
        .iter()
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    // Beyond 2^64 no rate is; the shift is by less than 64.
    match 16_383 + 63 - exponent {
        shift @ 0..=63 => (fraction >> shift) as f64,
        _ => 0.0,
    }
}

/// The plain samples of a Core Audio file; `None` where it has samples of another kind.
pub(super) fn caf<R: Read + Seek>(
    input: &mut HeaderInput<'_, R>,
) -> Result<Option<Layout>, AudioError> {
    let mut format: Option<Layout> = None;
    let mut at = 8u64;
    while at.saturating_add(12) <= input.length {
        let chunk = input.array::<12>(at)?;
        let size = i64_at(&chunk, 4);
        at += 12;
        match &chunk[..4] {
            b"desc" => {
                let desc = input.array::<32>(at)?;
                let rate = f64::from_bits(i64_at(&desc, 0) as u64);
                let order = if u32_at(&desc, 12) & 2 == 0 {
                    ByteOrder::Big
                } else {
                    ByteOrder::Little
                };
                let is_float = u32_at(&desc, 12) & 1 != 0;
                let (packet, channels) = (u32_at(&desc, 16), u32_at(&desc, 24));
                let channels = u16::try_from(channels).unwrap_or(0);
                if channels == 0 {
                    return Err(input.malformed("it has no channels, or far too many"));
                }
                let bytes = (packet / u32::from(channels)) as u16;
                let encoding = match (&desc[8..12], bytes) {
                    (b"lpcm", 4 | 8) if is_float => SampleEncoding::Float { bytes, order },
                    (b"lpcm", 1..=4) if !is_float => SampleEncoding::Integer { bytes, order },
                    (b"ulaw", 1) => SampleEncoding::MuLaw,
                    (b"alaw", 1) => SampleEncoding::ALaw,
                    (b"lpcm" | b"ulaw" | b"alaw", _) => {
                        let told =
                            format!("CAF with samples of {packet} bytes in {channels} channels");
                        return Err(input.unsupported(told));
                    }
                    _ => return Ok(None),
                };
                format = Some(Layout {
                    encoding,
                    channels,
                    sample_rate: input.rate(rate)?,
                    data_at: 0,
                    data_bytes: 0,
                });
            }
            b"data" => {
                let Some(format) = format else {
                    return Err(input.malformed("its data chunk comes before its description"));
                };
                // A count of edits comes first. -1 is a chunk that reaches to the end.
                let bytes = if size < 0 {
                    u64::MAX
                } else {
                    (size as u64).saturating_sub(4)
                };
                return bounded(
                    input,
                    Layout {
                        data_at: at + 4,
                        ..format
                    },
                    bytes,
                )
                .map(Some);
            }
            _ => {}
        }
        at = at.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
    }
    match format {
        Some(_) => Err(input.truncated(at.max(input.length + 1))),
        None => Err(input.malformed("it has no description of its samples")),
    }
}

/// The layout of an AU file, as Sun and NeXT wrote them.
pub(super) fn au<R: Read + Seek>(input: &mut HeaderInput<'_, R>) -> Result<Layout, AudioError> {
    let head = input.array::<24>(0)?;
    let [data_at, bytes, kind, rate, channels] = [4, 8, 12, 16, 20].map(|at| u32_at(&head, at));
    let order = ByteOrder::Big;
    let encoding = match kind {
        1 => SampleEncoding::MuLaw,
        2..=5 => SampleEncoding::Integer {
            bytes: (kind - 1) as u16,
            order,
        },
        6 => SampleEncoding::Float { bytes: 4, order },
        7 => SampleEncoding::Float { bytes: 8, order },
        27 => SampleEncoding::ALaw,
        other => return Err(input.unsupported(format!("AU with encoding {other}"))),
    };
    let channels = match u16::try_from(channels) {
        Ok(channels @ 1..) => channels,
        _ => return Err(input.malformed("it has no channels, or far too many")),
    };
    let layout = Layout {
        encoding,
        channels,
        sample_rate: input.rate(f64::from(rate))?,
        data_at: u64::from(data_at),
        data_bytes: 0,
    };
    let bytes = match u64::from(bytes) {
        0 => u64::MAX,
        bytes if is_placeholder(bytes) => u64::MAX,
        bytes => bytes,
    };
    bounded(input, layout, bytes)
}

/// `layout` with the `bytes` bytes of samples that were announced; `u64::MAX` for those up to the end of the file.
fn bounded<R: Read + Seek>(
    input: &HeaderInput<'_, R>,
    layout: Layout,
    bytes: u64,
) -> Result<Layout, AudioError> {
    let held = input.length.saturating_sub(layout.data_at);
    if bytes != u64::MAX && bytes > held {
        return Err(input.truncated(layout.data_at.saturating_add(bytes)));
    }
    input.whole_frames(Layout {
        data_bytes: bytes.min(held),
        ..layout
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    (i64::from(u32_at(bytes, at)) << 32) | i64::from(u32_at(bytes, at + 4))
}
