//! Products on a hardware GPU: a workgroup brings square pieces of the factors into its shared memory and
//! uses each value many times.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::{Addend, Multiplication, Parts, Transposition};
use crate::gpu::{Gpu, arg, word};

/// Side of a hardware workgroup's piece of the result, and how much of the inner dimension it holds.
const TILE: usize = 64;
const DEPTH: usize = 16;
/// Side of such a workgroup, and of a unit's own piece.
const SIDE: usize = 16;
const PIECE: usize = TILE / SIDE;

pub(super) fn launch(gpu: &Gpu, task: &Multiplication) {
    let count = CubeCount::Static(
        word(task.size.n.div_ceil(TILE)),
        word(task.size.m.div_ceil(TILE)),
        word(task.slabs),
    );
    let (left, right) = (task.left, task.right);
    let parts = task.parts((left.offset, left.stride), (right.offset, right.stride));
    // SAFETY: what lies outside the matrices is not read, and taken as zero, and not written.
    unsafe {
        tile_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_2d(word(SIDE), word(SIDE)),
            arg(left.buffer),
            arg(right.buffer),
            arg(task.result.buffer),
            parts,
            task.kind,
            Product::new(task.start),
        );
    }
}

/// What of a product is built into its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Product {
    /// How many rows from the right factor's buffer are added.
    rows: u32,
    accumulate: bool,
}

impl Product {
    fn new(start: Addend) -> Self {
        Self {
            rows: start.rows(),
            accumulate: start == Addend::Result,
        }
    }
}

/// Each workgroup has a square piece of the result and brings the factors into shared memory, a slice of
/// the inner dimension after the other.
#[cube(launch_unchecked)]
fn tile_kernel(
    left: &[f32],
    right: &[f32],
    result: &mut [f32],
    parts: Parts,
    #[comptime] kind: Transposition,
    #[comptime] shape: Product,
) {
    let m = parts.m as usize;
    let n = parts.n as usize;
    let first_row = CUBE_POS_Y as usize * TILE;
    let first_column = CUBE_POS_X as usize * TILE;
    let from = CUBE_POS_Z as usize * parts.slab as usize;
    let to = from + parts.slab as usize;
    let to = select(to < parts.k as usize, to, parts.k as usize);
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let unit = y * SIDE + x;
    let left_transposed = comptime!(kind == Transposition::LeftTransposed);
    let right_transposed = comptime!(kind == Transposition::RightTransposed);

    let mut left_tile = Shared::<[f32]>::new_slice(TILE * DEPTH);
    let mut right_tile = Shared::<[f32]>::new_slice(TILE * DEPTH);
    let mut sums = Array::<f32>::new(PIECE * PIECE);
    #[unroll]
    for c in 0..PIECE {
        let sum = begin(right, &parts, first_column + c * SIDE + x, shape);
        #[unroll]
        for r in 0..PIECE {
            sums[r * PIECE + c] = sum;
        }
    }
    let mut column_values = Array::<f32>::new(PIECE);
    let slices = (to - from).div_ceil(DEPTH);
    for slice in 0..slices {
        let begin = from + slice * DEPTH;
        #[unroll]
        for i in 0..TILE * DEPTH / (SIDE * SIDE) {
            let element = i * SIDE * SIDE + unit;
            // Neighbouring units read neighbouring elements.
            let (row, k) = if left_transposed {
                (element % TILE, element / TILE)
            } else {
                (element / DEPTH, element % DEPTH)
            };
            let inside = first_row + row < m && begin + k < to;
            let mut value = 0.0f32;
            if inside {
                value = if left_transposed {
                    left[parts.left as usize
                        + (begin + k) * parts.left_stride as usize
                        + first_row
                        + row]
                } else {
                    left[parts.left as usize
                        + (first_row + row) * parts.left_stride as usize
                        + begin
                        + k]
                };
            }
            left_tile[k * TILE + row] = value;

            let (column, k) = if right_transposed {
                (element / DEPTH, element % DEPTH)
            } else {
                (element % TILE, element / TILE)
            };
            let inside = first_column + column < n && begin + k < to;
            let mut value = 0.0f32;
            if inside {
                value = if right_transposed {
                    right[parts.right as usize
                        + (first_column + column) * parts.right_stride as usize
                        + begin
                        + k]
                } else {
                    right[parts.right as usize
                        + (begin + k) * parts.right_stride as usize
                        + first_column
                        + column]
                };
            }
            right_tile[k * TILE + column] = value;
        }
        sync_cube();
        for k in 0..DEPTH {
            #[unroll]
            for c in 0..PIECE {
                column_values[c] = right_tile[k * TILE + c * SIDE + x];
            }
            #[unroll]
            for r in 0..PIECE {
                let value = left_tile[k * TILE + r * SIDE + y];
                #[unroll]
                for c in 0..PIECE {
                    sums[r * PIECE + c] += value * column_values[c];
                }
            }
        }
        sync_cube();
    }
    #[unroll]
    for r in 0..PIECE {
        #[unroll]
        for c in 0..PIECE {
            let row = first_row + r * SIDE + y;
            let column = first_column + c * SIDE + x;
            if row < m && column < n {
                let at = parts.result as usize
                    + CUBE_POS_Z as usize * parts.apart as usize
                    + row * parts.result_stride as usize
                    + column;
                let sum = sums[r * PIECE + c];
                if comptime!(shape.accumulate) {
                    result[at] += sum;
                } else {
                    result[at] = sum;
                }
            }
        }
    }
}

/// What the sums of a column begin with.
#[cube]
fn begin(rows: &[f32], parts: &Parts, column: usize, #[comptime] shape: Product) -> f32 {
    let column = select(column < parts.n as usize, column, 0);
    let mut sum = 0.0f32;
    if comptime!(shape.rows == 1) {
        sum = rows[parts.first_row as usize + column];
    } else if comptime!(shape.rows == 2) {
        sum = rows[parts.first_row as usize + column] + rows[parts.second_row as usize + column];
    }
    sum
}
