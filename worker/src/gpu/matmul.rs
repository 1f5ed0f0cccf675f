//! Matrix multiplication (gemm) and sums of rows on a GPU. It decides the order of the additions, which follows
//! from the sizes alone, and does not depend on what the matrices mean.
//!
//! An element is one chain of additions along the inner dimension, cut into at most [`SLABS`] pieces
//! where that is long; the pieces are added from the first to the last.

mod hardware;
mod software;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{Gpu, arg, flat_position, word};

/// A matrix within a buffer, row after row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub buffer: &'a CubeTensor,
    /// Where its first element lies.
    pub offset: usize,
    /// Elements from a row to the next.
    pub stride: usize,
}

/// Which factor is taken transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transposition {
    /// [m, k] times [k, n].
    Plain,
    /// [m, k] times the transpose of [n, k].
    RightTransposed,
    /// The transpose of [k, m] times [k, n].
    LeftTransposed,
}

/// What is added to a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addend {
    Zero,
    /// What the result already holds.
    Result,
    /// A row from the right factor's buffer, at this offset.
    Row(usize),
    /// The sum of two.
    Rows(usize, usize),
}

impl Addend {
    /// How many rows from the right factor's buffer are added.
    fn rows(self) -> u32 {
        match self {
            Self::Zero | Self::Result => 0,
            Self::Row(_) => 1,
            Self::Rows(..) => 2,
        }
    }
}

/// `m`, `n` and the inner dimension `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// An inner dimension longer than this is cut: pieces are computed side by side, they lose less to
/// rounding, and Mesa's software adapter ends a unit's loops without a word after 65,535 iterations.
const SLAB: usize = 1024;
const SLABS: usize = 16;

/// Writes a product to `result`.
pub(crate) fn multiply(
    gpu: &Gpu,
    kind: Transposition,
    size: Size,
    left: Matrix,
    right: Matrix,
    start: Addend,
    result: Matrix,
) {
    let task = Multiplication {
        kind,
        size,
        left,
        right,
        start,
        result,
        slab: size.k.max(1),
        slabs: 1,
        apart: 0,
    };
    task.launch(gpu);
}

/// Writes each of the products of `slab` places of the inner dimension to a result of its own, `apart`
/// elements from the one before: side by side, where one product would leave a part of the device without
/// work. Adding them up is the caller's.
pub(crate) fn multiply_slabs(
    gpu: &Gpu,
    kind: Transposition,
    size: Size,
    left: Matrix,
    right: Matrix,
    result: Matrix,
    (slab, apart): (usize, usize),
) {
    assert_eq!(slab % software::DEPTH, 0, "whole turns");
    let task = Multiplication {
        kind,
        size,
        left,
        right,
        start: Addend::Zero,
        result,
        slab,
        slabs: size.k.div_ceil(slab).max(1),
        apart,
    };
    task.launch(gpu);
}

/// Writes the product of the transpose of `left` [k, m] and `right` [k, n], with a long inner dimension,
/// to `result`, whose rows follow each other without a gap.
pub(crate) fn multiply_long(gpu: &Gpu, size: Size, left: Matrix, right: Matrix, result: Matrix) {
    assert_eq!(result.stride, size.n, "rows without a gap");
    let (kind, elements) = (Transposition::LeftTransposed, size.m * size.n);
    let (slab, slabs) = slabs(size.k);
    if slabs == 1 {
        return multiply(gpu, kind, size, left, right, Addend::Zero, result);
    }
    let partial = gpu.empty([slabs * elements]);
    let pieces = Matrix {
        buffer: &partial,
        offset: 0,
        stride: size.n,
    };
    multiply_slabs(gpu, kind, size, left, right, pieces, (slab, elements));
    add_slabs(
        gpu,
        &partial,
        elements,
        slabs,
        result.buffer,
        &[result.offset],
    );
}

/// A matrix that many products take transposed as their right factor: where they do better with a copy
/// that is transposed already, it is made once.
pub(crate) struct Transposed<'a> {
    matrix: Matrix<'a>,
    copy: Option<CubeTensor>,
}

impl<'a> Transposed<'a> {
    /// The transpose of `matrix` [rows, columns].
    pub(crate) fn new(gpu: &Gpu, matrix: Matrix<'a>, rows: usize, columns: usize) -> Self {
        let copy = gpu.plan.software;
        let copy = copy.then(|| software::transpose(gpu, matrix, rows, columns));
        Self { matrix, copy }
    }

    /// As a product takes it.
    pub(crate) fn factor(&self) -> (Transposition, Matrix<'_>) {
        match &self.copy {
            None => (Transposition::RightTransposed, self.matrix),
            Some(copy) => {
                let matrix = Matrix {
                    buffer: copy,
                    offset: 0,
                    stride: copy.meta.shape()[1],
                };
                (Transposition::Plain, matrix)
            }
        }
    }
}

/// The sums of the columns of `matrix` [rows, columns], to each of `offsets` in `result`.
pub(crate) fn sum_rows(
    gpu: &Gpu,
    matrix: Matrix,
    rows: usize,
    columns: usize,
    result: &CubeTensor,
    offsets: &[usize],
) {
    let (slab, slabs) = slabs(rows);
    let partial = gpu.empty([slabs * columns]);
    let units = gpu.plan.row_of_units(columns);
    let count = CubeCount::Static(word(columns).div_ceil(units), word(slabs), 1);
    // SAFETY: units beyond the last column end at once; a slab ends at the last row.
    unsafe {
        sum_rows_kernel::launch_unchecked(
            &gpu.client,
            count,
            CubeDim::new_1d(units),
            arg(matrix.buffer),
            arg(&partial),
            word(matrix.offset),
            word(matrix.stride),
            word(rows),
            word(columns),
            word(slab),
        );
    }
    add_slabs(gpu, &partial, columns, slabs, result, offsets);
}

/// Length and number of the pieces of an inner dimension.
fn slabs(k: usize) -> (usize, usize) {
    let slab = SLAB.max(k.div_ceil(SLABS).next_multiple_of(software::DEPTH));
    (slab, k.div_ceil(slab).max(1))
}

fn add_slabs(
    gpu: &Gpu,
    partial: &CubeTensor,
    elements: usize,
    slabs: usize,
    result: &CubeTensor,
    offsets: &[usize],
) {
    let (count, units) = gpu.plan.flat(elements);
    for offset in offsets {
        // SAFETY: units beyond the last element end at once.
        unsafe {
            add_slabs_kernel::launch_unchecked(
                &gpu.client,
                count.clone(),
                units,
                arg(partial),
                arg(result),
                word(*offset),
                word(elements),
                word(slabs),
            );
        }
    }
}

/// One product, or the slabs of one.
#[derive(Clone, Copy, Debug)]
struct Multiplication<'a> {
    kind: Transposition,
    size: Size,
    left: Matrix<'a>,
    right: Matrix<'a>,
    start: Addend,
    result: Matrix<'a>,
    slab: usize,
    slabs: usize,
    /// From a slab's result to the next one's.
    apart: usize,
}

impl Multiplication<'_> {
    fn launch(&self, gpu: &Gpu) {
        if self.size.m == 0 || self.size.n == 0 {
            return;
        }
        if gpu.plan.software {
            software::launch(gpu, self);
        } else {
            hardware::launch(gpu, self);
        }
    }

    /// What kernels are told, with the factors' offsets and strides in a unit of their own.
    fn parts(&self, left: (usize, usize), right: (usize, usize)) -> PartsLaunch {
        let (first, second) = match self.start {
            Addend::Zero | Addend::Result => (0, 0),
            Addend::Row(first) => (first, 0),
            Addend::Rows(first, second) => (first, second),
        };
        PartsLaunch::new(
            word(left.0),
            word(left.1),
            word(right.0),
            word(right.1),
            word(self.result.offset),
            word(self.result.stride),
            word(first),
            word(second),
            word(self.size.m),
            word(self.size.n),
            word(self.size.k),
            word(self.slab),
            word(self.apart),
        )
    }
}

/// Where a product's matrices lie, and how large they are.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Parts {
    left: u32,
    left_stride: u32,
    right: u32,
    right_stride: u32,
    result: u32,
    result_stride: u32,
    first_row: u32,
    second_row: u32,
    m: u32,
    n: u32,
    k: u32,
    slab: u32,
    apart: u32,
}

/// The sums of a slab of rows, a column a unit.
#[cube(launch_unchecked)]
fn sum_rows_kernel(
    matrix: &[f32],
    partial: &mut [f32],
    offset: u32,
    stride: u32,
    rows: u32,
    columns: u32,
    slab: u32,
) {
    let column = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if column < columns as usize {
        let from = CUBE_POS_Y as usize * slab as usize;
        let to = from + slab as usize;
        let to = select(to < rows as usize, to, rows as usize);
        let mut sum = 0.0f32;
        for row in from..to {
            sum += matrix[offset as usize + row * stride as usize + column];
        }
        partial[CUBE_POS_Y as usize * columns as usize + column] = sum;
    }
}

/// Adds the slabs from the first to the last.
#[cube(launch_unchecked)]
fn add_slabs_kernel(partial: &[f32], result: &mut [f32], offset: u32, elements: u32, slabs: u32) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let mut sum = partial[element];
        for slab in 1..slabs as usize {
            sum += partial[slab * elements as usize + element];
        }
        result[offset as usize + element] = sum;
    }
}
