//! Files of text as people have them: packed with gzip or not, with a byte order mark or not, and in no
//! other form. What a file is follows from its first bytes and not from its name.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// Bytes that are looked at to know what a file is.
const LOOKED_AT: u64 = 64;

/// What some editors write before UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file that is not text to be read here.
#[derive(Debug, Error)]
pub enum NotText {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is packed with {0}: unpack it, or pack it with gzip")]
    Packed(&'static str),
    #[error("is text in UTF-16: write it in UTF-8")]
    Utf16,
}

/// The text in `file`, unpacked where gzip packed it, and its first bytes (64, or all where it has fewer).
///
/// # Errors
/// When it cannot be read, or its first bytes are those of another form.
pub fn open<'a>(file: impl Read + 'a) -> Result<(Box<dyn BufRead + 'a>, Vec<u8>), NotText> {
    let (file, start) = begin(file)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        let unpacked = MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file));
        let (unpacked, start) = begin(unpacked)?;
        check(&start)?;
        return Ok((Box::new(BufReader::with_capacity(1 << 16, unpacked)), start));
    }
    check(&start)?;
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), start))
}

/// `file` as it was, and its first bytes.
fn begin<R: Read>(mut file: R) -> io::Result<(impl Read + use<R>, Vec<u8>)> {
    let mut start = Vec::new();
    (&mut file).take(LOOKED_AT).read_to_end(&mut start)?;
    Ok((Cursor::new(start.clone()).chain(file), start))
}

fn check(start: &[u8]) -> Result<(), NotText> {
    let packed: [(&[u8], _); 5] = [
        (&[0x1f, 0x8b], "gzip twice"),
        (b"BZh", "bzip2"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"PK\x03\x04", "zip"),
    ];
    if let Some((_, how)) = packed.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(NotText::Packed(how));
    }
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(NotText::Utf16);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, NotText> {
        let mut text = String::new();
        open(bytes)?.0.read_to_string(&mut text)?;
        Ok(text)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).expect("memory");
        packed.finish().expect("memory")
    }

    #[test]
    fn text_is_read_packed_and_unpacked() {
        let text = "a word\n".repeat(1000);
        assert_eq!(read(text.as_bytes()).expect("text"), text);
        assert_eq!(read(b"").expect("text"), "");
        // As `cat a.gz b.gz` makes it.
        let both = [packed(text.as_bytes()), packed(b"another")].concat();
        assert_eq!(read(&both).expect("text"), text + "another");
        let cut = &both[..both.len() / 2];
        assert!(matches!(read(cut), Err(NotText::Io(_))));
    }

    #[test]
    fn other_forms_are_named() {
        let message = |bytes: &[u8]| read(bytes).expect_err("refused").to_string();
        assert!(message(b"BZh91AY").contains("bzip2"));
        assert!(message(b"\xff\xfea\0").contains("UTF-16"));
        assert!(message(&packed(&packed(b"x"))).contains("gzip twice"));
        assert!(message(&packed(b"PK\x03\x04")).contains("zip"));
    }
}
