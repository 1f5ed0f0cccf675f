//! Products on a hardware GPU: a workgroup brings square pieces of the factors into its shared memory and
//! uses each value many times. While it multiplies a slice of the inner dimension, the next one is on its
//! way into the units' registers.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::{Addend, Multiplication, Parts, Transposition};
use crate::gpu::{Four, Gpu, arg, word};

/// Units along a side of a workgroup. Each has a piece of 4 × 4 values, or four of them, [`BLOCK`] apart.
const SIDE: usize = 16;
const BLOCK: usize = 4 * SIDE;
const UNITS: usize = SIDE * SIDE;
/// Values of each factor that lie in shared memory: half of the units bring 4 × 4 of each.
const SHARED: usize = 16 * UNITS / 2;

/// The side of a workgroup's piece of the result, in blocks. It follows from sizes of the model, never from how
/// many frames a batch has: the same kernels serve every batch.
fn blocks(task: &Multiplication) -> usize {
    /// Fewer large pieces than this, and most of a GPU would have no work.
    const PIECES: usize = 32;
    let large = 2 * BLOCK;
    let is_large = match task.kind {
        // Both sides are the model's.
        Transposition::LeftTransposed => task.size.m * task.size.n >= PIECES * large * large,
        Transposition::Plain | Transposition::RightTransposed => task.size.n >= large,
    };
    if is_large { 2 } else { 1 }
}

pub(super) fn launch(gpu: &Gpu, task: &Multiplication) {
    let blocks = blocks(task);
    let tile = blocks * BLOCK;
    let count = CubeCount::Static(
        word(task.size.n.div_ceil(tile)),
        word(task.size.m.div_ceil(tile)),
        word(task.slabs),
    );
    let (left, right) = (task.left, task.right);
    let parts = task.parts((left.offset, left.stride), (right.offset, right.stride));
    // SAFETY: rows, columns and places of the inner dimension beyond the last are read as the last; what
    // comes of them is not written, or taken as zero.
    unsafe {
        tile_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_1d(word(UNITS)),
            arg(left.buffer),
            arg(right.buffer),
            arg(task.result.buffer),
            parts,
            task.kind,
            Product::new(task.start),
            blocks,
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

/// Each workgroup has a square piece of the result, of `blocks` blocks a side, and each unit `blocks` × `blocks`
/// pieces of 4 × 4 values in it.
#[cube(launch_unchecked)]
fn tile_kernel(
    left: &[f32],
    right: &[f32],
    result: &mut [f32],
    parts: Parts,
    #[comptime] kind: Transposition,
    #[comptime] shape: Product,
    #[comptime] blocks: usize,
) {
    let groups = comptime!(blocks * SIDE);
    let tile = comptime!(blocks * BLOCK);
    let depth = comptime!(SHARED / (blocks * BLOCK));
    let m = parts.m as usize;
    let n = parts.n as usize;
    let first_row = CUBE_POS_Y as usize * tile;
    let first_column = CUBE_POS_X as usize * tile;
    let from = CUBE_POS_Z as usize * parts.slab as usize;
    let to = from + parts.slab as usize;
    let to = select(to < parts.k as usize, to, parts.k as usize);
    let unit = UNIT_POS_X as usize;
    let x = unit % SIDE;
    let y = unit / SIDE;
    let brings_left = unit < comptime!(UNITS / 2);

    // Four neighbouring rows, or columns, of each place of the inner dimension.
    let mut left_tile = Shared::<[Four]>::new_slice(comptime!(SHARED / 4));
    let mut right_tile = Shared::<[Four]>::new_slice(comptime!(SHARED / 4));
    let mut sums = Array::<Four>::new(comptime!(4 * blocks * blocks));
    #[unroll]
    for c in 0..blocks {
        let mut sum = Four::new(0.0);
        #[unroll]
        for i in 0..4 {
            let column = first_column + c * BLOCK + 4 * x + i;
            sum.insert(i, begin(right, &parts, column, shape));
        }
        #[unroll]
        for r in 0..comptime!(4 * blocks) {
            sums[r * blocks + c] = sum;
        }
    }
    let slices = (to - from).div_ceil(depth);
    let mut coming = Array::<Four>::new(4usize);
    let own = unit % comptime!(UNITS / 2);
    let left_along = comptime!(kind != Transposition::LeftTransposed);
    let right_along = comptime!(kind == Transposition::RightTransposed);
    // Which four places and which four rows or columns this unit brings. Neighbouring units read
    // neighbouring elements.
    let along = comptime!(SHARED / (blocks * BLOCK) / 4);
    let (left_places, left_lines) = places(own, along, groups, left_along);
    let (right_places, right_lines) = places(own, along, groups, right_along);
    if slices > 0 {
        bring_own(
            left,
            right,
            &mut coming,
            &parts,
            brings_left,
            first_row + 4 * left_lines,
            from + 4 * left_places,
            first_column + 4 * right_lines,
            from + 4 * right_places,
            to,
            kind,
        );
    }
    for slice in 0..slices {
        sync_cube();
        #[unroll]
        for k in 0..4 {
            if brings_left {
                left_tile[(4 * left_places + k) * groups + left_lines] = coming[k];
            } else {
                right_tile[(4 * right_places + k) * groups + right_lines] = coming[k];
            }
        }
        sync_cube();
        if slice + 1 < slices {
            let next = from + (slice + 1) * depth;
            bring_own(
                left,
                right,
                &mut coming,
                &parts,
                brings_left,
                first_row + 4 * left_lines,
                next + 4 * left_places,
                first_column + 4 * right_lines,
                next + 4 * right_places,
                to,
                kind,
            );
        }
        #[unroll]
        for k in 0..depth {
            let mut columns = Array::<Four>::new(blocks);
            #[unroll]
            for c in 0..blocks {
                columns[c] = right_tile[k * groups + c * SIDE + x];
            }
            #[unroll]
            for b in 0..blocks {
                let rows = left_tile[k * groups + b * SIDE + y];
                #[unroll]
                for i in 0..4 {
                    let value = Four::new(rows.extract(i));
                    #[unroll]
                    for c in 0..blocks {
                        sums[(4 * b + i) * blocks + c] += value * columns[c];
                    }
                }
            }
        }
    }
    let at = parts.result as usize + CUBE_POS_Z as usize * parts.apart as usize;
    #[unroll]
    for r in 0..comptime!(4 * blocks) {
        let row = first_row + comptime!(r / 4 * BLOCK) + 4 * y + comptime!(r % 4);
        if row < m {
            #[unroll]
            for c in 0..blocks {
                #[unroll]
                for i in 0..4 {
                    let column = first_column + c * BLOCK + 4 * x + i;
                    if column < n {
                        let at = at + row * parts.result_stride as usize + column;
                        let sum = sums[r * blocks + c].extract(i);
                        if comptime!(shape.accumulate) {
                            result[at] += sum;
                        } else {
                            result[at] = sum;
                        }
                    }
                }
            }
        }
    }
}

/// Which four places of the inner dimension, and which four lines of a factor, the `own`th unit brings.
#[cube]
fn places(
    own: usize,
    #[comptime] places: usize,
    #[comptime] lines: usize,
    #[comptime] along: bool,
) -> (usize, usize) {
    if comptime!(along) {
        (own % places, own / places)
    } else {
        (own / lines, own % lines)
    }
}

/// Brings the 4 × 4 values of the factor that is this unit's to bring.
#[cube]
fn bring_own(
    left: &[f32],
    right: &[f32],
    values: &mut Array<Four>,
    parts: &Parts,
    brings_left: bool,
    row: usize,
    left_place: usize,
    column: usize,
    right_place: usize,
    end: usize,
    #[comptime] kind: Transposition,
) {
    if brings_left {
        bring(
            left,
            values,
            parts.left as usize,
            parts.left_stride as usize,
            row,
            parts.m as usize,
            left_place,
            end,
            comptime!(kind != Transposition::LeftTransposed),
        );
    } else {
        bring(
            right,
            values,
            parts.right as usize,
            parts.right_stride as usize,
            column,
            parts.n as usize,
            right_place,
            end,
            comptime!(kind == Transposition::RightTransposed),
        );
    }
}

/// Reads 4 × 4 values of a factor: for each of four places of the inner dimension, which is `along` the
/// factor's rows or across them, those of four lines. Places from the end on are zero.
#[cube]
fn bring(
    factor: &[f32],
    values: &mut Array<Four>,
    offset: usize,
    stride: usize,
    line: usize,
    lines: usize,
    place: usize,
    end: usize,
    #[comptime] along: bool,
) {
    #[unroll]
    for k in 0..4 {
        let inside = place + k < end;
        let own_place = select(inside, place + k, end - 1);
        let mut four = Four::new(0.0);
        #[unroll]
        for i in 0..4 {
            let own_line = select(line + i < lines, line + i, lines - 1);
            let at = if comptime!(along) {
                offset + own_line * stride + own_place
            } else {
                offset + own_place * stride + own_line
            };
            four.insert(i, select(inside, factor[at], 0.0));
        }
        values[k] = four;
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
