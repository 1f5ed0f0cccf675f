//! Opus (RFC 6716) through ropus, a port of the reference decoder in fixed-point arithmetic: integers alone, so that
//! the bits are the same on every processor. It is decoded at 48 kHz, whatever was recorded.

use ropus::{Channels, DecodeMode, Decoder};

/// In Hz.
pub(super) const RATE: u32 = 48_000;

/// Samples of one channel in the longest packet, 120 ms.
const MAX_PACKET_SAMPLES: usize = 5760;

/// Samples of one channel that the decoder makes of `packet`; `None` where it is no packet of Opus.
pub(super) fn samples(packet: &[u8]) -> Option<u64> {
    let first = *packet.first()?;
    let each = match first >> 3 {
        // SILK, hybrid, CELT: 10, 20, 40, 60 ms; 10, 20 ms; 2.5, 5, 10, 20 ms.
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(*packet.get(1)? & 0x3f),
    };
    let samples = each * frames;
    (1..=MAX_PACKET_SAMPLES as u64)
        .contains(&samples)
        .then_some(samples)
}

/// What the identification header says that is needed here (RFC 7845, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpusHeader {
    pub(super) channels: u16,
    /// Samples at the beginning that are left out.
    pub(super) skip: u64,
    /// In steps of 1/256 dB.
    gain: i16,
}

impl OpusHeader {
    /// # Errors
    /// What is not decoded, in words.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Some(head) = bytes.get(..19).filter(|head| head.starts_with(b"OpusHead")) else {
            return Err("Opus without its header".to_owned());
        };
        let channels = u16::from(head[9]);
        if head[18] != 0 || !(1..=2).contains(&channels) {
            return Err(format!(
                "Opus of {channels} channels (more than two, or several streams)"
            ));
        }
        Ok(Self {
            channels,
            skip: u64::from(u16::from_le_bytes([head[10], head[11]])),
            gain: i16::from_le_bytes([head[16], head[17]]),
        })
    }
}

/// The identification header of a box `dOps` in MP4, whose numbers are big-endian, as it is in Ogg.
pub(super) fn from_mp4(head: &[u8]) -> Box<[u8]> {
    let mut head: Box<[u8]> = head.into();
    for at in [10..12, 12..16, 16..18] {
        if let Some(number) = head.get_mut(at) {
            number.reverse();
        }
    }
    head
}

pub(super) struct OpusDecoder {
    decoder: Decoder,
    channels: usize,
    interleaved: Vec<f32>,
}

impl OpusDecoder {
    /// # Errors
    /// When the decoder cannot be made, in words.
    pub(super) fn new(head: OpusHeader) -> Result<Self, String> {
        let channels = match head.channels {
            1 => Channels::Mono,
            _ => Channels::Stereo,
        };
        let mut decoder = Decoder::new(RATE, channels).map_err(|error| error.to_string())?;
        decoder
            .set_gain(i32::from(head.gain))
            .map_err(|error| error.to_string())?;
        let channels = usize::from(head.channels);
        Ok(Self {
            decoder,
            channels,
            interleaved: vec![0.0; MAX_PACKET_SAMPLES * channels],
        })
    }

    /// The samples of `packet` into `planes`, a vector for each channel.
    ///
    /// # Errors
    /// When it is no packet of Opus, in words.
    pub(super) fn decode(
        &mut self,
        packet: &[u8],
        planes: &mut Vec<Vec<f32>>,
    ) -> Result<(), String> {
        // Nothing at all would be a lost packet to the decoder.
        if packet.is_empty() {
            return Err("an empty packet".to_owned());
        }
        let decoded = self
            .decoder
            .decode_float(packet, &mut self.interleaved, DecodeMode::Normal);
        let frames = decoded.map_err(|error| error.to_string())?;
        planes.resize_with(self.channels, Vec::new);
        for (channel, plane) in planes.iter_mut().enumerate() {
            plane.clear();
            let interleaved = self.interleaved[..frames * self.channels].iter();
            plane.extend(interleaved.skip(channel).step_by(self.channels));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_the_same_in_ogg_and_in_mp4() {
        let ogg = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\xff\xff\0";
        let mp4 = b"OpusHead\0\x02\x01\x38\0\0\xbb\x80\xff\xff\0";
        let wanted = OpusHeader {
            channels: 2,
            skip: 312,
            gain: -1,
        };
        assert_eq!(OpusHeader::parse(ogg), Ok(wanted));
        assert_eq!(OpusHeader::parse(&from_mp4(mp4)), Ok(wanted));
        assert!(OpusHeader::parse(&ogg[..18]).is_err());
    }

    #[test]
    fn the_first_byte_says_how_long_a_packet_lasts() {
        assert_eq!(samples(&[0x08]), Some(960));
        assert_eq!(samples(&[0xf9]), Some(1920));
        assert_eq!(samples(&[0xfb, 3]), Some(2880));
        assert_eq!(samples(&[0xfb]), None);
        assert_eq!(samples(&[0x1b, 63]), None);
        assert_eq!(samples(&[]), None);
    }
}
