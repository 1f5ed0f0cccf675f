//! The way forward in time. It decides what is left to the way back.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, Step};
use super::weights::Weights;
use super::{Direction, Shared};
use crate::kernel::matrix::{Left, Start, multiply_parallel, multiply_raw};
use crate::recurrent::{Cell, Recurrent};

/// Rows of frames whose input is projected before the recurrence goes over them, while both weights
/// and the rows' gates fit a second-level cache.
const ROWS: usize = 128;
/// The same where the weights are larger, and go through that cache for each step anyway.
const ROWS_LARGE: usize = 1024;
/// Elements of an input's weight that count as large: a megabyte's worth.
const LARGE: usize = 1 << 18;

/// What the forward pass of a direction leaves to the backward pass.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The gates after their activations, [rows, columns].
    pub(super) gates: Vec<f32>,
    /// An LSTM's cell state, [rows, H].
    pub(super) cells: Vec<f32>,
    /// What is projected, [rows, H]; empty without a projection.
    pub(super) unprojected: Vec<f32>,
}

/// A layer's result, of which each direction writes its own columns.
#[derive(Clone, Copy)]
pub struct SharedOutput {
    memory: Shared,
    width: usize,
}

impl SharedOutput {
    pub fn new(output: &mut [f32], width: usize) -> Self {
        Self {
            memory: Shared::new(output),
            width,
        }
    }
}

/// What the steps share.
struct Pass<'a> {
    weights: &'a Weights,
    gates: Shared,
    cells: Shared,
    unprojected: Shared,
    output: SharedOutput,
}

impl Direction<'_> {
    /// `input` [rows, I] to this direction's columns of `output` [rows, outputs].
    pub fn forward(&self, input: &[f32], parameters: &[f32], output: SharedOutput) -> Trace {
        let Recurrent {
            inputs,
            hidden,
            projection,
            cell,
            ..
        } = self.shape;
        let rows = self.packing.rows();
        let weights = Weights::new(&self.shape, self.index, parameters);
        let columns = &weights.columns;
        let mut gates = vec![0.0; rows * columns.all];
        let mut cells = vec![0.0; if cell == Cell::Lstm { rows * hidden } else { 0 }];
        let mut unprojected = vec![0.0; if projection > 0 { rows * hidden } else { 0 }];
        let at_a_time = if inputs * columns.all > LARGE {
            ROWS_LARGE
        } else {
            ROWS
        };
        for steps in self.chunks(at_a_time) {
            let rows = self.rows(&steps);
            let run = &mut gates[rows.start * columns.all..rows.end * columns.all];
            multiply_parallel(
                self.level,
                Left::rows(&input[rows.start * inputs..], inputs),
                &weights.weight_ih,
                Start::Row(&weights.bias),
                run,
                columns.all,
            );
            if !weights.recurrent_bias.is_empty() {
                for row in run.chunks_exact_mut(columns.all) {
                    row[columns.input.end..].copy_from_slice(&weights.recurrent_bias);
                }
            }
            let pass = Pass {
                weights: &weights,
                gates: Shared::new(&mut gates),
                cells: Shared::new(&mut cells),
                unprojected: Shared::new(&mut unprojected),
                output,
            };
            self.tasks().into_par_iter().for_each(|places| {
                for i in steps.clone() {
                    self.step_forward(i, places.clone(), &pass);
                }
            });
        }
        Trace {
            gates,
            cells,
            unprojected,
        }
    }

    /// Step `i` of the recurrence for the sequences in `places`, whose gates hold the input's part.
    fn step_forward(&self, i: usize, places: Range<usize>, pass: &Pass) {
        let (hidden, state) = (self.shape.hidden, self.shape.state());
        let Pass { weights, .. } = pass;
        let columns = &weights.columns;
        let SharedOutput {
            memory: output,
            width,
        } = pass.output;
        let column = self.index * state;
        let step = self.step(i);
        let within = |count: usize| count.min(places.end).saturating_sub(places.start);
        let count = within(self.packing.active(step));
        if count == 0 {
            return;
        }
        let row = self.packing.row(step, places.start);
        let (previous_row, previous_count) = self.previous(step).map_or((0, 0), |(step, both)| {
            (self.packing.row(step, places.start), within(both))
        });
        let target = output.at(row * width + column);
        // What is projected is written to memory of its own first, and an LSTM alone has cells.
        let (cell_output, cell_width) = match &weights.weight_hr {
            Some(_) => (pass.unprojected.at(row * hidden), hidden),
            None => (target, width),
        };
        let is_lstm = self.shape.cell == Cell::Lstm;
        let cells = |row: usize| pass.cells.at(if is_lstm { row * hidden } else { 0 });
        // SAFETY: all rows belong to sequences of `places`, which are the caller's alone; earlier
        // steps are only read, and this step's rows only written here.
        unsafe {
            if previous_count > 0 {
                let elements = (previous_count - 1) * width + state;
                let h = output.slice(previous_row * width + column, elements);
                multiply_raw(
                    self.level,
                    Left::rows(h, width),
                    &weights.weight_hh,
                    Start::Result,
                    pass.gates.at(row * columns.all + columns.recurrent.start),
                    columns.all,
                    previous_count,
                );
            }
            cell::forward(
                self.level,
                self.shape.cell,
                Step {
                    hidden,
                    count,
                    previous_count,
                    gates: pass.gates.at(row * columns.all),
                    cells: cells(row),
                    previous_cells: cells(previous_row),
                    output: cell_output,
                    previous_output: output.at(previous_row * width + column),
                    width: cell_width,
                },
            );
            if let Some(weight_hr) = &weights.weight_hr {
                let left = pass.unprojected.slice(row * hidden, count * hidden);
                multiply_raw(
                    self.level,
                    Left::rows(left, hidden),
                    weight_hr,
                    Start::Zero,
                    target,
                    width,
                    count,
                );
            }
        }
    }
}
