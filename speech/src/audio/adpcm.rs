//! ADPCM in WAV, Microsoft's and IMA's: differences in blocks that do not depend on each other, so that each can be
//! sought. symphonia decodes a block; where the blocks lie follows from the header.

use std::ops::Range;

use symphonia::core::audio::{Channels, layouts};
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
    well_known::{CODEC_ID_ADPCM_IMA_WAV, CODEC_ID_ADPCM_MS},
};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::AdpcmDecoder;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    Microsoft,
    Ima,
}

/// How blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adpcm {
    predictor: Predictor,
    pub(super) channels: u16,
    /// In Hz.
    pub(super) rate: u32,
    /// Bytes of a block.
    block: u64,
    /// Samples of one channel in a block.
    frames: u64,
}

impl Adpcm {
    /// # Errors
    /// When such blocks cannot be.
    pub(super) fn new(
        predictor: Predictor,
        channels: u16,
        bits: u16,
        block: u16,
    ) -> Result<Self, String> {
        if bits != 4 || channels > 2 {
            return Err(format!("ADPCM of {bits} bits in {channels} channels"));
        }
        let mut adpcm = Self {
            predictor,
            channels,
            rate: 0,
            block: u64::from(block),
            frames: 0,
        };
        adpcm.frames = adpcm.frames_of(adpcm.block);
        match adpcm.frames {
            0 | 1 => Err(format!("ADPCM in blocks of {block} bytes")),
            _ => Ok(adpcm),
        }
    }

    /// Whether the fmt chunk `format` of Microsoft's ADPCM has the seven pairs of coefficients that every encoder
    /// uses, or none.
    pub(super) fn has_usual_coefficients(format: &[u8]) -> bool {
        const USUAL: [i16; 14] = [
            256, 0, 512, -256, 0, 0, 192, 64, 240, 0, 460, -208, 392, -232,
        ];
        let Some(count) = format.get(20..22) else {
            return true;
        };
        let (found, _) = format[22..].as_chunks::<2>();
        let count = usize::from(u16::from_le_bytes([count[0], count[1]]));
        count == 7
            && found.len() >= 14
            && found
                .iter()
                .map(|pair| i16::from_le_bytes(*pair))
                .zip(USUAL)
                .all(|(found, usual)| found == usual)
    }

    pub(super) fn at_rate(self, rate: u32) -> Self {
        Self { rate, ..self }
    }

    /// Samples of one channel in a block of which `bytes` bytes are there.
    fn frames_of(&self, bytes: u64) -> u64 {
        let channels = u64::from(self.channels);
        let (head, first) = match self.predictor {
            Predictor::Microsoft => (7 * channels, 2),
            Predictor::Ima => (4 * channels, 1),
        };
        let Some(nibbles) = bytes.checked_sub(head).map(|rest| 2 * rest / channels) else {
            return 0;
        };
        // IMA's channels take turns with eight samples each.
        let whole = if self.predictor == Predictor::Ima && self.channels > 1 {
            nibbles / 8 * 8
        } else {
            nibbles
        };
        whole + first
    }

    /// The block that has the sample `frame`, and its first sample.
    pub(super) fn block_of(&self, frame: u64) -> (u64, u64) {
        let block = frame / self.frames;
        (block, block * self.frames)
    }

    /// Where the block lies among `bytes` bytes, and how many samples it has; `None` behind the last.
    pub(super) fn block(&self, index: u64, bytes: u64) -> Option<(Range<usize>, u64)> {
        let start = index.checked_mul(self.block)?;
        let end = start.saturating_add(self.block).min(bytes);
        let frames = self.frames_of(end.checked_sub(start)?);
        (frames > 0).then_some((start as usize..end as usize, frames))
    }

    /// What decodes [`Self::packet`]s.
    pub(super) fn decoder(&self) -> Result<Box<dyn AudioDecoder>, Error> {
        let channels: Channels = match self.channels {
            1 => layouts::CHANNEL_LAYOUT_MONO,
            _ => layouts::CHANNEL_LAYOUT_STEREO,
        };
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(match self.predictor {
                Predictor::Microsoft => CODEC_ID_ADPCM_MS,
                Predictor::Ima => CODEC_ID_ADPCM_IMA_WAV,
            })
            .with_sample_rate(self.rate)
            .with_channels(channels)
            .with_max_frames_per_packet(self.frames)
            .with_frames_per_block(self.frames);
        let options = AudioDecoderOptions::default();
        Ok(Box::new(AdpcmDecoder::try_new(&parameters, &options)?))
    }

    /// A whole block of `bytes`, filled with zeros where the file ends before it does.
    pub(super) fn packet(&self, bytes: &[u8]) -> Packet {
        let mut data = bytes.to_vec();
        data.resize(self.block as usize, 0);
        Packet::new(0, Timestamp::ZERO, Duration::new(self.frames), data)
    }
}
