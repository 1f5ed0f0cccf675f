//! What a file is, from its first bytes and never from its name. Knows no further.

/// Bytes from the start that are enough to tell.
pub(super) const ENOUGH: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RIFF WAVE.
    Wave,
    /// NIST SPHERE.
    Sphere,
    Flac,
    Ogg,
    /// MPEG audio: a frame's header.
    Mpeg,
    /// A tag before something else, of so many bytes.
    Id3(u64),
    Other(&'static str),
}

impl Kind {
    /// `start` has the first [`ENOUGH`] bytes of the file, or all of it.
    pub(super) fn of(start: &[u8]) -> Self {
        let seen = start.len().min(4);
        match start {
            // A file that ends within these is a WAV file that was cut.
            _ if seen > 0 && start[..seen] == b"RIFF"[..seen] => match start.get(8..12) {
                None | Some(b"WAVE") => Self::Wave,
                Some(_) => Self::Other("a RIFF file of another kind"),
            },
            _ if start.starts_with(b"NIST_1A") => Self::Sphere,
            _ if start.starts_with(b"fLaC") => Self::Flac,
            _ if start.starts_with(b"OggS") => Self::Ogg,
            [b'I', b'D', b'3', _, _, flags, sizes @ ..] if sizes.len() >= 4 => {
                // Four times seven bits, the head of ten bytes and perhaps a foot of as many.
                let size = sizes[..4]
                    .iter()
                    .fold(0, |size, byte| size << 7 | u64::from(byte & 0x7f));
                let foot = if flags & 0x10 == 0 { 0 } else { 10 };
                Self::Id3(10 + size + foot)
            }
            // Eleven bits of synchronisation, a version that is not reserved, layer III, a bit rate and
            // a sampling rate.
            [0xff, second, third, ..]
                if second & 0xe0 == 0xe0
                    && second & 0x18 != 0x08
                    && second & 0x06 == 0x02
                    && third & 0xf0 != 0xf0
                    && third & 0x0c != 0x0c =>
            {
                Self::Mpeg
            }
            _ => Self::Other(other(start)),
        }
    }
}

/// What a file that is not read seems to be.
fn other(start: &[u8]) -> &'static str {
    let known: [(&[u8], &'static str); 8] = [
        (b"RF64", "an RF64 file (WAV above 4 GiB)"),
        (b"RIFX", "a big-endian WAV file"),
        (b"FORM", "an AIFF file"),
        (b".snd", "an AU file"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
        (b"caff", "a Core Audio file"),
        (b"#!AMR", "an AMR file"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
        return name;
    }
    if start.get(4..8) == Some(b"ftyp") {
        return "an MP4 file";
    }
    let printable = |&byte: &u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r');
    if start.iter().all(printable) {
        "a text file"
    } else {
        "a file of an unknown kind"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (start, kind) in [
            (&b"RIFF\0\0\0\0WAVEfmt "[..], Kind::Wave),
            (b"RI", Kind::Wave),
            (
                b"RIFF\0\0\0\0AVI ",
                Kind::Other("a RIFF file of another kind"),
            ),
            (b"NIST_1A\n   1024\n", Kind::Sphere),
            (b"fLaC\0\0\0\x22", Kind::Flac),
            (b"OggS\0\x02", Kind::Ogg),
            (b"ID3\x04\0\0\0\0\x01\x02", Kind::Id3(140)),
            (b"ID3\x04\0\x10\0\0\x01\x02", Kind::Id3(150)),
            (b"\xff\xfb\x90\xc4", Kind::Mpeg),
            (b"\xff\xf3\x84\xc4", Kind::Mpeg),
            // The other layers, and AAC.
            (b"\xff\xfd\x90\0", Kind::Other("a file of an unknown kind")),
            (b"\xff\xf1\x50\0", Kind::Other("a file of an unknown kind")),
            (b"\0\0\0\x20ftypM4A ", Kind::Other("an MP4 file")),
            (b"hello", Kind::Other("a text file")),
        ] {
            assert_eq!(Kind::of(start), kind, "{start:?}");
        }
    }
}
