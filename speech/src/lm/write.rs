//! Writes a model as an ARPA file. Numbers are written with as many digits as they need, so that
//! reading them back gives the same bits.

use std::io::{self, Write};

use super::{NgramModel, UNKNOWN};

impl NgramModel {
    /// Writes the model as an ARPA file. Equal models give equal bytes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\\data\\")?;
        for length in 1..=self.order() {
            writeln!(out, "ngram {length}={}", self.ngrams(length))?;
        }
        for length in 1..=self.order() {
            writeln!(out, "\n\\{length}-grams:")?;
            for node in self.levels[length]..self.levels[length + 1] {
                self.write_ngram(out, node, length)?;
            }
        }
        writeln!(out, "\n\\end\\")
    }

    fn write_ngram(&self, out: &mut impl Write, node: usize, length: usize) -> io::Result<()> {
        write!(out, "{}\t", self.log[node])?;
        for (place, word) in self.ngram(node, length).into_iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(out, "{space}{}", self.words.names[word as usize])?;
        }
        match self.back.get(node) {
            Some(&back) if back != 0.0 => writeln!(out, "\t{back}"),
            _ => writeln!(out),
        }
    }

    /// The words of a node of `length` words.
    pub(super) fn ngram(&self, node: usize, length: usize) -> Vec<u32> {
        let mut words = vec![UNKNOWN; length];
        let mut node = node;
        for level in (1..=length).rev() {
            words[level - 1] = self.word[node];
            // The context is the last of its level whose continuations start at the node or before.
            let contexts = self.levels[level - 1]..self.levels[level];
            let behind =
                self.first[contexts.clone()].partition_point(|&first| first as usize <= node);
            node = contexts.start + behind.max(1) - 1;
        }
        words
    }
}
