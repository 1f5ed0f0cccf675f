//! Checksums made right, so that what the fuzzer changed comes further than to them: an Ogg page or a FLAC
//! frame whose checksum is wrong is passed over, and nothing behind it is ever tried. It does not depend on
//! what is in a page or a frame.

/// `bytes` with the right checksums in its Ogg pages, or else in what seem to be its FLAC frames.
pub fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.starts_with(b"OggS") {
        ogg(&mut bytes);
    } else if bytes.starts_with(b"fLaC") {
        flac(&mut bytes);
    }
    bytes
}

/// Pages as RFC 3533 lays them out: 27 bytes, as many lengths as the last of these says, and what is so
/// long.
fn ogg(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|four| four == b"OggS") {
        at += found;
        let Some(&lengths) = bytes.get(at + 26) else {
            return;
        };
        let body = at + 27 + usize::from(lengths);
        let Some(table) = bytes.get(at + 27..body) else {
            return;
        };
        let end = body
            + table
                .iter()
                .map(|&length| usize::from(length))
                .sum::<usize>();
        let Some(page) = bytes.get_mut(at..end) else {
            return;
        };
        page[22..26].fill(0);
        let sum = crc(page, 32, 0x04c1_1db7);
        page[22..26].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

/// From a sync code to the next one: the last two bytes are the checksum (RFC 9639, section 9.3).
fn flac(bytes: &mut [u8]) {
    let mut starts: Vec<usize> = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, two)| two[0] == 0xff && two[1] & 0xfe == 0xf8)
        .map(|(at, _)| at)
        .collect();
    starts.push(bytes.len());
    for ends in starts.windows(2) {
        let frame = &mut bytes[ends[0]..ends[1]];
        // The shortest header and the checksum.
        if frame.len() > 7 {
            let (body, sum) = frame.split_at_mut(frame.len() - 2);
            sum.copy_from_slice(&(crc(body, 16, 0x8005) as u16).to_be_bytes());
        }
    }
}

/// The remainder of so many `bits`, begun with 0, the highest bit of a byte first.
fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    let polynomial = polynomial << (32 - bits);
    let sum = bytes.iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
            let over = sum >> 31;
            (sum << 1) ^ (polynomial & over.wrapping_neg())
        })
    });
    sum >> (32 - bits)
}
