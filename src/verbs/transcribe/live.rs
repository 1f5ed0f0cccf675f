//! Sound that is still coming in: what is said is printed when it has been said, and shown before that as
//! far as it is known.

use std::io::Write as _;

use serde::Serialize;
use speech::audio::raw::RawFormat;
use worker::inference::{Listener, Model, Utterance};

use super::{
    show::{self, Segment, TimedWord},
    sources::{self, Source},
};
use crate::{
    args::{self, TranscriptFormat},
    exit::{CommandError, Result},
    output,
};

pub(super) fn run(model: &Model, args: &args::Transcribe, format: Option<RawFormat>) -> Result<()> {
    let [path] = args.files.as_slice() else {
        let told = "--stream listens to one source: give one file, or `-`";
        return Err(CommandError::Usage(told.to_owned()).into());
    };
    if sources::is_stdin(path) && format.is_none() {
        let told = "--stream reads samples without a header from standard input: say what they are with --raw and --rate";
        return Err(CommandError::Usage(told.to_owned()).into());
    }
    // What the model is not made for is said before anything is waited for.
    let mut listener = model.listen()?;
    let mut source = Source::open(path, format, args.channel)?;
    let (found, wanted) = (source.rate(), model.recipe().features.sample_rate);
    if found != wanted {
        let told = format!(
            "{}: sound at {found} Hz cannot be heard as it comes by a model for {wanted} Hz: have it \
             recorded or converted at that rate",
            sources::name(path)
        );
        return Err(CommandError::Data(told).into());
    }
    let mut teller = Teller {
        format: args.format,
        recording: show::recording_names(&[&sources::name(path)]).concat(),
        heard: false,
        row_seconds: model.row_seconds(),
        cue: 1,
        partial: String::new(),
    };
    while let Some(samples) = source.next()? {
        for utterance in listener.push(&samples)? {
            teller.utterance(&utterance)?;
        }
        teller.partial(&listener)?;
    }
    let seconds = listener.seconds();
    source.warn_if_cancelled(path);
    match listener.finish()? {
        Some(utterance) => teller.utterance(&utterance)?,
        None => teller.clear()?,
    }
    teller.end(seconds)
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum LiveLine<'a> {
    /// May change yet.
    Partial {
        text: &'a str,
        seconds: f64,
    },
    Final(Segment),
}

struct Teller {
    format: TranscriptFormat,
    /// What CTM calls the source.
    recording: String,
    /// Whether there was a word.
    heard: bool,
    row_seconds: f64,
    cue: usize,
    /// What was shown last of an utterance that goes on.
    partial: String,
}

impl Teller {
    fn utterance(&mut self, utterance: &Utterance) -> Result<()> {
        self.clear()?;
        let Utterance {
            start,
            end,
            hypotheses,
        } = utterance;
        let segment = Segment::new(hypotheses, *start, *end, self.row_seconds);
        let words: Vec<&TimedWord> = segment.words.iter().collect();
        match self.format {
            TranscriptFormat::Text => output::line(segment.text.trim()),
            TranscriptFormat::Json => {
                output::line(&serde_json::to_string(&LiveLine::Final(segment))?)
            }
            TranscriptFormat::Ctm | TranscriptFormat::Srt if words.is_empty() => Ok(()),
            TranscriptFormat::Ctm => {
                self.heard = true;
                output::line(show::ctm(&self.recording, &words).trim_end())
            }
            TranscriptFormat::Srt => {
                let (text, cue) = show::srt(&words, self.cue);
                self.cue = cue;
                output::line(&text)
            }
        }
    }

    /// Says that there was nothing in so many seconds, where a scorer would miss it.
    fn end(&self, seconds: f64) -> Result<()> {
        if self.format == TranscriptFormat::Ctm && !self.heard {
            return output::line(show::ctm_of_nothing(&self.recording, seconds).trim_end());
        }
        Ok(())
    }

    /// Lines of JSON say partial results; otherwise a person at a terminal sees them.
    fn partial(&mut self, listener: &Listener<'_>) -> Result<()> {
        let text = listener.partial();
        let text = text.trim();
        if text == self.partial {
            return Ok(());
        }
        self.partial = text.to_owned();
        match self.format {
            TranscriptFormat::Json => {
                let seconds = listener.seconds();
                output::line(&serde_json::to_string(&LiveLine::Partial {
                    text,
                    seconds,
                })?)
            }
            _ if output::is_attended() => {
                // Back to the line's start, and clear it.
                let mut terminal = std::io::stderr().lock();
                let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn clear(&mut self) -> Result<()> {
        let shown = !std::mem::take(&mut self.partial).is_empty();
        if shown && self.format != TranscriptFormat::Json && output::is_attended() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        Ok(())
    }
}
