//! The left-hand matrix of a product, and its blocks packed so that a tile reads them front to back.
//! It decides how rows are grouped into tiles.

use std::ops::Range;

use super::ROW_BLOCK;
use super::panels::copy;
use super::tile::GROUP;
use crate::cpu::block::Block;

/// Rows that are packed together, four terms at a time.
const QUAD: usize = 4;

/// A left operand: a window of a row-major matrix, or its transpose.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// [rows, terms], or [terms, rows] of a transposed one.
    block: Block<'a>,
    is_transposed: bool,
}

impl<'a> Left<'a> {
    /// The row-major matrix `values` [_, terms].
    ///
    /// # Panics
    /// If `values` is not whole rows.
    pub fn rows(values: &'a [f32], terms: usize) -> Self {
        Self::window(matrix(values, terms))
    }

    /// The transpose of the row-major matrix `values` [_, rows].
    ///
    /// # Panics
    /// If `values` is not whole rows.
    pub fn transposed(values: &'a [f32], rows: usize) -> Self {
        Self::transposed_window(matrix(values, rows))
    }

    /// `block` [rows, terms].
    pub fn window(block: Block<'a>) -> Self {
        Self {
            block,
            is_transposed: false,
        }
    }

    /// The transpose of `block` [terms, rows].
    pub fn transposed_window(block: Block<'a>) -> Self {
        Self {
            block,
            is_transposed: true,
        }
    }

    /// Whether it has all elements of so many rows and terms.
    pub(super) fn holds(self, rows: usize, terms: usize) -> bool {
        let (down, across) = match self.is_transposed {
            true => (terms, rows),
            false => (rows, terms),
        };
        let is_none = rows == 0 || terms == 0;
        is_none || (down <= self.block.rows() && across <= self.block.columns())
    }

    /// The operand without its first `row` rows.
    pub(super) fn below(self, row: usize) -> Self {
        let block = self.block;
        let block = if self.is_transposed {
            block.with_columns(row.min(block.columns())..block.columns())
        } else {
            block.with_rows(row.min(block.rows())..block.rows())
        };
        Self { block, ..self }
    }
}

/// `values` [_, columns].
fn matrix(values: &[f32], columns: usize) -> Block<'_> {
    Block::new(values, values.len() / columns.max(1), columns)
}

/// `rows` in as few groups of at most GROUP as can be, about equally many each, in whole QUADs but
/// for the last.
#[inline(always)]
pub(super) fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let quads = rows.div_ceil(QUAD);
    let groups = rows.div_ceil(GROUP);
    (0..groups).map(move |group| {
        QUAD * (quads * group / groups)..rows.min(QUAD * (quads * (group + 1) / groups))
    })
}

/// Copies a block of a left operand into groups of rows, each with the rows of a term side by side.
///
/// # Panics
/// If the operand is too short.
#[inline(always)]
pub(super) fn pack(packed: &mut Vec<f32>, left: Left, rows: Range<usize>, terms: Range<usize>) {
    assert!(left.holds(rows.end, terms.end), "left operand too short");
    let depth = terms.len();
    packed.resize(rows.len() * depth, 0.0);
    if left.is_transposed {
        pack_terms(left.block, rows, terms, packed);
    } else {
        for group in groups(rows.len()) {
            let target = &mut packed[group.start * depth..group.end * depth];
            let rows = rows.start + group.start..rows.start + group.end;
            pack_rows(left.block, rows, terms.clone(), target);
        }
    }
}

/// Terms of a transposed operand, all groups of a few terms together: a term of each group may lie in one and
/// the same set of the first-level cache, and so may all terms of the operand.
#[inline(always)]
fn pack_terms(left: Block, rows: Range<usize>, terms: Range<usize>, target: &mut [f32]) {
    /// Terms taken for each group in turn.
    const TERMS: usize = 8;
    const LINE: usize = 16;
    let depth = terms.len();
    let term = |k: usize| &left.row(terms.start + k)[rows.clone()];
    let mut bounds = [(0, 0); ROW_BLOCK / GROUP];
    let count = groups(rows.len()).zip(&mut bounds).map(|(group, bounds)| {
        *bounds = (group.start, group.end);
    });
    let count = count.count();
    for block in (0..depth).step_by(TERMS) {
        let block = block..depth.min(block + TERMS);
        // No prefetcher of the processor's follows rows so far apart.
        for k in block.end..depth.min(block.end + TERMS) {
            for line in term(k).chunks(LINE) {
                simd::prefetch(line.as_ptr());
            }
        }
        for &(start, end) in &bounds[..count] {
            let width = end - start;
            let target = &mut target[start * depth + block.start * width..];
            for (k, target) in block.clone().zip(target.chunks_exact_mut(width)) {
                copy::<GROUP>(&term(k)[start..end], target);
            }
        }
    }
}

/// Terms of an operand whose rows are consecutive elements.
#[inline(always)]
fn pack_rows(left: Block, rows: Range<usize>, terms: Range<usize>, target: &mut [f32]) {
    /// Terms taken from each row in turn: two cache lines.
    const TERMS: usize = 32;
    let (stride, depth, count) = (left.stride(), terms.len(), rows.len());
    assert!(
        rows.end <= left.rows() && terms.end <= left.columns() && target.len() >= count * depth
    );
    let source = left.address(rows.start, terms.start);
    let target = target.as_mut_ptr();
    for block in (0..depth).step_by(TERMS) {
        let end = depth.min(block + TERMS);
        for row in (0..count).step_by(QUAD) {
            let mut k = block;
            while row + QUAD <= count && k + QUAD <= end {
                // SAFETY: the operand has `count` rows and `depth` terms from `source` on, and the target as many, as was
                // asserted; four of each from `row` and `k` on are among them. An array of f32 is aligned as an f32.
                unsafe {
                    let four = |below: usize| {
                        &*source.add((row + below) * stride + k).cast::<[f32; QUAD]>()
                    };
                    let columns = simd::transpose_4([four(0), four(1), four(2), four(3)]);
                    for (term, column) in columns.into_iter().enumerate() {
                        target
                            .add((k + term) * count + row)
                            .cast::<[f32; QUAD]>()
                            .write(column);
                    }
                }
                k += QUAD;
            }
            for k in k..end {
                for row in row..count.min(row + QUAD) {
                    // SAFETY: row `row` below `count` and term `k` below `depth` are in both, as was asserted.
                    unsafe { *target.add(k * count + row) = *source.add(row * stride + k) };
                }
            }
        }
    }
}
