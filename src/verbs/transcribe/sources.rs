//! Where sound comes from: files, standard input, samples without a header. All of them are read block by block, so
//! that no recording is in memory unpacked.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use speech::audio::{
    AudioBlocks,
    raw::{RawFormat, RawReader},
};

use crate::{
    args,
    exit::{CommandError, Context as _, Result},
    output,
};

pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What people are told of a source.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// What `--raw`, `--rate` and `--channels` say together.
pub(super) fn raw_format(args: &args::Transcribe) -> Result<Option<RawFormat>> {
    let Some(encoding) = args.raw else {
        return Ok(None);
    };
    let Some(rate) = args.rate else {
        let told = "--raw has no header: say its sampling rate with --rate";
        return Err(CommandError::Usage(told.to_owned()).into());
    };
    Ok(Some(RawFormat {
        encoding,
        rate,
        channels: args.channels,
    }))
}

/// Sound that is read in order.
pub(super) enum Source {
    Raw {
        rate: u32,
        reader: RawReader<Box<dyn Read>>,
    },
    File(AudioBlocks),
}

impl Source {
    /// Opens channel `channel`, counted from 0, or the mean of all.
    pub(super) fn open(
        path: &Path,
        format: Option<RawFormat>,
        channel: Option<u16>,
    ) -> Result<Self> {
        let told = name(path);
        if let Some(format) = format {
            let reader: Box<dyn Read> = if is_stdin(path) {
                Box::new(io::stdin())
            } else {
                Box::new(File::open(path).with_context(|| format!("cannot read {told}"))?)
            };
            return Ok(Self::Raw {
                rate: format.rate,
                reader: RawReader::new(&told, reader, format)?.of_channel(channel)?,
            });
        }
        if is_stdin(path) {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            return Ok(Self::File(AudioBlocks::of_bytes(&told, bytes, channel)?));
        }
        Ok(Self::File(AudioBlocks::open(path, channel)?))
    }

    /// In Hz.
    pub(super) fn rate(&self) -> u32 {
        match self {
            Self::Raw { rate, .. } => *rate,
            Self::File(blocks) => blocks.rate(),
        }
    }

    /// The next samples; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<f32>>> {
        match self {
            Self::Raw { reader, .. } => Ok(reader.read()?),
            Self::File(blocks) => Ok(blocks.read()?),
        }
    }

    /// Says on standard error that channels of opposite phase have cancelled in what was read, if they have.
    pub(super) fn warn_if_cancelled(&self, path: &Path) {
        let cancels = match self {
            Self::Raw { reader, .. } => reader.cancels(),
            Self::File(blocks) => blocks.cancels(),
        };
        if cancels {
            output::message(&format!(
                "warning: {}: its channels are of opposite phase and cancel, so that hardly a sound is left of their \
                 mean: choose one with --channel 0",
                name(path).escape_debug()
            ));
        }
    }
}
