//! The forward pass through time. It decides which activations are saved for the backward pass.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{self, CellStep};
use super::weights::PackedWeights;
use super::{Direction, share_steps};
use crate::cpu::block::{Block, BlockMut};
use crate::cpu::matrix::{Addend, Left, multiply_parallel, multiply_window};
use crate::ops::recurrent::{Cell, Recurrent};

/// Rows of frames whose input is projected before the recurrence goes over them, while both weights
/// and the rows' gates fit a second-level cache.
const ROWS: usize = 128;
/// The same where the weights are larger, and go through that cache for each step anyway.
const ROWS_LARGE: usize = 1024;
/// Elements of an input's weight that count as large: a megabyte's worth.
const LARGE: usize = 1 << 18;

/// What the forward pass of a direction leaves to the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct SavedActivations {
    /// The gates after their activations, [rows, columns].
    pub(super) gates: Vec<f32>,
    /// An LSTM's cell state, [rows, H].
    pub(super) cells: Vec<f32>,
    /// What is projected, [rows, H]; empty without a projection.
    pub(super) unprojected: Vec<f32>,
}

/// The columns of a layer's result that belong to one direction. There is one of these for each
/// direction, so that directions can be computed side by side.
pub(crate) struct OutputColumns<'a> {
    /// [rows, S]
    columns: BlockMut<'a>,
    shape: Recurrent,
    direction: usize,
}

impl<'a> OutputColumns<'a> {
    /// The columns of each direction of a layer of `shape`, whose result `output` [rows, outputs] is.
    ///
    /// # Panics
    /// If `output` is not whole rows.
    pub(crate) fn split(output: &'a mut [f32], shape: Recurrent) -> Vec<Self> {
        let rows = output.len() / shape.outputs().max(1);
        let mut all = BlockMut::new(output, rows, shape.outputs());
        let mut directions = Vec::new();
        for direction in 0..shape.directions {
            let (columns, others) = all.split_columns(shape.state());
            all = others;
            directions.push(Self {
                columns,
                shape,
                direction,
            });
        }
        directions
    }
}

/// The sequences of one task, and what they have of what is written: for each step, rows.
struct ForwardTask<'a> {
    places: Range<usize>,
    /// The cell states of an LSTM; without columns otherwise.
    cells: Vec<BlockMut<'a>>,
    /// With a projection; without columns otherwise.
    unprojected: Vec<BlockMut<'a>>,
    output: Vec<BlockMut<'a>>,
}

impl Direction<'_> {
    /// `input` [rows, I] to this direction's columns of the layer's result.
    ///
    /// # Panics
    /// If the columns are another direction's or another layer's or of another number of frames, or a slice is too short.
    pub(crate) fn forward(
        &self,
        input: &[f32],
        parameters: &[f32],
        output: &mut OutputColumns,
    ) -> SavedActivations {
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
        assert_eq!(output.columns.rows(), rows, "rows of the result");
        let weights = PackedWeights::new(&self.shape, self.index, parameters);
        let columns = &weights.columns;
        let mut gates = vec![0.0; rows * columns.all];
        let cell_width = if cell == Cell::Lstm { hidden } else { 0 };
        let mut cells = vec![0.0; rows * cell_width];
        let unprojected_width = if projection > 0 { hidden } else { 0 };
        let mut unprojected = vec![0.0; rows * unprojected_width];
        let at_a_time = if inputs * columns.all > LARGE {
            ROWS_LARGE
        } else {
            ROWS
        };
        let places = self.tasks();
        let share = |rows| share_steps(self.packing, &places, 0..self.packing.steps(), rows);
        let all_cells = share(BlockMut::new(&mut cells, rows, cell_width));
        let all_unprojected = share(BlockMut::new(&mut unprojected, rows, unprojected_width));
        let all_output = share(output.columns.reborrow());
        let shares = places
            .iter()
            .zip(all_cells)
            .zip(all_unprojected)
            .zip(all_output);
        let mut tasks: Vec<ForwardTask> = shares
            .map(|(((places, cells), unprojected), output)| ForwardTask {
                places: places.clone(),
                cells,
                unprojected,
                output,
            })
            .collect();
        for run in self.chunks(at_a_time) {
            let steps = self.in_time(&run);
            let rows = self.rows(&steps);
            let run_gates = &mut gates[rows.start * columns.all..rows.end * columns.all];
            multiply_parallel(
                self.level,
                Left::rows(&input[rows.start * inputs..], inputs),
                &weights.weight_ih,
                Addend::Row(&weights.bias),
                run_gates,
                columns.all,
            );
            if !weights.recurrent_bias.is_empty() {
                for row in run_gates.chunks_exact_mut(columns.all) {
                    row[columns.input.end..].copy_from_slice(&weights.recurrent_bias);
                }
            }
            let run_gates = BlockMut::new(run_gates, rows.len(), columns.all);
            let run_gates = share_steps(self.packing, &places, steps.clone(), run_gates);
            let tasks = tasks.par_iter_mut().zip(run_gates);
            tasks.for_each(|(task, mut gates)| {
                for i in run.clone() {
                    let gates = gates[self.step(i) - steps.start].reborrow();
                    self.step_forward(i, &weights, gates, task);
                }
            });
        }
        SavedActivations {
            gates,
            cells,
            unprojected,
        }
    }

    /// Step `i` of the recurrence for a task's sequences, whose `gates` at this step hold the input's part.
    fn step_forward(
        &self,
        i: usize,
        weights: &PackedWeights,
        gates: BlockMut,
        task: &mut ForwardTask,
    ) {
        let step = self.step(i);
        let count = self.running(step, &task.places);
        if count == 0 {
            return;
        }
        let mut gates = gates.top(count);
        let (output, before) =
            of_steps(&mut task.output, step, self.previous_of(step, &task.places));
        let mut output = output.top(count);
        if before.rows() > 0 {
            let (gates, _) = gates.reborrow().split_rows(before.rows());
            multiply_window(
                self.level,
                Left::window(before),
                &weights.weight_hh,
                Addend::Result,
                gates.with_columns(weights.columns.recurrent.clone()),
            );
        }
        let previous = self.previous_of(step, &task.places);
        let (cells, previous_cells) = of_steps(&mut task.cells, step, previous);
        let mut unprojected = task.unprojected[step].reborrow().top(count);
        cell::forward(
            self.level,
            self.shape.cell,
            CellStep {
                gates,
                cells: cells.top(count),
                previous_cells,
                // What is projected is written to memory of its own first.
                output: match &weights.weight_hr {
                    Some(_) => unprojected.reborrow(),
                    None => output.reborrow(),
                },
                previous_output: before,
            },
        );
        if let Some(weight_hr) = &weights.weight_hr {
            let left = Left::window(unprojected.as_block());
            multiply_window(self.level, left, weight_hr, Addend::Zero, output);
        }
    }
}

/// From a task's rows of each step: those of `step`, and those of the sequences that also ran at the `previous` step (a
/// step and their number), if there are any.
pub(super) fn of_steps<'a>(
    steps: &'a mut [BlockMut],
    step: usize,
    previous: Option<(usize, usize)>,
) -> (BlockMut<'a>, Block<'a>) {
    let Some((previous, count)) = previous else {
        return (steps[step].reborrow(), Block::empty());
    };
    // One of the two lies before the other.
    let (earlier, later) = steps.split_at_mut(step.max(previous));
    let (here, before) = if step < previous {
        (&mut earlier[step], &later[0])
    } else {
        (&mut later[0], &earlier[previous])
    };
    (here.reborrow(), before.as_block().with_rows(0..count))
}
