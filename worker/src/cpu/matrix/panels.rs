//! The right-hand matrix of a product, packed so that a tile reads it front to back. It decides the
//! layout, and does not depend on what is multiplied with it.

use std::ops::Range;

use rayon::prelude::*;

/// Columns of a panel: two AVX-512 vectors.
pub const PANEL: usize = 32;

/// A cache line, so that panels are aligned to vectors.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A matrix of `depth` rows and `columns` columns laid out panel by panel: PANEL columns of row 0,
/// the same of row 1, …, the last panel filled up with zeros.
#[derive(Clone)]
pub struct Panels {
    lines: Vec<Line>,
    depth: usize,
    columns: usize,
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels[{}, {}]", self.depth, self.columns)
    }
}

impl Panels {
    /// A matrix of zeros.
    pub fn zeros(depth: usize, columns: usize) -> Self {
        let lines = vec![Line([0.0; 16]); columns.div_ceil(PANEL) * depth * (PANEL / 16)];
        Self {
            lines,
            depth,
            columns,
        }
    }

    fn values(&self) -> &[f32] {
        // SAFETY: a Line is an array of 16 f32 and nothing else (`repr(C)`, and no padding: it is as large as its
        // alignment), so as many lines are 16 times as many f32.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16) }
    }

    fn values_mut(&mut self) -> &mut [f32] {
        let elements = self.lines.len() * 16;
        // SAFETY: as many lines are 16 times as many f32, any of which is a valid part of a Line; the lines are
        // exclusively borrowed as long as the result.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), elements) }
    }

    /// Some rows of a panel, PANEL elements each.
    pub(super) fn panel(&self, panel: usize, rows: Range<usize>) -> &[f32] {
        &self.values()[panel * self.depth * PANEL..][rows.start * PANEL..rows.end * PANEL]
    }

    /// Packs the row-major matrix `source` [depth, columns].
    pub fn pack(source: &[f32], depth: usize, columns: usize) -> Self {
        assert_eq!(source.len(), depth * columns);
        let mut packed = Self::zeros(0, columns);
        packed.fill(depth, [columns], |k| {
            [Some(&source[k * columns..][..columns])]
        });
        packed
    }

    /// Packs another matrix of as many columns into the same memory. Its row k is the rows `row(k)`
    /// side by side, each of its width, with zeros for what is none.
    ///
    /// # Panics
    /// If the widths do not add up to the columns, or a row is not as wide as it should be.
    pub fn fill<'a, const PARTS: usize>(
        &mut self,
        depth: usize,
        widths: [usize; PARTS],
        row: impl Fn(usize) -> [Option<&'a [f32]>; PARTS] + Sync,
    ) {
        let columns = self.columns;
        assert_eq!(widths.iter().sum::<usize>(), columns);
        self.depth = depth;
        let lines = columns.div_ceil(PANEL) * depth * (PANEL / 16);
        self.lines.resize(lines, Line([0.0; 16]));
        if depth == 0 {
            return;
        }
        self.values_mut()
            .par_chunks_mut(depth * PANEL)
            .enumerate()
            .for_each(|(p, panel)| {
                let panel_start = p * PANEL;
                let panel_end = columns.min(panel_start + PANEL);
                let mut part_start = 0;
                for (part, width) in widths.into_iter().enumerate() {
                    let start = panel_start.max(part_start);
                    let end = panel_end.min(part_start + width);
                    if start < end {
                        for (k, target) in panel.chunks_exact_mut(PANEL).enumerate() {
                            let target = &mut target[start - panel_start..end - panel_start];
                            match row(k)[part] {
                                Some(row) => {
                                    let source = &row[start - part_start..end - part_start];
                                    copy::<PANEL>(source, target);
                                }
                                None => target.fill(0.0),
                            }
                        }
                    }
                    part_start += width;
                }
            });
    }

    /// Packs the transpose of the row-major matrix `source` [columns, depth].
    pub fn transpose(source: &[f32], depth: usize, columns: usize) -> Self {
        assert_eq!(source.len(), depth * columns);
        let mut packed = Self::zeros(depth, columns);
        if depth > 0 {
            packed
                .values_mut()
                .par_chunks_mut(depth * PANEL)
                .enumerate()
                .for_each(|(p, panel)| {
                    let start = p * PANEL;
                    // 16 terms at a time: a cache line of each of the 32 source rows.
                    for block in (0..depth).step_by(16) {
                        for k_column in 0..columns.min(start + PANEL) - start {
                            let end = depth.min(block + 16);
                            let row = &source[(start + k_column) * depth..][block..end];
                            for (k, value) in row.iter().enumerate() {
                                panel[(block + k) * PANEL + k_column] = *value;
                            }
                        }
                    }
                });
        }
        packed
    }

    /// Rows of the matrix: the inner dimension of a product.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix, and of a product's result.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// Copies slices of mostly N elements, which is then a few instructions and no call.
#[inline(always)]
pub(super) fn copy<const N: usize>(source: &[f32], target: &mut [f32]) {
    match (source.first_chunk::<N>(), target.first_chunk_mut::<N>()) {
        (Some(source), Some(target)) => *target = *source,
        _ => target.copy_from_slice(source),
    }
}
