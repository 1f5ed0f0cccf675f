//! Containers that symphonia takes apart, opened, and the track of sound in them.

use std::borrow::Cow;
use std::io::Cursor;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::formats::{
    AdtsReader, CafReader, FlacReader, IsoMp4Reader, MkvReader, OggReader,
};

use super::container::Container;
use super::decode_problem::DecodeProblem;
use super::mp4;
use super::unsupported;

/// What is decoded of a track.
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) parameters: AudioCodecParameters,
    /// Samples of one channel that the container announces.
    pub(super) announced: Option<u64>,
    /// Ticks a second of its durations.
    pub(super) ticks: Option<u32>,
}

impl Track {
    /// The first of sound.
    pub(super) fn of(reader: &dyn FormatReader) -> Result<Self, DecodeProblem> {
        let none = || {
            DecodeProblem::Unsupported("a file without a track of sound in a known form".to_owned())
        };
        let track = reader.first_track(TrackType::Audio).ok_or_else(none)?;
        let parameters = track.codec_params.as_ref().and_then(|found| found.audio());
        let parameters = parameters.ok_or_else(none)?;
        let base = track
            .time_base
            .map(|base| (base.numer.get(), base.denom.get()));
        Ok(Self {
            id: track.id,
            parameters: parameters.clone(),
            announced: track.num_frames,
            ticks: base.and_then(|(numer, denom)| (numer == 1).then_some(denom)),
        })
    }
}

/// Opens the container in `bytes`; `movie` is the track of an MP4 file.
pub(super) fn open<'a>(
    container: Container,
    bytes: Cow<'a, [u8]>,
    movie: Option<&mp4::Mp4Track>,
) -> Result<Box<dyn FormatReader + 'a>, DecodeProblem> {
    if container == Container::Mp4 && !mp4::has_index(&bytes) {
        return Err(DecodeProblem::Malformed(
            "its index (the box `moov`) is missing: the recording was not finished, or the file was cut short"
                .to_owned(),
        ));
    }
    if let Some(name) = unsupported::name(container, &bytes, movie) {
        return Err(DecodeProblem::Unsupported(name));
    }
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let options = FormatOptions::default();
    let opened: Result<Box<dyn FormatReader + 'a>, Error> = match container {
        Container::Flac => FlacReader::try_new(source, options).map(|it| Box::new(it) as _),
        Container::Adts => AdtsReader::try_new(source, options).map(|it| Box::new(it) as _),
        Container::Ogg => OggReader::try_new(source, options).map(|it| Box::new(it) as _),
        Container::Mp4 => IsoMp4Reader::try_new(source, options).map(|it| Box::new(it) as _),
        Container::Caf => CafReader::try_new(source, options).map(|it| Box::new(it) as _),
        _ => MkvReader::try_new(source, options).map(|it| Box::new(it) as _),
    };
    Ok(opened?)
}
