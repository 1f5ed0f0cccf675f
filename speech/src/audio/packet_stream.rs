//! Packets of a container, one behind the other, and the decoder for them: which of the samples of a packet are sound
//! and which its encoder put before and behind it.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::Range;

use symphonia::core::audio::{Channels, layouts};
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, CODEC_ID_NULL_AUDIO,
    well_known::{
        CODEC_ID_AAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_VORBIS,
    },
};
use symphonia::core::errors::Error;
use symphonia::core::formats::FormatReader;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::adpcm::Adpcm;
use super::codec::{PacketDecoder, form};
use super::container::Container;
use super::decode_problem::DecodeProblem;
use super::mpeg::{self, Frames};
use super::track::{Track, open};
use super::{flac, mp4, ogg, opus, webm};

/// A packet, and which of its samples are sound.
pub(super) struct TimedPacket {
    packet: Packet,
    /// Samples that its decoder makes of it, where its container says how many.
    total: Option<u64>,
    /// Samples at its beginning and at its end that are none of the recording.
    skip: u64,
    drop: u64,
    /// Whether the decoder begins anew.
    resets: bool,
}

impl TimedPacket {
    fn new(packet: Packet, total: Option<u64>) -> Self {
        Self {
            packet,
            total,
            skip: 0,
            drop: 0,
            resets: false,
        }
    }

    /// Whether its samples are counted without decoding it.
    pub(super) fn is_counted(&self) -> bool {
        self.total.is_some()
    }
}

enum Packets<'a> {
    Reader {
        reader: Box<dyn FormatReader + 'a>,
        track: u32,
        /// The next packet, read ahead to know which is the last.
        ahead: Option<Packet>,
    },
    Mpeg {
        bytes: Cow<'a, [u8]>,
        frames: Frames,
        /// The place of the part and of the frame that come next.
        part: usize,
        frame: usize,
    },
    Adpcm {
        bytes: Cow<'a, [u8]>,
        blocks: Adpcm,
        next: u64,
    },
}

/// A container that was opened.
pub(super) struct PacketStream<'a> {
    container: Container,
    packets: Packets<'a>,
    decoder: PacketDecoder,
    planes: Vec<Vec<f32>>,
    codec: AudioCodecId,
    /// In Hz.
    pub(super) rate: u32,
    pub(super) channels: u16,
    /// Ticks a second of the container's durations.
    ticks: Option<u32>,
    /// Samples of one channel that its header announces.
    announced: Option<u64>,
    /// Samples that are still to be left out at its beginning.
    lead: u64,
    /// Samples of the last packet that are left out.
    discarded: u64,
    /// Whether how long it is was left open when it was written, as browsers do: it ends where the file does.
    is_open: bool,
    /// The number of a FLAC file's first sample, and how many there were; packets, where nothing is counted.
    first: Option<u64>,
    passed: u64,
    /// Whether its last packet is where the file says that it ends.
    ends: bool,
}

impl<'a> PacketStream<'a> {
    pub(super) fn open(container: Container, bytes: Cow<'a, [u8]>) -> Result<Self, DecodeProblem> {
        match container {
            Container::Mpeg => Self::mpeg(bytes),
            Container::Adpcm(blocks) => Self::adpcm(blocks, bytes),
            _ => Self::reader(container, bytes),
        }
    }

    fn mpeg(bytes: Cow<'a, [u8]>) -> Result<Self, DecodeProblem> {
        let frames = Frames::of(&bytes).map_err(|fault| match fault {
            mpeg::MpegFault::None => DecodeProblem::Unsupported(
                "MPEG audio without a whole frame of a known bit rate".into(),
            ),
            mpeg::MpegFault::Changes => DecodeProblem::Unsupported(
                "MPEG audio whose sampling rate or channels change on the way".into(),
            ),
            mpeg::MpegFault::CutShort { announced, held } => DecodeProblem::Malformed(format!(
                "it was cut short: its header announces {announced} frames and it holds {held}"
            )),
        })?;
        let (rate, channels) = (frames.header.rate, frames.header.channels);
        let mut parameters = AudioCodecParameters::new();
        let layout: Channels = match channels {
            1 => layouts::CHANNEL_LAYOUT_MONO,
            _ => layouts::CHANNEL_LAYOUT_STEREO,
        };
        parameters
            .for_codec(match frames.header.layer {
                1 => CODEC_ID_MP1,
                2 => CODEC_ID_MP2,
                _ => CODEC_ID_MP3,
            })
            .with_sample_rate(rate)
            .with_channels(layout);
        let decoder = PacketDecoder::new(&parameters)?;
        let packets = Packets::Mpeg {
            bytes,
            frames,
            part: 0,
            frame: 0,
        };
        let codec = parameters.codec;
        Ok(Self {
            codec,
            ..Self::of_known_length(Container::Mpeg, decoder, packets, rate, channels)
        })
    }

    fn adpcm(blocks: Adpcm, bytes: Cow<'a, [u8]>) -> Result<Self, DecodeProblem> {
        let decoder = PacketDecoder::Symphonia(blocks.decoder()?);
        let packets = Packets::Adpcm {
            bytes,
            blocks,
            next: 0,
        };
        let (rate, channels) = (blocks.rate, blocks.channels);
        let container = Container::Adpcm(blocks);
        Ok(Self::of_known_length(
            container, decoder, packets, rate, channels,
        ))
    }

    /// A stream whose length follows from its own packets, which no container announces or cuts.
    fn of_known_length(
        container: Container,
        decoder: PacketDecoder,
        packets: Packets<'a>,
        rate: u32,
        channels: u16,
    ) -> Self {
        Self {
            container,
            decoder,
            packets,
            planes: Vec::new(),
            codec: CODEC_ID_NULL_AUDIO,
            rate,
            channels,
            ticks: None,
            announced: None,
            lead: 0,
            discarded: 0,
            is_open: false,
            first: None,
            passed: 0,
            ends: true,
        }
    }

    fn reader(container: Container, mut bytes: Cow<'a, [u8]>) -> Result<Self, DecodeProblem> {
        if container == Container::Flac {
            // What stands behind the last frame is not of it.
            let tail = bytes.len().saturating_sub(flac::TAIL_BYTES);
            if let Some(end) = flac::end(&bytes, &bytes[tail..]) {
                match &mut bytes {
                    Cow::Borrowed(bytes) => *bytes = &bytes[..tail + end],
                    Cow::Owned(bytes) => bytes.truncate(tail + end),
                }
            }
        }
        let (discarded, is_open) = match container {
            Container::Matroska => (webm::discarded(&bytes), webm::is_open(&bytes)),
            _ => (0, false),
        };
        let ends = container != Container::Ogg || ogg::ends(&bytes);
        let movie = match container {
            Container::Mp4 => mp4::track(&bytes),
            _ => None,
        };
        let reader = open(container, bytes, movie.as_ref())?;
        let mut track = Track::of(reader.as_ref())?;
        if container == Container::Mp4
            && track.parameters.codec == CODEC_ID_OPUS
            && let Some(head) = &mut track.parameters.extra_data
        {
            *head = opus::from_mp4(head);
        }
        let (rate, channels, mut lead) = form(&track.parameters)?;
        let mut ticks = track.ticks;
        if let Some(movie) = movie.filter(|_| track.parameters.codec != CODEC_ID_OPUS) {
            ticks = Some(movie.ticks);
            let samples = u128::from(movie.begins) * u128::from(rate);
            let samples = samples / u128::from(movie.ticks.max(1));
            lead = u64::try_from(samples).unwrap_or(u64::MAX);
        }
        Ok(Self {
            container,
            decoder: PacketDecoder::new(&track.parameters)?,
            packets: Packets::Reader {
                reader,
                track: track.id,
                ahead: None,
            },
            planes: Vec::new(),
            codec: track.parameters.codec,
            rate,
            channels,
            ticks,
            announced: track.announced,
            lead,
            is_open,
            // Nanoseconds become samples.
            discarded: (u128::from(discarded) * u128::from(rate) / 1_000_000_000) as u64,
            first: None,
            passed: 0,
            ends,
        })
    }

    /// The next packet, and which of its samples are sound; none at the end.
    pub(super) fn next_unit(&mut self) -> Result<Option<TimedPacket>, DecodeProblem> {
        match &mut self.packets {
            Packets::Mpeg {
                bytes,
                frames,
                part,
                frame,
            } => {
                let now = loop {
                    match frames.parts.get(*part) {
                        None => return Ok(None),
                        Some(now) if *frame < now.frames.end => break now,
                        Some(_) => *part += 1,
                    }
                };
                let each = frames.header.samples;
                let first = (*frame - now.frames.start) as u64 * each;
                let data = &bytes[frames.at(*frame)];
                let packet = Packet::new(0, Timestamp::ZERO, Duration::new(each), data);
                let mut unit = TimedPacket::new(packet, Some(each));
                unit.skip = now.sound.start.clamp(first, first + each) - first;
                unit.drop = first + each - now.sound.end.clamp(first, first + each);
                unit.resets = now.is_tagged && first == 0;
                *frame += 1;
                Ok(Some(unit))
            }
            Packets::Adpcm {
                bytes,
                blocks,
                next,
            } => {
                let Some((at, frames)) = blocks.block(*next, bytes.len() as u64) else {
                    return Ok(None);
                };
                let packet = blocks.packet(&bytes[at]);
                let whole = packet.dur.get();
                let mut unit = TimedPacket::new(packet, Some(whole));
                unit.drop = whole - frames;
                *next += 1;
                Ok(Some(unit))
            }
            Packets::Reader { .. } => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<TimedPacket>, DecodeProblem> {
        let pulled = match &mut self.packets {
            Packets::Reader { ahead, .. } => ahead.take(),
            _ => None,
        };
        let Some(packet) = pulled.map_or_else(|| self.pull(), |packet| Ok(Some(packet)))? else {
            return Ok(None);
        };
        let mut is_last = false;
        if matches!(self.container, Container::Mp4 | Container::Matroska) {
            let next = self.pull()?;
            is_last = next.is_none();
            if let Packets::Reader { ahead, .. } = &mut self.packets {
                *ahead = next;
            }
        }
        if self.container == Container::Flac {
            self.in_order(&packet)?;
        }
        let (whole, sound) = (packet.block_dur().get(), packet.dur.get());
        let is_counted = self.ticks.is_none_or(|ticks| ticks == self.rate);
        let unit = match (self.container, self.codec) {
            (_, CODEC_ID_OPUS) => {
                let total = opus::samples(&packet.data).ok_or_else(|| {
                    DecodeProblem::Damaged("a packet that is not of Opus".to_owned())
                })?;
                let drop = match self.container {
                    Container::Ogg => packet.trim_end.get().min(total),
                    _ if is_last => self.discarded.min(total),
                    _ => 0,
                };
                let unit = TimedPacket::new(packet, Some(total));
                TimedPacket { drop, ..unit }
            }
            (Container::Adts, _) => TimedPacket::new(packet, Some(1024)),
            (Container::Mp4, CODEC_ID_AAC) => {
                // How long the last packet lasts says how much of it is sound.
                let is_short = is_last && is_counted && (1..1024).contains(&sound);
                let drop = if is_short { 1024 - sound } else { 0 };
                let unit = TimedPacket::new(packet, Some(1024));
                TimedPacket { drop, ..unit }
            }
            (Container::Flac | Container::Ogg, _) => {
                let (skip, drop) = (packet.trim_start.get(), packet.trim_end.get());
                let unit = TimedPacket::new(packet, Some(whole));
                TimedPacket { skip, drop, ..unit }
            }
            // Durations there are not exact, or not there.
            (_, codec) => {
                let drop = if is_last { self.discarded } else { 0 };
                // The first packet of Vorbis is only what the second is laid over.
                let is_base = codec == CODEC_ID_VORBIS && self.passed == 0;
                self.passed += 1;
                let skip = if is_base { u64::MAX } else { 0 };
                let unit = TimedPacket::new(packet, None);
                TimedPacket { skip, drop, ..unit }
            }
        };
        Ok(Some(unit))
    }

    /// The next packet of the track.
    fn pull(&mut self) -> Result<Option<Packet>, DecodeProblem> {
        loop {
            let Packets::Reader { reader, track, .. } = &mut self.packets else {
                return Ok(None);
            };
            match reader.next_packet() {
                Ok(Some(packet)) if packet.track_id != *track => {}
                Ok(packet) => return Ok(packet),
                // One file of Ogg behind another.
                Err(Error::ResetRequired) => self.chain()?,
                Err(error) => {
                    let is_end = matches!(&error, Error::IoError(error) if error.kind() == ErrorKind::UnexpectedEof);
                    // Raw AAC has no end that is marked, and what stands behind all announced samples of FLAC is no
                    // matter of the recording.
                    let is_behind = self
                        .announced
                        .is_some_and(|announced| announced > 0 && self.passed >= announced);
                    return match self.container {
                        Container::Adts if is_end => Ok(None),
                        Container::Matroska if is_end && self.is_open => Ok(None),
                        Container::Flac if is_behind => Ok(None),
                        _ => Err(error.into()),
                    };
                }
            }
        }
    }

    /// Goes on with the next of several files that were joined.
    fn chain(&mut self) -> Result<(), DecodeProblem> {
        let Packets::Reader { reader, track, .. } = &mut self.packets else {
            return Ok(());
        };
        let next = Track::of(reader.as_ref())?;
        let (rate, channels, lead) = form(&next.parameters)?;
        if (rate, channels, next.parameters.codec) != (self.rate, self.channels, self.codec) {
            return Err(DecodeProblem::Unsupported(
                "several recordings of different forms behind one another".to_owned(),
            ));
        }
        *track = next.id;
        self.decoder = PacketDecoder::new(&next.parameters)?;
        self.lead = lead;
        Ok(())
    }

    /// FLAC's frames are numbered: one whose checksum is wrong is passed over by the reader and missed here.
    fn in_order(&mut self, packet: &Packet) -> Result<(), DecodeProblem> {
        let begins = u64::try_from(packet.pts.get()).unwrap_or_default();
        let expected = *self.first.get_or_insert(begins) + self.passed;
        self.passed += packet.block_dur().get();
        if begins > expected {
            let seconds = expected as f64 / f64::from(self.rate);
            return Err(DecodeProblem::Damaged(format!(
                "the checksum of a frame is wrong at {seconds:.2} s ({} samples)",
                begins - expected
            )));
        }
        if begins < expected {
            return Err(DecodeProblem::Unsupported(
                "several recordings of FLAC behind one another".to_owned(),
            ));
        }
        Ok(())
    }

    /// Decodes `unit`, the last that was given.
    pub(super) fn decode(&mut self, unit: &TimedPacket) -> Result<(), DecodeProblem> {
        if unit.resets {
            self.decoder.reset();
        }
        let form = (self.rate, self.channels);
        self.decoder.decode(&unit.packet, form, &mut self.planes)
    }

    /// What was decoded last, a vector for each channel.
    pub(super) fn decoded(&self) -> &[Vec<f32>] {
        &self.planes
    }

    /// The samples of `unit` that are sound. `decoded` says that it was decoded, and its samples are counted anew.
    pub(super) fn sound(
        &mut self,
        unit: &TimedPacket,
        decoded: bool,
    ) -> Result<Range<u64>, DecodeProblem> {
        let held = self.planes.first().map_or(0, Vec::len) as u64;
        let total = match (unit.total, decoded) {
            (Some(total), true) if total != held => {
                return Err(DecodeProblem::Damaged(format!(
                    "a packet that says it has {total} samples has {held}"
                )));
            }
            (Some(total), _) => total,
            (None, _) => held,
        };
        let end = total.saturating_sub(unit.drop);
        let begin = unit.skip.min(end);
        // What the encoder put before the sound may be longer than a packet.
        let lead = self.lead.min(end - begin);
        self.lead -= lead;
        Ok(begin + lead..end)
    }

    /// Passes over packets that lie before the sample `frame`, where no bit behind it depends on them; gives the
    /// place of the sample that comes next.
    pub(super) fn skip_to(&mut self, frame: u64) -> u64 {
        let Packets::Adpcm { blocks, next, .. } = &mut self.packets else {
            return 0;
        };
        let (block, first) = blocks.block_of(frame);
        *next = block;
        first
    }

    /// Whether there may be `frames` samples: what FLAC's header says is what manifests are made of.
    pub(super) fn within(&self, frames: u64) -> Result<(), DecodeProblem> {
        match (self.container, self.announced) {
            (Container::Flac, Some(announced @ 1..)) if announced < frames => {
                Err(DecodeProblem::Malformed(format!(
                    "its header announces {announced} samples and it holds more"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The stream has ended after `frames` samples: whether it was meant to.
    pub(super) fn finish(&self, frames: u64) -> Result<(), DecodeProblem> {
        if let (Container::Flac, Some(announced)) = (self.container, self.announced)
            && frames < announced
        {
            return Err(DecodeProblem::Damaged(format!(
                "its header announces {announced} samples, and {frames} can be read: its last frames are damaged or \
                 missing"
            )));
        }
        if !self.ends {
            return Err(DecodeProblem::Malformed(
                "it was cut short: its last page is not marked as the last".to_owned(),
            ));
        }
        if frames == 0 {
            return Err(DecodeProblem::NoSamples);
        }
        Ok(())
    }
}
