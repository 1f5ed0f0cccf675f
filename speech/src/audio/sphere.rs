//! The header of NIST SPHERE, in which the corpora of the nineties came: lines of text, and then plain
//! samples. Knows no amplitudes; what was shortened is refused by name.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::error::read_error;
use super::layout::{ByteOrder, Layout, SampleEncoding};
use super::{AudioError, RATES};

/// A header is 1,024 bytes, or a multiple for those who had much to say.
const MAX_HEADER_BYTES: u64 = 64 << 10;

pub(super) fn read(
    file: &mut (impl Read + Seek),
    length: u64,
    path: &Path,
) -> Result<Layout, AudioError> {
    let malformed = |reason: String| AudioError::Malformed {
        path: path.into(),
        reason,
    };
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_HEADER_BYTES).read_to_end(&mut head))
        .map_err(|source| read_error(path, source))?;
    let size: u64 = std::str::from_utf8(head.get(8..16).unwrap_or_default())
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|size| (16..=MAX_HEADER_BYTES).contains(size))
        .ok_or_else(|| malformed("its second line is not the length of a SPHERE header".into()))?;
    if size > length {
        return Err(AudioError::Truncated {
            path: path.into(),
            announced: size,
            held: length,
        });
    }
    let head = String::from_utf8_lossy(&head[..size as usize]);
    let mut fields = BTreeMap::new();
    for line in head.lines().skip(2).take_while(|line| *line != "end_head") {
        let mut words = line.splitn(3, ' ');
        if let (Some(name), Some(_), Some(value)) = (words.next(), words.next(), words.next()) {
            fields.insert(name, value.trim());
        }
    }
    let number = |name: &str| -> Result<Option<u64>, AudioError> {
        fields
            .get(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| malformed(format!("its {name} is {text:?}")))
            })
            .transpose()
    };
    let needed =
        |name: &str| number(name)?.ok_or_else(|| malformed(format!("its header has no {name}")));
    let rate = needed("sample_rate")?;
    let rate = match u32::try_from(rate) {
        Ok(rate) if RATES.contains(&rate) => rate,
        _ => {
            return Err(AudioError::Rate {
                path: path.into(),
                rate: u32::try_from(rate).unwrap_or(u32::MAX),
            });
        }
    };
    let channels = match u16::try_from(needed("channel_count")?) {
        Ok(channels @ 1..=255) => channels,
        _ => return Err(malformed("it has no channels, or far too many".into())),
    };
    let coding = fields.get("sample_coding").copied().unwrap_or("pcm");
    let order = fields.get("sample_byte_format").copied();
    let encoding = match (coding, number("sample_n_bytes")?, order) {
        ("pcm", Some(2), Some("01")) => SampleEncoding::Integer {
            bytes: 2,
            order: ByteOrder::Little,
        },
        ("pcm", Some(2), Some("10")) => SampleEncoding::Integer {
            bytes: 2,
            order: ByteOrder::Big,
        },
        ("ulaw" | "mu-law", None | Some(1), _) => SampleEncoding::MuLaw,
        ("alaw", None | Some(1), _) => SampleEncoding::ALaw,
        (coding, bytes, order) => {
            return Err(AudioError::Unsupported {
                path: path.into(),
                encoding: format!(
                    "SPHERE with {coding} samples of {} bytes in the order {}",
                    bytes.unwrap_or_default(),
                    order.unwrap_or("unsaid")
                ),
            });
        }
    };
    let frame = u64::from(encoding.bytes()) * u64::from(channels);
    let held = (length - size) / frame * frame;
    let data_bytes = match number("sample_count")? {
        None => held,
        Some(count) => {
            let announced = count.saturating_mul(frame);
            if announced > length - size {
                return Err(AudioError::Truncated {
                    path: path.into(),
                    announced: announced.saturating_add(size),
                    held: length,
                });
            }
            announced
        }
    };
    if data_bytes == 0 {
        return Err(AudioError::NoSamples { path: path.into() });
    }
    Ok(Layout {
        encoding,
        channels,
        sample_rate: rate,
        data_at: size,
        data_bytes,
    })
}
