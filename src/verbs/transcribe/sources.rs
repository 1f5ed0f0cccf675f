//! Where sound comes from: files, standard input, samples without a header. Plain files and raw samples
//! are read bit by bit; what is packed is held whole.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, Result};
use speech::audio::{
    self, Audio,
    raw::{Encoding, RawFormat, RawReader},
};

use crate::{args, exit::Failure};

/// Seconds of a plain file that are read at once.
const BLOCK: u64 = 10;

pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What people are told of a source.
pub fn name(path: &Path) -> String {
    match is_stdin(path) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

/// What `--raw`, `--rate` and `--channels` say together.
pub fn raw_format(args: &args::Transcribe) -> Result<Option<RawFormat>> {
    let Some(encoding) = args.raw else {
        return Ok(None);
    };
    let Some(rate) = args.rate else {
        let told = "--raw has no header: say its sampling rate with --rate";
        return Err(Failure::Usage(told.to_owned()).into());
    };
    Ok(Some(RawFormat {
        encoding: match encoding {
            args::RawEncoding::U8 => Encoding::U8,
            args::RawEncoding::S16le => Encoding::S16le,
            args::RawEncoding::S16be => Encoding::S16be,
            args::RawEncoding::S24le => Encoding::S24le,
            args::RawEncoding::S32le => Encoding::S32le,
            args::RawEncoding::F32le => Encoding::F32le,
        },
        rate,
        channels: args.channels,
    }))
}

/// Sound that is read in order.
pub enum Source {
    Raw {
        rate: u32,
        reader: RawReader<Box<dyn Read>>,
    },
    /// A plain file, and what of it has been read.
    Blocks {
        path: std::path::PathBuf,
        rate: u32,
        frames: u64,
        at: u64,
    },
    Whole(Option<Audio>),
}

impl Source {
    pub fn open(path: &Path, format: Option<RawFormat>) -> Result<Self> {
        let told = name(path);
        if let Some(format) = format {
            let reader: Box<dyn Read> = match is_stdin(path) {
                true => Box::new(io::stdin()),
                false => Box::new(File::open(path).with_context(|| format!("cannot read {told}"))?),
            };
            return Ok(Self::Raw {
                rate: format.rate,
                reader: RawReader::new(&told, reader, format)?,
            });
        }
        if is_stdin(path) {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            return Ok(Self::Whole(Some(audio::decode(&told, &bytes)?)));
        }
        let info = audio::inspect(path)?;
        if !is_riff(path)? {
            return Ok(Self::Whole(Some(audio::read(path)?)));
        }
        Ok(Self::Blocks {
            path: path.to_owned(),
            rate: info.sample_rate,
            frames: info.frames,
            at: 0,
        })
    }

    /// In Hz.
    pub fn rate(&self) -> u32 {
        match self {
            Self::Raw { rate, .. } | Self::Blocks { rate, .. } => *rate,
            Self::Whole(audio) => audio.as_ref().map_or(1, |audio| audio.sample_rate),
        }
    }

    /// The next samples; none at the end.
    pub fn next(&mut self) -> Result<Option<Vec<f32>>> {
        match self {
            Self::Raw { reader, .. } => Ok(reader.read()?),
            Self::Blocks {
                path,
                rate,
                frames,
                at,
            } => {
                let part = *at..(*at + BLOCK * u64::from(*rate)).min(*frames);
                if part.is_empty() {
                    return Ok(None);
                }
                *at = part.end;
                Ok(Some(audio::read_segment(path, part)?.samples))
            }
            Self::Whole(audio) => Ok(audio.take().map(|audio| audio.samples)),
        }
    }
}

/// Files of this kind can be read from the middle.
fn is_riff(path: &Path) -> Result<bool> {
    let mut start = [0; 4];
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = file.take(4).read(&mut start);
    let read = read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(read == 4 && &start == b"RIFF")
}
