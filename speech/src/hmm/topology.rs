//! How a phone is made of states: so many in a row, each of which stays or goes on (Bakis topology), and which density
//! each has. Phones may have densities of their own at the beginning, in the middle and at the end of a word.

use thiserror::Error;

/// Most states of a phone.
const MAX_STATES: u32 = 16;

/// The shape of phones.
#[derive(Clone, Debug, PartialEq)]
pub struct PhoneTopology {
    /// States of a phone in a row: as many frames it lasts at least.
    pub states: u32,
    /// States of silence.
    pub silence_states: u32,
    /// The probability that a state is stayed in for another frame, before it is trained.
    pub stay: f64,
    /// The probability of silence before each word and at the end; 0 for none at all.
    pub silence: f64,
    /// Whether the first, the inner, the last and the only phone of a word have densities of their own.
    pub positions: bool,
}

impl Default for PhoneTopology {
    /// Three states, which last 30 ms at least in frames of 10 ms, and silence at every second place.
    fn default() -> Self {
        Self {
            states: 3,
            silence_states: 3,
            stay: 0.5,
            silence: 0.5,
            positions: true,
        }
    }
}

/// A topology that cannot be.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum TopologyError {
    #[error("a phone has {0} states: from 1 to {MAX_STATES} are possible")]
    States(u32),
    #[error("{name} is {value}, which is no probability above 0 and below 1")]
    Probability { name: &'static str, value: f64 },
}

/// Where in its word a phone stands, as in Kaldi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WordPosition {
    /// It is the first of several.
    Begin,
    /// It is neither the first nor the last.
    Inside,
    /// It is the last of several.
    End,
    /// It is the whole word.
    Single,
}

impl WordPosition {
    /// The position of phone `place` in a word of `count` phones.
    pub const fn of(place: usize, count: usize) -> Self {
        match (place, count) {
            (_, 0 | 1) => Self::Single,
            (0, _) => Self::Begin,
            (place, count) if place + 1 == count => Self::End,
            _ => Self::Inside,
        }
    }
}

/// The densities of the states of phones: silence first, then each phone, by positions if it has them, state by state.
#[derive(Clone, Debug, PartialEq)]
pub struct PhoneStates {
    topology: PhoneTopology,
    phones: u32,
}

impl PhoneStates {
    /// Numbers the densities of so many phones.
    ///
    /// # Errors
    /// When the topology cannot be.
    pub fn new(topology: PhoneTopology, phones: usize) -> Result<Self, TopologyError> {
        for states in [topology.states, topology.silence_states] {
            if !(1..=MAX_STATES).contains(&states) {
                return Err(TopologyError::States(states));
            }
        }
        let wrong = |name, value| TopologyError::Probability { name, value };
        if !(topology.stay > 0.0 && topology.stay < 1.0) {
            return Err(wrong("the probability of staying", topology.stay));
        }
        if !(topology.silence >= 0.0 && topology.silence < 1.0) {
            return Err(wrong("the probability of silence", topology.silence));
        }
        Ok(Self {
            topology,
            phones: phones as u32,
        })
    }

    /// The shape of the phones.
    pub const fn topology(&self) -> &PhoneTopology {
        &self.topology
    }

    /// How many densities there are.
    pub const fn pdfs(&self) -> usize {
        let of_phone = self.variants() * self.topology.states;
        (self.topology.silence_states + self.phones * of_phone) as usize
    }

    /// The density of state `state` of silence.
    pub const fn silence_pdf(&self, state: u32) -> u32 {
        state
    }

    /// The density of state `state` of a phone at a place of a word.
    pub const fn pdf(&self, phone: u32, position: WordPosition, state: u32) -> u32 {
        let variant = if self.topology.positions {
            position as u32
        } else {
            0
        };
        let before = phone * self.variants() + variant;
        self.topology.silence_states + before * self.topology.states + state
    }

    const fn variants(&self) -> u32 {
        if self.topology.positions { 4 } else { 1 }
    }
}
