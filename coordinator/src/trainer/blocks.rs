//! Where flat vectors are cut, and the squared norms of their parts. It decides the order in which squares are added, so
//! that no thread count reaches a norm, and does not depend on what the norms are for.

use std::ops::Range;

use speech::model::ModelSpec;

/// A flat vector cut at its parameters, and these into blocks.
#[derive(Clone, Debug)]
pub(super) struct BlockLayout {
    /// The range of every block, in order and without gaps.
    pub cuts: Vec<Range<usize>>,
    /// How many blocks each parameter has.
    counts: Vec<usize>,
    /// The length of each parameter's rows, where these have norms of their own: blocks are whole rows then.
    rows: Option<Vec<usize>>,
}

impl BlockLayout {
    pub(super) fn new(spec: &ModelSpec, rows: Option<&[usize]>) -> Self {
        let ranges = spec.parameters.iter().map(|parameter| parameter.range());
        let (mut cuts, mut counts) = (Vec::new(), Vec::new());
        for (place, range) in ranges.enumerate() {
            let length = match rows.map(|rows| rows[place]) {
                Some(row) => row * (BLOCK_ELEMENTS / row).max(1),
                None => BLOCK_ELEMENTS,
            };
            let starts = range.clone().step_by(length);
            cuts.extend(starts.map(|start| start..(start + length).min(range.end)));
            counts.push(range.len().div_ceil(length));
        }
        Self {
            cuts,
            counts,
            rows: rows.map(<[usize]>::to_vec),
        }
    }

    /// The place of the parameter of each block.
    pub(super) fn parameters(&self) -> impl Iterator<Item = usize> {
        let counts = self.counts.iter().enumerate();
        counts.flat_map(|(place, &count)| std::iter::repeat_n(place, count))
    }

    /// The length of the rows of each block, where these have norms of their own.
    pub(super) fn row_lengths(&self) -> Vec<Option<usize>> {
        let length = |place| self.rows.as_ref().map(|rows| rows[place]);
        self.parameters().map(length).collect()
    }

    pub(super) fn split<'a>(&self, mut rest: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let take = |cut: &Range<usize>| {
            let (taken, left) = std::mem::take(&mut rest).split_at_mut(cut.len());
            rest = left;
            taken
        };
        self.cuts.iter().map(take).collect()
    }

    /// What the blocks of each parameter come to.
    pub(super) fn by_parameter<'a, T>(&self, of_blocks: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        let mut rest = of_blocks;
        self.counts.iter().map(move |&count| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        })
    }
}

/// Elements of a block: squares are added within a block, then the blocks' sums in order.
pub(crate) const BLOCK_ELEMENTS: usize = 1 << 16;

/// Accumulators of a block, one vector register or two wide.
const ACCUMULATORS: usize = 16;

/// The sum of the squares of `values` in f64. Squares of finite `f32` do not overflow an f64, so it
/// is finite exactly when every element is.
#[cfg(test)]
pub(super) fn squared_norm(values: &[f32]) -> f64 {
    values.chunks(BLOCK_ELEMENTS).map(block_squares).sum()
}

/// The sum of a block's squares; callers add the blocks' in order.
#[inline]
pub(crate) fn block_squares(block: &[f32]) -> f64 {
    let mut lanes = [0.0f64; ACCUMULATORS];
    let (rows, rest) = block.as_chunks::<ACCUMULATORS>();
    for row in rows {
        for (lane, &value) in lanes.iter_mut().zip(row) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value) * f64::from(value);
    }
    lanes.iter().sum()
}

/// Squared norms, in f64: finite exactly when every element is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Squares {
    /// Each parameter's part of the gradient has one.
    pub gradient: Vec<f64>,
    /// Each parameter's weights have one, where they are wanted.
    pub weights: Vec<f64>,
    /// Each block's rows have one each, where rows have norms of their own.
    pub rows: Vec<Vec<RowSquares>>,
}

/// The squared norms of a row, its gradient's and, where they are wanted, its weights'.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowSquares {
    pub gradient: f64,
    pub weights: f64,
}

#[inline(always)]
pub(super) fn squares_of(gradient: &[f32], weights: Option<&[f32]>) -> RowSquares {
    RowSquares {
        gradient: block_squares(gradient),
        weights: weights.map_or(0.0, block_squares),
    }
}

/// The sum of all rows' squares, and each row's.
#[inline(always)]
pub(super) fn squares_of_rows(
    gradient: &[f32],
    weights: Option<&[f32]>,
    row: usize,
) -> (RowSquares, Vec<RowSquares>) {
    let rows = gradient.chunks(row).enumerate().map(|(place, gradient)| {
        let start = place * row;
        let weights = weights.map(|weights| &weights[start..start + gradient.len()]);
        squares_of(gradient, weights)
    });
    let rows: Vec<RowSquares> = rows.collect();
    let sum = RowSquares {
        gradient: rows.iter().map(|row| row.gradient).sum(),
        weights: rows.iter().map(|row| row.weights).sum(),
    };
    (sum, rows)
}

#[cfg(test)]
mod tests {
    use speech::model::ModelConfig;

    use super::*;

    #[test]
    fn blocks_begin_anew_with_each_parameter_and_leave_nothing_out() {
        let config = ModelConfig {
            layers: 1,
            hidden: 180,
            ..ModelConfig::default()
        };
        let spec = ModelSpec::new(&config, 33, 7);
        let blocks = BlockLayout::new(&spec, None);
        assert!(blocks.cuts.len() > spec.parameters.len());
        let mut at = 0;
        for cut in &blocks.cuts {
            assert!(cut.start == at && (1..=BLOCK_ELEMENTS).contains(&cut.len()));
            at = cut.end;
        }
        assert_eq!(at, spec.elements());
        let counted: Vec<usize> = blocks.by_parameter(&blocks.cuts).map(<[_]>::len).collect();
        assert_eq!(counted, blocks.counts);
    }
}
