//! Recordings that are there: each is cut where it is quiet if it is long, and pieces of all of them are
//! recognised together, so many at a time. A transcript is printed as soon as it is whole; a recording that cannot
//! be transcribed is named, and the others go on.

use std::{collections::VecDeque, io, path::Path};

use speech::{
    audio::{Audio, AudioError, raw::RawFormat},
    escape::escape,
    front_end::FrontEndError,
    left_out::{LeftOut, Reason},
    pauses::{Cutter, Lengths, Piece},
    text::UnitKind,
    tolerance::MaxBad,
};
use worker::inference::Model;

use super::{
    printing::TranscriptPrinter,
    show::{Segment, Transcript},
    sources::{self, Source},
};
use crate::{
    args,
    exit::{CommandError, Error, Result},
    output,
};

/// Pieces that are recognised together are so many at most, and no more seconds than this unless one
/// is: what is in memory at once.
const MAX_PORTION_UTTERANCES: usize = 64;
const MAX_PORTION_SECONDS: f64 = 60.0;

pub(super) fn run(model: &Model, args: &args::Transcribe, format: Option<RawFormat>) -> Result<()> {
    let lengths =
        Lengths::up_to(args.longest).map_err(|error| CommandError::Usage(error.to_string()))?;
    let mut heard = FileTranscriber {
        model,
        channel: args.channel,
        is_keyword: model.recipe().vocabulary.kind == UnitKind::Classes,
        printer: {
            let names: Vec<String> = args.files.iter().map(|path| sources::name(path)).collect();
            TranscriptPrinter::new(args.format, &names)
        },
        printed: 0,
        transcripts: VecDeque::new(),
        waiting: Vec::new(),
        seconds: 0.0,
        failures: Failures {
            left_out: LeftOut::of(args.files.len()),
            passing: 0,
        },
    };
    for path in &args.files {
        if let Err(error) = heard.file(path, format, lengths) {
            heard.fail(error)?;
        }
    }
    heard.flush()?;
    heard.failures.judge(args.max_bad)
}

/// Why a file ended before it was transcribed.
enum FileEnd {
    /// It cannot be read or heard; the others go on.
    File(Error),
    /// The model, the device or the output failed.
    All(Error),
}

/// A transcript that is not printed yet.
struct Unprinted {
    transcript: Transcript,
    /// Pieces of it that wait to be recognised.
    waiting: usize,
    is_read: bool,
    error: Option<String>,
}

struct FileTranscriber<'a> {
    model: &'a Model,
    channel: Option<u16>,
    is_keyword: bool,
    printer: TranscriptPrinter,
    /// Transcripts that were printed, or passed over.
    printed: usize,
    /// Those behind them, in the order of the files.
    transcripts: VecDeque<Unprinted>,
    /// Pieces and their transcripts' places among all.
    waiting: Vec<(usize, Piece, u32)>,
    seconds: f64,
    failures: Failures,
}

impl FileTranscriber<'_> {
    fn file(
        &mut self,
        path: &Path,
        format: Option<RawFormat>,
        lengths: Lengths,
    ) -> Result<(), FileEnd> {
        let place = self.printed + self.transcripts.len();
        self.transcripts.push_back(Unprinted {
            transcript: Transcript::new(sources::name(path)),
            waiting: 0,
            is_read: false,
            error: None,
        });
        let mut source = Source::open(path, format, self.channel).map_err(FileEnd::File)?;
        let rate = source.rate();
        // One class is said of a whole recording.
        let longest = if self.is_keyword {
            f64::MAX
        } else {
            lengths.longest
        };
        let mut cutter = Cutter::new(rate, Lengths { longest, ..lengths });
        let mut samples = 0;
        while let Some(some) = source.next().map_err(FileEnd::File)? {
            samples += some.len() as u64;
            for piece in cutter.push(&some) {
                self.piece(place, piece, rate).map_err(FileEnd::All)?;
            }
        }
        source.warn_if_cancelled(path);
        self.of(place).transcript.seconds = samples as f64 / f64::from(rate);
        let Some(piece) = cutter.finish() else {
            let told = format!("{}: there is no sound", sources::name(path));
            return Err(FileEnd::File(CommandError::Data(told).into()));
        };
        self.piece(place, piece, rate).map_err(FileEnd::All)?;
        self.of(place).is_read = true;
        self.print().map_err(FileEnd::All)
    }

    /// The place of the next transcript to be printed: it is not printed before
    /// its file has ended and no piece of it waits.
    fn of(&mut self, place: usize) -> &mut Unprinted {
        &mut self.transcripts[place - self.printed]
    }

    /// Gives up the file that was read last, or everything.
    fn fail(&mut self, ended: FileEnd) -> Result<()> {
        let error = match ended {
            FileEnd::File(error) => error,
            FileEnd::All(error) => return Err(error),
        };
        let place = self.printed + self.transcripts.len() - 1;
        self.give_up(place, error)?;
        self.of(place).is_read = true;
        self.print()
    }

    /// Names the recording at `place`, which cannot be transcribed, and forgets what of it was heard.
    ///
    /// # Errors
    /// The error itself where there is no other recording.
    fn give_up(&mut self, place: usize, error: Error) -> Result<()> {
        if self.failures.left_out.of == 1 {
            return Err(error);
        }
        self.waiting.retain(|(of, ..)| *of != place);
        let seconds =
            |(_, piece, rate): &(usize, Piece, u32)| piece.samples.len() as f64 / f64::from(*rate);
        self.seconds = self.waiting.iter().map(seconds).sum();
        let one = self.of(place);
        one.waiting = 0;
        if one.error.is_some() {
            return Ok(());
        }
        let (name, told) = (one.transcript.file.clone(), format!("{error:#}"));
        one.error = Some(told.clone());
        let told = if told.contains(&name) {
            told
        } else {
            format!("{name}: {told}")
        };
        output::message(&format!("left out: {}", escape(&told)));
        self.failures.add(&name, &error, &told);
        Ok(())
    }

    /// Prints the transcripts that are whole, up to the first that is not.
    fn print(&mut self) -> Result<()> {
        let is_whole = |one: &Unprinted| one.is_read && one.waiting == 0;
        while self.transcripts.front().is_some_and(is_whole) {
            let Some(one) = self.transcripts.pop_front() else {
                break;
            };
            self.printed += 1;
            match &one.error {
                None => self.printer.transcript(&one.transcript)?,
                Some(error) => self.printer.failed(&one.transcript.file, error)?,
            }
        }
        Ok(())
    }

    fn piece(&mut self, place: usize, piece: Piece, rate: u32) -> Result<()> {
        // A piece that was recognised already may have shown that the recording cannot be used.
        if self.of(place).error.is_some() {
            return Ok(());
        }
        let seconds = piece.samples.len() as f64 / f64::from(rate);
        if self.seconds + seconds > MAX_PORTION_SECONDS
            || self.waiting.len() == MAX_PORTION_UTTERANCES
        {
            self.flush()?;
        }
        self.seconds += seconds;
        self.of(place).waiting += 1;
        self.waiting.push((place, piece, rate));
        Ok(())
    }

    /// Recognises the pieces that wait, and prints the transcripts that are whole then.
    fn flush(&mut self) -> Result<()> {
        self.seconds = 0.0;
        let (mut starts, mut recordings) = (Vec::new(), Vec::new());
        for (place, piece, sample_rate) in std::mem::take(&mut self.waiting) {
            self.of(place).waiting -= 1;
            starts.push((place, piece.start as f64 / f64::from(sample_rate)));
            recordings.push(Audio {
                sample_rate,
                samples: piece.samples,
            });
        }
        let (mut features, mut whose) = (Vec::new(), Vec::new());
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
                    let name = &self.of(place).transcript.file;
                    let error = Error::from(error).context(name.clone());
                    self.give_up(place, error)?;
                }
            }
        }
        drop(recordings);
        let heard = self.model.recognise(&features.iter().collect::<Vec<_>>())?;
        if self.is_keyword {
            for (heard, (place, ..)) in heard.into_iter().zip(whose) {
                let classes = self.model.classes(&heard);
                let probability = classes.first().map(|(_, probability)| *probability);
                self.of(place).transcript.keyword(heard.text, probability);
            }
            return self.print();
        }
        let row_seconds = self.model.row_seconds();
        for (found, (place, start, seconds)) in
            self.model.hypotheses(&heard)?.into_iter().zip(whose)
        {
            let segment = Segment::new(&found, start, start + seconds, row_seconds);
            self.of(place).transcript.add(segment);
        }
        self.print()
    }
}

/// The account of recordings that could not be transcribed.
struct Failures {
    left_out: LeftOut,
    /// For failures of the system, which may have passed in a minute.
    passing: u64,
}

impl Failures {
    fn add(&mut self, name: &str, error: &Error, told: &str) {
        let reason = reason(error);
        self.passing += u64::from(reason.is_none());
        self.left_out
            .add(name, reason.unwrap_or(Reason::Unreadable), told);
    }

    /// Says how many there were; an error where they are more than `max_bad` allows. By itself it allows none:
    /// whoever asks for transcripts of files wants all of them, and a script has to see that some are missing.
    fn judge(self, max_bad: Option<MaxBad>) -> Result<()> {
        let Self { left_out, passing } = self;
        if left_out.is_empty() {
            return Ok(());
        }
        let told = left_out.sentence("recordings");
        match left_out.check(max_bad.unwrap_or(MaxBad::Count(0))) {
            Ok(()) => output::message(&told),
            Err(_) if passing == left_out.utterances => {
                return Err(CommandError::Infrastructure(told).into());
            }
            Err(_) => return Err(CommandError::Data(told).into()),
        }
        Ok(())
    }
}

/// What an error means for the recording; `None` for a failure of the system.
fn reason(error: &Error) -> Option<Reason> {
    for cause in error.causes() {
        if let Some(error) = cause.downcast_ref::<AudioError>() {
            return Reason::of_audio(error);
        }
        if let Some(error) = cause.downcast_ref::<FrontEndError>() {
            return Reason::of_front_end(error).or(Some(Reason::Damaged));
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Reason::of_io(error.kind());
        }
    }
    Some(Reason::Damaged)
}
