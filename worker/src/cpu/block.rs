//! Windows of row-major matrices: rows of consecutive elements, some stride apart. It decides that what is written to
//! at once is disjoint: a window is divided by rows and by columns, and its parts can go to different threads.
//!
//! A window is a pointer and no slice, because what lies between its rows may be another thread's to write; only its own
//! elements are ever touched.

use std::marker::PhantomData;
use std::ops::Range;

/// A window that is read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    first: *const f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a [f32]>,
}

// SAFETY: a window stands for shared borrows of its rows, and `&[f32]` is Send.
unsafe impl Send for Block<'_> {}
// SAFETY: what a shared window gives are shared borrows of its rows, and `&[f32]` is Sync.
unsafe impl Sync for Block<'_> {}

impl<'a> Block<'a> {
    /// The matrix `values` [rows, columns].
    ///
    /// # Panics
    /// If `values` has another number of elements.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "elements");
        Self {
            first: values.as_ptr(),
            rows,
            columns,
            stride: columns,
            borrowed: PhantomData,
        }
    }

    /// A window without elements.
    pub fn empty() -> Self {
        Self::new(&[], 0, 0)
    }

    pub fn rows(self) -> usize {
        self.rows
    }

    pub fn columns(self) -> usize {
        self.columns
    }

    /// From the beginning of a row to that of the next.
    pub fn stride(self) -> usize {
        self.stride
    }

    /// Where element (`row`, `column`) lies, or would: it need not be one.
    #[inline(always)]
    pub fn address(self, row: usize, column: usize) -> *const f32 {
        self.first.wrapping_add(row * self.stride + column)
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn with_rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows");
        Self {
            first: self.first.wrapping_add(rows.start * self.stride),
            rows: rows.len(),
            ..self
        }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn with_columns(self, columns: Range<usize>) -> Self {
        let fits = columns.start <= columns.end && columns.end <= self.columns;
        assert!(fits, "columns");
        Self {
            first: self.first.wrapping_add(columns.start),
            columns: columns.len(),
            ..self
        }
    }

    /// The elements of a row.
    ///
    /// # Panics
    /// If it has not so many.
    #[inline(always)]
    pub fn row(self, row: usize) -> &'a [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let start = self.first.wrapping_add(row * self.stride);
        // SAFETY: the elements of a row below `rows` lie within the slice that the window was made from, and nobody
        // writes to them for 'a: that slice was borrowed for 'a, as a whole (`new`) or, of a window that is written
        // (`BlockMut::as_block`), in what belongs to this window.
        unsafe { std::slice::from_raw_parts(start, self.columns) }
    }
}

/// A window that is written. No two that are usable at the same time share an element.
#[derive(Debug)]
pub struct BlockMut<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a window stands for exclusive borrows of its rows, and `&mut [f32]` is Send.
unsafe impl Send for BlockMut<'_> {}
// SAFETY: through a shared `BlockMut` rows are only read (`as_block`), and `&[f32]` is Sync.
unsafe impl Sync for BlockMut<'_> {}

impl<'a> BlockMut<'a> {
    /// The matrix `values` [rows, columns].
    ///
    /// # Panics
    /// If `values` has another number of elements.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "elements");
        Self::strided(values, rows, columns, columns)
    }

    /// The first `columns` of each of `rows` rows of `values`, which begin `stride` apart.
    ///
    /// # Panics
    /// If rows overlap, or `values` has fewer elements.
    pub fn strided(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        if let Some(others) = rows.checked_sub(1) {
            let end = others
                .checked_mul(stride)
                .and_then(|start| start.checked_add(columns));
            let fits = end.is_some_and(|end| end <= values.len());
            assert!(fits && (columns <= stride || others == 0), "too short");
        }
        Self {
            first: values.as_mut_ptr(),
            rows,
            columns,
            stride,
            borrowed: PhantomData,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// From the beginning of a row to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same window, for a while.
    pub fn reborrow(&mut self) -> BlockMut<'_> {
        BlockMut {
            borrowed: PhantomData,
            ..*self
        }
    }

    /// The same window, to be read for a while.
    pub fn as_block(&self) -> Block<'_> {
        Block {
            first: self.first,
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
            borrowed: PhantomData,
        }
    }

    /// The rows before `row`, and the others.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn split_rows(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "row {row} of {}", self.rows);
        let others = Self {
            first: self.first.wrapping_add(row * self.stride),
            rows: self.rows - row,
            ..self
        };
        (Self { rows: row, ..self }, others)
    }

    /// The columns before `column`, and the others.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn split_columns(self, column: usize) -> (Self, Self) {
        assert!(column <= self.columns, "column {column}");
        let others = Self {
            first: self.first.wrapping_add(column),
            columns: self.columns - column,
            ..self
        };
        let columns = column;
        (Self { columns, ..self }, others)
    }

    /// Its first `rows` rows.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn top(self, rows: usize) -> Self {
        self.split_rows(rows).0
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn with_columns(self, columns: Range<usize>) -> Self {
        self.split_columns(columns.end)
            .0
            .split_columns(columns.start)
            .1
    }

    /// Where element (`row`, `column`) lies, or would: it need not be one.
    #[inline(always)]
    pub fn address(&self, row: usize, column: usize) -> *const f32 {
        self.first.wrapping_add(row * self.stride + column)
    }

    /// The elements of a row.
    ///
    /// # Panics
    /// If it has not so many.
    #[inline(always)]
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let start = self.first.wrapping_add(row * self.stride);
        // SAFETY: the elements of a row below `rows` lie within the slice that the window was made from, which is
        // exclusively borrowed for 'a. Of two windows made from one, none has an element of the other (rows or columns
        // are divided, and rows do not overlap), and this one is exclusively borrowed while the row is in use.
        unsafe { std::slice::from_raw_parts_mut(start, self.columns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_window_are_written_at_once_and_are_all_of_it() {
        let mut values = vec![0.0; 5 * 7];
        let (top, bottom) = BlockMut::new(&mut values, 5, 7).split_rows(2);
        let (left, right) = bottom.split_columns(3);
        std::thread::scope(|scope| {
            for (mark, mut part) in [(1.0, top), (2.0, left), (3.0, right)] {
                scope.spawn(move || {
                    for row in 0..part.rows() {
                        part.row_mut(row)
                            .iter_mut()
                            .for_each(|value| *value += mark);
                    }
                });
            }
        });
        for (index, value) in values.iter().enumerate() {
            let expected = match (index / 7, index % 7) {
                (0..2, _) => 1.0,
                (_, 0..3) => 2.0,
                _ => 3.0,
            };
            assert_eq!(*value, expected, "element {index}");
        }
    }

    #[test]
    fn a_window_has_no_element_of_its_neighbours() {
        let mut values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let mut window = BlockMut::new(&mut values, 3, 4).with_columns(1..3);
        window.row_mut(1).fill(-1.0);
        let window = window.as_block();
        assert_eq!(window.with_rows(1..3).row(1), [9.0, 10.0]);
        assert_eq!(window.with_columns(1..2).row(0), [2.0]);
        assert_eq!(values[3..9], [3.0, 4.0, -1.0, -1.0, 7.0, 8.0]);
        let last = BlockMut::strided(&mut values[9..], 1, 3, 4)
            .as_block()
            .row(0)
            .to_vec();
        assert_eq!(last, [9.0, 10.0, 11.0]);
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn a_row_behind_the_last_is_not_given() {
        let mut values = [0.0; 6];
        BlockMut::new(&mut values, 3, 2).top(2).row_mut(2);
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn rows_that_overlap_make_no_window() {
        BlockMut::strided(&mut [0.0; 6], 2, 3, 2);
    }
}
