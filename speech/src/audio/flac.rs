//! Frames of FLAC (RFC 9639), as far as they say where a file ends: a reader that looks for the next frame takes what
//! stands behind the last one for a part of it.

use super::{AudioInfo, RATES, mpeg};

/// Bytes at the end of a file among which its last frame is looked for: the longest frame there can be at eight
/// channels of 32 bits in the usual blocks.
pub(super) const TAIL_BYTES: usize = 1 << 18;

/// What the header of a FLAC file, the first 42 bytes of it, says; `None` where that is not how long it
/// lasts. FLAC's specification wants this block to be the first.
pub(super) fn info(start: &[u8]) -> Option<AudioInfo> {
    let block = start.get(..26)?;
    if block[4] & 0x7f != 0 {
        return None;
    }
    let packed = u64::from_be_bytes(*block[18..26].first_chunk()?);
    let info = AudioInfo {
        sample_rate: (packed >> 44) as u32,
        channels: (packed >> 41 & 7) as u16 + 1,
        frames: packed & 0xf_ffff_ffff,
    };
    (info.frames > 0 && RATES.contains(&info.sample_rate)).then_some(info)
}

/// Where the last frame of a file ends in `tail`, its last bytes; `None` where the frame with the last of the samples
/// that the header `start` announces is not there, or its checksum is wrong.
pub(super) fn end(start: &[u8], tail: &[u8]) -> Option<usize> {
    let samples = info(start)?.frames;
    // This holds for a stream whose blocks are all of one size but the last.
    let block = u64::from(u16::from_be_bytes([*start.get(8)?, *start.get(9)?]));
    let syncs = tail.windows(2).enumerate().rev();
    let mut frames = syncs.filter(|(_, two)| two[0] == 0xff && two[1] & 0xfe == 0xf8);
    frames.find_map(|(at, _)| {
        let (first, count) = header(&tail[at..], block)?;
        (first + count == samples)
            .then(|| checked(tail, at))
            .flatten()
    })
}

/// The first sample of the frame that `bytes` begin with, and how many it has.
fn header(bytes: &[u8], block: u64) -> Option<(u64, u64)> {
    let is_variable = bytes.get(1)? & 1 == 1;
    let (size, rate) = (bytes.get(2)? >> 4, bytes[2] & 15);
    // A number in the manner of UTF-8.
    let lead = *bytes.get(4)?;
    let length = match lead.leading_ones() as usize {
        0 => 1,
        ones @ 2..=7 => ones,
        _ => return None,
    };
    let mut number = u64::from(lead) & (0x7f >> (length - usize::from(length == 1)).min(7));
    for byte in bytes.get(5..4 + length)? {
        if byte >> 6 != 2 {
            return None;
        }
        number = number << 6 | u64::from(byte & 0x3f);
    }
    let mut at = 4 + length;
    let count = match size {
        1 => 192,
        2..=5 => 576 << (size - 2),
        6 => u64::from(*bytes.get(at)?) + 1,
        7 => u64::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])) + 1,
        8..=15 => 256 << (size - 8),
        _ => return None,
    };
    at += match size {
        6 => 1,
        7 => 2,
        _ => 0,
    };
    at += match rate {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let sum = *bytes.get(at)?;
    if crc(bytes.get(..at)?, 8, 0x07) != u32::from(sum) {
        return None;
    }
    let first = if is_variable {
        number
    } else {
        number.checked_mul(block)?
    };
    Some((first, count))
}

/// Where the frame at `at` ends: at the end of `tail`, before a tag, or else at the last place where its checksum is
/// right.
fn checked(tail: &[u8], at: usize) -> Option<usize> {
    // The checksum of what has its own behind it is 0.
    let mut sum = 0;
    let mut last = None;
    for (index, byte) in tail.iter().enumerate().skip(at) {
        sum = step(sum, *byte, 16, 0x8005);
        if sum == 0 {
            let end = index + 1;
            if end == tail.len() || mpeg::behind_tag(&tail[end..]).is_some() {
                return Some(end);
            }
            last = Some(end);
        }
    }
    last
}

/// The checksums of FLAC: no reflection, begun with 0.
fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    bytes
        .iter()
        .fold(0, |sum, byte| step(sum, *byte, bits, polynomial))
}

fn step(sum: u32, byte: u8, bits: u32, polynomial: u32) -> u32 {
    let mut sum = sum ^ u32::from(byte) << (bits - 8);
    for _ in 0..8 {
        let carry = sum >> (bits - 1) & 1;
        sum = (sum << 1) ^ (polynomial & carry.wrapping_neg());
    }
    sum & ((1 << bits) - 1)
}
