//! A few rows of a product by one panel, the sums in registers. It decides how many of them a vector
//! width takes at a time; the order of a sum is the one of the terms at any width.

use std::ops::Range;

use simd::Lanes;

use super::PANEL;
use crate::cpu::block::BlockMut;

/// Rows of a tile.
pub(super) const GROUP: usize = 12;

/// A loop over the rows of a tile written out: the compiler would leave one of twelve rolled, and
/// with it the sums in memory.
macro_rules! unrolled {
    ($rows:ident, $row:ident => $body:expr) => {
        unrolled!(@ $rows, $row => $body; 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $rows:ident, $row:ident => $body:expr; $($at:literal)*) => {
        $(if $at < $rows {
            let $row = $at;
            $body;
        })*
    };
}

pub(super) enum TileStart<'a> {
    Zero,
    /// One for each column.
    Row(&'a [f32]),
    Result,
}

/// A micro-tile: up to GROUP rows by one panel.
pub(super) struct Tile<'a, 'b> {
    /// [terms, rows]
    pub a: &'a [f32],
    /// [terms, PANEL]
    pub b: &'a [f32],
    pub start: TileStart<'a>,
    /// The whole result, of which the tile is `rows` rows from `row` on and the columns `columns`.
    pub c: &'a mut BlockMut<'b>,
    pub row: usize,
    pub rows: usize,
    pub columns: Range<usize>,
    /// The result of the tile that comes next, to be fetched meanwhile; may lie outside.
    pub next: *const f32,
}

impl Tile<'_, '_> {
    /// # Panics
    /// If the operands have different numbers of terms, or the result lacks a row or a column.
    #[inline(always)]
    pub(super) fn compute<V: Lanes>(&mut self) {
        let rows = self.rows;
        if V::LANES == 16 {
            // 32 registers: 12 rows × 2 vectors of sums.
            match rows {
                12 => self.chains::<V, 12>(0),
                11 => self.chains::<V, 11>(0),
                10 => self.chains::<V, 10>(0),
                9 => self.chains::<V, 9>(0),
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
            // 16 registers: 6 rows × 2 vectors of sums.
            let mut row = 0;
            while row + 6 <= rows {
                self.chains::<V, 6>(row);
                row += 6;
            }
            while row + 3 <= rows {
                self.chains::<V, 3>(row);
                row += 3;
            }
            while row < rows {
                self.chains::<V, 1>(row);
                row += 1;
            }
        }
    }

    /// ROWS of the tile's rows from `row` on, two vectors at a time across the panel.
    #[inline(always)]
    fn chains<V: Lanes, const ROWS: usize>(&mut self, row: usize) {
        let (rows, width) = (self.rows, self.columns.len());
        let depth = self.b.len() / PANEL;
        assert!(row + ROWS <= rows && self.a.len() == rows * depth, "terms");
        let mut column = 0;
        while column < width {
            assert!(column + 2 * V::LANES <= PANEL, "columns");
            let end = width.min(column + 2 * V::LANES);
            let columns = self.columns.start + column..self.columns.start + end;
            let mut sums = [[V::splat(0.0); 2]; ROWS];
            match self.start {
                TileStart::Zero => {}
                TileStart::Row(bias) => {
                    let bias = load(&bias[column..end]);
                    unrolled!(ROWS, r => sums[r] = bias);
                }
                TileStart::Result => {
                    unrolled!(ROWS, r => {
                        sums[r] = load(&self.c.row_mut(self.row + row + r)[columns.clone()]);
                    });
                    let stride = self.c.stride();
                    unrolled!(ROWS, r => {
                        let next = self.next.wrapping_add(r * stride);
                        simd::prefetch(next);
                        simd::prefetch(next.wrapping_add(16));
                    });
                }
            }
            let (a, b) = (self.a.as_ptr(), self.b.as_ptr());
            for k in 0..depth {
                // SAFETY: term k of `depth` has `rows` elements from `a[k * rows]` on, among them ROWS from `row` on,
                // and PANEL from `b[k * PANEL]` on, among them two vectors from `column` on: all three were just
                // asserted, and `b` has `depth` times PANEL elements.
                unsafe {
                    let a = a.add(k * rows + row);
                    let b = b.add(k * PANEL + column);
                    let right = [V::load_from(b), V::load_from(b.add(V::LANES))];
                    unrolled!(ROWS, r => {
                        let left = V::splat(*a.add(r));
                        sums[r][0] = left.mul_add(right[0], sums[r][0]);
                        sums[r][1] = left.mul_add(right[1], sums[r][1]);
                    });
                }
            }
            unrolled!(ROWS, r => {
                store(sums[r], &mut self.c.row_mut(self.row + row + r)[columns.clone()]);
            });
            column += 2 * V::LANES;
        }
    }
}

/// Two vectors, filled up with zeros where there are fewer elements.
#[inline(always)]
fn load<V: Lanes>(source: &[f32]) -> [V; 2] {
    if source.len() >= 2 * V::LANES {
        [V::load(source), V::load(&source[V::LANES..])]
    } else {
        let mut copy = [0.0f32; PANEL];
        copy[..source.len()].copy_from_slice(source);
        [V::load(&copy), V::load(&copy[V::LANES..])]
    }
}

/// As many elements of two vectors as there is room for.
#[inline(always)]
fn store<V: Lanes>(values: [V; 2], target: &mut [f32]) {
    if target.len() >= 2 * V::LANES {
        values[0].store(target);
        values[1].store(&mut target[V::LANES..]);
    } else {
        let mut copy = [0.0f32; PANEL];
        values[0].store(&mut copy);
        values[1].store(&mut copy[V::LANES..]);
        target.copy_from_slice(&copy[..target.len()]);
    }
}
