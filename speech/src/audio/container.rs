//! The containers of packed recordings.

use super::adpcm::Adpcm;

/// What a packed recording is taken apart as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Flac,
    Mpeg,
    /// AAC in frames of its own.
    Adts,
    Ogg,
    Mp4,
    Matroska,
    /// With something else than plain samples in it.
    Caf,
    /// Blocks, from the first byte on.
    Adpcm(Adpcm),
}
