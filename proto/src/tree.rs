//! The reduction tree of a step: the binary tree over its micro-batches in order. It decides in
//! which order partial sums are added, and does not depend on who computes them or when they arrive.

use std::{fmt, ops::Range};

/// An aligned run of micro-batches: `[index << level, (index + 1) << level)`, cut off at the step's
/// number of micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    level: u32,
    index: u32,
}

/// No tree is higher: a pass has fewer than 2^31 micro-batches.
pub const MAX_LEVEL: u32 = 31;

impl Node {
    /// The node of `2^level` micro-batches that starts at `index << level`; `None` when that start
    /// or the level is out of range.
    pub fn new(level: u32, index: u32) -> Option<Self> {
        let fits = level <= MAX_LEVEL && (u64::from(index) << level) < 1 << MAX_LEVEL;
        fits.then_some(Self { level, index })
    }

    /// The micro-batch `index` alone.
    pub const fn leaf(index: u32) -> Self {
        Self { level: 0, index }
    }

    /// The smallest node that covers `micro_batches` of them.
    pub fn root(micro_batches: u32) -> Self {
        Self {
            level: micro_batches.max(1).next_power_of_two().trailing_zeros(),
            index: 0,
        }
    }

    /// The height over the leaves: a node of level `l` has 2ˡ micro-batches, as far as the step goes.
    pub const fn level(self) -> u32 {
        self.level
    }

    /// The position among the nodes of its level.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The node that this one and its sibling are added up to.
    pub const fn parent(self) -> Self {
        Self {
            level: self.level + 1,
            index: self.index / 2,
        }
    }

    /// Left and right; a leaf has none.
    pub fn children(self) -> Option<(Self, Self)> {
        let level = self.level.checked_sub(1)?;
        Some((
            Self {
                level,
                index: 2 * self.index,
            },
            Self {
                level,
                index: 2 * self.index + 1,
            },
        ))
    }

    /// Whether it is the left summand of its parent.
    pub const fn is_left(self) -> bool {
        self.index.is_multiple_of(2)
    }

    /// The other child of its parent.
    pub const fn sibling(self) -> Self {
        Self {
            level: self.level,
            index: self.index ^ 1,
        }
    }

    /// The micro-batches it covers in a pass of `micro_batches`.
    pub fn range(self, micro_batches: u32) -> Range<u32> {
        let start = (u64::from(self.index) << self.level).min(u64::from(micro_batches));
        let end = ((u64::from(self.index) + 1) << self.level).min(u64::from(micro_batches));
        start as u32..end as u32
    }

    /// Whether it covers any micro-batch of a pass of `micro_batches`.
    pub fn exists(self, micro_batches: u32) -> bool {
        !self.range(micro_batches).is_empty()
    }

    /// Whether the micro-batches of `other` are among its own.
    pub const fn contains(self, other: Self) -> bool {
        other.level <= self.level && other.index >> (self.level - other.level) == self.index
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.index)
    }
}

/// Folds the leaves of `node` along the tree, left before right. `leaf` gives a micro-batch's own
/// value; `None` stands for a micro-batch that is left out, which is skipped and not added as zero.
///
/// # Errors
/// The first that `leaf` gives.
pub fn fold<T, E>(
    node: Node,
    micro_batches: u32,
    leaf: &mut impl FnMut(u32) -> Result<Option<T>, E>,
    add: &mut impl FnMut(T, T) -> T,
) -> Result<Option<T>, E> {
    if !node.exists(micro_batches) {
        return Ok(None);
    }
    let Some((left, right)) = node.children() else {
        return leaf(node.index);
    };
    let left = fold(left, micro_batches, leaf, add)?;
    let right = fold(right, micro_batches, leaf, add)?;
    Ok(match (left, right) {
        (Some(left), Some(right)) => Some(add(left, right)),
        (one, other) => one.or(other),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn expression(node: Node, micro_batches: u32) -> Option<String> {
        let mut leaf = |index: u32| Ok::<_, Infallible>(Some(index.to_string()));
        fold(node, micro_batches, &mut leaf, &mut |l, r| {
            format!("({l}+{r})")
        })
        .unwrap()
    }

    #[test]
    fn the_order_of_additions_is_the_trees() {
        assert_eq!(expression(Node::root(4), 4).unwrap(), "((0+1)+(2+3))");
        assert_eq!(expression(Node::root(5), 5).unwrap(), "(((0+1)+(2+3))+4)");
        assert_eq!(expression(Node::root(1), 1).unwrap(), "0");
    }

    #[test]
    fn micro_batches_left_out_are_skipped() {
        let mut leaf = |index: u32| Ok::<_, Infallible>((index != 2).then(|| index.to_string()));
        let sum = fold(Node::root(4), 4, &mut leaf, &mut |l, r| {
            format!("({l}+{r})")
        });
        assert_eq!(sum.unwrap().unwrap(), "((0+1)+3)");
    }

    proptest! {
        #[test]
        fn children_cut_a_node_in_two(n in 1u32..200, level in 0u32..9, index in 0u32..64) {
            let node = Node::new(level, index).unwrap();
            if let Some((left, right)) = node.children() {
                let (l, r) = (left.range(n), right.range(n));
                prop_assert_eq!(l.len() + r.len(), node.range(n).len());
                prop_assert!(node.contains(left) && node.contains(right) && left.sibling() == right);
                prop_assert_eq!(left.parent(), node);
                prop_assert!(left.is_left() && !right.is_left());
            }
        }

        #[test]
        fn the_root_covers_everything(n in 1u32..5000) {
            prop_assert_eq!(Node::root(n).range(n), 0..n);
        }
    }
}
