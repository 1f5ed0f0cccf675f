//! Text files as other programs write them: UTF-8, UTF-16, and either compressed with gzip. It decides from the
//! first bytes how the rest is to be read, and gives UTF-8; a byte order mark of UTF-8 is left to the reader.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// What some editors write before UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes from the start that tell how a file is written.
const SNIFF_BYTES: usize = 16;
/// Times its size that a packed list may unpack to, and bytes that it always may: text is packed to a tenth,
/// lines that repeat themselves to a hundredth.
const MAX_EXPANSION: u64 = 200;
const ALWAYS_ALLOWED_BYTES: u64 = 64 << 20;

/// `from` as UTF-8, whatever it is written in. What is UTF-8 already passes as it is, valid or not.
///
/// # Errors
/// Those of `from`, and `InvalidData` for text that is written or packed in a way that is not read; later
/// reads give the same where the text is damaged.
pub fn utf8<'a>(from: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let (start, from) = peek(from)?;
    if start.starts_with(b"\x1f\x8b") {
        let unpacked = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(from));
        let (start, unpacked) = peek(unpacked)?;
        return of_start(&start, unpacked);
    }
    of_start(&start, from)
}

/// All of `bytes`, the content of a file, as UTF-8; see [`utf8`].
///
/// # Errors
/// As [`utf8`], and when a packed file unpacks to more than text of its size can.
pub fn utf8_bytes(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if !is_converted(&bytes[..bytes.len().min(SNIFF_BYTES)]) {
        return Ok(bytes);
    }
    let limit = bytes.len() as u64 * MAX_EXPANSION + ALWAYS_ALLOWED_BYTES;
    let mut text = Vec::new();
    utf8(bytes.as_slice())?
        .take(limit + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(invalid("it unpacks to more than text of its size can"));
    }
    Ok(text)
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A reader of which the first bytes were looked at.
type Peeked<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// The first bytes of `from`, and all of it.
fn peek<R: BufRead>(mut from: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    (&mut from)
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(from)))
}

/// Whether text that starts so is not taken as it is.
fn is_converted(start: &[u8]) -> bool {
    start.starts_with(b"\x1f\x8b") || Utf16::of(start).is_some() || foreign(start).is_some()
}

fn of_start<'a>(start: &[u8], from: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    if let Some(name) = foreign(start) {
        let problem = format!("it is {name}: unpack it, or save it as plain text in UTF-8");
        return Err(invalid(&problem));
    }
    Ok(match Utf16::of(start) {
        None => Box::new(from),
        Some(order) => Box::new(BufReader::new(FromUtf16 {
            from,
            order,
            high: None,
            ready: Vec::new(),
            given: 0,
        })),
    })
}

/// What is known by its first bytes and is not read.
fn foreign(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &'static str); 6] = [
        (b"\xff\xfe\0\0", "text in UTF-32"),
        (b"\0\0\xfe\xff", "text in UTF-32"),
        (b"\x28\xb5\x2f\xfd", "packed with zstd"),
        (b"\xfd7zXZ\0", "packed with xz"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"BZh", "packed with bzip2"),
    ];
    let (magic, name) = known.iter().find(|(magic, _)| start.starts_with(magic))?;
    // `BZh` alone might begin a word.
    let block = b"1AY&SY";
    (magic != b"BZh" || start.get(4..10) == Some(block)).then_some(*name)
}

/// The order of the bytes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Utf16 {
    Little,
    Big,
}

impl Utf16 {
    /// By its mark, or, without one, by the first character of the text, which is one of ASCII in every list
    /// that is read here.
    fn of(start: &[u8]) -> Option<Self> {
        match *start {
            [0xff, 0xfe, ..] => Some(Self::Little),
            [0xfe, 0xff, ..] => Some(Self::Big),
            [first, 0, second, 0, ..] if first.is_ascii() && second != 0 && first != 0 => {
                Some(Self::Little)
            }
            [0, first, 0, second, ..] if first.is_ascii() && second != 0 && first != 0 => {
                Some(Self::Big)
            }
            _ => None,
        }
    }

    fn unit(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// Text in UTF-16 that is read as UTF-8, without its byte order mark.
struct FromUtf16<R> {
    from: R,
    order: Utf16,
    /// The first half of a character.
    high: Option<u16>,
    ready: Vec<u8>,
    /// Bytes of `ready` that were given.
    given: usize,
}

impl<R: BufRead> FromUtf16<R> {
    /// Makes more ready; nothing at the end of the text.
    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        while self.ready.len() < 4096 {
            let mut bytes = [0; 2];
            match self.from.read(&mut bytes)? {
                0 if self.high.is_some() => return Err(broken()),
                0 => return Ok(()),
                1 => self
                    .from
                    .read_exact(&mut bytes[1..])
                    .map_err(|_| broken())?,
                _ => {}
            }
            let unit = self.order.unit(bytes);
            self.push(unit)?;
        }
        Ok(())
    }

    fn push(&mut self, unit: u16) -> io::Result<()> {
        let high = self.high.take();
        if high.is_none() && (0xd800..0xdc00).contains(&unit) {
            self.high = Some(unit);
            return Ok(());
        }
        for character in char::decode_utf16(high.into_iter().chain([unit])) {
            let character = character.map_err(|_| broken())?;
            if character != '\u{feff}' {
                self.ready
                    .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

fn broken() -> io::Error {
    invalid("it begins as UTF-16 and does not go on so: save it as UTF-8")
}

impl<R: BufRead> Read for FromUtf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.refill()?;
        }
        let left = &self.ready[self.given..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const TEXT: &str = "{\"text\": \"Ça va? 𝄞\"}\r\nzweite Zeile\n";

    fn utf16(text: &str, mark: bool, order: Utf16) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        let units = mark.into_iter().chain(text.encode_utf16());
        let bytes = units.flat_map(|unit| match order {
            Utf16::Little => unit.to_le_bytes(),
            Utf16::Big => unit.to_be_bytes(),
        });
        bytes.collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let whole = utf8_bytes(bytes.to_vec());
        let mut text = Vec::new();
        let piecewise = utf8(BufReader::with_capacity(3, bytes))
            .and_then(|mut from| from.read_to_end(&mut text));
        assert_eq!(whole.is_ok(), piecewise.is_ok());
        let whole = whole?;
        assert_eq!(whole, text);
        Ok(String::from_utf8(whole).unwrap())
    }

    #[test]
    fn text_is_the_same_however_it_is_written() {
        let long = TEXT.repeat(5000);
        for text in [TEXT, &long] {
            let mut written = vec![text.as_bytes().to_vec()];
            for order in [Utf16::Little, Utf16::Big] {
                written.extend([true, false].map(|mark| utf16(text, mark, order)));
            }
            for bytes in written {
                assert_eq!(read(&bytes).unwrap(), text);
                assert_eq!(read(&gzip(&bytes)).unwrap(), text);
                // Members one behind the other, as `cat a.gz b.gz` leaves them.
                let twice = [gzip(&bytes), gzip(&bytes)].concat();
                assert!(read(&twice).unwrap().starts_with(text));
            }
        }
    }

    #[test]
    fn what_is_utf8_or_nothing_known_passes_as_it_is() {
        for bytes in [
            &b""[..],
            b"a",
            b"\xff",
            b"BZh is no word",
            b"\xef\xbb\xbfyes",
            b"caf\xe9",
            b"\0\0",
        ] {
            assert_eq!(utf8_bytes(bytes.to_vec()).unwrap(), bytes);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let told = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert_eq!(
            told(b"\x28\xb5\x2f\xfd..."),
            "it is packed with zstd: unpack it, or save it as plain text in UTF-8"
        );
        assert!(told(b"\xfd7zXZ\0\0").contains("xz"));
        assert!(told(b"BZh91AY&SY..").contains("bzip2"));
        assert!(told(b"PK\x03\x04....").contains("ZIP"));
        assert!(told(b"\xff\xfe\0\0a\0\0\0").contains("UTF-32"));
        assert!(told(&gzip(b"PK\x03\x04....")).contains("ZIP"));
        let text = utf16(TEXT, true, Utf16::Little);
        assert!(told(&text[..text.len() - 1]).contains("UTF-16"));
        assert!(told(b"\xff\xfe\x00\xdca\0").contains("UTF-16"));
        // Cut in the middle.
        assert!(read(&gzip(TEXT.as_bytes())[..20]).is_err());
    }

    #[test]
    fn a_list_that_unpacks_to_far_too_much_is_refused() {
        let bomb = gzip(&vec![b'\n'; 100 << 20]);
        assert!((bomb.len() as u64) * MAX_EXPANSION + ALWAYS_ALLOWED_BYTES < 100 << 20);
        let told = utf8_bytes(bomb).unwrap_err().to_string();
        assert_eq!(told, "it unpacks to more than text of its size can");
    }
}
