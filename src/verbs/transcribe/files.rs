//! Recordings that are there: each is cut where it is quiet if it is long, and pieces of all of them are
//! recognised together, so many at a time.

use std::path::Path;

use anyhow::Result;
use speech::{
    audio::{Audio, raw::RawFormat},
    front_end::FrontEndError,
    pauses::{Cutter, Lengths, Piece},
    text::Kind,
};
use worker::inference::Model;

use super::{
    show::{self, Segment, Transcript},
    sources::{self, Source},
};
use crate::{args, exit::Failure};

/// Pieces that are recognised together are so many at most, and no more seconds than this unless one
/// is: what is in memory at once.
const AT_ONCE: usize = 64;
const SECONDS: f64 = 60.0;

pub fn run(model: &Model, args: &args::Transcribe, format: Option<RawFormat>) -> Result<()> {
    let lengths =
        Lengths::up_to(args.longest).map_err(|error| Failure::Usage(error.to_string()))?;
    // Every header is read before anything is said, so that a bad one is not found halfway.
    for path in args.files.iter().filter(|path| !sources::is_stdin(path)) {
        match format {
            Some(_) => drop(Source::open(path, format)?),
            None => drop(speech::audio::inspect(path)?),
        }
    }
    let mut heard = Heard {
        model,
        is_keyword: model.recipe().vocabulary.kind == Kind::Classes,
        transcripts: Vec::new(),
        waiting: Vec::new(),
        seconds: 0.0,
    };
    for path in &args.files {
        heard.file(path, format, lengths)?;
    }
    heard.flush()?;
    show::all(args.format, &heard.transcripts)
}

struct Heard<'a> {
    model: &'a Model,
    is_keyword: bool,
    transcripts: Vec<Transcript>,
    /// Pieces and their transcripts' places.
    waiting: Vec<(usize, Piece, u32)>,
    seconds: f64,
}

impl Heard<'_> {
    fn file(&mut self, path: &Path, format: Option<RawFormat>, lengths: Lengths) -> Result<()> {
        let place = self.transcripts.len();
        let mut source = Source::open(path, format)?;
        let rate = source.rate();
        self.transcripts.push(Transcript::new(sources::name(path)));
        // One class is said of a whole recording.
        let mut cutter = Cutter::new(
            rate,
            if self.is_keyword {
                Lengths {
                    longest: f64::MAX,
                    ..lengths
                }
            } else {
                lengths
            },
        );
        let mut samples = 0;
        while let Some(some) = source.next()? {
            samples += some.len() as u64;
            for piece in cutter.push(&some) {
                self.piece(place, piece, rate)?;
            }
        }
        self.transcripts[place].seconds = samples as f64 / f64::from(rate);
        match cutter.finish() {
            Some(piece) => self.piece(place, piece, rate),
            None => {
                Err(Failure::Data(format!("{}: there is no sound", sources::name(path))).into())
            }
        }
    }

    fn piece(&mut self, place: usize, piece: Piece, rate: u32) -> Result<()> {
        let seconds = piece.samples.len() as f64 / f64::from(rate);
        if self.seconds + seconds > SECONDS || self.waiting.len() == AT_ONCE {
            self.flush()?;
        }
        self.seconds += seconds;
        self.waiting.push((place, piece, rate));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.seconds = 0.0;
        let mut starts = Vec::new();
        let mut recordings = Vec::new();
        for (place, piece, sample_rate) in self.waiting.drain(..) {
            starts.push((place, piece.start as f64 / f64::from(sample_rate)));
            recordings.push(Audio {
                sample_rate,
                samples: piece.samples,
            });
        }
        let mut features = Vec::new();
        let mut whose = Vec::new();
        let found = self.model.features(&recordings);
        for ((found, (place, start)), audio) in found.into_iter().zip(starts).zip(&recordings) {
            match found {
                Ok(one) => {
                    features.push(one);
                    whose.push((place, start, audio.seconds()));
                }
                // What is left of a long recording may be too short to be anything.
                Err(FrontEndError::TooShort { .. }) if start > 0.0 => {}
                Err(error) => {
                    let name = &self.transcripts[place].file;
                    return Err(Failure::Data(format!("{name}: {error}")).into());
                }
            }
        }
        drop(recordings);
        let heard = self.model.recognise(&features.iter().collect::<Vec<_>>())?;
        if self.is_keyword {
            for (heard, (place, ..)) in heard.into_iter().zip(whose) {
                let classes = self.model.classes(&heard);
                let probability = classes.first().map(|(_, probability)| *probability);
                self.transcripts[place].keyword(heard.text, probability);
            }
            return Ok(());
        }
        let row_seconds = self.model.row_seconds();
        for (found, (place, start, seconds)) in
            self.model.hypotheses(&heard)?.into_iter().zip(whose)
        {
            let segment = Segment::new(&found, start, start + seconds, row_seconds);
            self.transcripts[place].add(segment);
        }
        Ok(())
    }
}
