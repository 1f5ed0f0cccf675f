//! Hot words (contextual biasing), words and phrases that are expected: each time one is said, the hypothesis gains. What has been said of
//! one counts for its share until it is whole or turns out to be something else, and is then taken back,
//! so that a hypothesis in the end has gained for whole phrases alone.
//!
//! The phrases are an automaton over characters (Aho & Corasick 1975), each with a space before and
//! behind it, so that they match whole words, and overlap as they may.

use std::collections::VecDeque;

/// The automaton of some phrases.
#[derive(Clone, Debug)]
pub(super) struct HotWords {
    nodes: Vec<PhraseNode>,
}

#[derive(Clone, Debug, Default)]
struct PhraseNode {
    /// Sorted by character.
    children: Vec<(char, u32)>,
    /// The longest proper suffix that some phrase begins with.
    fail: u32,
    /// Gained on coming here: for the phrases that end here.
    gain: f64,
    /// The bonus granted in advance in this state: the greatest share of a phrase that goes on.
    look_ahead: f64,
}

impl HotWords {
    /// Each phrase is worth `boost`, a natural logarithm of 0 or more. Spaces between words count as one.
    pub(super) fn new(phrases: &[String], boost: f64) -> Self {
        let mut nodes = vec![PhraseNode::default()];
        for phrase in phrases {
            let words: Vec<&str> = phrase.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let characters: Vec<char> = format!(" {} ", words.join(" ")).chars().collect();
            let mut node = 0;
            for (depth, &character) in characters.iter().enumerate() {
                node = child_or_new(&mut nodes, node, character);
                if depth + 1 < characters.len() {
                    // The space before the first word is no part of what was said.
                    let share = boost * depth as f64 / (characters.len() - 1) as f64;
                    nodes[node].look_ahead = nodes[node].look_ahead.max(share);
                }
            }
            // A phrase that is named twice is still one.
            nodes[node].gain = boost;
        }
        let mut automaton = Self { nodes };
        automaton.link();
        automaton
    }

    /// Sets where each node fails to, nearest to the root first.
    fn link(&mut self) {
        let mut open = VecDeque::from([0u32]);
        while let Some(node) = open.pop_front() {
            for (character, child) in self.nodes[node as usize].children.clone() {
                let fail = if node == 0 {
                    0
                } else {
                    self.follow(self.nodes[node as usize].fail, character)
                };
                let PhraseNode {
                    gain, look_ahead, ..
                } = self.nodes[fail as usize];
                let linked = &mut self.nodes[child as usize];
                linked.fail = fail;
                linked.gain += gain;
                linked.look_ahead = linked.look_ahead.max(look_ahead);
                open.push_back(child);
            }
        }
    }

    fn follow(&self, mut node: u32, character: char) -> u32 {
        loop {
            let PhraseNode { children, fail, .. } = &self.nodes[node as usize];
            match children.binary_search_by_key(&character, |child| child.0) {
                Ok(found) => return children[found].1,
                Err(_) if node == 0 => return 0,
                Err(_) => node = *fail,
            }
        }
    }

    /// Before the first word.
    pub(super) fn start(&self) -> u32 {
        self.follow(0, ' ')
    }

    /// The state behind `character`, and what is gained there.
    pub(super) fn step(&self, state: u32, character: char) -> (u32, f64) {
        let next = self.follow(state, character);
        (next, self.nodes[next as usize].gain)
    }

    /// The bonus granted in advance for the phrases that have been begun.
    pub(super) fn look_ahead(&self, state: u32) -> f64 {
        self.nodes[state as usize].look_ahead
    }
}

fn child_or_new(nodes: &mut Vec<PhraseNode>, node: usize, character: char) -> usize {
    let new = nodes.len();
    let children = &mut nodes[node].children;
    match children.binary_search_by_key(&character, |child| child.0) {
        Ok(found) => children[found].1 as usize,
        Err(place) => {
            children.insert(place, (character, new as u32));
            nodes.push(PhraseNode::default());
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(phrases: &[&str], boost: f64) -> HotWords {
        let phrases: Vec<String> = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
        HotWords::new(&phrases, boost)
    }

    /// The gain and the look-ahead after each character of a text, and at its end.
    fn course(automaton: &HotWords, text: &str) -> (Vec<f64>, f64) {
        let (mut state, mut gained) = (automaton.start(), 0.0);
        let mut course = Vec::new();
        for character in text.chars() {
            let (next, gain) = automaton.step(state, character);
            state = next;
            gained += gain;
            course.push(gained + automaton.look_ahead(state));
        }
        (course, gained + automaton.step(state, ' ').1)
    }

    #[test]
    fn a_part_is_lent_and_taken_back_when_it_becomes_something_else() {
        let automaton = hot(&["CAT"], 4.0);
        assert_eq!(course(&automaton, "CAT"), (vec![1.0, 2.0, 3.0], 4.0));
        assert_eq!(
            course(&automaton, "CAB A"),
            (vec![1.0, 2.0, 0.0, 0.0, 0.0], 0.0)
        );
        // Whole words only: neither within nor at the end of another.
        assert_eq!(course(&automaton, "CATS").1, 0.0);
        assert_eq!(course(&automaton, "BOBCAT").1, 0.0);
        assert_eq!(course(&automaton, "A CAT CAT").1, 8.0);
    }

    #[test]
    fn phrases_overlap_and_one_may_begin_another() {
        let automaton = hot(&["NEW YORK", "YORK", "NEW  YORK CITY", "NEW YORK"], 1.0);
        assert_eq!(course(&automaton, "NEW YORK").1, 2.0);
        assert_eq!(course(&automaton, "NEW YORK CITY").1, 3.0);
        assert_eq!(course(&automaton, "NEW NEW YORK CITIES").1, 2.0);
        assert_eq!(course(&automaton, "NEW CITY").1, 0.0);
    }

    #[test]
    fn no_phrase_gains_nothing() {
        let automaton = hot(&["", "  "], 1.0);
        assert_eq!(course(&automaton, "A B"), (vec![0.0; 3], 0.0));
    }
}
