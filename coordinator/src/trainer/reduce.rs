//! The sum of one pass's all-reduce, as a deterministic tree reduction: contributions merge with their siblings as
//! soon as both are there. It decides that every sum is taken along the tree, whatever the order of arrival, and
//! does not depend on who sent a contribution or what its vector means.

use std::collections::BTreeMap;

use proto::{buffer_pool::BufferPool, contribution::Contribution, tree::Node};
use rayon::prelude::*;
use thiserror::Error;

use crate::trainer::blocks::BLOCK_ELEMENTS;

/// A contribution that cannot belong to the pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ReduceError {
    #[error("node {node} covers none of the pass's {micro_batches} micro-batches")]
    Outside { node: Node, micro_batches: u32 },
    #[error("micro-batches of node {node} are in the sum already, through node {present}")]
    Overlap { node: Node, present: Node },
    #[error("the vector of node {node} has {found} elements where the model has {expected}")]
    Elements {
        node: Node,
        found: usize,
        expected: usize,
    },
}

/// Adds the contributions of one pass along its tree. Holds one vector for each open sibling.
#[derive(Debug)]
pub struct Reducer {
    micro_batches: u32,
    elements: usize,
    /// Sums that wait for their sibling. No two overlap.
    open: BTreeMap<Node, Contribution>,
    /// Where vectors go that were added to others.
    buffers: BufferPool,
}

impl Reducer {
    /// For a pass of `micro_batches` whose vectors have `elements`.
    pub fn new(micro_batches: u32, elements: usize) -> Self {
        Self {
            micro_batches,
            elements,
            open: BTreeMap::new(),
            buffers: BufferPool::default(),
        }
    }

    /// The same, with a place for vectors that are not needed any more.
    #[must_use]
    pub fn with(self, buffers: BufferPool) -> Self {
        Self { buffers, ..self }
    }

    /// Adds the sum over `node`'s micro-batches, each of which may come once.
    ///
    /// # Errors
    /// When it does not fit the pass. Nothing is added then.
    pub fn insert(
        &mut self,
        mut node: Node,
        mut contribution: Contribution,
    ) -> Result<(), ReduceError> {
        let (micro_batches, expected) = (self.micro_batches, self.elements);
        let root = Node::root(micro_batches);
        if !node.exists(micro_batches) || !root.contains(node) {
            return Err(ReduceError::Outside {
                node,
                micro_batches,
            });
        }
        if let Some(found) = contribution.sum.as_ref().map(Vec::len)
            && found != expected
        {
            return Err(ReduceError::Elements {
                node,
                found,
                expected,
            });
        }
        let overlaps = |open: &&Node| open.contains(node) || node.contains(**open);
        if let Some(&present) = self.open.keys().find(overlaps) {
            return Err(ReduceError::Overlap { node, present });
        }
        while node != root {
            let sibling = node.sibling();
            // A sibling beyond the last micro-batch is skipped: the node stands for its parent.
            if sibling.exists(micro_batches) {
                let Some(other) = self.open.remove(&sibling) else {
                    break;
                };
                contribution = if node.is_left() {
                    self.merge(contribution, other)
                } else {
                    self.merge(other, contribution)
                };
            }
            node = node.parent();
        }
        self.open.insert(node, contribution);
        Ok(())
    }

    /// Left + right, by several threads: each element is still one addition.
    fn merge(&self, left: Contribution, right: Contribution) -> Contribution {
        let wire = left.wire;
        left.merge_by(right, |left, right| {
            let blocks = left
                .par_chunks_mut(BLOCK_ELEMENTS)
                .zip(right.par_chunks(BLOCK_ELEMENTS));
            blocks.for_each(|(left, right)| wire.add(left, right));
            self.buffers.give(right);
        })
    }

    /// Sums that wait for their sibling: what the memory grows with.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The sum over the whole pass, once every micro-batch is in it; `None` before.
    pub fn root(mut self) -> Option<Contribution> {
        self.open.remove(&Node::root(self.micro_batches))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use proto::tree::fold;
    use speech::random::Stream;

    use super::*;

    const ELEMENTS: usize = 3;

    /// A micro-batch's contribution; every seventh was left out.
    fn leaf(index: u32) -> Contribution {
        let mut stream = Stream::new(5, &[u64::from(index)]);
        let mut value = || (stream.normal() * 10f64.powi(index as i32 % 9)) as f32;
        Contribution {
            sum: (!index.is_multiple_of(7)).then(|| (0..ELEMENTS).map(|_| value()).collect()),
            weight: f64::from(index % 7),
            loss: 0.1 * f64::from(index),
            ..Contribution::default()
        }
    }

    fn sum_of(node: Node, micro_batches: u32) -> Contribution {
        let mut leaf = |index| Ok::<_, Infallible>(Some(leaf(index)));
        fold(node, micro_batches, &mut leaf, &mut Contribution::merge)
            .unwrap()
            .unwrap()
    }

    /// Cuts the tree at random and shuffles the pieces.
    fn pieces(micro_batches: u32, seed: u64) -> Vec<Node> {
        let mut stream = Stream::new(seed, &[]);
        let mut open = vec![Node::root(micro_batches)];
        let mut pieces = Vec::new();
        while let Some(node) = open.pop() {
            match node.children() {
                Some((left, right)) if stream.below(3) > 0 => open.extend([left, right]),
                _ if node.exists(micro_batches) => pieces.push(node),
                _ => {}
            }
        }
        stream.shuffle(&mut pieces);
        pieces
    }

    proptest! {
        #[test]
        fn any_cut_in_any_order_gives_the_serial_sum(micro_batches in 1u32..70, seed: u64) {
            let mut reducer = Reducer::new(micro_batches, ELEMENTS);
            for node in pieces(micro_batches, seed) {
                reducer.insert(node, sum_of(node, micro_batches)).unwrap();
            }
            prop_assert_eq!(reducer.open(), 1);
            let root = reducer.root().unwrap();
            let serial = sum_of(Node::root(micro_batches), micro_batches);
            prop_assert_eq!(root.digest(), serial.digest());
        }

        #[test]
        fn nothing_is_added_twice(micro_batches in 1u32..40, seed: u64) {
            let mut reducer = Reducer::new(micro_batches, ELEMENTS);
            let pieces = pieces(micro_batches, seed);
            for &node in &pieces {
                reducer.insert(node, sum_of(node, micro_batches)).unwrap();
                for again in [node, Node::root(micro_batches), Node::leaf(node.range(micro_batches).start)] {
                    let outcome = reducer.insert(again, sum_of(again, micro_batches));
                    let refused = matches!(outcome, Err(ReduceError::Overlap { .. }));
                    prop_assert!(refused);
                }
            }
            prop_assert_eq!(reducer.root(), Some(sum_of(Node::root(micro_batches), micro_batches)));
        }
    }

    #[test]
    fn in_order_arrival_keeps_logarithmically_many_vectors() {
        let mut reducer = Reducer::new(1000, ELEMENTS);
        for index in 0..1000 {
            reducer.insert(Node::leaf(index), leaf(index)).unwrap();
            assert!(reducer.open() <= 10);
        }
        assert!(reducer.root().is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut reducer = Reducer::new(5, ELEMENTS);
        for outside in [Node::leaf(5), Node::new(4, 0).unwrap()] {
            assert!(matches!(
                reducer.insert(outside, leaf(1)),
                Err(ReduceError::Outside { .. })
            ));
        }
        let short = Contribution {
            sum: Some(vec![0.0]),
            ..leaf(1)
        };
        assert_eq!(
            reducer
                .insert(Node::leaf(1), short)
                .unwrap_err()
                .to_string(),
            "the vector of node 0/1 has 1 elements where the model has 3"
        );
        assert_eq!(reducer.open(), 0);
        assert_eq!(reducer.root(), None);
    }
}
