//! Pictures inside a page: heat maps as PNG files of a palette (ISO 15948), not compressed, in a data
//! URI. It does not depend on what is hot.

/// The palette: dark violet over green to yellow, evenly readable in grey too (after Matplotlib's viridis).
const ANCHORS: [[u8; 3]; 5] = [
    [68, 1, 84],
    [59, 82, 139],
    [33, 145, 140],
    [94, 201, 98],
    [253, 231, 37],
];

/// Widest and highest picture: what is larger says nothing to an eye, and memory follows from it.
const MAX_PICTURE_SIDE: usize = 4096;

/// An image of `columns` by `rows`, the first row on top, of values from 0 (dark) to 1 (bright);
/// each is shown as a rectangle of `scale` pixels. `None` where there is nothing to show, or too much.
pub(crate) fn heat(
    rows: usize,
    columns: usize,
    scale: [usize; 2],
    value: impl Fn(usize, usize) -> f32,
    what: &str,
) -> Option<String> {
    if !(1..=MAX_PICTURE_SIDE).contains(&rows) || !(1..=MAX_PICTURE_SIDE).contains(&columns) {
        return None;
    }
    let mut pixels = Vec::with_capacity(rows * (columns + 1));
    for row in 0..rows {
        // No filter.
        pixels.push(0);
        // What is not a number is dark.
        pixels
            .extend((0..columns).map(|column| (255.0 * value(row, column).clamp(0.0, 1.0)) as u8));
    }
    let png = png(rows as u32, columns as u32, &pixels);
    let (width, height) = (columns * scale[0], rows * scale[1]);
    Some(format!(
        "<img alt=\"{}\" width=\"{width}\" height=\"{height}\" src=\"{}\">",
        super::escape(what),
        data_uri("image/png", &png)
    ))
}

/// A file as an address that holds it.
pub(crate) fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", base64(bytes))
}

fn png(rows: u32, columns: u32, pixels: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(columns.to_be_bytes());
    header.extend(rows.to_be_bytes());
    // Eight bits, a palette, the only compression, filters and no interlacing.
    header.extend([8, 3, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    let palette: Vec<u8> = (0..=255u8).flat_map(color).collect();
    chunk(&mut file, b"PLTE", &palette);
    chunk(&mut file, b"IDAT", &stored(pixels));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn color(heat: u8) -> [u8; 3] {
    let place = f32::from(heat) / 255.0 * (ANCHORS.len() - 1) as f32;
    let below = (place as usize).min(ANCHORS.len() - 2);
    let share = place - below as f32;
    [0, 1, 2].map(|part| {
        let (from, to) = (ANCHORS[below][part], ANCHORS[below + 1][part]);
        (f32::from(from) + share * (f32::from(to) - f32::from(from))).round() as u8
    })
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let begin = file.len();
    file.extend(kind);
    file.extend(data);
    let crc = crc32(&file[begin..]);
    file.extend(crc.to_be_bytes());
}

/// A zlib stream (RFC 1950) of blocks that are stored as they are (RFC 1951, 3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = u16::MAX as usize;
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// The CRC of PNG's appendix D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => 0xedb8_8320 ^ crc >> 1,
            _ => crc >> 1,
        })
    })
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let place = (bits >> (18 - 6 * digit) & 63) as usize;
            // Three bytes make four digits, two three, one two.
            text.push(if digit > group.len() {
                '='
            } else {
                DIGITS[place].into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standards_come_out() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // The end of every PNG file.
        let mut file = Vec::new();
        chunk(&mut file, b"IEND", &[]);
        assert_eq!(file, b"\0\0\0\0IEND\xaeB`\x82");
        // RFC 1950 of "Wikipedia", whose Adler-32 is 11E60398.
        assert_eq!(stored(b"Wikipedia")[16..], [0x11, 0xe6, 0x03, 0x98]);
    }

    #[test]
    fn long_pictures_take_several_blocks() {
        let stream = stored(&vec![7; 70_000]);
        assert_eq!(stream.len(), 2 + 2 * 5 + 70_000 + 4);
        assert_eq!((stream[2], stream[2 + 5 + 65_535]), (0, 1));
    }

    #[test]
    fn what_is_empty_or_endless_is_no_picture() {
        let picture = |rows, columns| heat(rows, columns, [2, 3], |_, _| f32::NAN, "a \"b\"");
        assert_eq!(picture(0, 5), None);
        assert_eq!(picture(5, 5000), None);
        let shown = picture(2, 4).unwrap();
        assert!(shown.contains("alt=\"a &quot;b&quot;\" width=\"8\" height=\"6\""));
    }
}
