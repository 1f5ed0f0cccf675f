//! Transcripts as they are finished, in the order in which their files were named: what was printed is not lost
//! when a later file cannot be transcribed or the program is interrupted.

use serde::Serialize;

use super::show::{self, TimedWord, Transcript};
use crate::{args::TranscriptFormat, exit::Result, output};

/// Prints one entry for each of so many files.
pub(super) struct TranscriptPrinter {
    format: TranscriptFormat,
    files: usize,
    /// What CTM calls each of them.
    recordings: Vec<String>,
    printed: usize,
}

/// What stands in JSON for a file that could not be transcribed.
#[derive(Serialize)]
struct Failed<'a> {
    file: &'a str,
    error: &'a str,
}

impl TranscriptPrinter {
    /// Prints transcripts of `files` in their order, named as people are told of them.
    pub(super) fn new(format: TranscriptFormat, files: &[String]) -> Self {
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        Self {
            format,
            files: files.len(),
            recordings: show::recording_names(&names),
            printed: 0,
        }
    }

    /// Prints the next file's transcript.
    pub(super) fn transcript(&mut self, one: &Transcript) -> Result<()> {
        let words = || -> Vec<&TimedWord> { one.words() };
        match self.format {
            TranscriptFormat::Json => return self.element(one),
            TranscriptFormat::Text if self.files == 1 => output::line(&one.text)?,
            TranscriptFormat::Text => output::line(&format!("{}\t{}", one.file, one.text))?,
            TranscriptFormat::Srt => output::line(show::srt(&words(), 1).0.trim_end())?,
            TranscriptFormat::Ctm => {
                let recording = &self.recordings[self.printed];
                let lines = match show::ctm(recording, &words()) {
                    lines if lines.is_empty() => show::ctm_of_nothing(recording, one.seconds),
                    lines => lines,
                };
                output::line(lines.trim_end())?;
            }
        }
        self.printed += 1;
        Ok(())
    }

    /// Passes over the next file, which could not be transcribed.
    pub(super) fn failed(&mut self, file: &str, error: &str) -> Result<()> {
        if self.format == TranscriptFormat::Json {
            return self.element(&Failed { file, error });
        }
        self.printed += 1;
        Ok(())
    }

    /// An element of the array that the whole output is in JSON.
    fn element(&mut self, value: &impl Serialize) -> Result<()> {
        if self.printed == 0 {
            output::line("[")?;
        }
        self.printed += 1;
        let is_last = self.printed == self.files;
        let text = serde_json::to_string_pretty(value)?.replace('\n', "\n  ");
        output::line(&format!("  {text}{}", if is_last { "" } else { "," }))?;
        if is_last {
            output::line("]")?;
        }
        Ok(())
    }
}
