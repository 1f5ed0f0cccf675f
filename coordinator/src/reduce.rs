//! The reduction of one pass: contributions merge with their siblings as soon as both are there. It
//! decides that every sum is taken along the tree, whatever the order of arrival, and refuses to know
//! who sent a contribution or what its vector means.

use std::collections::BTreeMap;

use proto::{contribution::Contribution, tree::Node};
use thiserror::Error;

/// A contribution that cannot belong to the pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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
}

impl Reducer {
    /// For a pass of `micro_batches` whose vectors have `elements`.
    pub fn new(micro_batches: u32, elements: usize) -> Self {
        Self {
            micro_batches,
            elements,
            open: BTreeMap::new(),
        }
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
                contribution = match node.is_left() {
                    true => contribution.merge(other),
                    false => other.merge(contribution),
                };
            }
            node = node.parent();
        }
        self.open.insert(node, contribution);
        Ok(())
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
