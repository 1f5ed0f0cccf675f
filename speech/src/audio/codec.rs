//! Decoders of packets: Opus through ropus, everything else through symphonia.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
    well_known::{CODEC_ID_AAC, CODEC_ID_OPUS},
};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;

use super::RATES;
use super::decode_problem::DecodeProblem;
use super::opus::{self, OpusDecoder, OpusHeader};

pub(super) enum PacketDecoder {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Box<OpusDecoder>),
}

impl PacketDecoder {
    pub(super) fn new(parameters: &AudioCodecParameters) -> Result<Self, DecodeProblem> {
        if parameters.codec == CODEC_ID_OPUS {
            let head = OpusHeader::parse(parameters.extra_data.as_deref().unwrap_or_default());
            let decoder = head.and_then(OpusDecoder::new);
            let decoder = decoder.map_err(DecodeProblem::Unsupported)?;
            return Ok(Self::Opus(Box::new(decoder)));
        }
        // What is to be left out is counted by who takes packets.
        let options = AudioDecoderOptions::default().gapless(false);
        match symphonia::default::get_codecs().make_audio_decoder(parameters, &options) {
            Ok(decoder) => Ok(Self::Symphonia(decoder)),
            Err(Error::Unsupported(_)) if parameters.codec == CODEC_ID_AAC => {
                Err(DecodeProblem::Unsupported(
                    "AAC other than the profile LC in one or two channels (such as HE-AAC)"
                        .to_owned(),
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the packets that came before.
    pub(super) fn reset(&mut self) {
        if let Self::Symphonia(decoder) = self {
            decoder.reset();
        }
    }

    /// Decodes `packet` into `planes`, a vector for each channel. `form` is the sampling rate and the number of
    /// channels that it has to have.
    pub(super) fn decode(
        &mut self,
        packet: &Packet,
        form: (u32, u16),
        planes: &mut Vec<Vec<f32>>,
    ) -> Result<(), DecodeProblem> {
        let decoder = match self {
            Self::Opus(decoder) => {
                let decoded = decoder.decode(&packet.data, planes);
                return decoded
                    .map_err(|error| DecodeProblem::Damaged(format!("a packet of Opus: {error}")));
            }
            Self::Symphonia(decoder) => decoder,
        };
        let decoded = match decoder.decode(packet) {
            Ok(decoded) => decoded,
            Err(Error::DecodeError(what)) => return Err(DecodeProblem::Damaged(what.to_owned())),
            Err(error) => return Err(error.into()),
        };
        let spec = decoded.spec();
        if (spec.rate(), spec.channels().count()) != (form.0, usize::from(form.1)) {
            return Err(DecodeProblem::Unsupported(
                "a recording whose sampling rate or channels change on the way".into(),
            ));
        }
        decoded.copy_to_vecs_planar(planes);
        Ok(())
    }
}

/// Rate, channels and delay of what `parameters` describe.
pub(super) fn form(parameters: &AudioCodecParameters) -> Result<(u32, u16, u64), DecodeProblem> {
    if parameters.codec == CODEC_ID_OPUS {
        let head = OpusHeader::parse(parameters.extra_data.as_deref().unwrap_or_default());
        let head = head.map_err(DecodeProblem::Unsupported)?;
        return Ok((opus::RATE, head.channels, head.skip));
    }
    let rate = parameters.sample_rate.unwrap_or_default();
    if !RATES.contains(&rate) {
        return Err(DecodeProblem::Rate(rate));
    }
    let channels = parameters.channels.as_ref().map_or(0, Channels::count);
    let channels = u16::try_from(channels)
        .ok()
        .filter(|channels| *channels > 0)
        .ok_or_else(|| {
            DecodeProblem::Malformed("it does not say how many channels it has".into())
        })?;
    Ok((rate, channels, 0))
}
