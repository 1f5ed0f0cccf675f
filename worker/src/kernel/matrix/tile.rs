//! A few rows of a product by one panel, the sums in registers. It decides how many of them a vector
//! width takes at a time; the order of a sum is the one of the terms at any width.

use super::PANEL;
use crate::kernel::simd::{self, Lanes};

/// Rows of a tile.
pub const GROUP: usize = 12;

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

pub enum TileStart {
    Zero,
    Row(*const f32),
    Result,
}

/// A micro-tile: up to GROUP rows by one panel.
pub struct Tile {
    /// The rows of a term side by side, term after term.
    pub a: *const f32,
    pub b: *const f32,
    pub depth: usize,
    pub start: TileStart,
    pub c: *mut f32,
    /// The result of the tile that comes next, to be fetched meanwhile; may lie outside.
    pub next: *const f32,
    pub stride: usize,
    pub columns: usize,
}

impl Tile {
    /// # Safety
    /// The pointers cover `rows` rows, `depth` terms and `columns` columns.
    #[inline(always)]
    pub unsafe fn rows<V: Lanes>(&self, rows: usize) {
        // SAFETY: as the caller promises; each call covers rows below `rows`.
        unsafe {
            if V::LANES == 16 {
                // 32 registers: 12 rows × 2 vectors of sums.
                match rows {
                    12 => self.chains::<V, 12>(0, 12),
                    11 => self.chains::<V, 11>(0, 11),
                    10 => self.chains::<V, 10>(0, 10),
                    9 => self.chains::<V, 9>(0, 9),
                    8 => self.chains::<V, 8>(0, 8),
                    7 => self.chains::<V, 7>(0, 7),
                    6 => self.chains::<V, 6>(0, 6),
                    5 => self.chains::<V, 5>(0, 5),
                    4 => self.chains::<V, 4>(0, 4),
                    3 => self.chains::<V, 3>(0, 3),
                    2 => self.chains::<V, 2>(0, 2),
                    _ => self.chains::<V, 1>(0, 1),
                }
            } else {
                // 16 registers: 6 rows × 2 vectors of sums.
                let mut row = 0;
                while row + 6 <= rows {
                    self.chains::<V, 6>(row, rows);
                    row += 6;
                }
                while row + 3 <= rows {
                    self.chains::<V, 3>(row, rows);
                    row += 3;
                }
                while row < rows {
                    self.chains::<V, 1>(row, rows);
                    row += 1;
                }
            }
        }
    }

    /// ROWS of the tile's `rows` from `row` on, two vectors at a time across the panel.
    ///
    /// # Safety
    /// As [`Tile::rows`].
    #[inline(always)]
    unsafe fn chains<V: Lanes, const ROWS: usize>(&self, row: usize, rows: usize) {
        let mut column = 0;
        while column < self.columns {
            // SAFETY: as the caller promises; a panel is PANEL wide even where fewer columns count,
            // and `load` and `store` keep to the counting ones.
            unsafe {
                let c = self.c.add(row * self.stride + column);
                let columns = self.columns - column;
                let mut sums = [[V::splat(0.0); 2]; ROWS];
                match self.start {
                    TileStart::Zero => {}
                    TileStart::Row(bias) => {
                        let bias = load(bias.add(column), columns);
                        unrolled!(ROWS, r => sums[r] = bias);
                    }
                    TileStart::Result => {
                        unrolled!(ROWS, r => sums[r] = load(c.add(r * self.stride), columns));
                        unrolled!(ROWS, r => {
                            let next = self.next.wrapping_add(r * self.stride);
                            simd::prefetch(next);
                            simd::prefetch(next.wrapping_add(16));
                        });
                    }
                }
                let mut a = self.a.add(row);
                let mut b = self.b.add(column);
                for _ in 0..self.depth {
                    let right = [V::load(b), V::load(b.add(V::LANES))];
                    unrolled!(ROWS, r => {
                        let left = V::splat(*a.add(r));
                        sums[r][0] = left.mul_add(right[0], sums[r][0]);
                        sums[r][1] = left.mul_add(right[1], sums[r][1]);
                    });
                    a = a.add(rows);
                    b = b.add(PANEL);
                }
                unrolled!(ROWS, r => store(sums[r], c.add(r * self.stride), columns));
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
