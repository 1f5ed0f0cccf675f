//! The way forward in time. It decides what is left to the way back.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, Step};
use super::weights::Weights;
use super::{Direction, Shared, span};
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

/// The columns of a layer's result that belong to one direction. There is one of these for each
/// direction, so that directions can be computed side by side.
pub struct OutputColumns<'a> {
    memory: Shared<'a>,
    shape: Recurrent,
    direction: usize,
}

impl<'a> OutputColumns<'a> {
    /// The columns of each direction of a layer of `shape`, whose result `output` [rows, outputs] is.
    pub fn split(output: &'a mut [f32], shape: Recurrent) -> Vec<Self> {
        let memory = Shared::new(output);
        (0..shape.directions)
            .map(|direction| Self {
                memory,
                shape,
                direction,
            })
            .collect()
    }
}

/// What the steps share.
struct Pass<'a> {
    weights: &'a Weights,
    gates: Shared<'a>,
    cells: Shared<'a>,
    unprojected: Shared<'a>,
    output: Shared<'a>,
}

impl Direction<'_> {
    /// `input` [rows, I] to this direction's columns of the layer's result.
    ///
    /// # Panics
    /// If the columns are another direction's or another layer's, or a slice is too short.
    pub fn forward(&self, input: &[f32], parameters: &[f32], output: &mut OutputColumns) -> Trace {
        assert!(
            output.direction == self.index && output.shape == self.shape,
            "the columns of another direction or layer"
        );
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
                output: output.memory,
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
        let output = pass.output;
        let width = self.shape.outputs();
        let column = self.index * state;
        let step = self.step(i);
        let Some((row, count)) = self.rows_of(step, self.packing.active(step), &places) else {
            return;
        };
        let previous = self.previous_rows_of(step, &places);
        let previous_count = previous.map_or(0, |(_, count)| count);
        let target = output.at(row * width + column, span(count, state, width));
        // What is projected is written to memory of its own first, and an LSTM alone has cells.
        let (cell_output, cell_width) = match &weights.weight_hr {
            Some(_) => (pass.unprojected.at(row * hidden, count * hidden), hidden),
            None => (target, width),
        };
        let is_lstm = self.shape.cell == Cell::Lstm;
        let cells = |row: usize, count: usize| {
            if is_lstm {
                pass.cells.at(row * hidden, count * hidden)
            } else {
                std::ptr::null_mut()
            }
        };
        let gates = pass.gates.at(row * columns.all, count * columns.all);
        // SAFETY: all rows belong to sequences of `places` and all columns of the output to this direction,
        // which are the caller's alone; earlier steps are only read, and this step's rows only written
        // here. Without a previous step, its pointers are null and not looked at.
        unsafe {
            if let Some((previous_row, count)) = previous {
                multiply_raw(
                    self.level,
                    output.rows(previous_row * width + column, count, state, width),
                    &weights.weight_hh,
                    Start::Result,
                    gates.add(columns.recurrent.start),
                    columns.all,
                    count,
                );
            }
            cell::forward(
                self.level,
                self.shape.cell,
                Step {
                    hidden,
                    count,
                    previous_count,
                    gates,
                    cells: cells(row, count),
                    previous_cells: previous
                        .map_or(std::ptr::null(), |(row, count)| cells(row, count)),
                    output: cell_output,
                    previous_output: previous.map_or(std::ptr::null(), |(row, count)| {
                        output.at(row * width + column, span(count, state, width))
                    }),
                    width: cell_width,
                },
            );
            if let Some(weight_hr) = &weights.weight_hr {
                multiply_raw(
                    self.level,
                    pass.unprojected.rows(row * hidden, count, hidden, hidden),
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
