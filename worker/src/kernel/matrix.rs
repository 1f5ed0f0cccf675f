//! The matrix product of the fused operators: `C = start + A·B` with B packed into panels. It
//! decides the blocking, and refuses to know what the matrices mean.
//!
//! Element (r, n) of the result is the chain `fma(A[r,k], B[k,n], ·)` over k = 0, 1, … from its
//! start. Blocking over k stores and reloads the partial chain, which is exact, so the bits depend
//! on no block size.

use rayon::prelude::*;

use super::simd::{Kernel, Lanes, Level};

mod panels;

use panels::copy;
pub use panels::{PANEL, Panels};

/// Terms of a chain computed before the result is stored: a panel of them fills a first-level cache.
const DEPTH_BLOCK: usize = 256;
/// Rows that share a panel while it is in the first-level cache.
const ROW_BLOCK: usize = 64;
/// Rows handed to a thread at a time.
const ROW_TASK: usize = 128;

/// What the chains begin with.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    Zero,
    /// The same row of `columns` values in every row.
    Row(&'a [f32]),
    /// What the result holds already.
    Result,
}

/// A left operand: element (r, k) is `values[r * row + k * depth]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    values: &'a [f32],
    row: usize,
    depth: usize,
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

    fn below(self, row: usize) -> Self {
        Self {
            values: &self.values[(row * self.row).min(self.values.len())..],
            ..self
        }
    }
}

/// `result[r, n] = start + Σ_k left[r, k]·right[k, n]` for `rows` rows of `result`, `stride` apart.
/// On one thread.
///
/// # Panics
/// If an operand is too short.
pub fn multiply(
    level: Level,
    left: Left,
    right: &Panels,
    start: Start,
    result: &mut [f32],
    stride: usize,
    rows: usize,
) {
    if rows == 0 || right.columns() == 0 {
        return;
    }
    assert!(
        result.len() >= (rows - 1) * stride + right.columns(),
        "result too short"
    );
    // SAFETY: the result is long enough and exclusively borrowed; the rest is checked inside.
    unsafe { multiply_raw(level, left, right, start, result.as_mut_ptr(), stride, rows) }
}

/// [`multiply`] into memory of which other parts may be in other threads' hands.
///
/// # Safety
/// `result` points to `rows` rows of `right.columns()` elements, `stride` apart, that nobody else
/// reads or writes meanwhile.
pub unsafe fn multiply_raw(
    level: Level,
    left: Left,
    right: &Panels,
    start: Start,
    result: *mut f32,
    stride: usize,
    rows: usize,
) {
    if rows == 0 || right.columns() == 0 {
        return;
    }
    if right.depth() > 0 {
        let last = (rows - 1) * left.row + (right.depth() - 1) * left.depth;
        assert!(left.values.len() > last, "left operand too short");
    }
    if let Start::Row(row) = start {
        assert!(row.len() >= right.columns(), "start row too short");
    }
    level.run(Multiply {
        left,
        right,
        start,
        result,
        stride,
        rows,
    });
}

/// [`multiply`] with the rows shared out among the threads of rayon's pool.
pub fn multiply_parallel(
    level: Level,
    left: Left,
    right: &Panels,
    start: Start,
    result: &mut [f32],
    stride: usize,
) {
    assert_eq!(result.len() % stride.max(1), 0, "the result is whole rows");
    let rows = result.len() / stride.max(1);
    if rayon::current_num_threads() == 1 {
        return multiply(level, left, right, start, result, stride, rows);
    }
    result
        .par_chunks_mut(ROW_TASK * stride)
        .enumerate()
        .for_each(|(task, chunk)| {
            let left = left.below(task * ROW_TASK);
            multiply(
                level,
                left,
                right,
                start,
                chunk,
                stride,
                chunk.len() / stride,
            );
        });
}

struct Multiply<'a> {
    left: Left<'a>,
    right: &'a Panels,
    start: Start<'a>,
    result: *mut f32,
    stride: usize,
    rows: usize,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Self {
            left,
            right,
            start,
            result,
            stride,
            rows,
        } = self;
        // A transposed left operand walks memory in strides of a row: pack each block once.
        let packs = left.depth != 1;
        let mut packed = Vec::new();
        let blocks = right.depth().div_ceil(DEPTH_BLOCK).max(1);
        for block in 0..blocks {
            let k0 = block * DEPTH_BLOCK;
            let depth = right.depth().min(k0 + DEPTH_BLOCK) - k0;
            let start = if block == 0 { start } else { Start::Result };
            for row0 in (0..rows).step_by(ROW_BLOCK) {
                let row_end = rows.min(row0 + ROW_BLOCK);
                if packs {
                    pack_left(&mut packed, left, row0..row_end, k0..k0 + depth);
                }
                for panel in 0..right.columns().div_ceil(PANEL) {
                    // SAFETY: the caller of `multiply_raw` answers for the result; it checked that
                    // the left operand holds rows × depth, and the panels hold depth × PANEL.
                    unsafe {
                        let b = right.panel(panel).add(k0 * PANEL);
                        let column = panel * PANEL;
                        let columns = (right.columns() - column).min(PANEL);
                        let mut row = row0;
                        while row < row_end {
                            let (a, a_row, a_depth) = if packs {
                                let group = (row - row0) * depth;
                                (packed.as_ptr().add(group), 1, GROUP.min(row_end - row))
                            } else {
                                (left.values.as_ptr().add(row * left.row + k0), left.row, 1)
                            };
                            let tile = Tile {
                                a,
                                a_row,
                                a_depth,
                                b,
                                depth,
                                start: match start {
                                    Start::Zero => TileStart::Zero,
                                    Start::Row(bias) => TileStart::Row(bias.as_ptr().add(column)),
                                    Start::Result => TileStart::Result,
                                },
                                c: result.add(row * stride + column),
                                stride,
                                columns,
                            };
                            let group = GROUP.min(row_end - row);
                            tile.rows::<V>(group);
                            row += group;
                        }
                    }
                }
            }
        }
    }
}

/// Rows of a micro-tile.
const GROUP: usize = 8;

/// Copies a block of a transposed left operand into groups of up to GROUP rows, each with the rows
/// of a term side by side.
#[inline(always)]
fn pack_left(
    packed: &mut Vec<f32>,
    left: Left,
    rows: std::ops::Range<usize>,
    terms: std::ops::Range<usize>,
) {
    packed.resize(rows.len() * terms.len(), 0.0);
    let mut target = packed.chunks_mut(GROUP * terms.len());
    for first in rows.clone().step_by(GROUP) {
        let group = GROUP.min(rows.end - first);
        let target = target
            .next()
            .expect("a chunk for each group, by the size above");
        for (target, k) in target.chunks_exact_mut(group).zip(terms.clone()) {
            copy::<GROUP>(&left.values[k * left.depth + first..][..group], target);
        }
    }
}

enum TileStart {
    Zero,
    Row(*const f32),
    Result,
}

/// A micro-tile: up to GROUP rows by one panel.
struct Tile {
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    depth: usize,
    start: TileStart,
    c: *mut f32,
    stride: usize,
    columns: usize,
}

impl Tile {
    /// # Safety
    /// The pointers cover `rows` rows, `depth` terms and `columns` columns.
    #[inline(always)]
    unsafe fn rows<V: Lanes>(&self, rows: usize) {
        // SAFETY: as the caller promises; each call covers rows below `rows`.
        unsafe {
            if V::LANES == 16 {
                // 32 registers: 8 rows × 2 vectors of sums.
                match rows {
                    8 => self.chains::<V, 8>(0),
                    7 => self.chains::<V, 7>(0),
                    6 => self.chains::<V, 6>(0),
                    5 => self.chains::<V, 5>(0),
                    4 => self.chains::<V, 4>(0),
                    3 => self.chains::<V, 3>(0),
                    2 => self.chains::<V, 2>(0),
                    _ => self.chains::<V, 1>(0),
                }
            } else {
                // 16 registers: 4 rows × 2 vectors of sums.
                let mut row = 0;
                while row + 4 <= rows {
                    self.chains::<V, 4>(row);
                    row += 4;
                }
                while row < rows {
                    self.chains::<V, 1>(row);
                    row += 1;
                }
            }
        }
    }

    /// ROWS rows from `row` on, two vectors at a time across the panel.
    ///
    /// # Safety
    /// As [`Tile::rows`].
    #[inline(always)]
    unsafe fn chains<V: Lanes, const ROWS: usize>(&self, row: usize) {
        let mut column = 0;
        while column < self.columns {
            // SAFETY: as the caller promises; a panel is PANEL wide even where fewer columns count,
            // and `load` and `store` keep to the counting ones.
            unsafe {
                let c = self.c.add(row * self.stride + column);
                let columns = self.columns - column;
                let mut sums = [[V::splat(0.0); 2]; ROWS];
                for (r, sum) in sums.iter_mut().enumerate() {
                    match self.start {
                        TileStart::Zero => {}
                        TileStart::Row(bias) => *sum = load(bias.add(column), columns),
                        TileStart::Result => *sum = load(c.add(r * self.stride), columns),
                    }
                }
                let mut a = self.a.add(row * self.a_row);
                let mut b = self.b.add(column);
                for _ in 0..self.depth {
                    let right = [V::load(b), V::load(b.add(V::LANES))];
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let left = V::splat(*a.add(r * self.a_row));
                        sum[0] = left.mul_add(right[0], sum[0]);
                        sum[1] = left.mul_add(right[1], sum[1]);
                    }
                    a = a.add(self.a_depth);
                    b = b.add(PANEL);
                }
                for (r, sum) in sums.into_iter().enumerate() {
                    store(sum, c.add(r * self.stride), columns);
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// # Safety
/// `columns` elements are readable at `source`.
#[inline(always)]
unsafe fn load<V: Lanes>(source: *const f32, columns: usize) -> [V; 2] {
    // SAFETY: as the caller promises; the copy holds two vectors of any level.
    unsafe {
        if columns >= 2 * V::LANES {
            [V::load(source), V::load(source.add(V::LANES))]
        } else {
            let mut copy = [0.0f32; PANEL];
            std::ptr::copy_nonoverlapping(source, copy.as_mut_ptr(), columns);
            [V::load(copy.as_ptr()), V::load(copy.as_ptr().add(V::LANES))]
        }
    }
}

/// # Safety
/// `columns` elements are writable at `target`.
#[inline(always)]
unsafe fn store<V: Lanes>(values: [V; 2], target: *mut f32, columns: usize) {
    // SAFETY: as the caller promises; the copy holds two vectors of any level.
    unsafe {
        if columns >= 2 * V::LANES {
            values[0].store(target);
            values[1].store(target.add(V::LANES));
        } else {
            let mut copy = [0.0f32; PANEL];
            values[0].store(copy.as_mut_ptr());
            values[1].store(copy.as_mut_ptr().add(V::LANES));
            std::ptr::copy_nonoverlapping(copy.as_ptr(), target, columns);
        }
    }
}

/// Adds the rows of `source` (`columns` wide, one after the other) to `sums`, first row first.
pub fn add_rows(level: Level, source: &[f32], sums: &mut [f32]) {
    struct AddRows<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for AddRows<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Lanes>(self) {
            for row in self.0.chunks_exact(self.1.len()) {
                for (sum, value) in self.1.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
    }
    if !sums.is_empty() {
        level.run(AddRows(source, sums));
    }
}

#[cfg(test)]
mod tests;
