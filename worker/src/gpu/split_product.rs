//! The product of a few rows with a large matrix, as a step of a recurrence takes it, in one workgroup of a
//! hardware GPU. There is too little to do for the latency of memory to hide behind: the inner dimension is
//! shared out among the units, each adds up its share, and the shares are added in a fixed order.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::Four;

/// Units of a workgroup.
pub(crate) const UNITS: usize = 256;

/// How the work of a workgroup is divided: it has [`SplitProduct::columns`] columns, each of four values, and as many
/// units share the inner dimension of a column as are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SplitProduct {
    /// Rows of the left factor: a multiple of four.
    pub rows: usize,
    /// Columns of four values: a power of two. There are no more results than [`UNITS`].
    pub columns: usize,
}

impl SplitProduct {
    /// Units that share the inner dimension of a column.
    pub(crate) fn shares(self) -> usize {
        UNITS / self.columns
    }

    /// Results: a column of a row is one.
    pub(crate) fn results(self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of both kinds of shared memory.
    pub(crate) fn shared_bytes(self) -> usize {
        size_of::<[f32; 4]>() * (self.shared() + self.partial())
    }

    /// Fours of shared memory through which the shares of four rows go at a time.
    pub(crate) fn shared(self) -> usize {
        4 * UNITS
    }

    /// Fours of shared memory for the sums of every four shares.
    pub(crate) fn partial(self) -> usize {
        self.rows / 4 * UNITS
    }
}

/// This unit's share of the product: of its column, a sum for each row.
///
/// `rows` are the places in `left` at which each row's fours begin, `right` the places at which the unit's
/// column begins and from one place of the inner dimension to the next, `inner` its length in fours.
#[cube]
pub(crate) fn share(
    left: &[Four],
    rows: &Array<usize>,
    right: &[Four],
    right_start: usize,
    right_stride: usize,
    inner: usize,
    sums: &mut Array<Four>,
    #[comptime] split: SplitProduct,
) {
    let mut four = UNIT_POS_X as usize / comptime!(split.columns);
    while four < inner {
        let mut factors = Array::<Four>::new(4usize);
        #[unroll]
        for k in 0..4 {
            factors[k] = right[right_start + (4 * four + k) * right_stride];
        }
        #[unroll]
        for r in 0..comptime!(split.rows) {
            let values = left[rows[r] + four];
            let mut sum = sums[r];
            #[unroll]
            for k in 0..4 {
                sum += Four::new(values.extract(k)) * factors[k];
            }
            sums[r] = sum;
        }
        four += comptime!(split.shares());
    }
}

/// Adds up the units' shares, four at a time, so that [`total`] has the rest to add. All units of the workgroup
/// take part.
#[cube]
pub(crate) fn gather(
    sums: &Array<Four>,
    shared: &mut [Four],
    partial: &mut [Four],
    #[comptime] split: SplitProduct,
) {
    let unit = UNIT_POS_X as usize;
    let width = comptime!(4 * split.columns);
    let column = unit % comptime!(split.columns);
    let share = unit / comptime!(split.columns);
    #[unroll]
    for turn in 0..comptime!(split.rows / 4) {
        #[unroll]
        for r in 0..4 {
            shared[share * width + r * comptime!(split.columns) + column] = sums[4 * turn + r];
        }
        sync_cube();
        let result = unit % width;
        let first = 4 * (unit / width);
        let mut sum = shared[first * width + result];
        #[unroll]
        for i in 1..4 {
            sum += shared[(first + i) * width + result];
        }
        partial[turn * UNITS + unit] = sum;
        sync_cube();
    }
}

/// The `result`th of the workgroup's results, which lie row after row.
#[cube]
pub(crate) fn total(partial: &[Four], result: usize, #[comptime] split: SplitProduct) -> Four {
    let width = comptime!(4 * split.columns);
    let at = result / width * UNITS + result % width;
    let mut sum = partial[at];
    #[unroll]
    for group in 1..comptime!(split.shares() / 4) {
        sum += partial[at + group * width];
    }
    sum
}
