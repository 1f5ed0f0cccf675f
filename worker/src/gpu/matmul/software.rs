//! Products on a software adapter. There a unit is a lane of a vector register, and each load is a loop
//! over the lanes with some thirty instructions for each, also where all lanes want the same. What counts
//! is how few loads a product takes: one brings four values that lie side by side, whichever way the
//! matrix runs, and a unit has a large piece of the result to itself.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{Addend, Matrix, Multiplication, Parts, Transposition};
use crate::gpu::{Four, Gpu, arg, word};

/// Rows of a unit's piece of the result. A larger piece takes fewer loads, and longer to translate:
/// seconds for each kernel, so that what can be told to a kernel is not built into it.
const ROWS: usize = 32;
/// The same where the result's columns do not lie in fours.
const ROWS_ODD: usize = 8;
/// Rows of it that are stored at a time.
const STORED: usize = 4;
/// Columns of the piece, in groups of four.
const GROUPS: usize = 8;
const COLUMNS: usize = 4 * GROUPS;
/// Places of the inner dimension that a turn of the loop takes.
pub(super) const DEPTH: usize = 4;
/// Units of a workgroup: a vector register's lanes. More would be another kernel.
const UNITS: usize = 8;
/// How many of them lie side by side, where there are rows for two lines of them.
const ACROSS: usize = 4;
/// Units of a workgroup that copies, at most.
const COPYING_UNITS: usize = 64;

pub(super) fn launch(gpu: &Gpu, task: &Multiplication) {
    let (left, right, result) = (task.left, task.right, task.result);
    let super::Size { m, n, k } = task.size;
    let rows_from = task.right.buffer;
    let (left_transposed, left, right) = match task.kind {
        Transposition::Plain => (
            false,
            Fours::of(gpu, left, m, k),
            Fours::of(gpu, right, k, n),
        ),
        Transposition::RightTransposed => {
            let right = Fours::transposed(gpu, right, n, k);
            (false, Fours::of(gpu, left, m, k), right)
        }
        Transposition::LeftTransposed => (
            true,
            Fours::of(gpu, left, k, m),
            Fours::of(gpu, right, k, n),
        ),
    };
    let parts = task.parts((left.offset, left.stride), (right.offset, right.stride));
    let in_fours = [n, result.offset, result.stride, task.apart];
    let in_fours = in_fours.iter().all(|size| size % 4 == 0);
    let rows = match in_fours {
        true => ROWS,
        false => ROWS_ODD,
    };
    let across = match m > rows {
        true => ACROSS,
        false => UNITS,
    };
    let count = CubeCount::Static(
        word(n.div_ceil(across * COLUMNS)),
        word(m.div_ceil(UNITS / across * rows)),
        word(task.slabs),
    );
    // SAFETY: rows, columns and places beyond the last are read as the last; what comes of them is not
    // written, or taken times zero.
    unsafe {
        pieces_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_1d(word(UNITS)),
            if in_fours { 4 } else { 1 },
            arg(&left.buffer),
            arg(&right.buffer),
            arg(rows_from),
            arg(result.buffer),
            parts,
            task.start.rows(),
            word(across),
            rows,
            left_transposed,
            task.start == Addend::Result,
        );
    }
}

/// The transpose of `matrix` [rows, columns], filled up with zeros to rows of whole fours.
pub(super) fn transpose(gpu: &Gpu, matrix: Matrix, rows: usize, columns: usize) -> CubeTensor {
    Fours::transposed(gpu, matrix, rows, columns).buffer
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
        Self::copy(
            gpu,
            matrix.buffer,
            matrix.offset,
            [(rows, matrix.stride), (columns, 1)],
        )
    }

    /// A copy of the transpose of a matrix of `rows` and `columns`, likewise.
    fn transposed(gpu: &Gpu, matrix: Matrix, rows: usize, columns: usize) -> Self {
        Self::copy(
            gpu,
            matrix.buffer,
            matrix.offset,
            [(columns, 1), (rows, matrix.stride)],
        )
    }

    /// A copy with these rows and columns: how many there are, and how far apart they lie.
    fn copy(
        gpu: &Gpu,
        source: &CubeTensor,
        offset: usize,
        [(rows, row), (columns, column)]: [(usize, usize); 2],
    ) -> Self {
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
                arg(source),
                arg(&buffer),
                word(offset),
                word(row),
                word(column),
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
    row_stride: u32,
    column_stride: u32,
    rows: u32,
    columns: u32,
    width: u32,
) {
    // A dimension for each, because a software adapter divides lane by lane.
    let column = CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X;
    let row = CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y;
    if column < width && row < rows {
        let at = offset + row * row_stride + column * column_stride;
        let at = select(column < columns, at, offset);
        let value = matrix[at as usize];
        copy[(row * width + column) as usize] = select(column < columns, value, 0.0);
    }
}

/// A unit has `rows` rows of [`GROUPS`] groups of four columns.
#[cube(launch_unchecked)]
fn pieces_kernel<N: Size>(
    left: &[Four],
    right: &[Four],
    rows_from: &[f32],
    result: &mut [Vector<f32, N>],
    parts: Parts,
    begin_rows: u32,
    across: u32,
    #[comptime] rows: usize,
    #[comptime] left_transposed: bool,
    #[comptime] accumulate: bool,
) {
    let n = parts.n as usize;
    let line = (UNIT_POS_X / across) as usize;
    let lines = comptime!(UNITS as u32) / across;
    let first_row = (CUBE_POS_Y as usize * lines as usize + line) * rows;
    let across = across as usize;
    let first_group = CUBE_POS_X as usize * across * GROUPS + UNIT_POS_X as usize % across;
    let from = CUBE_POS_Z as usize * parts.slab as usize;
    let to = from + parts.slab as usize;
    let to = select(to < parts.k as usize, to, parts.k as usize);

    let mut starts = Array::<Four>::new(GROUPS);
    #[unroll]
    for g in 0..GROUPS {
        starts[g] = Four::new(0.0);
    }
    if begin_rows > 0 {
        for g in 0..GROUPS {
            let mut start = Four::new(0.0);
            #[unroll]
            for c in 0..4 {
                let column = 4 * (first_group + g * across) + c;
                start.insert(c, begin(rows_from, &parts, column, begin_rows));
            }
            // Registers have no places that a loop could count through.
            #[unroll]
            for g in 1..GROUPS {
                starts[g - 1] = starts[g];
            }
            starts[GROUPS - 1] = start;
        }
    }
    let mut sums = Array::<Four>::new(comptime!(rows * GROUPS));
    #[unroll]
    for place in 0..comptime!(rows * GROUPS) {
        sums[place] = starts[comptime!(place % GROUPS)];
    }
    let turns = (to - from).div_ceil(DEPTH);
    for turn in 0..turns {
        let k = from + turn * DEPTH;
        let x = left_values(left, &parts, first_row, k, to, rows, left_transposed);
        let y = right_values(right, &parts, first_group, across, k);
        #[unroll]
        for r in 0..rows {
            let mut row = Array::<Four>::new(DEPTH);
            #[unroll]
            for i in 0..DEPTH {
                let value = if comptime!(left_transposed) {
                    x[i * (rows / 4) + r / 4].extract(comptime!(r % 4))
                } else {
                    x[r].extract(i)
                };
                row[i] = Four::new(value);
            }
            #[unroll]
            for g in 0..GROUPS {
                let mut sum = sums[r * GROUPS + g];
                #[unroll]
                for i in 0..DEPTH {
                    sum += row[i] * y[i * GROUPS + g];
                }
                sums[r * GROUPS + g] = sum;
            }
        }
    }
    let at = parts.result as usize
        + CUBE_POS_Z as usize * parts.apart as usize
        + first_row * parts.result_stride as usize;
    let width = N::value();
    // A few rows, and the others move up: Mesa takes long over each place where something is stored.
    for block in 0..comptime!(rows / STORED) {
        #[unroll]
        for r in 0..STORED {
            let row = block * STORED + r;
            #[unroll]
            for g in 0..GROUPS {
                let sum = sums[r * GROUPS + g];
                #[unroll]
                for piece in 0..comptime!(4 / width) {
                    let column = 4 * (first_group + g * across) + piece * width;
                    if first_row + row < parts.m as usize && column < n {
                        let at = (at + row * parts.result_stride as usize + column) / width;
                        let mut values = Vector::<f32, N>::new(0.0);
                        #[unroll]
                        for i in 0..width {
                            values.insert(i, sum.extract(comptime!(piece * width + i)));
                        }
                        if comptime!(accumulate) {
                            values += result[at];
                        }
                        result[at] = values;
                    }
                }
            }
        }
        #[unroll]
        for place in 0..comptime!((rows - STORED) * GROUPS) {
            sums[place] = sums[comptime!(place + STORED * GROUPS)];
        }
    }
}

/// What the sums of a column begin with: a row, or two.
#[cube]
fn begin(rows: &[f32], parts: &Parts, column: usize, begin_rows: u32) -> f32 {
    let column = select(column < parts.n as usize, column, 0);
    let mut sum = rows[parts.first_row as usize + column];
    if begin_rows > 1 {
        sum += rows[parts.second_row as usize + column];
    }
    sum
}

/// The left factor's values of a turn: for each row those of `DEPTH` places, or, transposed, for each
/// place those of every four rows.
#[cube]
fn left_values(
    left: &[Four],
    parts: &Parts,
    first_row: usize,
    k: usize,
    to: usize,
    #[comptime] rows: usize,
    #[comptime] transposed: bool,
) -> Array<Four> {
    let offset = parts.left as usize;
    let stride = parts.left_stride as usize;
    let m = parts.m as usize;
    let mut values = Array::<Four>::new(comptime!(rows * DEPTH / 4));
    if comptime!(transposed) {
        let groups = m.div_ceil(4);
        #[unroll]
        for i in 0..DEPTH {
            let inside = k + i < to;
            let place = select(inside, k + i, to - 1);
            #[unroll]
            for g in 0..rows / 4 {
                let group = first_row / 4 + g;
                let group = select(group < groups, group, groups - 1);
                let four = left[offset + place * stride + group];
                values[i * (rows / 4) + g] = select(inside, four, Four::new(0.0));
            }
        }
    } else {
        #[unroll]
        for r in 0..rows {
            let row = select(first_row + r < m, first_row + r, m - 1);
            values[r] = left[offset + row * stride + k / 4];
        }
    }
    values
}

/// The right factor's values of a turn: the groups of the piece for each of `DEPTH` places.
#[cube]
fn right_values(
    right: &[Four],
    parts: &Parts,
    first_group: usize,
    across: usize,
    k: usize,
) -> Array<Four> {
    let offset = parts.right as usize;
    let stride = parts.right_stride as usize;
    let n = parts.n as usize;
    let mut values = Array::<Four>::new(comptime!(GROUPS * DEPTH));
    let last = n.div_ceil(4) - 1;
    #[unroll]
    for i in 0..DEPTH {
        let place = select(k + i < parts.k as usize, k + i, parts.k as usize - 1);
        #[unroll]
        for g in 0..GROUPS {
            let group = first_group + g * across;
            let group = select(group < last, group, last);
            values[i * GROUPS + g] = right[offset + place * stride + group];
        }
    }
    values
}
