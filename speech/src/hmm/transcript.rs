//! The graph of a transcript: its words one after the other, each in all its pronunciations, with silence that may be
//! between them.

use thiserror::Error;

use super::{Graph, GraphBuilder, PhoneStates, topology::WordPosition};
use crate::lexicon::pronunciations::Pronunciations;

/// What a state of a transcript's graph is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Silence.
    Silence,
    /// A phone.
    Phone {
        /// The word's place in the transcript.
        word: u32,
        /// Which of the word's pronunciations it is.
        pronunciation: u32,
        /// The phone's place in the pronunciation.
        phone: u32,
    },
}

/// A transcript as a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscriptGraph {
    /// Its states' densities are those of [`PhoneStates`].
    pub graph: Graph,
    /// What each state is part of.
    pub places: Vec<Place>,
}

/// The words of a transcript that the lexicon lacks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the lexicon has no pronunciation of {}", words.join(", "))]
pub struct WordsWithoutPronunciation {
    /// In the transcript's order, each once.
    pub words: Vec<String>,
}

/// A graph that is being made, up to a place between two words.
struct Growing<'a> {
    states: &'a PhoneStates,
    builder: GraphBuilder,
    places: Vec<Place>,
    /// How the place is reached: from the start (`None`) or from a state, with the log weight of that.
    reached: Vec<(Option<u32>, f64)>,
}

impl TranscriptGraph {
    /// Takes the words of `text`, which white space separates.
    ///
    /// # Errors
    /// Names the words without pronunciation.
    pub fn new(
        text: &str,
        lexicon: &Pronunciations,
        states: &PhoneStates,
    ) -> Result<Self, WordsWithoutPronunciation> {
        let mut missing: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            if lexicon.of_word(word).is_empty() && !missing.iter().any(|known| known == word) {
                missing.push(word.to_owned());
            }
        }
        if !missing.is_empty() {
            return Err(WordsWithoutPronunciation { words: missing });
        }
        let mut growing = Growing {
            states,
            builder: GraphBuilder::default(),
            places: Vec::new(),
            reached: vec![(None, 0.0)],
        };
        for (number, word) in (0..).zip(text.split_whitespace()) {
            growing.silence();
            let before = growing.reached.clone();
            let mut reached = Vec::new();
            for (pronunciation, one) in (0..).zip(lexicon.of_word(word)) {
                growing.reached = before.clone();
                for (_, log_weight) in &mut growing.reached {
                    *log_weight += one.probability.ln();
                }
                for (place, &phone) in one.phones.iter().enumerate() {
                    let position = WordPosition::of(place, one.phones.len());
                    growing.phone(
                        Place::Phone {
                            word: number,
                            pronunciation,
                            phone: place as u32,
                        },
                        states.topology().states,
                        |state| states.pdf(phone, position, state),
                    );
                }
                reached.append(&mut growing.reached);
            }
            growing.reached = reached;
        }
        growing.silence();
        for &(state, log_weight) in &growing.reached {
            if let Some(state) = state {
                growing.builder.end(state, log_weight);
            }
        }
        Ok(Self {
            graph: growing.builder.build(),
            places: growing.places,
        })
    }
}

impl Growing<'_> {
    /// Silence that may be left out.
    fn silence(&mut self) {
        let (states, topology) = (self.states, self.states.topology());
        if topology.silence == 0.0 {
            return;
        }
        let mut without = self.reached.clone();
        for (_, log_weight) in &mut without {
            *log_weight += (1.0 - topology.silence).ln();
        }
        for (_, log_weight) in &mut self.reached {
            *log_weight += topology.silence.ln();
        }
        self.phone(Place::Silence, topology.silence_states, |state| {
            states.silence_pdf(state)
        });
        self.reached.append(&mut without);
    }

    /// States in a row, each of which stays or goes on.
    fn phone(&mut self, place: Place, states: u32, pdf: impl Fn(u32) -> u32) {
        let stay = self.states.topology().stay;
        for number in 0..states {
            let state = self.builder.state(pdf(number));
            self.places.push(place);
            self.builder.arc(state, state, stay.ln());
            for (from, log_weight) in self.reached.drain(..) {
                match from {
                    Some(from) => self.builder.arc(from, state, log_weight),
                    None => self.builder.start(state, log_weight),
                }
            }
            self.reached.push((Some(state), (1.0 - stay).ln()));
        }
    }
}
