//! What a file is, from its first bytes and never from its name. Knows no further.

use super::mpeg;
use super::wave::Dialect;

/// Bytes from the start that are enough to tell.
pub(super) const SNIFF_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    Wave(Dialect),
    /// AIFF and AIFC.
    Aiff,
    /// Core Audio.
    Caf,
    Au,
    /// NIST SPHERE.
    Sphere,
    Flac,
    Ogg,
    /// MPEG audio: a frame's header.
    Mpeg,
    /// AAC: the header of a frame (ADTS).
    Adts,
    /// MP4 and QuickTime.
    Mp4,
    /// Matroska and WebM.
    Matroska,
    /// A tag before something else, of so many bytes.
    Tag(u64),
    /// None that is read.
    Other(&'static str),
    /// Nothing that is known.
    Unknown(&'static str),
}

impl FileType {
    /// `start` has the first [`SNIFF_BYTES`] bytes of the file, or all of it.
    pub(super) fn of(start: &[u8]) -> Self {
        if let Some(bytes) = mpeg::id3(start).or_else(|| mpeg::ape(start)) {
            return Self::Tag(bytes);
        }
        let seen = start.len().min(4);
        match start {
            // A file that ends within these is a WAV file that was cut.
            _ if seen > 0 && start[..seen] == b"RIFF"[..seen] => match start.get(8..12) {
                None | Some(b"WAVE") => Self::Wave(Dialect::Riff),
                Some(b"AVI ") => Self::Other("an AVI file"),
                Some(_) => Self::Other("a RIFF file of another kind"),
            },
            _ if start.starts_with(b"RIFX") && start.get(8..12) == Some(b"WAVE") => {
                Self::Wave(Dialect::Rifx)
            }
            _ if start.starts_with(b"RF64") || start.starts_with(b"BW64") => {
                Self::Wave(Dialect::Rf64)
            }
            _ if start.starts_with(b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0") => {
                Self::Wave(Dialect::Wave64)
            }
            _ if start.starts_with(b"FORM")
                && matches!(start.get(8..12), Some(b"AIFF" | b"AIFC")) =>
            {
                Self::Aiff
            }
            _ if start.starts_with(b"caff") => Self::Caf,
            _ if start.starts_with(b".snd") => Self::Au,
            _ if start.starts_with(b"NIST_1A") => Self::Sphere,
            _ if start.starts_with(b"fLaC") => Self::Flac,
            _ if start.starts_with(b"OggS") => Self::Ogg,
            _ if start.starts_with(b"\x1aE\xdf\xa3") => Self::Matroska,
            _ if is_mp4(start) => Self::Mp4,
            // Eleven bits of synchronisation, a version that is not reserved, a layer, a bit rate and a sampling
            // rate.
            [0xff, second, third, ..]
                if second & 0xe0 == 0xe0
                    && second & 0x18 != 0x08
                    && second & 0x06 != 0
                    && third & 0xf0 != 0xf0
                    && third & 0x0c != 0x0c =>
            {
                Self::Mpeg
            }
            // Twelve bits of synchronisation, a layer of 0.
            [0xff, 0xf0 | 0xf1 | 0xf8 | 0xf9, third, ..] if third >> 2 & 15 < 13 => Self::Adts,
            _ => other(start),
        }
    }
}

/// Whether a box stands first with which files of this family begin.
fn is_mp4(start: &[u8]) -> bool {
    let first = start.get(4..8);
    matches!(first, Some(b"ftyp"))
        || matches!(first, Some(b"moov" | b"mdat" | b"wide" | b"free" | b"skip")) && start[0] == 0
}

/// What a file that is not read seems to be.
fn other(start: &[u8]) -> FileType {
    let known: [(&[u8], &'static str); 27] = [
        (b"RIFX", "a RIFX file of another kind"),
        (b"FORM", "an IFF file of another kind"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"BZh", "a bzip2 archive"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"#!AMR-WB", "an AMR-WB file"),
        (b"#!AMR", "an AMR file"),
        (b"#!SILK", "a SILK file (Skype, WeChat)"),
        (b"\x02#!SILK", "a SILK file (Skype, WeChat)"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA file (ASF)"),
        (b"wvpk", "a WavPack file"),
        (b"MAC ", "a Monkey's Audio file"),
        (b"MPCK", "a Musepack file"),
        (b"MP+", "a Musepack file"),
        (b"TTA1", "a TTA file"),
        (b"TTA2", "a TTA file"),
        (b"DSD ", "a DSD file"),
        (b"FRM8", "a DSDIFF file"),
        (b"ajkg", "a Shorten file"),
        (b"ADIF", "an AAC file without frames (ADIF)"),
        (b"MThd", "a MIDI file"),
        (b"FLV\x01", "a Flash video"),
        (b"Creative Voice File", "a VOC file"),
        (b".RMF", "a RealMedia file"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
        return FileType::Other(name);
    }
    if start.starts_with(b"\x0b\x77") {
        return FileType::Unknown("an AC-3 file");
    }
    if start.starts_with(b"\0\0\x01\xba") {
        return FileType::Other("an MPEG video");
    }
    let printable = |&byte: &u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r');
    if !start.is_empty() && start.iter().all(printable) {
        FileType::Other("a text file")
    } else {
        FileType::Unknown("a file of an unknown kind")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (start, kind) in [
            (&b"RIFF\0\0\0\0WAVEfmt "[..], FileType::Wave(Dialect::Riff)),
            (b"RI", FileType::Wave(Dialect::Riff)),
            (b"RIFF\0\0\0\0AVI ", FileType::Other("an AVI file")),
            (
                b"RIFF\0\0\0\0WEBP",
                FileType::Other("a RIFF file of another kind"),
            ),
            (b"RIFX\0\0\0\0WAVEfmt ", FileType::Wave(Dialect::Rifx)),
            (b"RF64\xff\xff\xff\xffWAVE", FileType::Wave(Dialect::Rf64)),
            (b"BW64\xff\xff\xff\xffWAVE", FileType::Wave(Dialect::Rf64)),
            (
                b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",
                FileType::Wave(Dialect::Wave64),
            ),
            (b"FORM\0\0\0\0AIFC", FileType::Aiff),
            (
                b"FORM\0\0\0\x008SVX",
                FileType::Other("an IFF file of another kind"),
            ),
            (b"caff\0\x01", FileType::Caf),
            (b".snd\0\0\0\x18", FileType::Au),
            (b"NIST_1A\n   1024\n", FileType::Sphere),
            (b"fLaC\0\0\0\x22", FileType::Flac),
            (b"OggS\0\x02", FileType::Ogg),
            (b"ID3\x04\0\0\0\0\x01\x02", FileType::Tag(140)),
            (b"ID3\x04\0\x10\0\0\x01\x02", FileType::Tag(150)),
            (b"\xff\xfb\x90\xc4", FileType::Mpeg),
            (b"\xff\xf3\x84\xc4", FileType::Mpeg),
            (b"\xff\xfd\x90\0", FileType::Mpeg),
            (b"\xff\xf1\x50\0", FileType::Adts),
            (b"\xff\xf9\x50\0", FileType::Adts),
            (b"\0\0\0\x20ftypM4A ", FileType::Mp4),
            (b"\0\0\0\x08wide\0\0", FileType::Mp4),
            (b"\x1aE\xdf\xa3\x9f", FileType::Matroska),
            (b"#!AMR-WB\n", FileType::Other("an AMR-WB file")),
            (b"#!AMR\n", FileType::Other("an AMR file")),
            (b"hello", FileType::Other("a text file")),
            (
                b"\x01\x02\x03",
                FileType::Unknown("a file of an unknown kind"),
            ),
        ] {
            assert_eq!(FileType::of(start), kind, "{start:?}");
        }
    }
}
