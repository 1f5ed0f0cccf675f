//! Shallow fusion with look-ahead: what is known of a hypothesis beside the sound, its words' probabilities by the
//! language model, a bonus for each word, what hot words gain, and whether its words are the lexicon's. It follows
//! a hypothesis character by character, whatever units the model has; words are what spaces separate. It does not
//! depend on frames and beams.

use std::sync::Arc;

use super::{config::DecodeConfig, hot::HotWords};
use crate::{
    lexicon::{
        Lexicon,
        spellings::{ROOT, Spellings},
    },
    lm::{BEGIN_WORD, END_WORD, NgramModel, State, UNKNOWN, UNKNOWN_WORD, WordId},
};

/// The place of a word that is no longer one of the trie's.
const ASTRAY: u32 = u32::MAX;

/// All that is known beside the sound.
#[derive(Clone, Debug)]
pub(super) struct Fusion {
    model: Option<Words>,
    /// The spellings of the lexicon, or else of the language model's words; empty without either.
    spellings: Spellings,
    /// Whether other words than those of the trie are refused.
    closed: bool,
    hot: Option<HotWords>,
    word_bonus: f64,
}

/// A language model beside the trie.
#[derive(Clone, Debug)]
struct Words {
    model: Arc<NgramModel>,
    /// The number in the language model of each of the trie's words.
    numbers: Vec<WordId>,
    /// The look-ahead of each of the trie's nodes: the most that a word below may be worth by itself. It stands in for
    /// the
    /// word until it is whole, so that hypotheses within words and between them compare.
    promise: Vec<f64>,
    /// What an unknown word may be worth.
    unknown: f64,
    /// The factor from the model's base-10 logarithms to natural ones, the weight included.
    scale: f64,
    penalty: f64,
}

/// Where a hypothesis stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    state: State,
    /// The trie's node of the word that has been begun.
    spelled: u32,
    begun: bool,
    hot: u32,
    /// Added by whole words.
    pub(super) settled: f64,
    /// Lent by the word that has been begun.
    pub(super) lent: f64,
}

impl Fusion {
    /// `lexicon`'s words are closed: no other is said. Without it, those of the model are known, and
    /// others cost what the unknown word does.
    pub(super) fn new(
        config: &DecodeConfig,
        model: Option<Arc<NgramModel>>,
        lexicon: Option<&Lexicon>,
    ) -> Self {
        let mut known: Vec<&str> = match (lexicon, &model) {
            (Some(lexicon), _) => lexicon.words().iter().map(String::as_str).collect(),
            (None, Some(model)) => model
                .words()
                .filter(|word| ![UNKNOWN_WORD, BEGIN_WORD, END_WORD].contains(word))
                .collect(),
            (None, None) => Vec::new(),
        };
        known.sort_unstable();
        let spellings = Spellings::new(&known);
        let hot = (!config.hot_words.is_empty())
            .then(|| HotWords::new(&config.hot_words, config.hot_boost));
        let closed = lexicon.is_some();
        Self {
            model: model
                .as_ref()
                .map(|model| Words::new(config, Arc::clone(model), &known, &spellings)),
            spellings,
            closed,
            hot,
            word_bonus: config.word_bonus,
        }
    }

    /// Whether hypotheses are limited to a lexicon's words.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Before the first word.
    pub(super) fn start(&self) -> Standing {
        Standing {
            state: self
                .model
                .as_ref()
                .map_or_else(State::default, |words| words.model.begin()),
            spelled: ROOT,
            begun: false,
            hot: self.hot.as_ref().map_or(0, HotWords::start),
            settled: 0.0,
            lent: 0.0,
        }
    }

    /// The standing behind a piece of text; none where the lexicon has no such words. A closed
    /// lexicon takes one space between words, and one before the first as the start of a longer
    /// piece.
    pub(super) fn extend(
        &self,
        standing: &Standing,
        piece: &str,
        is_first: bool,
    ) -> Option<Standing> {
        let mut next = *standing;
        for (place, character) in piece.chars().enumerate() {
            let within = next.begun;
            if character != ' ' {
                next.begun = true;
                next.spelled = match next.spelled {
                    ASTRAY => ASTRAY,
                    node => self.spellings.child(node, character).unwrap_or(ASTRAY),
                };
                if self.closed && next.spelled == ASTRAY {
                    return None;
                }
            } else if next.begun {
                next = self.close(&next)?;
            } else if self.closed && !(is_first && place == 0 && piece.len() > 1) {
                return None;
            }
            // Spaces that follow each other are one to the phrases.
            if let Some(hot) = &self.hot
                && (character != ' ' || within)
            {
                let (state, gain) = hot.step(next.hot, character);
                next.hot = state;
                next.settled += gain;
            }
        }
        next.lent = self.lent(&next);
        Some(next)
    }

    /// What is settled when nothing follows: the last word and the end of the sentence; none where
    /// the last word is not one of the lexicon's.
    pub(super) fn finish(&self, standing: &Standing) -> Option<f64> {
        let mut last = *standing;
        if last.begun {
            last = self.close(&last)?;
            if let Some(hot) = &self.hot {
                last.settled += hot.step(last.hot, ' ').1;
            }
        }
        let end = self
            .model
            .as_ref()
            .map_or(0.0, |words| words.scale * words.model.end(last.state));
        Some(last.settled + end)
    }

    /// Ends the word that has been begun.
    fn close(&self, standing: &Standing) -> Option<Standing> {
        let mut next = *standing;
        let word = match next.spelled {
            ASTRAY => None,
            node => self.spellings.word(node),
        };
        if self.closed && word.is_none() {
            return None;
        }
        if let Some(words) = &self.model {
            let number = word.map_or(UNKNOWN, |word| words.numbers[word]);
            let (log, state) = words.model.score(next.state, number);
            next.state = state;
            next.settled += words.scale * log;
            if number == UNKNOWN {
                next.settled -= words.penalty;
            }
        }
        next.settled += self.word_bonus;
        next.spelled = ROOT;
        next.begun = false;
        Some(next)
    }

    fn lent(&self, standing: &Standing) -> f64 {
        let phrase = self.hot.as_ref().map_or(0.0, |hot| hot.lent(standing.hot));
        let word = match &self.model {
            Some(words) if standing.begun => match standing.spelled {
                ASTRAY => words.unknown,
                node => words.promise[node as usize],
            },
            _ => 0.0,
        };
        phrase + word
    }
}

impl Words {
    fn new(
        config: &DecodeConfig,
        model: Arc<NgramModel>,
        known: &[&str],
        spellings: &Spellings,
    ) -> Self {
        let scale = config.lm_weight * std::f64::consts::LN_10;
        let numbers: Vec<WordId> = known
            .iter()
            .map(|word| model.find(word).unwrap_or(UNKNOWN))
            .collect();
        let worth = |number: WordId| {
            let penalty = if number == UNKNOWN {
                config.unknown_penalty
            } else {
                0.0
            };
            scale * model.score(State::default(), number).0 - penalty
        };
        let mut promise = vec![f64::NEG_INFINITY; spellings.len()];
        // Children are numbered behind their parents.
        for node in (0..spellings.len()).rev() {
            let own = spellings.word(node as u32).map(|word| worth(numbers[word]));
            let below = promise[spellings.children(node as u32)].iter().copied();
            promise[node] = below.chain(own).fold(f64::NEG_INFINITY, f64::max);
        }
        Self {
            unknown: worth(UNKNOWN),
            numbers,
            promise,
            scale,
            penalty: config.unknown_penalty,
            model,
        }
    }
}
