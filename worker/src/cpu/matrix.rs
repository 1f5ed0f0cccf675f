//! The matrix multiplication (gemm) of the fused operators: `C = start + A·B` with B packed into panels. It decides
//! the blocking.
//!
//! Element (r, n) of the result is the chain `fma(A[r,k], B[k,n], ·)` over k = 0, 1, … from its
//! start. Blocking over k stores and reloads the partial chain, which is exact, so the bits depend
//! on no block size.

use std::cell::Cell;

use rayon::prelude::*;
use simd::{Kernel, Lanes, Level};

use super::block::BlockMut;

mod left;
mod panels;
mod tile;

pub use left::Left;
pub use panels::{PANEL, Panels};
use tile::{GROUP, Tile, TileStart};

/// Terms of a chain computed before the result is stored: a block of rows and a panel of them fit a
/// second-level cache, and the result's way to memory and back is short beside them.
const DEPTH_BLOCK: usize = 1024;
/// Rows that share a panel while it is in the second-level cache.
const ROW_BLOCK: usize = 8 * GROUP;
/// Rows handed to a thread at a time, at most.
const ROW_TASK: usize = 4 * ROW_BLOCK;

/// What the chains begin with.
#[derive(Clone, Copy)]
pub enum Addend<'a> {
    /// Nothing.
    Zero,
    /// The same row of `columns` values in every row.
    Row(&'a [f32]),
    /// What the result holds already.
    Result,
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
    start: Addend,
    result: &mut [f32],
    stride: usize,
    rows: usize,
) {
    let result = BlockMut::strided(result, rows, right.columns(), stride);
    multiply_window(level, left, right, start, result);
}

/// [`multiply`] into a window [rows, right's columns], beside which other threads may write to others.
///
/// # Panics
/// If an operand is too short, or the window has another number of columns.
pub fn multiply_window(level: Level, left: Left, right: &Panels, start: Addend, result: BlockMut) {
    assert_eq!(result.columns(), right.columns(), "columns of the result");
    if result.rows() == 0 || right.columns() == 0 {
        return;
    }
    let holds = left.holds(result.rows(), right.depth());
    assert!(holds, "left operand too short");
    if let Addend::Row(row) = start {
        assert!(row.len() >= right.columns(), "start row too short");
    }
    level.run(Multiply {
        left,
        right,
        start,
        result,
    });
}

/// [`multiply`] with the rows shared out among the threads of rayon's pool.
pub fn multiply_parallel(
    level: Level,
    left: Left,
    right: &Panels,
    start: Addend,
    result: &mut [f32],
    stride: usize,
) {
    assert_eq!(result.len() % stride.max(1), 0, "the result is whole rows");
    let rows = result.len() / stride.max(1);
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return multiply(level, left, right, start, result, stride, rows);
    }
    // About as many rows for each, so that none waits for another.
    let shares = threads * rows.div_ceil(threads * ROW_TASK);
    let share = rows.div_ceil(shares.max(1)).max(GROUP);
    result
        .par_chunks_mut(share * stride)
        .enumerate()
        .for_each(|(task, chunk)| {
            let left = left.below(task * share);
            let rows = chunk.len() / stride;
            multiply(level, left, right, start, chunk, stride, rows);
        });
}

struct Multiply<'a> {
    left: Left<'a>,
    right: &'a Panels,
    start: Addend<'a>,
    /// As wide as `right`.
    result: BlockMut<'a>,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Self {
            left,
            right,
            start,
            mut result,
        } = self;
        let rows = result.rows();
        let mut packed = PACKED.take();
        let blocks = right.depth().div_ceil(DEPTH_BLOCK).max(1);
        for block in 0..blocks {
            let k0 = block * DEPTH_BLOCK;
            let depth = right.depth().min(k0 + DEPTH_BLOCK) - k0;
            let start = if block == 0 { start } else { Addend::Result };
            for row0 in (0..rows).step_by(ROW_BLOCK) {
                let count = (rows - row0).min(ROW_BLOCK);
                left::pack(&mut packed, left, row0..row0 + count, k0..k0 + depth);
                for panel in 0..right.columns().div_ceil(PANEL) {
                    let column = panel * PANEL;
                    let columns = (right.columns() - column).min(PANEL);
                    for group in left::groups(count) {
                        let next = if group.end < count {
                            result.address(row0 + group.end, column)
                        } else {
                            result.address(row0, column + PANEL)
                        };
                        let mut tile = Tile {
                            a: &packed[group.start * depth..group.end * depth],
                            b: right.panel(panel, k0..k0 + depth),
                            start: match start {
                                Addend::Zero => TileStart::Zero,
                                Addend::Row(bias) => TileStart::Row(&bias[column..][..columns]),
                                Addend::Result => TileStart::Result,
                            },
                            c: &mut result,
                            row: row0 + group.start,
                            rows: group.len(),
                            columns: column..column + columns,
                            next,
                        };
                        tile.compute::<V>();
                    }
                }
            }
        }
        PACKED.set(packed);
    }
}

thread_local! {
    /// The memory that a left operand is packed into.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
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
