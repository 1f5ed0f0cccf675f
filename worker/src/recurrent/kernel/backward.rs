//! The way back in time. It decides the order in which the frames' parts of a weight's gradient are
//! added.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, StepBack};
use super::forward::Trace;
use super::weights::{Columns, from_columns, to_columns};
use super::{Direction, Shared, span};
use crate::kernel::matrix::{Left, Panels, Start, add_rows, multiply_parallel, multiply_raw};
use crate::recurrent::{Cell, Recurrent};

/// Rows of frames that the recurrence goes back over before their part of the weights' gradient is
/// added: with more, the gradient's way to memory and back is rarer.
const ROWS: usize = 1024;

/// What the backward pass of a direction reads and writes.
pub struct Backward<'a> {
    /// [rows, I]
    pub input: &'a [f32],
    /// The layer's flat parameters.
    pub parameters: &'a [f32],
    /// [rows, outputs]
    pub output: &'a [f32],
    /// [rows, outputs]
    pub output_gradient: &'a [f32],
    /// [rows, I], written.
    pub input_gradient: Option<&'a mut [f32]>,
}

/// What the steps share.
struct Pass<'a> {
    columns: &'a Columns,
    gates: Shared<'a>,
    cells: Shared<'a>,
    /// [sequences, S], of the step in hand; [rows, S] with a projection, whose gradient needs them.
    state_gradient: Shared<'a>,
    /// [sequences, H], of the step in hand, where there is a projection.
    hidden_gradient: Shared<'a>,
    /// [sequences, H], as it arrives from the step after: an LSTM's cell's, a GRU's hidden state's.
    carried: Shared<'a>,
    weight_hh: &'a Panels,
    weight_hr: Option<&'a Panels>,
    output: &'a [f32],
    output_gradient: &'a [f32],
}

/// The gradients of a direction's weights, as they are added up.
struct Sums {
    /// The input and the previous hidden state of frames side by side.
    panels: Panels,
    /// Their weights' gradients likewise, [columns, I + S]: of a GRU the input's alone, and `recurrent`
    /// has the others.
    weights: Vec<f32>,
    recurrent: Vec<f32>,
    projection: Vec<f32>,
    bias: Vec<f32>,
}

impl Direction<'_> {
    /// From the gradient of the layer's output to the gradient of this direction's parameters
    /// and, where asked for, of its input. A weight's chain goes over the frames run by run, the last
    /// of the recurrence first, in each run as they lie.
    pub fn backward(&self, mut pass: Backward, trace: Trace) -> Vec<f32> {
        let Recurrent {
            inputs,
            hidden,
            projection,
            cell,
            ..
        } = self.shape;
        let state = self.shape.state();
        let ranges = self.shape.direction(self.index);
        let columns = Columns::of(&self.shape);
        let places = self.packing.sequences();
        let Trace {
            mut gates,
            mut cells,
            unprojected,
        } = trace;
        let weight_hh = &pass.parameters[ranges.weight_hh.clone()];
        let weight_hh = Panels::pack(weight_hh, columns.recurrent.len(), state);
        let weight_hr = &pass.parameters[ranges.weight_hr.clone()];
        let weight_hr = (projection > 0).then(|| Panels::pack(weight_hr, projection, hidden));
        let weight_ih = &pass.parameters[ranges.weight_ih.clone()];
        let weight_ih = pass.input_gradient.is_some().then(|| {
            let weight_ih = to_columns(&self.shape, weight_ih, inputs);
            Panels::pack(&weight_ih, columns.input.len(), inputs)
        });

        let state_rows = match projection {
            0 => places,
            _ => self.packing.rows(),
        };
        let mut state_gradient = vec![0.0; state_rows * state];
        let mut hidden_gradient = vec![0.0; if projection > 0 { places * hidden } else { 0 }];
        let mut carried = vec![0.0; places * hidden];
        let previous = self.previous_rows();
        let is_gru = cell == Cell::Gru;
        let both = inputs + if is_gru { 0 } else { state };
        let mut sums = Sums {
            panels: Panels::zeros(0, both),
            weights: vec![0.0; columns.input.len() * both],
            recurrent: vec![
                0.0;
                if is_gru {
                    columns.recurrent.len() * state
                } else {
                    0
                }
            ],
            projection: vec![0.0; projection * hidden],
            bias: vec![0.0; columns.all],
        };
        // The gates turn into their own gradients as time runs back, and are used while they are near.
        for steps in self.chunks(ROWS).into_iter().rev() {
            let back = Pass {
                columns: &columns,
                gates: Shared::new(&mut gates),
                cells: Shared::new(&mut cells),
                state_gradient: Shared::new(&mut state_gradient),
                hidden_gradient: Shared::new(&mut hidden_gradient),
                carried: Shared::new(&mut carried),
                weight_hh: &weight_hh,
                weight_hr: weight_hr.as_ref(),
                output: pass.output,
                output_gradient: pass.output_gradient,
            };
            self.tasks().into_par_iter().for_each(|places| {
                for i in steps.clone().rev() {
                    self.step_backward(i, places.clone(), &back);
                }
            });
            let rows = self.rows(&steps);
            let gates = &gates[rows.start * columns.all..rows.end * columns.all];
            self.add(&mut sums, &columns, &rows, gates, &pass, &previous);
            if projection > 0 {
                let slopes = &state_gradient[rows.start * state..rows.end * state];
                let unprojected = &unprojected[rows.start * hidden..rows.end * hidden];
                multiply_parallel(
                    self.level,
                    Left::transposed(slopes, state),
                    &Panels::pack(unprojected, rows.len(), hidden),
                    Start::Result,
                    &mut sums.projection,
                    hidden,
                );
            }
            if let (Some(gradient), Some(weight_ih)) = (&mut pass.input_gradient, &weight_ih) {
                multiply_parallel(
                    self.level,
                    Left::rows(gates, columns.all),
                    weight_ih,
                    Start::Zero,
                    &mut gradient[rows.start * inputs..rows.end * inputs],
                    inputs,
                );
            }
        }
        self.parameter_gradient(sums, &columns)
    }

    /// Adds the part of a run of rows, whose gates' gradients are `gates`.
    fn add(
        &self,
        sums: &mut Sums,
        columns: &Columns,
        rows: &Range<usize>,
        gates: &[f32],
        pass: &Backward,
        previous: &[Option<usize>],
    ) {
        let (inputs, state) = (self.shape.inputs, self.shape.state());
        let (width, column) = (self.shape.outputs(), self.index * state);
        let input = |row: usize| Some(&pass.input[row * inputs..][..inputs]);
        let output = |row: usize| {
            previous[row].map(|previous| &pass.output[previous * width + column..][..state])
        };
        let left = Left::transposed(gates, columns.all);
        let start = rows.start;
        let multiply = |left, panels: &Panels, target: &mut [f32]| {
            let width = panels.columns();
            multiply_parallel(self.level, left, panels, Start::Result, target, width);
        };
        if sums.recurrent.is_empty() {
            let row = |row| [input(start + row), output(start + row)];
            sums.panels.fill(rows.len(), [inputs, state], row);
            multiply(left, &sums.panels, &mut sums.weights);
        } else {
            let row = |row| [input(start + row)];
            sums.panels.fill(rows.len(), [inputs], row);
            multiply(left, &sums.panels, &mut sums.weights);
            let mut panels = Panels::zeros(0, state);
            panels.fill(rows.len(), [state], |row| [output(start + row)]);
            let left = Left::transposed(&gates[columns.recurrent.start..], columns.all);
            multiply(left, &panels, &mut sums.recurrent);
        }
        add_rows(self.level, gates, &mut sums.bias);
    }

    /// In the order of the layer's parameters.
    fn parameter_gradient(&self, sums: Sums, columns: &Columns) -> Vec<f32> {
        let Sums {
            mut weights,
            recurrent,
            projection,
            bias,
            ..
        } = sums;
        let inputs = self.shape.inputs;
        let mut gradient = Vec::with_capacity(self.shape.direction_elements());
        let mut bias_ih = bias[columns.input.clone()].to_vec();
        from_columns(&self.shape, &mut bias_ih, 1);
        if recurrent.is_empty() {
            let both = inputs + self.shape.state();
            for row in weights.chunks_exact(both) {
                gradient.extend_from_slice(&row[..inputs]);
            }
            for row in weights.chunks_exact(both) {
                gradient.extend_from_slice(&row[inputs..]);
            }
        } else {
            from_columns(&self.shape, &mut weights, inputs);
            gradient.extend_from_slice(&weights);
            gradient.extend_from_slice(&recurrent);
        }
        gradient.extend_from_slice(&bias_ih);
        gradient.extend_from_slice(&bias[columns.recurrent.clone()]);
        gradient.extend_from_slice(&projection);
        gradient
    }

    /// Step `i` of the recurrence, back in time, for the sequences in `places`.
    fn step_backward(&self, i: usize, places: Range<usize>, pass: &Pass) {
        let (hidden, state) = (self.shape.hidden, self.shape.state());
        let columns = pass.columns;
        let width = self.shape.outputs();
        let column = self.index * state;
        let step = self.step(i);
        let Some((row, count)) = self.rows_of(step, self.packing.active(step), &places) else {
            return;
        };
        let next = self.next_rows_of(step, &places);
        let previous = self.previous_rows_of(step, &places);
        let is_lstm = self.shape.cell == Cell::Lstm;
        let cells = |row: usize, count: usize| {
            if is_lstm {
                pass.cells.at(row * hidden, count * hidden)
            } else {
                std::ptr::null_mut()
            }
        };
        let output = |row: usize, count: usize| {
            pass.output[row * width + column..][..span(count, state, width)].as_ptr()
        };
        let first = match pass.weight_hr {
            Some(_) => row,
            None => places.start,
        };
        let target = pass.state_gradient.at(first * state, count * state);
        // SAFETY: all rows belong to sequences of `places`, which are the caller's alone; what a product
        // reads is not what it writes. Without a previous step, its pointers are null and not looked at.
        unsafe {
            for r in 0..count {
                let source = &pass.output_gradient[(row + r) * width + column..][..state];
                target
                    .add(r * state)
                    .copy_from_nonoverlapping(source.as_ptr(), state);
            }
            if let Some((next_row, count)) = next {
                let start = next_row * columns.all + columns.recurrent.start;
                let (stride, width) = (columns.all, columns.recurrent.len());
                multiply_raw(
                    self.level,
                    pass.gates.rows(start, count, width, stride),
                    pass.weight_hh,
                    Start::Result,
                    target,
                    state,
                    count,
                );
            }
            let slopes = match pass.weight_hr {
                Some(weight_hr) => {
                    let start = places.start * hidden;
                    let slopes = pass.hidden_gradient.at(start, count * hidden);
                    multiply_raw(
                        self.level,
                        pass.state_gradient.rows(first * state, count, state, state),
                        weight_hr,
                        Start::Zero,
                        slopes,
                        hidden,
                        count,
                    );
                    slopes
                }
                None => target,
            };
            cell::backward(
                self.level,
                self.shape.cell,
                StepBack {
                    hidden,
                    count,
                    after: next.map_or(0, |(_, count)| count),
                    previous_count: previous.map_or(0, |(_, count)| count),
                    gates: pass.gates.at(row * columns.all, count * columns.all),
                    cells: cells(row, count),
                    previous_cells: previous
                        .map_or(std::ptr::null(), |(row, count)| cells(row, count)),
                    output: output(row, count),
                    previous_output: previous
                        .map_or(std::ptr::null(), |(row, count)| output(row, count)),
                    width,
                    hidden_gradient: slopes,
                    carried: pass.carried.at(places.start * hidden, count * hidden),
                },
            );
        }
    }
}
