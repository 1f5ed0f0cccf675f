//! The backward pass through time: from output gradients to those of inputs and weights. It
//! decides the order in which the frames' parts of a weight's gradient are added.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, CellStepBackward};
use super::forward::{SavedActivations, of_steps};
use super::weights::{Columns, from_columns, to_columns};
use super::{Direction, share_places, share_steps};
use crate::cpu::block::{Block, BlockMut};
use crate::cpu::matrix::{Addend, Left, Panels, add_rows, multiply_parallel, multiply_window};
use crate::ops::recurrent::{Cell, Recurrent};

/// Rows of frames that the recurrence goes back over before their part of the weights' gradient is
/// added: with more, the gradient's way to memory and back is rarer.
const ROWS: usize = 1024;

/// What the backward pass of a direction reads and writes.
pub(crate) struct Backward<'a> {
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

/// What the steps of a run share, and only read.
struct BackwardPass<'a> {
    columns: &'a Columns,
    /// The run's steps, in the order of time.
    steps: Range<usize>,
    /// The gates' gradients [rows, columns] of the steps after the run's in the order of the recurrence, and the row that
    /// they begin with.
    later_gates: (Block<'a>, usize),
    cells: Block<'a>,
    weight_hh: &'a Panels,
    weight_hr: Option<&'a Panels>,
    /// This direction's columns, [rows, S], as the next.
    output: Block<'a>,
    output_gradient: Block<'a>,
}

/// The sequences of one task, and what they have of what is written.
struct BackwardTask<'a> {
    places: Range<usize>,
    /// For each step of the run, rows of gates.
    gates: Vec<BlockMut<'a>>,
    /// [sequences, S], of the step in hand; for each step of the run with a projection, whose gradient needs them.
    state_gradient: Vec<BlockMut<'a>>,
    /// [sequences, H], of the step in hand, where there is a projection.
    hidden_gradient: BlockMut<'a>,
    /// [sequences, H], as it arrives from the step after: an LSTM's cell's, a GRU's hidden state's.
    carried: BlockMut<'a>,
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
    pub(crate) fn backward(&self, mut pass: Backward, saved: SavedActivations) -> Vec<f32> {
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
        let SavedActivations {
            mut gates,
            cells,
            unprojected,
        } = saved;
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
        let hidden_width = if projection > 0 { hidden } else { 0 };
        let mut hidden_gradient = vec![0.0; places * hidden_width];
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
        let all_rows = self.packing.rows();
        let cell_width = if cell == Cell::Lstm { hidden } else { 0 };
        let own = self.index * state..(self.index + 1) * state;
        let own =
            |values| Block::new(values, all_rows, self.shape.outputs()).with_columns(own.clone());
        let (output, output_gradient) = (own(pass.output), own(pass.output_gradient));
        let tasks = self.tasks();
        // The gates turn into their own gradients as time runs back, and are used while they are near.
        for run in self.chunks(ROWS).into_iter().rev() {
            let steps = self.in_time(&run);
            let rows = self.rows(&steps);
            let (before, rest) = gates.split_at_mut(rows.start * columns.all);
            let (run_gates, after) = rest.split_at_mut(rows.len() * columns.all);
            let later_gates = match self.index {
                0 => (
                    Block::new(after, all_rows - rows.end, columns.all),
                    rows.end,
                ),
                _ => (Block::new(before, rows.start, columns.all), 0),
            };
            let share = |rows| share_steps(self.packing, &tasks, steps.clone(), rows);
            let run_gates = share(BlockMut::new(run_gates, rows.len(), columns.all));
            let state_gradients: Vec<Vec<BlockMut>> = if projection > 0 {
                let run = &mut state_gradient[rows.start * state..rows.end * state];
                share(BlockMut::new(run, rows.len(), state))
            } else {
                let all = BlockMut::new(&mut state_gradient, places, state);
                let shares = share_places(&tasks, all);
                shares.into_iter().map(|share| vec![share]).collect()
            };
            let hidden_gradient = BlockMut::new(&mut hidden_gradient, places, hidden_width);
            let carried = BlockMut::new(&mut carried, places, hidden);
            let back = BackwardPass {
                columns: &columns,
                steps,
                later_gates,
                cells: Block::new(&cells, all_rows, cell_width),
                weight_hh: &weight_hh,
                weight_hr: weight_hr.as_ref(),
                output,
                output_gradient,
            };
            let shares = tasks
                .iter()
                .zip(run_gates)
                .zip(state_gradients)
                .zip(share_places(&tasks, hidden_gradient))
                .zip(share_places(&tasks, carried));
            let shares: Vec<BackwardTask> = shares
                .map(
                    |((((places, gates), state_gradient), hidden_gradient), carried)| {
                        BackwardTask {
                            places: places.clone(),
                            gates,
                            state_gradient,
                            hidden_gradient,
                            carried,
                        }
                    },
                )
                .collect();
            shares.into_par_iter().for_each(|mut task| {
                for i in run.clone().rev() {
                    self.step_backward(i, &back, &mut task);
                }
            });
            let gates = &gates[rows.start * columns.all..rows.end * columns.all];
            self.add(&mut sums, &columns, &rows, gates, &pass, &previous);
            if projection > 0 {
                let state_grad = &state_gradient[rows.start * state..rows.end * state];
                let unprojected = &unprojected[rows.start * hidden..rows.end * hidden];
                multiply_parallel(
                    self.level,
                    Left::transposed(state_grad, state),
                    &Panels::pack(unprojected, rows.len(), hidden),
                    Addend::Result,
                    &mut sums.projection,
                    hidden,
                );
            }
            if let (Some(gradient), Some(weight_ih)) = (&mut pass.input_gradient, &weight_ih) {
                multiply_parallel(
                    self.level,
                    Left::rows(gates, columns.all),
                    weight_ih,
                    Addend::Zero,
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
            multiply_parallel(self.level, left, panels, Addend::Result, target, width);
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
            let gates = Block::new(gates, rows.len(), columns.all);
            let left = Left::transposed_window(gates.with_columns(columns.recurrent.clone()));
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

    /// Step `i` of the recurrence, back in time, for a task's sequences.
    fn step_backward(&self, i: usize, pass: &BackwardPass, task: &mut BackwardTask) {
        let step = self.step(i);
        let count = self.running(step, &task.places);
        if count == 0 {
            return;
        }
        let next = self.next_of(step, &task.places);
        let previous = self.previous_of(step, &task.places);
        let place = step - pass.steps.start;
        let (gates, next_gates) = match next {
            Some((next, count)) if pass.steps.contains(&next) => {
                let next = Some((next - pass.steps.start, count));
                of_steps(&mut task.gates, place, next)
            }
            Some((next, count)) => {
                let (later, start) = pass.later_gates;
                let first = self.packing.row(next, task.places.start) - start;
                let next_gates = later.with_rows(first..first + count);
                (task.gates[place].reborrow(), next_gates)
            }
            None => (task.gates[place].reborrow(), Block::empty()),
        };
        let of_state = match pass.weight_hr {
            Some(_) => place,
            None => 0,
        };
        let mut target = task.state_gradient[of_state].reborrow().top(count);
        let output_gradient = self.rows_at(step, &task.places, pass.output_gradient, count);
        for row in 0..count {
            target
                .row_mut(row)
                .copy_from_slice(output_gradient.row(row));
        }
        if next_gates.rows() > 0 {
            multiply_window(
                self.level,
                Left::window(next_gates.with_columns(pass.columns.recurrent.clone())),
                pass.weight_hh,
                Addend::Result,
                target.reborrow().top(next_gates.rows()),
            );
        }
        let mut hidden_gradient = task.hidden_gradient.reborrow().top(count);
        if let Some(weight_hr) = pass.weight_hr {
            multiply_window(
                self.level,
                Left::window(target.as_block()),
                weight_hr,
                Addend::Zero,
                hidden_gradient.reborrow(),
            );
        }
        let of_previous = |block| match previous {
            Some((step, count)) => self.rows_at(step, &task.places, block, count),
            None => Block::empty(),
        };
        cell::backward(
            self.level,
            self.shape.cell,
            CellStepBackward {
                after: next.map_or(0, |(_, count)| count),
                gates: gates.top(count),
                cells: self.rows_at(step, &task.places, pass.cells, count),
                previous_cells: of_previous(pass.cells),
                output: self.rows_at(step, &task.places, pass.output, count),
                previous_output: of_previous(pass.output),
                hidden_gradient: match pass.weight_hr {
                    Some(_) => hidden_gradient.as_block(),
                    None => target.as_block(),
                },
                carried: task.carried.reborrow().top(count),
            },
        );
    }

    /// The rows of the first `count` sequences of `places` at a step, in a matrix of all frames.
    fn rows_at<'a>(
        &self,
        step: usize,
        places: &Range<usize>,
        frames: Block<'a>,
        count: usize,
    ) -> Block<'a> {
        let first = self.packing.row(step, places.start);
        frames.with_rows(first..first + count)
    }
}
