//! Products on a software adapter. There a unit is a lane of a vector register, and each load is a loop
//! over the lanes with some thirty instructions for each, also where all lanes want the same. What counts
//! is how few loads a product takes: one brings four values that lie side by side, whichever way the
//! matrix runs, and a unit has a large piece of the result to itself.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{Kind, Matrix, Parts, Product, Task, begin};
use crate::gpu::{Gpu, arg, word};

/// Rows of a unit's piece of the result. A larger piece takes fewer loads, and Mesa much longer to
/// translate.
const ROWS: usize = 16;
/// Its columns, in groups of four.
const GROUPS: usize = 4;
const COLUMNS: usize = 4 * GROUPS;
/// Places of the inner dimension that a turn of the loop takes.
pub(super) const DEPTH: usize = 4;
/// Units of a workgroup that copies, at most.
const COPYING_UNITS: usize = 64;

type Four = Vector<f32, Const<4>>;

pub(super) fn launch(gpu: &Gpu, task: &Task) {
    let (left, right, result) = (task.left, task.right, task.result);
    let super::Size { m, n, k } = task.size;
    let right_rows = task.right.buffer;
    let (left, right) = match task.kind {
        Kind::Plain => (Fours::of(gpu, left, m, k), Fours::of(gpu, right, k, n)),
        Kind::RightTransposed => (Fours::of(gpu, left, m, k), Fours::of(gpu, right, n, k)),
        Kind::LeftTransposed => (Fours::of(gpu, left, k, m), Fours::of(gpu, right, k, n)),
    };
    let parts = task.parts((left.offset, left.stride), (right.offset, right.stride));
    let units = gpu.plan.row_of_units(n.div_ceil(COLUMNS));
    let count = CubeCount::Static(
        word(n).div_ceil(units * word(COLUMNS)),
        word(m.div_ceil(ROWS)),
        word(task.slabs),
    );
    let is_in_fours = [n, result.offset, result.stride]
        .iter()
        .all(|size| size % 4 == 0);
    // SAFETY: rows, columns and places beyond the last are read as the last; what comes of them is not
    // written, or taken times zero.
    unsafe {
        pieces_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_1d(units),
            if is_in_fours { 4 } else { 1 },
            arg(&left.buffer),
            arg(&right.buffer),
            arg(right_rows),
            arg(result.buffer),
            parts,
            task.kind,
            Product::new(task.start),
        );
    }
}

/// A matrix whose rows begin at a multiple of four values and are as long.
struct Fours {
    buffer: CubeTensor,
    /// In groups of four, like the stride.
    offset: usize,
    stride: usize,
}

impl Fours {
    /// The matrix itself, or a copy with zeros at the ends of its rows.
    fn of(gpu: &Gpu, matrix: Matrix, rows: usize, columns: usize) -> Self {
        let at_fours = [matrix.offset, matrix.stride, columns];
        if at_fours.iter().all(|size| size % 4 == 0) {
            return Self {
                buffer: matrix.buffer.clone(),
                offset: matrix.offset / 4,
                stride: matrix.stride / 4,
            };
        }
        let width = columns.next_multiple_of(4);
        let buffer = gpu.empty([rows.max(1), width.max(4)]);
        let units = gpu.plan.row_of_units(COPYING_UNITS);
        // A dimension holds at most 65,535 workgroups.
        let z = word(rows).div_ceil(65_535).max(1);
        let y = word(rows).div_ceil(z);
        let count = CubeCount::Static(word(width).div_ceil(units), y, z);
        // SAFETY: units beyond the last column and the last row end at once.
        unsafe {
            copy_kernel::launch_unchecked(
                &gpu.client,
                count,
                CubeDim::new_1d(units),
                arg(matrix.buffer),
                arg(&buffer),
                word(matrix.offset),
                word(matrix.stride),
                word(rows),
                word(columns),
                word(width),
            );
        }
        Self {
            buffer,
            offset: 0,
            stride: width / 4,
        }
    }
}

#[cube(launch_unchecked)]
fn copy_kernel(
    matrix: &[f32],
    copy: &mut [f32],
    offset: u32,
    stride: u32,
    rows: u32,
    columns: u32,
    width: u32,
) {
    // A dimension for each, because a software adapter divides lane by lane.
    let column = CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X;
    let row = CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y;
    if column < width && row < rows {
        let at = select(column < columns, offset + row * stride + column, offset);
        let value = matrix[at as usize];
        copy[(row * width + column) as usize] = select(column < columns, value, 0.0);
    }
}

/// A unit has [`ROWS`] rows of [`GROUPS`] groups of four columns.
#[cube(launch_unchecked)]
fn pieces_kernel<N: Size>(
    left: &[Four],
    right: &[Four],
    rows: &[f32],
    result: &mut [Vector<f32, N>],
    parts: Parts,
    #[comptime] kind: Kind,
    #[comptime] shape: Product,
) {
    let n = parts.n as usize;
    let units = CUBE_DIM_X as usize;
    let first_row = CUBE_POS_Y as usize * ROWS;
    let first_group = CUBE_POS_X as usize * units * GROUPS + UNIT_POS_X as usize;
    let from = CUBE_POS_Z as usize * parts.slab as usize;
    let to = from + parts.slab as usize;
    let to = select(to < parts.k as usize, to, parts.k as usize);

    let mut sums = Array::<f32>::new(comptime!(ROWS * COLUMNS));
    #[unroll]
    for c in 0..COLUMNS {
        let column = 4 * (first_group + c / 4 * units) + c % 4;
        let sum = begin(rows, &parts, column, shape);
        #[unroll]
        for r in 0..ROWS {
            sums[r * COLUMNS + c] = sum;
        }
    }
    let turns = (to - from).div_ceil(DEPTH);
    for turn in 0..turns {
        let k = from + turn * DEPTH;
        let x = left_values(left, &parts, first_row, k, to, kind);
        let y = right_values(right, &parts, first_group, k, kind);
        #[unroll]
        for r in 0..ROWS {
            #[unroll]
            for c in 0..COLUMNS {
                let mut sum = sums[r * COLUMNS + c];
                #[unroll]
                for i in 0..DEPTH {
                    sum += x[r * DEPTH + i] * y[i * COLUMNS + c];
                }
                sums[r * COLUMNS + c] = sum;
            }
        }
    }
    let at = parts.result as usize
        + CUBE_POS_Z as usize * parts.slab_elements as usize
        + first_row * parts.result_stride as usize;
    let width = N::value();
    #[unroll]
    for r in 0..ROWS {
        #[unroll]
        for piece in 0..comptime!(COLUMNS / width) {
            let c = comptime!(piece * width);
            let column = 4 * (first_group + c / 4 * units) + c % 4;
            if first_row + r < parts.m as usize && column < n {
                let at = (at + r * parts.result_stride as usize + column) / width;
                let mut values = Vector::<f32, N>::new(0.0);
                #[unroll]
                for i in 0..width {
                    values.insert(i, sums[r * COLUMNS + c + i]);
                }
                if comptime!(shape.accumulate) {
                    values += result[at];
                }
                result[at] = values;
            }
        }
    }
}

/// The left factor's values of a turn: `DEPTH` for each row.
#[cube]
fn left_values(
    left: &[Four],
    parts: &Parts,
    first_row: usize,
    k: usize,
    to: usize,
    #[comptime] kind: Kind,
) -> Array<f32> {
    let offset = parts.left as usize;
    let stride = parts.left_stride as usize;
    let m = parts.m as usize;
    let mut values = Array::<f32>::new(comptime!(ROWS * DEPTH));
    if comptime!(kind == Kind::LeftTransposed) {
        let groups = m.div_ceil(4);
        #[unroll]
        for i in 0..DEPTH {
            let inside = k + i < to;
            let place = select(inside, k + i, to - 1);
            #[unroll]
            for g in 0..ROWS / 4 {
                let group = first_row / 4 + g;
                let group = select(group < groups, group, groups - 1);
                let four = left[offset + place * stride + group];
                #[unroll]
                for r in 0..4 {
                    values[(4 * g + r) * DEPTH + i] = select(inside, four.extract(r), 0.0);
                }
            }
        }
    } else {
        #[unroll]
        for r in 0..ROWS {
            let row = select(first_row + r < m, first_row + r, m - 1);
            let four = left[offset + row * stride + k / 4];
            #[unroll]
            for i in 0..DEPTH {
                values[r * DEPTH + i] = four.extract(i);
            }
        }
    }
    values
}

/// The right factor's values of a turn: a row of the piece for each of `DEPTH` places.
#[cube]
fn right_values(
    right: &[Four],
    parts: &Parts,
    first_group: usize,
    k: usize,
    #[comptime] kind: Kind,
) -> Array<f32> {
    let offset = parts.right as usize;
    let stride = parts.right_stride as usize;
    let n = parts.n as usize;
    let units = CUBE_DIM_X as usize;
    let mut values = Array::<f32>::new(comptime!(COLUMNS * DEPTH));
    if comptime!(kind == Kind::RightTransposed) {
        #[unroll]
        for c in 0..COLUMNS {
            let column = 4 * (first_group + c / 4 * units) + c % 4;
            let column = select(column < n, column, n - 1);
            let four = right[offset + column * stride + k / 4];
            #[unroll]
            for i in 0..DEPTH {
                values[i * COLUMNS + c] = four.extract(i);
            }
        }
    } else {
        let last = n.div_ceil(4) - 1;
        #[unroll]
        for i in 0..DEPTH {
            let place = select(k + i < parts.k as usize, k + i, parts.k as usize - 1);
            #[unroll]
            for g in 0..GROUPS {
                let group = first_group + g * units;
                let group = select(group < last, group, last);
                let four = right[offset + place * stride + group];
                #[unroll]
                for c in 0..4 {
                    values[i * COLUMNS + 4 * g + c] = four.extract(c);
                }
            }
        }
    }
    values
}
