//! Writes the words of a model as somebody else writes them.

use std::collections::HashMap;

use super::{NgramModel, WordId, is_mark};

impl NgramModel {
    /// Gives every word the name that `name` has for it, where that is one word and no other has it
    /// already. Of several words that would have the same name, the most probable by itself gets it,
    /// of equal ones the first; the others keep theirs. How many words have another name then.
    pub fn rename(&mut self, name: impl Fn(&str) -> String) -> usize {
        // By name: the word that is to have it, and the order of what was asked for, which no hash map has.
        let mut wanted: HashMap<String, WordId> = HashMap::new();
        let mut order = Vec::new();
        for (word, old) in (0..).zip(&self.words.names) {
            if is_mark(old) {
                continue;
            }
            let new = name(old);
            let is_word = !new.is_empty() && !new.contains(char::is_whitespace) && !is_mark(&new);
            if *new == **old || !is_word || self.words.find(&new).is_some() {
                continue;
            }
            let log = |word: WordId| self.log[self.unigram(word) as usize];
            match wanted.get_mut(&new) {
                Some(best) if log(word) > log(*best) => *best = word,
                Some(_) => {}
                None => {
                    wanted.insert(new.clone(), word);
                    order.push(new);
                }
            }
        }
        for new in &order {
            let word = wanted[new];
            let old = std::mem::replace(&mut self.words.names[word as usize], new.as_str().into());
            self.words.numbers.remove(&old);
            self.words.numbers.insert(new.as_str().into(), word);
        }
        order.len()
    }
}
