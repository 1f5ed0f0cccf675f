//! Recordings that are packed: FLAC, MP3, Ogg Vorbis and ADPCM, through symphonia.
//!
//! Decides how much a file may unpack to and that a broken one is an error, never a shorter recording: a
//! packet that cannot be decoded ends it, and so does a panic of the decoder, which is caught. Refuses to
//! know why the file is read.

use std::io::Cursor;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;
use symphonia::default::formats::{FlacReader, MpaReader, OggReader, WavReader};

use super::{Audio, AudioError, AudioInfo, RATES, is_amplitude};

/// A container that symphonia takes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Flac,
    Mpeg,
    Ogg,
    /// With ADPCM in it; its layout was checked.
    Wave,
}

/// Largest file: it is held in memory.
pub(super) const MOST_BYTES: u64 = 2 << 30;

/// Longest recording.
const MOST_SECONDS: u64 = 24 * 3600;

/// Samples of all channels that a byte may become, so that a small file cannot fill the memory: twice what
/// FLAC needs for silence in its usual blocks. A few more are always allowed.
const EXPANSION: u64 = 1024;
const ALWAYS: u64 = 1 << 20;

/// Samples of MPEG audio by which a count in its header may be wrong without the file being cut: encoders
/// do and do not count the one it is in.
const MPEG_SLACK: u64 = 1152;

/// What the header of a FLAC file, the first 42 bytes of it, says; `None` where that is not how long it
/// lasts. FLAC's specification wants this block to be the first.
pub(super) fn flac_info(start: &[u8]) -> Option<AudioInfo> {
    let block = start.get(..26)?;
    if block[4] & 0x7f != 0 {
        return None;
    }
    let packed = u64::from_be_bytes(*block[18..26].first_chunk()?);
    let info = AudioInfo {
        sample_rate: (packed >> 44) as u32,
        channels: (packed >> 41 & 7) as u16 + 1,
        frames: packed & 0xf_ffff_ffff,
    };
    (info.frames > 0 && RATES.contains(&info.sample_rate)).then_some(info)
}

/// What the packets in `bytes` say; none is decoded.
pub(super) fn inspect(
    container: Container,
    bytes: &[u8],
    path: &Path,
) -> Result<AudioInfo, AudioError> {
    guarded(path, || {
        let mut stream = Stream::open(container, bytes)?;
        let mut frames = 0u64;
        while let Some(packet) = stream.next()? {
            frames = frames.saturating_add(stream.samples(&packet));
        }
        stream.finish(frames, bytes)?;
        Ok(AudioInfo {
            sample_rate: stream.rate,
            channels: stream.channels,
            frames,
        })
    })
}

/// The samples `part` of what is in `bytes`, channels averaged, or all of them. Nothing is decoded beyond
/// the end of `part`.
pub(super) fn decode(
    container: Container,
    bytes: &[u8],
    part: Option<Range<u64>>,
    path: &Path,
) -> Result<Audio, AudioError> {
    guarded(path, || {
        let mut stream = Stream::open(container, bytes)?;
        let mut decoder = stream.decoder()?;
        let most = (bytes.len() as u64 * EXPANSION + ALWAYS) / u64::from(stream.channels);
        let most = most.min(MOST_SECONDS * u64::from(stream.rate));
        let wanted = part.clone().unwrap_or(0..u64::MAX);
        let mut samples = Vec::new();
        let mut planes: Vec<Vec<f32>> = Vec::new();
        // The first sample of the packet, counted from the beginning.
        let mut at = 0u64;
        while at < wanted.end {
            let Some(packet) = stream.next()? else {
                break;
            };
            let decoded = decoder.decode(&packet).map_err(Problem::from)?;
            let spec = decoded.spec();
            let channels = spec.channels().count();
            if spec.rate() != stream.rate || channels != usize::from(stream.channels) {
                return Err(Problem::Malformed(
                    "its sampling rate or its channels change on the way".into(),
                ));
            }
            let frames = decoded.frames() as u64;
            let said = stream.samples(&packet);
            if frames != said {
                return Err(Problem::Malformed(format!(
                    "a packet that says it has {said} samples has {frames}"
                )));
            }
            if at + frames > most {
                return Err(Problem::TooLong);
            }
            stream.within(at + frames)?;
            let first = wanted.start.clamp(at, at + frames) - at;
            let last = wanted.end.clamp(at, at + frames) - at;
            if first < last {
                decoded.copy_to_vecs_planar(&mut planes);
                samples.reserve((last - first) as usize);
                for frame in first as usize..last as usize {
                    let sum = planes.iter().map(|plane| plane[frame]).sum::<f32>();
                    let value = sum / channels as f32;
                    if !is_amplitude(value) {
                        return Err(Problem::BadSample(samples.len(), value));
                    }
                    samples.push(value);
                }
            }
            at += frames;
        }
        if at < wanted.end {
            stream.finish(at, bytes)?;
        }
        if let Some(part) = part.filter(|part| part.is_empty() || at < part.end) {
            return Err(Problem::Segment(part, at));
        }
        Ok(Audio {
            sample_rate: stream.rate,
            samples,
        })
    })
}

/// What went wrong, before it has a path.
enum Problem {
    Malformed(String),
    Unsupported(String),
    NoSamples,
    Rate(u32),
    TooLong,
    Segment(Range<u64>, u64),
    BadSample(usize, f32),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported(what) => Self::Unsupported(what.to_owned()),
            Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Malformed("it ends in the middle".to_owned())
            }
            Error::ResetRequired => {
                Self::Unsupported("several recordings behind one another".to_owned())
            }
            error => Self::Malformed(error.to_string()),
        }
    }
}

/// Runs `work` and says of its problem, or of its panic, which file it was.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, AudioError> {
    // Everything that `work` changes is its own and goes with it.
    let result = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Problem::Malformed("the decoder gave up on it".to_owned())));
    let path = path.to_owned();
    result.map_err(|problem| match problem {
        Problem::Malformed(reason) => AudioError::Malformed { path, reason },
        Problem::Unsupported(encoding) => AudioError::Unsupported { path, encoding },
        Problem::NoSamples => AudioError::NoSamples { path },
        Problem::Rate(rate) => AudioError::Rate { path, rate },
        Problem::TooLong => AudioError::TooLong { path },
        Problem::Segment(part, held) => AudioError::Segment { path, part, held },
        Problem::BadSample(index, value) => AudioError::BadSample { path, index, value },
    })
}

/// A container that was opened.
struct Stream<'a> {
    container: Container,
    reader: Box<dyn FormatReader + 'a>,
    track: u32,
    rate: u32,
    channels: u16,
    /// Samples of one channel that its header announces.
    announced: Option<u64>,
}

impl<'a> Stream<'a> {
    fn open(container: Container, bytes: &'a [u8]) -> Result<Self, Problem> {
        let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
        let options = FormatOptions::default();
        let reader: Box<dyn FormatReader + 'a> = match container {
            Container::Flac => Box::new(FlacReader::try_new(source, options)?),
            Container::Mpeg => Box::new(MpaReader::try_new(source, options)?),
            Container::Ogg => Box::new(OggReader::try_new(source, options)?),
            Container::Wave => Box::new(WavReader::try_new(source, options)?),
        };
        let track = reader
            .first_track(TrackType::Audio)
            .ok_or_else(|| Problem::Unsupported("a file without a track of sound".to_owned()))?;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|parameters| parameters.audio())
            .ok_or_else(|| Problem::Unsupported("sound in a form that it does not say".into()))?;
        let rate = parameters.sample_rate.unwrap_or_default();
        if !RATES.contains(&rate) {
            return Err(Problem::Rate(rate));
        }
        let channels = parameters
            .channels
            .as_ref()
            .map_or(0, |channels| channels.count());
        let channels = u16::try_from(channels)
            .ok()
            .filter(|channels| *channels > 0)
            .ok_or_else(|| Problem::Malformed("it does not say how many channels it has".into()))?;
        Ok(Self {
            container,
            track: track.id,
            rate,
            channels,
            announced: track.num_frames,
            reader,
        })
    }

    fn decoder(&self) -> Result<Box<dyn AudioDecoder>, Problem> {
        let track = self.reader.first_track(TrackType::Audio);
        let parameters = track
            .and_then(|track| track.codec_params.as_ref()?.audio())
            .ok_or_else(|| Problem::Malformed("its track is gone".to_owned()))?;
        let options = AudioDecoderOptions::default();
        Ok(symphonia::default::get_codecs().make_audio_decoder(parameters, &options)?)
    }

    /// Samples of one channel that a packet says it has, without those that its encoder put before the
    /// beginning and behind the end.
    fn samples(&self, packet: &Packet) -> u64 {
        match self.container {
            // symphonia 0.6.1 takes nothing off here, though it says so.
            Container::Mpeg => {
                let trimmed = packet.trim_start.get() + packet.trim_end.get();
                packet.dur.get().saturating_sub(trimmed)
            }
            _ => packet.dur.get(),
        }
    }

    fn next(&mut self) -> Result<Option<Packet>, Problem> {
        loop {
            match self.reader.next_packet()? {
                Some(packet) if packet.track_id != self.track => {}
                packet => return Ok(packet),
            }
        }
    }

    /// Whether there may be `frames` samples: what FLAC's header says is what manifests are made of.
    fn within(&self, frames: u64) -> Result<(), Problem> {
        match (self.container, self.announced) {
            (Container::Flac, Some(announced @ 1..)) if announced < frames => {
                Err(Problem::Malformed(format!(
                    "its header announces {announced} samples and it holds more"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The stream has ended after `frames` samples: whether it was meant to.
    fn finish(&self, frames: u64, bytes: &[u8]) -> Result<(), Problem> {
        let announced = self.announced.unwrap_or_default();
        let slack = match self.container {
            Container::Flac | Container::Wave => 0,
            Container::Mpeg => MPEG_SLACK,
            // Counted by the reader from the pages that are there.
            Container::Ogg => u64::MAX,
        };
        if frames.saturating_add(slack) < announced {
            return Err(Problem::Malformed(format!(
                "it was cut short: its header announces {announced} samples and it holds {frames}"
            )));
        }
        if self.container == Container::Ogg && !ends(bytes) {
            return Err(Problem::Malformed(
                "it was cut short: its last page is not marked as the last".to_owned(),
            ));
        }
        if frames == 0 {
            return Err(Problem::NoSamples);
        }
        Ok(())
    }
}

/// Whether the last page of an Ogg file says that it is the last.
fn ends(bytes: &[u8]) -> bool {
    const LONGEST_PAGE: usize = 27 + 255 + 255 * 255;
    let tail = &bytes[bytes.len().saturating_sub(LONGEST_PAGE)..];
    let last = tail.windows(6).rposition(|six| six.starts_with(b"OggS\0"));
    last.is_some_and(|at| tail[at + 5] & 4 != 0)
}
