//! The left-hand matrix of a product, and its blocks packed so that a tile reads them front to back.
//! It decides how rows are grouped into tiles, and refuses to know what they are multiplied with.

use std::ops::Range;

use super::ROW_BLOCK;
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
    } else {
        // Terms of a row of the source in turn, all groups of a term together.
        let mut bounds = [(0, 0); ROW_BLOCK / GROUP];
        let groups = groups(rows.len()).zip(&mut bounds).map(|(group, bounds)| {
            *bounds = (group.start, group.end);
        });
        let groups = groups.count();
        for (k, term) in terms.enumerate() {
            let source = &left.values[term * left.depth + rows.start..][..rows.len()];
            for &(start, end) in &bounds[..groups] {
                let target = &mut packed[start * depth + k * (end - start)..][..end - start];
                let mut source = source[start..end].chunks_exact(QUAD);
                let mut target = target.chunks_exact_mut(QUAD);
                for (source, target) in source.by_ref().zip(target.by_ref()) {
                    target.copy_from_slice(source);
                }
                for (target, source) in target.into_remainder().iter_mut().zip(source.remainder()) {
                    *target = *source;
                }
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
