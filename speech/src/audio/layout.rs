//! How samples that lie one behind the other are written, and where in their file: what the headers of WAV, AIFF,
//! CAF, AU and SPHERE come to.

use super::adpcm::Adpcm;

/// How one sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleEncoding {
    /// A byte, 128 for silence.
    Unsigned8,
    /// Two's complement, 1 to 4 bytes. Fewer bits are left-justified in them, so that full scale stays full
    /// scale.
    Integer {
        bytes: u16,
        order: ByteOrder,
    },
    /// IEEE 754, of 4 or 8 bytes.
    Float {
        bytes: u16,
        order: ByteOrder,
    },
    /// G.711, a byte.
    MuLaw,
    ALaw,
}

/// Which byte of a sample comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// The least significant.
    Little,
    /// The most significant.
    Big,
}

impl SampleEncoding {
    pub(super) fn bytes(self) -> u16 {
        match self {
            Self::Integer { bytes, .. } | Self::Float { bytes, .. } => bytes,
            Self::Unsigned8 | Self::MuLaw | Self::ALaw => 1,
        }
    }
}

/// Samples in a file that agree with its length: `data_at + data_bytes` is inside it, and is whole frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) encoding: SampleEncoding,
    pub(super) channels: u16,
    /// In Hz.
    pub(super) sample_rate: u32,
    pub(super) data_at: u64,
    pub(super) data_bytes: u64,
}

/// What a header of WAV leads to.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Plain(Layout),
    /// Blocks of ADPCM in the bytes of a file.
    Adpcm(Adpcm, std::ops::Range<u64>),
    /// MPEG audio in the bytes of a file.
    Mpeg(std::ops::Range<u64>),
}

/// Sizes around 2 GiB and just below 4 GiB are what programs write that cannot go back to the header (a pipe):
/// a mark for "not known", and not a length. ffmpeg, GStreamer and libsndfile write 0xffffffff, sox 0x7ffff000,
/// arecord 0x7fffffff and 0x80000000, others one of these less their header.
pub(super) fn is_placeholder(size: u64) -> bool {
    (0x7fff_0000..=0x8001_0000).contains(&size)
        || (0xffff_0000..=0xffff_ffff).contains(&size)
        || size >= 1 << 62
}

impl Layout {
    pub(super) fn frames(&self) -> u64 {
        self.data_bytes / self.frame_bytes()
    }

    /// Bytes of one sample of every channel.
    pub(super) fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * u64::from(self.encoding.bytes())
    }
}
