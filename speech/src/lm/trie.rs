//! Makes a model level by level: the nodes of n-grams one word longer than the last, sorted, are linked
//! to their contexts and to their suffixes.

use super::{NgramModel, WordId, WordTable};

/// An n-gram on its way into a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct NgramEntry {
    /// The node of all its words but the last.
    pub(super) context: u32,
    pub(super) word: WordId,
    pub(super) log: f32,
    pub(super) back: f32,
    /// Where it was written; 0 where it was not.
    pub(super) line: u64,
}

/// More n-grams than nodes can be numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// A model that lacks its longer n-grams.
pub(super) struct Growing {
    model: NgramModel,
}

impl Growing {
    /// The words with their logarithms and backoff weights, by their numbers; word 0 is the unknown one.
    pub(super) fn new(words: WordTable, unigrams: &[(f32, f32)]) -> Result<Self, TooMany> {
        let count = words.names.len();
        debug_assert_eq!(count, unigrams.len());
        let last = WordId::try_from(count).map_err(|_| TooMany)?;
        let nodes = last.checked_add(1).ok_or(TooMany)?;
        let of_root = std::iter::once((0.0, 0.0));
        let (log, back) = of_root.chain(unigrams.iter().copied()).unzip();
        let model = NgramModel {
            words,
            levels: vec![0, 1, nodes as usize],
            word: std::iter::once(0).chain(0..last).collect(),
            log,
            link: vec![0; nodes as usize],
            back,
            // The root's, and where the last of its continuations ends.
            first: vec![1, nodes],
            remarks: Vec::new(),
        };
        Ok(Self { model })
    }

    pub(super) const fn words(&self) -> &WordTable {
        &self.model.words
    }

    /// The node of an n-gram, which has a level already.
    pub(super) fn find(&self, words: &[WordId]) -> Option<u32> {
        let mut node = 0;
        for &word in words {
            node = self.child(node, word)?;
        }
        Some(node)
    }

    fn child(&self, context: u32, word: WordId) -> Option<u32> {
        // The last level has no continuations yet.
        let continued = (context as usize + 1) < self.model.first.len();
        continued.then(|| self.model.continuation(context, word))?
    }

    /// Adds the n-grams that are one word longer than the longest: sorted by context and word, none
    /// twice, their contexts among the longest.
    pub(super) fn lengthen(&mut self, entries: &[NgramEntry]) -> Result<(), TooMany> {
        let model = &mut self.model;
        let start = model.word.len();
        u32::try_from(start + entries.len()).map_err(|_| TooMany)?;
        let contexts = model.levels[model.levels.len() - 2]..start;
        model.first.pop();
        let mut before = 0;
        for context in contexts {
            before += entries[before..]
                .iter()
                .take_while(|entry| (entry.context as usize) < context)
                .count();
            model.first.push((start + before) as u32);
        }
        model.first.push((start + entries.len()) as u32);
        let links: Vec<u32> = entries
            .iter()
            .map(|entry| self.suffix(entry.context, entry.word))
            .collect();
        let model = &mut self.model;
        for (entry, link) in entries.iter().zip(links) {
            model.word.push(entry.word);
            model.log.push(entry.log);
            model.back.push(entry.back);
            model.link.push(link);
        }
        model.levels.push(model.word.len());
        Ok(())
    }

    /// The node of the longest proper suffix of the n-gram `context` and `word`.
    fn suffix(&self, context: u32, word: WordId) -> u32 {
        let mut shorter = context;
        while shorter != 0 {
            shorter = self.model.link[shorter as usize];
            if let Some(node) = self.child(shorter, word) {
                return node;
            }
        }
        0
    }

    pub(super) fn finish(mut self) -> NgramModel {
        let model = &mut self.model;
        // The longest n-grams are not continued: what they had as backoff weights says nothing.
        let longest = model.levels[model.levels.len() - 2];
        model.back.truncate(longest);
        self.model
    }
}
