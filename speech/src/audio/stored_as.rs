//! How a recording is stored, found by its first bytes behind any tags, and what follows from that: how it is
//! measured, and how it or a part of it is read.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::coded::{self, Container};
use super::error::read_error;
use super::file_type::{self, FileType};
use super::input::HeaderInput;
use super::layout::{Layout, Stored};
use super::mixing::Mixer;
use super::{
    Audio, AudioError, AudioInfo, DecodedAudio, chunked, flac, is_amplitude, mpeg, pcm, sphere,
    wave,
};

/// How a recording is stored.
pub(super) enum StoredAs {
    Plain(Layout),
    /// In these bytes of the file.
    Coded(Container, Range<u64>),
}

/// Bytes at the beginning of a file among which a frame of MPEG audio is looked for where nothing is known.
const MPEG_SEARCH_BYTES: u64 = 1 << 20;

impl StoredAs {
    pub(super) fn of(
        file: &mut (impl Read + Seek),
        length: u64,
        path: &Path,
    ) -> Result<Self, AudioError> {
        let mut input = HeaderInput { file, length, path };
        if length == 0 {
            return Err(AudioError::Empty { path: path.into() });
        }
        let mut at = 0;
        let form = loop {
            let file_type = FileType::of(&input.some(at, file_type::SNIFF_BYTES as u64)?);
            let coded = |container| Self::Coded(container, at..length);
            break match file_type {
                // There may be several, one behind the other.
                FileType::Tag(bytes) => {
                    at += bytes;
                    if at >= length {
                        return Err(input.truncated(at));
                    }
                    continue;
                }
                FileType::Flac => coded(Container::Flac),
                FileType::Ogg => coded(Container::Ogg),
                FileType::Mpeg => coded(Container::Mpeg),
                FileType::Adts => coded(Container::Adts),
                FileType::Mp4 => coded(Container::Mp4),
                FileType::Matroska => coded(Container::Matroska),
                _ if at > 0 => Self::behind(&mut input, at, "something unknown behind a tag")?,
                FileType::Wave(dialect) => match wave::read(&mut input, dialect)? {
                    Stored::Plain(layout) => Self::Plain(layout),
                    Stored::Adpcm(blocks, at) => Self::Coded(Container::Adpcm(blocks), at),
                    Stored::Mpeg(at) => Self::Coded(Container::Mpeg, at),
                },
                FileType::Aiff => Self::Plain(chunked::aiff(&mut input)?),
                FileType::Au => Self::Plain(chunked::au(&mut input)?),
                FileType::Caf => match chunked::caf(&mut input)? {
                    Some(layout) => Self::Plain(layout),
                    None => coded(Container::Caf),
                },
                FileType::Sphere => Self::Plain(sphere::read(input.file, length, path)?),
                FileType::Other(found) => {
                    return Err(AudioError::NotAudio {
                        path: path.into(),
                        found,
                    });
                }
                FileType::Unknown(found) => Self::behind(&mut input, at, found)?,
            };
        };
        match &form {
            Self::Coded(_, at) if at.end - at.start > coded::MAX_DECODED_BYTES => {
                Err(AudioError::TooLarge {
                    path: path.into(),
                    bytes: length,
                })
            }
            _ => Ok(form),
        }
    }

    /// MPEG audio behind bytes of whatever kind; otherwise there is no more than was `found`.
    fn behind<R: Read + Seek>(
        input: &mut HeaderInput<'_, R>,
        at: u64,
        found: &'static str,
    ) -> Result<Self, AudioError> {
        let start = input.some(at, MPEG_SEARCH_BYTES)?;
        match mpeg::find(&start) {
            Some(first) => Ok(Self::Coded(
                Container::Mpeg,
                at + first as u64..input.length,
            )),
            None => Err(AudioError::NotAudio {
                path: input.path.into(),
                found,
            }),
        }
    }

    pub(super) fn info(
        &self,
        file: &mut (impl Read + Seek),
        path: &Path,
    ) -> Result<AudioInfo, AudioError> {
        match self {
            Self::Plain(layout) => Ok(AudioInfo {
                sample_rate: layout.sample_rate,
                channels: layout.channels,
                frames: layout.frames(),
            }),
            Self::Coded(container, at) => {
                if *container == Container::Flac {
                    // Its header says how long it lasts, and its last frame whether all of it is there.
                    let start = bytes_at(file, at.start..at.end.min(at.start + 42), path)?;
                    let tail = at.start.max(at.end.saturating_sub(flac::TAIL_BYTES as u64))..at.end;
                    if let Some(info) = flac::info(&start)
                        && flac::end(&start, &bytes_at(file, tail, path)?).is_some()
                    {
                        return Ok(info);
                    }
                }
                coded::inspect(*container, &bytes_at(file, at.clone(), path)?, path)
            }
        }
    }

    pub(super) fn read(
        &self,
        file: &mut (impl Read + Seek),
        part: Option<Range<u64>>,
        channel: Option<u16>,
        path: &Path,
    ) -> Result<DecodedAudio, AudioError> {
        match self {
            Self::Plain(layout) => {
                let at = byte_range(layout, part, path)?;
                let mut mixer = mixer(layout, channel, path)?;
                let audio = plain(&bytes_at(file, at, path)?, layout, &mut mixer, path)?;
                Ok(DecodedAudio {
                    audio,
                    cancels: mixer.cancels(),
                })
            }
            Self::Coded(container, at) => {
                let bytes = bytes_at(file, at.clone(), path)?;
                coded::decode(*container, &bytes, part, channel, path)
            }
        }
    }
}

/// The bytes `at` of a file that was found to have them.
pub(super) fn bytes_at(
    file: &mut (impl Read + Seek),
    at: Range<u64>,
    path: &Path,
) -> Result<Vec<u8>, AudioError> {
    // All of it is in the file, by the file's own length.
    let mut bytes = Vec::with_capacity((at.end - at.start) as usize);
    file.seek(SeekFrom::Start(at.start))
        .and_then(|_| file.take(at.end - at.start).read_to_end(&mut bytes))
        .map_err(|source| read_error(path, source))?;
    // It may have been cut since its length was asked for.
    if (bytes.len() as u64) < at.end - at.start {
        return Err(AudioError::Truncated {
            path: path.into(),
            announced: at.end,
            held: at.start + bytes.len() as u64,
        });
    }
    Ok(bytes)
}

/// Where the bytes of the samples `part` lie, or those of all.
pub(super) fn byte_range(
    layout: &Layout,
    part: Option<Range<u64>>,
    path: &Path,
) -> Result<Range<u64>, AudioError> {
    let held = layout.frames();
    let part = part.unwrap_or(0..held);
    if part.is_empty() || part.end > held {
        return Err(AudioError::Segment {
            path: path.into(),
            part,
            held,
        });
    }
    let frame = layout.frame_bytes();
    Ok(layout.data_at + part.start * frame..layout.data_at + part.end * frame)
}

/// What makes one channel of those of `layout`.
pub(super) fn mixer(
    layout: &Layout,
    channel: Option<u16>,
    path: &Path,
) -> Result<Mixer, AudioError> {
    let channels = layout.channels;
    match channel {
        Some(channel) if channel >= channels => Err(AudioError::NoChannel {
            path: path.into(),
            channel,
            channels,
        }),
        _ => Ok(Mixer::new(channels, channel)),
    }
}

/// Samples that lie one behind the other in `data`.
pub(super) fn plain(
    data: &[u8],
    layout: &Layout,
    mixer: &mut Mixer,
    path: &Path,
) -> Result<Audio, AudioError> {
    let interleaved = pcm::samples(data, layout.encoding);
    if let Some(index) = interleaved.iter().position(|&x| !is_amplitude(x)) {
        return Err(AudioError::BadSample {
            path: path.into(),
            index,
            value: interleaved[index],
        });
    }
    Ok(Audio {
        sample_rate: layout.sample_rate,
        samples: mixer.interleaved(interleaved),
    })
}
