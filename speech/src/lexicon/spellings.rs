//! Words as a trie of characters in flat arrays: where a word that has been begun can go on, and whether
//! it is whole. Nodes are numbered breadth first, so that a node's children lie beside each other.

use std::collections::VecDeque;

/// Before the first character.
pub(crate) const ROOT: u32 = 0;

/// No word ends here.
const NONE: u32 = u32::MAX;

/// The spellings of words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spellings {
    /// The character that leads to each node.
    characters: Vec<char>,
    /// The number of the word that ends at each node.
    words: Vec<u32>,
    /// Where its children start; they end where the next node's start.
    first: Vec<u32>,
}

impl Spellings {
    /// A trie of words that are sorted and distinct; a word's number is its place.
    pub(crate) fn new<T: AsRef<str>>(words: &[T]) -> Self {
        let mut trie = Self {
            characters: vec!['\0'],
            words: Vec::new(),
            first: Vec::new(),
        };
        // Words that begin alike, and how many bytes they share.
        let mut open = VecDeque::from([(0..words.len(), 0)]);
        while let Some((mut range, shared)) = open.pop_front() {
            trie.first.push(trie.characters.len() as u32);
            let ends = |place: usize| words[place].as_ref().len() == shared;
            let whole = !range.is_empty() && ends(range.start);
            trie.words
                .push(if whole { range.start as u32 } else { NONE });
            range.start += usize::from(whole);
            let next = |place: usize| words[place].as_ref()[shared..].chars().next();
            while let Some(character) = range.clone().next().and_then(next) {
                let alike = range
                    .clone()
                    .take_while(|&place| next(place) == Some(character))
                    .count();
                trie.characters.push(character);
                open.push_back((
                    range.start..range.start + alike,
                    shared + character.len_utf8(),
                ));
                range.start += alike;
            }
        }
        trie.first.push(trie.characters.len() as u32);
        trie
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn children(&self, node: u32) -> std::ops::Range<usize> {
        let node = node as usize;
        self.first[node] as usize..self.first[node + 1] as usize
    }

    pub(crate) fn child(&self, node: u32, character: char) -> Option<u32> {
        let children = self.children(node);
        let found = self.characters[children.clone()]
            .binary_search(&character)
            .ok()?;
        Some((children.start + found) as u32)
    }

    /// The number of the word that ends at the node.
    pub(crate) fn word(&self, node: u32) -> Option<usize> {
        let word = self.words[node as usize];
        (word != NONE).then_some(word as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_and_nothing_else_is_found() {
        let words = ["a", "an", "and", "zoo", "été", "éz"];
        let trie = Spellings::new(&words);
        let find = |word: &str| {
            let mut characters = word.chars();
            let end = characters.try_fold(ROOT, |node, character| trie.child(node, character))?;
            trie.word(end)
        };
        for (number, word) in words.iter().enumerate() {
            assert_eq!(find(word), Some(number), "{word}");
        }
        for word in ["", "b", "z", "zo", "zoos", "é", "ét", "andy"] {
            assert_eq!(find(word), None, "{word}");
        }
        assert_eq!(trie.len(), 1 + 3 + 4 + 3);
        let empty = Spellings::new::<&str>(&[]);
        assert_eq!((empty.child(ROOT, 'a'), empty.word(ROOT)), (None, None));
    }
}
