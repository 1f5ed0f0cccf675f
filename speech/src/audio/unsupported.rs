//! The names of forms of sound that are not read, from what stands in their containers.

use super::container::Container;
use super::{mp4, ogg};

/// What is in the file, if nothing in it is read; `movie` is the track of an MP4 file.
pub(super) fn name(
    container: Container,
    bytes: &[u8],
    movie: Option<&mp4::Mp4Track>,
) -> Option<String> {
    match container {
        Container::Ogg => {
            let codecs = ogg::codecs(bytes);
            let is_read = |codec: &&str| ["Vorbis", "Opus", "FLAC"].contains(codec);
            let is_unread = !codecs.is_empty() && !codecs.iter().any(is_read);
            is_unread.then(|| format!("Ogg {}", codecs.join(" and ")))
        }
        Container::Mp4 => {
            let name = match &movie?.codec {
                b"samr" => "AMR",
                b"sawb" => "AMR-WB",
                b"ac-3" => "AC-3",
                b"ec-3" => "E-AC-3",
                b"ac-4" => "AC-4",
                b"dtsc" | b"dtsh" | b"dtsl" | b"dtse" => "DTS",
                b"agsm" => "GSM",
                b"QDM2" | b"QDMC" => "QDesign Music",
                b"Qclp" | b"sqcp" => "QCELP",
                _ => return None,
            };
            Some(format!("MP4 with {name}"))
        }
        Container::Matroska => {
            let start = &bytes[..bytes.len().min(1 << 16)];
            let unread = [
                "A_AC3",
                "A_EAC3",
                "A_DTS",
                "A_TRUEHD",
                "A_MLP",
                "A_TTA1",
                "A_WAVPACK4",
                "A_REAL",
                "A_QUICKTIME",
                "A_MS/ACM",
                "A_ATRAC",
                "A_MPC",
            ];
            let is_there = |name: &&str| {
                let mut places = start.windows(name.len());
                places.any(|place| place == name.as_bytes())
            };
            let found = unread.into_iter().find(is_there)?;
            let is_read = [
                "A_OPUS", "A_VORBIS", "A_FLAC", "A_AAC", "A_MPEG", "A_PCM", "A_ALAC",
            ];
            let is_mixed = is_read.iter().any(is_there);
            (!is_mixed).then(|| format!("Matroska with {}", &found[2..]))
        }
        _ => None,
    }
}
