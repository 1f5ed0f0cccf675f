//! The ten digits: their spellings and how a speaker pronounces them. It knows nothing of sound.

use super::phoneme::Phone::{self, *};
use super::speaker::Speaker;
use crate::random::Stream;

/// A spoken digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digit(u8);

const WORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

impl Digit {
    /// All ten, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..10).map(Self)
    }

    /// `None` beyond nine.
    pub fn new(value: u64) -> Option<Self> {
        u8::try_from(value).ok().filter(|&v| v < 10).map(Self)
    }

    /// The digit's value, from 0 to 9.
    pub fn value(self) -> u8 {
        self.0
    }

    /// The word, as it stands in a transcript.
    pub fn word(self) -> &'static str {
        WORDS[usize::from(self.0)]
    }

    /// The sounds of this digit as `speaker` says them this time.
    pub(super) fn phones(self, speaker: &Speaker, stream: &mut Stream) -> Vec<Phone> {
        // Drawn for every digit, so that what follows does not depend on which one it is.
        let released = stream.uniform() < speaker.releases;
        match self.0 {
            0 if speaker.lax_zero => vec![Z, Ih, R, Ow],
            0 => vec![Z, Iy, R, Ow],
            1 => vec![W, Ah, N],
            2 => vec![TClosure, TBurst, TBreath, Uw],
            3 => vec![Th, R, Iy],
            4 => vec![F, Ao, Er],
            5 => vec![F, Ay, V],
            6 => vec![S, Ih, KClosure, KBurst, S],
            7 => vec![S, Eh, V, Ax, N],
            8 if released => vec![Ey, TClosure, TBurst, TBreath],
            8 => vec![Ey, TClosure],
            _ => vec![N, Ay, N],
        }
    }
}

/// The transcript of a string of digits: words with single spaces.
pub fn transcript(words: &[Digit]) -> String {
    let words: Vec<&str> = words.iter().map(|digit| digit.word()).collect();
    words.join(" ")
}
