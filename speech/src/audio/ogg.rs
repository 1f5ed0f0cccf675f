//! Pages of Ogg (RFC 3533), as far as they say what is in a file and whether it is all there.

/// What the streams that begin with the file carry, in words; none where that is unknown.
pub(super) fn codecs(bytes: &[u8]) -> Vec<&'static str> {
    const KNOWN: [(&[u8], &str); 11] = [
        (b"\x01vorbis", "Vorbis"),
        (b"OpusHead", "Opus"),
        (b"\x7fFLAC", "FLAC"),
        (b"Speex   ", "Speex"),
        (b"\x80theora", "Theora video"),
        (b"CELT    ", "CELT"),
        (b"PCM     ", "OggPCM"),
        (b"BBCD", "Dirac video"),
        (b"OVP80", "VP8 video"),
        (b"\x80kate", "Kate subtitles"),
        (b"fishead", "a skeleton"),
    ];
    let mut found = Vec::new();
    let mut at = 0;
    // Pages of all beginnings come before any other.
    while let Some(head) = bytes.get(at..at + 27) {
        if !head.starts_with(b"OggS") || head[5] & 2 == 0 {
            break;
        }
        let segments = usize::from(head[26]);
        let Some(sizes) = bytes.get(at + 27..at + 27 + segments) else {
            break;
        };
        let content = at + 27 + segments;
        let packet = bytes.get(content..).unwrap_or_default();
        let name = KNOWN.iter().find(|(magic, _)| packet.starts_with(magic));
        found.extend(name.map(|(_, name)| *name));
        at = content + sizes.iter().map(|size| usize::from(*size)).sum::<usize>();
    }
    found
}

/// Whether the last page says that it is the last.
pub(super) fn ends(bytes: &[u8]) -> bool {
    const LONGEST_PAGE: usize = 27 + 255 + 255 * 255;
    let tail = &bytes[bytes.len().saturating_sub(LONGEST_PAGE)..];
    let last = tail.windows(6).rposition(|six| six.starts_with(b"OggS\0"));
    last.is_some_and(|at| tail[at + 5] & 4 != 0)
}
