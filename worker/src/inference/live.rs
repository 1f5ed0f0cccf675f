//! A model that listens: sound comes in, and what is said comes out while it is being said. Features,
//! network and decoder each carry what they need from one moment to the next, so that memory does not
//! grow with the sound. It decides where utterances end: where nothing was said for a while. An
//! utterance's result is that of its samples by themselves, and does not depend on how they came.

use speech::error_class::{self, Class, Classify};
use speech::{
    decode::{self, BLANK, Hypothesis, LiveDecoder},
    front_end::{FrontEndError, LiveFrontEnd, NotLive},
};
use thiserror::Error;

use super::Model;
use crate::stream::{NoFrames, NotStreamable, StreamingNetwork};

/// Seconds of sound that are heard at once. Ends are looked for behind each.
const MOMENT: f64 = 0.1;
/// Seconds without a word that end an utterance in which something was said, and one that is long.
const PAUSE: f64 = 0.8;
const SHORT_PAUSE: f64 = 0.2;
/// Seconds from which an utterance is long, and which none is longer than.
const LONG: f64 = 20.0;
const LONGEST: f64 = 30.0;
/// Seconds after which an utterance that nothing was said in begins anew.
const SILENCE: f64 = 4.0;

/// Why a model cannot listen, or could not go on.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ListenError {
    #[error(transparent)]
    Network(#[from] NotStreamable),
    #[error(transparent)]
    FrontEnd(#[from] NotLive),
    #[error(transparent)]
    Sound(#[from] FrontEndError),
    #[error(transparent)]
    Frames(#[from] NoFrames),
    #[error(transparent)]
    Decode(#[from] decode::DecodeError),
}

impl Classify for ListenError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// What was said between two pauses.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// Seconds from the beginning of the stream to that of the utterance.
    pub start: f64,
    /// Seconds from the beginning of the stream to the utterance's end.
    pub end: f64,
    /// The best first; never empty.
    pub hypotheses: Vec<Hypothesis>,
}

/// Listens.
pub struct Listener<'a> {
    model: &'a Model,
    front_end: LiveFrontEnd<'a>,
    network: StreamingNetwork,
    decoding: Decoding<'a>,
    /// Sound that does not fill a moment yet.
    waiting: Vec<f32>,
    moment: usize,
    /// Samples before this utterance and of it.
    before: u64,
    taken: u64,
    /// Rows since the last label was heard, and whether any was.
    quiet: usize,
    spoke: bool,
}

enum Decoding<'a> {
    Beam(LiveDecoder<'a>),
    Greedy(Vec<f32>),
}

impl Decoding<'_> {
    fn push(&mut self, rows: &[f32]) {
        match self {
            Self::Beam(live) => live.push(rows),
            Self::Greedy(heard) => heard.extend_from_slice(rows),
        }
    }
}

impl Model {
    /// Begins to listen to sound at the model's sampling rate.
    ///
    /// # Errors
    /// When the model's features or layers need the end of an utterance before its beginning is known,
    /// or it names classes.
    pub fn listen(&self) -> Result<Listener<'_>, ListenError> {
        let network = self.network.stream()?;
        let rate = f64::from(self.recipe.features.sample_rate);
        Ok(Listener {
            model: self,
            front_end: self.front_end.live()?,
            network,
            decoding: self.decoding(),
            waiting: Vec::new(),
            moment: (MOMENT * rate) as usize,
            before: 0,
            taken: 0,
            quiet: 0,
            spoke: false,
        })
    }

    fn decoding(&self) -> Decoding<'_> {
        match &self.decoder {
            Some(decoder) => Decoding::Beam(decoder.live(self.network.spec().outputs)),
            None => Decoding::Greedy(Vec::new()),
        }
    }
}

impl Listener<'_> {
    /// Takes samples, and gives the utterances that ended among them.
    ///
    /// # Errors
    /// When a sample is no amplitude.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Utterance>, ListenError> {
        self.waiting.extend_from_slice(samples);
        let mut ended = Vec::new();
        let whole = self.waiting.len() / self.moment * self.moment;
        let sound: Vec<f32> = self.waiting.drain(..whole).collect();
        for moment in sound.chunks_exact(self.moment) {
            self.process(moment)?;
            if self.is_over() {
                ended.extend(self.end()?);
            }
        }
        Ok(ended)
    }

    /// What is left when nothing follows.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Option<Utterance>, ListenError> {
        let rest = std::mem::take(&mut self.waiting);
        self.process(&rest)?;
        self.end()
    }

    /// What has been heard of the utterance so far. It may change yet.
    pub fn partial(&self) -> String {
        match &self.decoding {
            Decoding::Beam(live) => live.partial(),
            Decoding::Greedy(rows) => {
                let outputs = self.model.network.spec().outputs;
                let labels = decode::greedy(rows, rows.len() / outputs, outputs);
                self.model.recipe.vocabulary.decode(&labels)
            }
        }
    }

    /// Seconds of sound that were heard.
    pub fn seconds(&self) -> f64 {
        self.time(self.before + self.taken)
    }

    fn time(&self, samples: u64) -> f64 {
        samples as f64 / f64::from(self.model.recipe.features.sample_rate)
    }

    fn process(&mut self, samples: &[f32]) -> Result<(), ListenError> {
        self.taken += samples.len() as u64;
        let frames = self.front_end.push(samples)?;
        let rows = self.network.push(&frames)?;
        self.follow(&rows);
        Ok(())
    }

    fn follow(&mut self, rows: &[f32]) {
        let outputs = self.model.network.spec().outputs;
        for row in rows.chunks_exact(outputs) {
            if decode::argmax(row) == BLANK {
                self.quiet += 1;
            } else {
                (self.quiet, self.spoke) = (0, true);
            }
        }
        self.decoding.push(rows);
    }

    fn is_over(&self) -> bool {
        let length = self.time(self.taken);
        let quiet = self.quiet as f64 * self.model.row_seconds();
        if self.spoke {
            quiet >= PAUSE || (length >= LONG && quiet >= SHORT_PAUSE) || length >= LONGEST
        } else {
            length >= SILENCE
        }
    }

    /// Ends the utterance; the next one begins with the next sample. None where nothing was said.
    fn end(&mut self) -> Result<Option<Utterance>, ListenError> {
        let frames = self.front_end.finish();
        let mut rows = self.network.push(&frames)?;
        rows.extend(self.network.finish());
        self.follow(&rows);
        let hypotheses = match std::mem::replace(&mut self.decoding, self.model.decoding()) {
            Decoding::Beam(live) => live.finish(),
            Decoding::Greedy(rows) => {
                let Model {
                    recipe, network, ..
                } = self.model;
                let outputs = network.spec().outputs;
                let frames = rows.len() / outputs;
                vec![decode::greedy_hypothesis(
                    &recipe.vocabulary,
                    &rows,
                    frames,
                    outputs,
                )?]
            }
        };
        let (start, end) = (self.time(self.before), self.time(self.before + self.taken));
        self.before += self.taken;
        (self.taken, self.quiet, self.spoke) = (0, 0, false);
        let said = hypotheses
            .first()
            .is_some_and(|best| !best.text.trim().is_empty());
        Ok(said.then_some(Utterance {
            start,
            end,
            hypotheses,
        }))
    }
}
