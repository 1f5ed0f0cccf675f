//! Recordings that are packed: FLAC, MPEG audio, AAC, ALAC, Vorbis, Opus and ADPCM, in their files and containers,
//! mostly through symphonia. They are unpacked block by block, so that a long one need not be in memory whole.
//!
//! How much a file may unpack to is bounded by its size, and a broken one is an error, never a shorter recording: a
//! packet that cannot be decoded ends it, and so does a panic of the decoder, which is caught. What a header says
//! without being decoded and what is decoded agree.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::decode_problem::{DecodeProblem, guarded};
use super::mixing::Mixer;
use super::packet_stream::PacketStream;
use super::{Audio, AudioError, AudioInfo, DecodedAudio, is_amplitude};

pub(super) use super::container::Container;

/// Largest file: it is held in memory.
pub(super) const MAX_DECODED_BYTES: u64 = 2 << 30;

/// Longest recording.
const MAX_SECONDS: u64 = 24 * 3600;

/// Samples of all channels that a byte may become, so that a small file cannot fill the memory: twice what
/// FLAC needs for silence in its usual blocks. A few more are always allowed.
const MAX_EXPANSION: u64 = 1024;
const ALWAYS_ALLOWED_BYTES: u64 = 1 << 20;

/// What the packets in `bytes` say. They are decoded where their container does not tell how many samples each has;
/// otherwise the first one is, so that what cannot be decoded is found.
pub(super) fn inspect(
    container: Container,
    bytes: &[u8],
    path: &Path,
) -> Result<AudioInfo, AudioError> {
    let inspected = guarded(|| {
        let mut stream = PacketStream::open(container, Cow::Borrowed(bytes))?;
        let most = most(&stream, bytes.len());
        let mut frames = 0u64;
        let mut is_first = true;
        while let Some(unit) = stream.next_unit()? {
            let decodes = is_first || !unit.is_counted();
            if decodes {
                stream.decode(&unit)?;
            }
            is_first = false;
            let sound = stream.sound(&unit, decodes)?;
            frames += sound.end - sound.start;
            if frames > most {
                return Err(DecodeProblem::TooLong);
            }
            stream.within(frames)?;
        }
        stream.finish(frames)?;
        Ok(AudioInfo {
            sample_rate: stream.rate,
            channels: stream.channels,
            frames,
        })
    });
    inspected.map_err(|problem| problem.of(path))
}

fn most(stream: &PacketStream<'_>, bytes: usize) -> u64 {
    let most = (bytes as u64 * MAX_EXPANSION + ALWAYS_ALLOWED_BYTES) / u64::from(stream.channels);
    most.min(MAX_SECONDS * u64::from(stream.rate))
}

/// The samples `part` of what is in `bytes`, or all of them, of `channel` or the mean of all. Nothing is decoded
/// beyond the end of `part`.
pub(super) fn decode(
    container: Container,
    bytes: &[u8],
    part: Option<Range<u64>>,
    channel: Option<u16>,
    path: &Path,
) -> Result<DecodedAudio, AudioError> {
    let bytes = Cow::Borrowed(bytes);
    let mut unpacker = Unpacker::open(container, bytes, channel, path)?;
    let wanted = part.clone().unwrap_or(0..u64::MAX);
    unpacker.skip_to(wanted.start);
    let mut samples = Vec::new();
    while unpacker.at < wanted.end
        && let Some((first, block)) = unpacker.next()?
    {
        // Samples before `part` that could not be passed over, and those behind it.
        let end = first + block.len() as u64;
        let (from, to) = (wanted.start.clamp(first, end), wanted.end.clamp(first, end));
        samples.extend_from_slice(&block[(from - first) as usize..(to - first) as usize]);
    }
    if let Some(part) = part
        && (part.is_empty() || unpacker.at < part.end)
    {
        return Err(DecodeProblem::Segment(part, unpacker.at).of(path));
    }
    let cancels = unpacker.mixer.cancels();
    let audio = Audio {
        sample_rate: unpacker.rate(),
        samples,
    };
    Ok(DecodedAudio { audio, cancels })
}

/// A packed recording that is unpacked block by block, to one channel.
pub(super) struct Unpacker<'a> {
    stream: PacketStream<'a>,
    mixer: Mixer,
    path: PathBuf,
    most: u64,
    /// The samples that came before the next block's first.
    at: u64,
    is_over: bool,
}

impl<'a> Unpacker<'a> {
    pub(super) fn open(
        container: Container,
        bytes: Cow<'a, [u8]>,
        channel: Option<u16>,
        path: &Path,
    ) -> Result<Self, AudioError> {
        let length = bytes.len();
        let opened = guarded(|| {
            let stream = PacketStream::open(container, bytes)?;
            let channels = stream.channels;
            if let Some(channel) = channel.filter(|channel| *channel >= channels) {
                return Err(DecodeProblem::NoChannel { channel, channels });
            }
            Ok(stream)
        });
        let stream = opened.map_err(|problem| problem.of(path))?;
        Ok(Self {
            most: most(&stream, length),
            mixer: Mixer::new(stream.channels, channel),
            path: path.to_owned(),
            at: 0,
            is_over: false,
            stream,
        })
    }

    /// In Hz.
    pub(super) fn rate(&self) -> u32 {
        self.stream.rate
    }

    /// Whether channels of opposite phase have cancelled so far.
    pub(super) fn cancels(&self) -> bool {
        self.mixer.cancels()
    }

    /// Passes over what need not be decoded before the sample `frame`, where that changes no bit behind it.
    fn skip_to(&mut self, frame: u64) {
        self.at = self.stream.skip_to(frame);
    }

    /// The next samples, and the place of their first; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Vec<f32>)>, AudioError> {
        if self.is_over {
            return Ok(None);
        }
        let block = guarded(|| self.block());
        // What comes behind an error, or behind a panic, is no recording.
        self.is_over = !matches!(block, Ok(Some(_)));
        block.map_err(|problem| problem.of(&self.path))
    }

    fn block(&mut self) -> Result<Option<(u64, Vec<f32>)>, DecodeProblem> {
        let Some(unit) = self.stream.next_unit()? else {
            self.stream.finish(self.at)?;
            return Ok(None);
        };
        self.stream.decode(&unit)?;
        let sound = self.stream.sound(&unit, true)?;
        let first = self.at;
        let end = first + (sound.end - sound.start);
        if end > self.most {
            return Err(DecodeProblem::TooLong);
        }
        self.stream.within(end)?;
        let mut samples = Vec::with_capacity((end - first) as usize);
        let planes = self.stream.decoded();
        for frame in sound {
            let value = self.mixer.planar(planes, frame as usize);
            if !is_amplitude(value) {
                return Err(DecodeProblem::BadSample(
                    first as usize + samples.len(),
                    value,
                ));
            }
            samples.push(value);
        }
        self.at = end;
        Ok(Some((first, samples)))
    }
}
