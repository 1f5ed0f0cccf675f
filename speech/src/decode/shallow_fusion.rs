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
    lm::{BEGIN_WORD, END_WORD, LmState, NgramModel, UNKNOWN, UNKNOWN_WORD, WordId},
};

/// The trie node of an unfinished word that no word of the trie begins with.
const NOT_IN_TRIE: u32 = u32::MAX;

/// The knowledge beside the acoustic model: language model, lexicon, word bonus and hot words.
#[derive(Clone, Debug)]
pub(super) struct ShallowFusion {
    model: Option<WordModel>,
    /// The spellings of the lexicon, or else of the language model's words; empty without either.
    spellings: Spellings,
    /// Whether other words than those of the trie are refused.
    closed: bool,
    hot: Option<HotWords>,
    word_bonus: f64,
}

/// A language model beside the trie.
#[derive(Clone, Debug)]
struct WordModel {
    model: Arc<NgramModel>,
    /// The number in the language model of each of the trie's words.
    numbers: Vec<WordId>,
    /// The look-ahead of each of the trie's nodes: the most that a word below may score by itself. It stands in for the
    /// word until it is whole, so that hypotheses within words and between them compare.
    look_ahead: Vec<f64>,
    /// The look-ahead of an unknown word.
    unknown: f64,
    /// The factor from the model's base-10 logarithms to natural ones, the weight included.
    scale: f64,
    penalty: f64,
}

/// The fusion state of a hypothesis, and what its text has scored so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FusionState {
    state: LmState,
    /// The trie node of the unfinished word, or [`NOT_IN_TRIE`].
    trie_node: u32,
    in_word: bool,
    hot: u32,
    /// The score of whole words and hot phrases.
    pub(super) word_score: f64,
    /// Granted in advance for the unfinished word and unfinished hot phrases; replaced when they end.
    pub(super) look_ahead: f64,
}

impl ShallowFusion {
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
                .map(|model| WordModel::new(config, Arc::clone(model), &known, &spellings)),
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
    pub(super) fn start(&self) -> FusionState {
        FusionState {
            state: self
                .model
                .as_ref()
                .map_or_else(LmState::default, |words| words.model.begin()),
            trie_node: ROOT,
            in_word: false,
            hot: self.hot.as_ref().map_or(0, HotWords::start),
            word_score: 0.0,
            look_ahead: 0.0,
        }
    }

    /// The state after a piece of text; `None` where the lexicon has no such words. A closed
    /// lexicon takes one space between words, and one before the first as the start of a longer
    /// piece.
    pub(super) fn extend(
        &self,
        fusion_state: &FusionState,
        piece: &str,
        is_first: bool,
    ) -> Option<FusionState> {
        let mut next = *fusion_state;
        for (place, character) in piece.chars().enumerate() {
            let within = next.in_word;
            if character != ' ' {
                next.in_word = true;
                next.trie_node = match next.trie_node {
                    NOT_IN_TRIE => NOT_IN_TRIE,
                    node => self.spellings.child(node, character).unwrap_or(NOT_IN_TRIE),
                };
                if self.closed && next.trie_node == NOT_IN_TRIE {
                    return None;
                }
            } else if next.in_word {
                next = self.end_word(&next)?;
            } else if self.closed && !(is_first && place == 0 && piece.len() > 1) {
                return None;
            }
            // Spaces that follow each other are one to the phrases.
            if let Some(hot) = &self.hot
                && (character != ' ' || within)
            {
                let (state, gain) = hot.step(next.hot, character);
                next.hot = state;
                next.word_score += gain;
            }
        }
        next.look_ahead = self.look_ahead(&next);
        Some(next)
    }

    /// The final score: of all words, the last one and the end of the sentence included; `None` where
    /// the last word is not one of the lexicon's.
    pub(super) fn finish(&self, fusion_state: &FusionState) -> Option<f64> {
        let mut last = *fusion_state;
        if last.in_word {
            last = self.end_word(&last)?;
            if let Some(hot) = &self.hot {
                last.word_score += hot.step(last.hot, ' ').1;
            }
        }
        let end = self
            .model
            .as_ref()
            .map_or(0.0, |words| words.scale * words.model.end(last.state));
        Some(last.word_score + end)
    }

    /// Ends the unfinished word.
    fn end_word(&self, fusion_state: &FusionState) -> Option<FusionState> {
        let mut next = *fusion_state;
        let word = match next.trie_node {
            NOT_IN_TRIE => None,
            node => self.spellings.word(node),
        };
        if self.closed && word.is_none() {
            return None;
        }
        if let Some(words) = &self.model {
            let number = word.map_or(UNKNOWN, |word| words.numbers[word]);
            let (log, state) = words.model.score(next.state, number);
            next.state = state;
            next.word_score += words.scale * log;
            if number == UNKNOWN {
                next.word_score -= words.penalty;
            }
        }
        next.word_score += self.word_bonus;
        next.trie_node = ROOT;
        next.in_word = false;
        Some(next)
    }

    fn look_ahead(&self, fusion_state: &FusionState) -> f64 {
        let phrase = self
            .hot
            .as_ref()
            .map_or(0.0, |hot| hot.look_ahead(fusion_state.hot));
        let word = match &self.model {
            Some(words) if fusion_state.in_word => match fusion_state.trie_node {
                NOT_IN_TRIE => words.unknown,
                node => words.look_ahead[node as usize],
            },
            _ => 0.0,
        };
        phrase + word
    }
}

impl WordModel {
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
            scale * model.score(LmState::default(), number).0 - penalty
        };
        let mut look_ahead = vec![f64::NEG_INFINITY; spellings.len()];
        // Children are numbered behind their parents.
        for node in (0..spellings.len()).rev() {
            let own = spellings.word(node as u32).map(|word| worth(numbers[word]));
            let below = look_ahead[spellings.children(node as u32)].iter().copied();
            look_ahead[node] = below.chain(own).fold(f64::NEG_INFINITY, f64::max);
        }
        Self {
            unknown: worth(UNKNOWN),
            numbers,
            look_ahead,
            scale,
            penalty: config.unknown_penalty,
            model,
        }
    }
}
