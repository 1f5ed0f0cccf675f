//! The left-hand matrix of a product, and its blocks packed so that a tile reads them front to back.
//! It decides how rows are grouped into tiles.

use std::marker::PhantomData;
use std::ops::Range;

use super::ROW_BLOCK;
use super::panels::copy;
use super::tile::GROUP;
use crate::kernel::simd;

/// Rows that are packed together, four terms at a time.
const QUAD: usize = 4;

/// A left operand: element (r, k) lies `r * row + k * depth` elements behind the first. It is a pointer and no
/// slice, because what lies between its rows may be another thread's to write; only the elements of rows and
/// terms that a product asks for are ever read.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    values: *const f32,
    /// How many elements there are from `values` on.
    elements: usize,
    row: usize,
    depth: usize,
    borrowed: PhantomData<&'a [f32]>,
}

// SAFETY: it stands for a `&[f32]`; `Left::rows_at`'s caller answers for what is not borrowed as a whole.
unsafe impl Send for Left<'_> {}
// SAFETY: as above.
unsafe impl Sync for Left<'_> {}

impl<'a> Left<'a> {
    /// Rows of consecutive elements, `stride` apart.
    pub fn rows(values: &'a [f32], stride: usize) -> Self {
        Self {
            values: values.as_ptr(),
            elements: values.len(),
            row: stride,
            depth: 1,
            borrowed: PhantomData,
        }
    }

    /// The transpose of a row-major matrix whose rows are `stride` apart.
    pub fn transposed(values: &'a [f32], stride: usize) -> Self {
        Self {
            row: 1,
            depth: stride,
            ..Self::rows(values, stride)
        }
    }

    /// [`Left::rows`] within memory that is not the caller's as a whole.
    ///
    /// # Safety
    /// `elements` elements lie at `values`. While the operand is in use, those of its rows that a product
    /// asks for are initialised and nobody writes to them.
    pub unsafe fn rows_at(values: *const f32, elements: usize, stride: usize) -> Self {
        Self {
            values,
            elements,
            row: stride,
            depth: 1,
            borrowed: PhantomData,
        }
    }

    /// Whether it has all elements of so many rows and terms.
    pub(super) fn holds(self, rows: usize, terms: usize) -> bool {
        match (rows.checked_sub(1), terms.checked_sub(1)) {
            (Some(row), Some(term)) => row * self.row + term * self.depth < self.elements,
            _ => true,
        }
    }

    /// The operand without its first `row` rows.
    pub(super) fn below(self, row: usize) -> Self {
        let start = (row * self.row).min(self.elements);
        Self {
            // SAFETY: within the elements, or at their end.
            values: unsafe { self.values.add(start) },
            elements: self.elements - start,
            ..self
        }
    }

    /// `count` elements side by side, the first of them (`row`, `term`).
    ///
    /// # Safety
    /// They are elements of the operand, among those that the product asks for.
    #[inline(always)]
    unsafe fn run(self, row: usize, term: usize, count: usize) -> &'a [f32] {
        // SAFETY: as the caller promises.
        unsafe {
            let start = self.values.add(row * self.row + term * self.depth);
            std::slice::from_raw_parts(start, count)
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
///
/// # Panics
/// If the operand is too short.
#[inline(always)]
pub fn pack(packed: &mut Vec<f32>, left: Left, rows: Range<usize>, terms: Range<usize>) {
    assert!(left.holds(rows.end, terms.end), "left operand too short");
    let depth = terms.len();
    packed.resize(rows.len() * depth, 0.0);
    if left.depth == 1 {
        for group in groups(rows.len()) {
            let target = &mut packed[group.start * depth..group.end * depth];
            let rows = rows.start + group.start..rows.start + group.end;
            // SAFETY: the rows and terms are the operand's, as asserted.
            unsafe { pack_rows(left, rows, terms.clone(), target) };
        }
    } else if depth > 0 {
        // SAFETY: as above.
        unsafe { pack_terms(left, rows, terms, packed) };
    }
}

/// Terms of a transposed operand, all groups of a few terms together: a term of each group may lie in one and
/// the same set of the first-level cache, and so may all terms of the operand.
///
/// # Safety
/// The operand has the rows and terms.
#[inline(always)]
unsafe fn pack_terms(left: Left, rows: Range<usize>, terms: Range<usize>, target: &mut [f32]) {
    /// Terms taken for each group in turn.
    const TERMS: usize = 8;
    const LINE: usize = 16;
    let depth = terms.len();
    // SAFETY: the rows of a term lie side by side, and are the operand's.
    let term = |k: usize| unsafe { left.run(rows.start, terms.start + k, rows.len()) };
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
///
/// # Safety
/// The operand has the rows and terms.
#[inline(always)]
unsafe fn pack_rows(left: Left, rows: Range<usize>, terms: Range<usize>, target: &mut [f32]) {
    /// Terms taken from each row in turn: two cache lines.
    const TERMS: usize = 32;
    let (stride, depth, count) = (left.row, terms.len(), rows.len());
    assert!(target.len() >= count * depth);
    if depth == 0 {
        return;
    }
    // SAFETY: an element of the operand.
    let source = unsafe { left.values.add(rows.start * stride + terms.start) };
    for block in (0..depth).step_by(TERMS) {
        let end = depth.min(block + TERMS);
        for row in (0..count).step_by(QUAD) {
            let mut k = block;
            while row + QUAD <= count && k + QUAD <= end {
                // SAFETY: four rows and four terms from here on lie within both.
                unsafe {
                    let source = source.add(row * stride + k);
                    let target = target.as_mut_ptr().add(k * count + row);
                    simd::transpose_4(source, stride, target, count);
                }
                k += QUAD;
            }
            for k in k..end {
                for row in row..count.min(row + QUAD) {
                    // SAFETY: a row and a term of the operand.
                    target[k * count + row] = unsafe { *source.add(row * stride + k) };
                }
            }
        }
    }
}
