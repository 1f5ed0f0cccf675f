//! The left-hand matrix of a product, and its blocks packed so that a tile reads them front to back.
//! It decides how rows are grouped into tiles, and refuses to know what they are multiplied with.

use std::ops::Range;

use super::ROW_BLOCK;
use super::panels::copy;
use super::tile::GROUP;
use crate::kernel::simd;

/// Rows that are packed together, four terms at a time.
const QUAD: usize = 4;

/// A left operand: element (r, k) is `values[r * row + k * depth]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) row: usize,
    pub(super) depth: usize,
}

impl<'a> Left<'a> {
    /// Rows of consecutive elements, `stride` apart.
    pub fn rows(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            row: stride,
            depth: 1,
        }
    }

    /// The transpose of a row-major matrix whose rows are `stride` apart.
    pub fn transposed(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            row: 1,
            depth: stride,
        }
    }

    pub(super) fn below(self, row: usize) -> Self {
        Self {
            values: &self.values[(row * self.row).min(self.values.len())..],
            ..self
        }
    }
}

/// `rows` in as few groups of at most GROUP as can be, about equally many each, in whole QUADs but
/// for the last.
#[inline(always)]
pub fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let quads = rows.div_ceil(QUAD);
    let groups = rows.div_ceil(GROUP);
    (0..groups).map(move |group| {
        QUAD * (quads * group / groups)..rows.min(QUAD * (quads * (group + 1) / groups))
    })
}

/// Copies a block of a left operand into groups of rows, each with the rows of a term side by side.
#[inline(always)]
pub fn pack(packed: &mut Vec<f32>, left: Left, rows: Range<usize>, terms: Range<usize>) {
    let depth = terms.len();
    packed.resize(rows.len() * depth, 0.0);
    if left.depth == 1 {
        for group in groups(rows.len()) {
            let target = &mut packed[group.start * depth..group.end * depth];
            let source = left.below(rows.start + group.start).values;
            pack_rows(&source[terms.start..], left.row, target, group.len(), depth);
        }
    } else if depth > 0 {
        let terms = &left.values[terms.start * left.depth + rows.start..];
        pack_terms(terms, left.depth, packed, rows.len(), depth);
    }
}

/// `depth` terms of `rows` elements of `source`, `stride` apart, all groups of a few terms together: a
/// term of each group may lie in one and the same set of the first-level cache, and so may all terms
/// of the source.
#[inline(always)]
fn pack_terms(source: &[f32], stride: usize, target: &mut [f32], rows: usize, depth: usize) {
    /// Terms taken for each group in turn.
    const TERMS: usize = 8;
    const LINE: usize = 16;
    let term = |k: usize| &source[k * stride..][..rows];
    let mut bounds = [(0, 0); ROW_BLOCK / GROUP];
    let count = groups(rows).zip(&mut bounds).map(|(group, bounds)| {
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

/// `depth` terms of `rows` rows of `source`, `stride` apart.
#[inline(always)]
fn pack_rows(source: &[f32], stride: usize, target: &mut [f32], rows: usize, depth: usize) {
    /// Terms taken from each row in turn: two cache lines.
    const TERMS: usize = 32;
    assert!(source.len() >= (rows - 1) * stride + depth && target.len() >= rows * depth);
    for block in (0..depth).step_by(TERMS) {
        let end = depth.min(block + TERMS);
        for row in (0..rows).step_by(QUAD) {
            let mut k = block;
            while row + QUAD <= rows && k + QUAD <= end {
                // SAFETY: four rows and four terms from here on lie within both, as asserted.
                unsafe {
                    let source = source.as_ptr().add(row * stride + k);
                    let target = target.as_mut_ptr().add(k * rows + row);
                    simd::transpose_4(source, stride, target, rows);
                }
                k += QUAD;
            }
            for k in k..end {
                for row in row..rows.min(row + QUAD) {
                    target[k * rows + row] = source[row * stride + k];
                }
            }
        }
    }
}
