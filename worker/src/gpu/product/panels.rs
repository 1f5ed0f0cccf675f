//! Products on a software adapter. There a unit is a lane of a vector register, and each load is a loop
//! over the lanes, so that what counts is how few loads a product takes: factors are packed with four
//! values side by side, which one load brings, and a unit has a large piece of the result to itself.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{Matrix, Parts, PartsLaunch, Product, Size, Start, begin, write};
use crate::gpu::{Gpu, arg, word};

/// Rows and columns of a unit's own piece of the result, in groups of four.
const OWN: usize = 4;
/// Units of a workgroup that packs, at most.
const OUTER_UNITS: usize = 64;

/// A factor: for each place in the inner dimension the rows (or columns) of the product, in groups of
/// four.
#[derive(Clone, Debug)]
pub struct Panels {
    buffer: CubeTensor,
    /// Groups before the first one.
    offset: usize,
    /// Groups of a place in the inner dimension.
    groups: usize,
}

impl Panels {
    /// `inner` places for `outer` rows, with nothing in particular in them: what is beyond `outer` is
    /// read and thrown away.
    pub fn empty(gpu: &Gpu, outer: usize, inner: usize) -> Self {
        let groups = outer.div_ceil(4).max(1);
        Self {
            buffer: gpu.empty([inner.max(1), 4 * groups]),
            offset: 0,
            groups,
        }
    }

    /// Packs a matrix: of `outer` rows over `inner` columns, or the other way round.
    pub fn pack(
        gpu: &Gpu,
        matrix: Matrix,
        is_outer_first: bool,
        outer: usize,
        inner: usize,
    ) -> Self {
        let panels = Self::empty(gpu, outer, inner);
        let (across, along) = if is_outer_first {
            (matrix.stride, 1)
        } else {
            (1, matrix.stride)
        };
        let units = gpu.plan.row_of_units(OUTER_UNITS);
        // A dimension holds at most 65,535 workgroups.
        let z = word(inner).div_ceil(65_535).max(1);
        let y = word(inner).div_ceil(z);
        let count = CubeCount::Static(word(outer).div_ceil(units), y, z);
        // SAFETY: units beyond the last place and the last row end at once.
        unsafe {
            pack_kernel::launch_unchecked(
                &gpu.client,
                count,
                CubeDim::new_1d(units),
                arg(matrix.buffer),
                arg(&panels.buffer),
                word(matrix.offset),
                word(across),
                word(along),
                word(outer),
                word(panels.width()),
                word(inner),
            );
        }
        panels
    }

    /// Values of a place in the inner dimension.
    pub fn width(&self) -> usize {
        4 * self.groups
    }

    pub fn buffer(&self) -> &CubeTensor {
        &self.buffer
    }

    /// Without the first `inner` places.
    pub fn after(&self, inner: usize) -> Self {
        Self {
            offset: self.offset + inner * self.groups,
            ..self.clone()
        }
    }
}

/// Writes the product of packed factors to `result`.
pub fn multiply(gpu: &Gpu, size: Size, left: &Panels, right: &Panels, result: Matrix) {
    let parts = PartsLaunch::new(
        0,
        0,
        0,
        0,
        word(result.offset),
        word(result.stride),
        0,
        0,
        word(size.m),
        word(size.n),
        word(size.k),
        word(size.k),
        0,
    );
    let shape = Product::new(Start::Zero);
    let buffer = result.buffer;
    launch(
        gpu,
        size,
        left,
        right,
        parts,
        shape,
        1,
        (buffer, &right.buffer),
    );
}

#[allow(clippy::too_many_arguments, reason = "a product has that many parts")]
pub(super) fn launch(
    gpu: &Gpu,
    size: Size,
    left: &Panels,
    right: &Panels,
    parts: PartsLaunch,
    shape: Product,
    slabs: usize,
    (result, rows): (&CubeTensor, &CubeTensor),
) {
    let own = 4 * OWN;
    let units = gpu.plan.row_of_units(size.n.div_ceil(own));
    let count = CubeCount::Static(
        word(size.n).div_ceil(units * word(own)),
        word(size.m.div_ceil(own)),
        word(slabs),
    );
    // SAFETY: groups beyond the last are read as the last and not written; the inner dimension ends with
    // the slab or the matrix.
    unsafe {
        panels_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_1d(units),
            arg(&left.buffer),
            arg(&right.buffer),
            arg(rows),
            arg(result),
            parts,
            word(left.offset),
            word(left.groups),
            word(right.offset),
            word(right.groups),
            shape,
            OWN,
        );
    }
}

#[cube(launch_unchecked)]
fn pack_kernel(
    matrix: &[f32],
    panels: &mut [f32],
    offset: u32,
    across: u32,
    along: u32,
    outer: u32,
    width: u32,
    inner: u32,
) {
    // A dimension for each, because a software adapter divides lane by lane.
    let own = CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X;
    let place = CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y;
    if own < outer && place < inner {
        let at = offset + own * across + place * along;
        panels[(place * width + own) as usize] = matrix[at as usize];
    }
}

/// A unit has `own` × `own` groups of the result.
#[cube(launch_unchecked)]
fn panels_kernel(
    left: &[Vector<f32, Const<4>>],
    right: &[Vector<f32, Const<4>>],
    rows: &[f32],
    result: &mut [f32],
    parts: Parts,
    left_offset: u32,
    left_groups: u32,
    right_offset: u32,
    right_groups: u32,
    #[comptime] shape: Product,
    #[comptime] own: usize,
) {
    let m = parts.m as usize;
    let n = parts.n as usize;
    let left_groups = left_groups as usize;
    let right_groups = right_groups as usize;
    let units = CUBE_DIM_X as usize;
    let first_row = CUBE_POS_Y as usize * own;
    let first_column = CUBE_POS_X as usize * units * own + UNIT_POS_X as usize;
    let from = CUBE_POS_Z as usize * parts.slab as usize;
    let to = from + parts.slab as usize;
    let to = select(to < parts.k as usize, to, parts.k as usize);

    let mut left_at = Array::<usize>::new(own);
    let mut right_at = Array::<usize>::new(own);
    #[unroll]
    for i in 0..own {
        let row = first_row + i;
        let row = select(row < left_groups, row, left_groups - 1);
        left_at[i] = left_offset as usize + row;
        let column = first_column + i * units;
        let column = select(column < right_groups, column, right_groups - 1);
        right_at[i] = right_offset as usize + column;
    }
    let mut sums = Array::<f32>::new(16 * own * own);
    #[unroll]
    for c in 0..4 * own {
        let column = 4 * (first_column + c / 4 * units) + c % 4;
        let sum = begin(rows, &parts, column, shape);
        #[unroll]
        for r in 0..4 * own {
            sums[r * 4 * own + c] = sum;
        }
    }
    let mut values = Array::<f32>::new(4 * own);
    for k in from..to {
        #[unroll]
        for c in 0..own {
            let four = right[k * right_groups + right_at[c]];
            #[unroll]
            for i in 0..4 {
                values[4 * c + i] = four.extract(i);
            }
        }
        #[unroll]
        for r in 0..own {
            let four = left[k * left_groups + left_at[r]];
            #[unroll]
            for i in 0..4 {
                let x = four.extract(i);
                #[unroll]
                for c in 0..4 * own {
                    sums[(4 * r + i) * 4 * own + c] += x * values[c];
                }
            }
        }
    }
    #[unroll]
    for r in 0..4 * own {
        #[unroll]
        for c in 0..4 * own {
            let row = 4 * first_row + r;
            let column = 4 * (first_column + c / 4 * units) + c % 4;
            if row < m && column < n {
                write(result, &parts, row, column, sums[r * 4 * own + c], shape);
            }
        }
    }
}
