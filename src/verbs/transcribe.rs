//! `transcribe`: what a trained model hears in recordings, in standard input, and in sound that is still
//! coming in.

mod files;
mod live;
mod printing;
mod show;
mod sources;

use crate::{
    args, decoding, device,
    exit::{CommandError, Result},
};

pub(super) fn run(args: args::Transcribe) -> Result<()> {
    let format = sources::raw_format(&args)?;
    if args.format == args::TranscriptFormat::Srt && args.files.len() > 1 {
        let told = "subtitles are of one recording: give one file at a time";
        return Err(CommandError::Usage(told.to_owned()).into());
    }
    let stdin = args
        .files
        .iter()
        .filter(|path| sources::is_stdin(path))
        .count();
    if stdin > 1 {
        return Err(CommandError::Usage("standard input can be read once".to_owned()).into());
    }
    let (mut model, _) = device::open(&args.model, args.device)?;
    decoding::set(&mut model, &args.decoding, args.max_bad.unwrap_or_default())?;
    if let Some(count) = args.n_best {
        decoding::widen(&mut model, count)?;
    }
    if args.stream {
        live::run(&model, &args, format)
    } else {
        files::run(&model, &args, format)
    }
}
