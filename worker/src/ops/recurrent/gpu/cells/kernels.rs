//! The units of a step, forward and backward. A kernel is built for a cell; all sizes are told to it.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{SavedActivations, StateGradients, StepRows};
use crate::gpu::{Gpu, arg, flat_position, sigmoid, tanh, word};
use crate::ops::recurrent::{Cell, Recurrent};

/// The units of a step of a direction.
pub(super) struct Units {
    pub shape: Recurrent,
    pub direction: usize,
    pub step: StepRows,
}

/// What the gradient of a hidden state is put together from.
pub(super) struct Combine<'a> {
    /// [rows, directions, S]
    pub output_grad: &'a CubeTensor,
    /// What comes through the weights from the step after, [places, S].
    pub later: &'a CubeTensor,
    /// [rows, directions, S]
    pub output: &'a CubeTensor,
}

/// Some columns of a buffer's rows, from `row` on.
pub(super) struct Rows<'a> {
    pub buffer: &'a CubeTensor,
    pub row: usize,
    pub width: usize,
    pub column: usize,
}

/// The numbers of a step as kernels take them.
#[derive(CubeType, CubeLaunch)]
pub(super) struct StepArguments {
    row: u32,
    row_before: u32,
    /// Sequences of the step that were there in the one before.
    before: u32,
    /// And that are there in the one after.
    after: u32,
    /// The number of the direction, of directions, of units, and of all units of all sequences of the step.
    direction: u32,
    directions: u32,
    hidden: u32,
    elements: u32,
}

impl Units {
    /// The step's numbers for a kernel over `width` values a sequence.
    fn place(&self, width: usize) -> StepArgumentsLaunch {
        let StepRows {
            row,
            count,
            before: (row_before, before),
            after: (_, after),
        } = self.step;
        StepArgumentsLaunch::new(
            word(row),
            word(row_before),
            word(before),
            word(after),
            word(self.direction),
            word(self.shape.directions),
            word(width),
            word(count * width),
        )
    }

    /// Gates, cells and what comes of them, into `output` [rows, directions, H].
    pub(super) fn forward(
        &self,
        gpu: &Gpu,
        parameters: &CubeTensor,
        bias: usize,
        saved: &SavedActivations,
        output: &CubeTensor,
    ) {
        let hidden = self.shape.hidden;
        let (count, units) = gpu.plan.flat(self.step.count * hidden);
        // SAFETY: units beyond the last end at once; rows are those of the packing's steps.
        unsafe {
            forward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(parameters),
                arg(&saved.gates),
                arg(&saved.hidden),
                arg(&saved.cells),
                arg(output),
                word(bias),
                self.place(hidden),
                self.shape.cell,
            );
        }
    }

    /// The gradient of the step's hidden states, and those before it, into `state_gradients`.
    pub(super) fn combine(&self, gpu: &Gpu, from: Combine, state_gradients: &StateGradients) {
        let state = self.shape.state();
        let (count, units) = gpu.plan.flat(self.step.count * state);
        // SAFETY: units beyond the last state of the step end at once; the rows that are read and written are those
        // of the packing at this step and at the one after it, of buffers with a row for each frame.
        unsafe {
            combine_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(from.output_grad),
                arg(from.later),
                arg(from.output),
                arg(&state_gradients.state_grad),
                arg(&state_gradients.previous),
                self.place(state),
            );
        }
    }

    /// Gates to their gradients, given those of what came of them.
    pub(super) fn backward(
        &self,
        gpu: &Gpu,
        saved: &SavedActivations,
        state_gradients: &StateGradients,
        output_grad: Rows,
        carried: &CubeTensor,
    ) {
        let hidden = self.shape.hidden;
        let (count, units) = gpu.plan.flat(self.step.count * hidden);
        // SAFETY: units beyond the last hidden one of the step end at once; a row of gates, cells and gradients is one of the
        // packing at this step.
        unsafe {
            backward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(output_grad.buffer),
                arg(&saved.gates),
                arg(&saved.hidden),
                arg(&saved.cells),
                arg(&saved.output),
                arg(&state_gradients.previous),
                arg(carried),
                word(output_grad.row),
                word(output_grad.width),
                word(output_grad.column),
                self.place(hidden),
                self.shape.cell,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn forward_kernel(
    parameters: &[f32],
    gates: &mut [f32],
    recurrent: &mut [f32],
    cells: &mut [f32],
    output: &mut [f32],
    bias: u32,
    at: StepArguments,
    #[comptime] kind: Cell,
) {
    let element = flat_position();
    if element < at.elements {
        let hidden = at.hidden as usize;
        let place = element as usize / hidden;
        let unit = element as usize % hidden;
        let goes_on = place < at.before as usize;
        let cell = (at.row as usize + place) * at.directions as usize + at.direction as usize;
        let before =
            (at.row_before as usize + place) * at.directions as usize + at.direction as usize;
        let at_cell = cell * hidden + unit;
        let at_before = select(goes_on, before * hidden + unit, at_cell);
        let bias = bias as usize + unit;
        if comptime!(kind == Cell::Lstm) {
            let base = cell * 4 * hidden + unit;
            let mut sums = Array::<f32>::new(4usize);
            #[unroll]
            for gate in 0..4 {
                let earlier = select(goes_on, recurrent[base + gate * hidden], 0.0f32);
                sums[gate] =
                    gates[base + gate * hidden] + (earlier + parameters[bias + gate * hidden]);
            }
            let input_gate = sigmoid(sums[0]);
            let forget_gate = sigmoid(sums[1]);
            let candidate = tanh(sums[2]);
            let output_gate = sigmoid(sums[3]);
            let cell_before = select(goes_on, cells[at_before], 0.0f32);
            let now = forget_gate * cell_before + input_gate * candidate;
            gates[base] = input_gate;
            gates[base + hidden] = forget_gate;
            gates[base + 2 * hidden] = candidate;
            gates[base + 3 * hidden] = output_gate;
            cells[at_cell] = now;
            output[at_cell] = output_gate * tanh(now);
        } else if comptime!(kind == Cell::Gru) {
            let base = cell * 3 * hidden + unit;
            let mut sums = Array::<f32>::new(3usize);
            #[unroll]
            for gate in 0..3 {
                let earlier = select(goes_on, recurrent[base + gate * hidden], 0.0f32);
                sums[gate] = earlier + parameters[bias + gate * hidden];
            }
            let reset = sigmoid(gates[base] + sums[0]);
            let update = sigmoid(gates[base + hidden] + sums[1]);
            let candidate = tanh(gates[base + 2 * hidden] + reset * sums[2]);
            gates[base] = reset;
            gates[base + hidden] = update;
            gates[base + 2 * hidden] = candidate;
            recurrent[base + 2 * hidden] = sums[2];
            let state_before = select(goes_on, output[at_before], 0.0f32);
            output[at_cell] = candidate + update * (state_before - candidate);
        } else {
            let earlier = select(goes_on, recurrent[at_cell], 0.0f32);
            let sum = gates[at_cell] + (earlier + parameters[bias]);
            if comptime!(kind == Cell::Tanh) {
                output[at_cell] = tanh(sum);
            } else {
                output[at_cell] = select(sum < 0.0f32, 0.0f32, sum);
            }
        }
    }
}

#[cube(launch_unchecked)]
fn combine_kernel(
    output_grad: &[f32],
    later: &[f32],
    output: &[f32],
    result: &mut [f32],
    previous: &mut [f32],
    at: StepArguments,
) {
    let element = flat_position();
    if element < at.elements {
        let width = at.hidden as usize;
        let place = element as usize / width;
        let unit = element as usize % width;
        let cell = (at.row as usize + place) * at.directions as usize + at.direction as usize;
        let before =
            (at.row_before as usize + place) * at.directions as usize + at.direction as usize;
        let at_cell = cell * width + unit;
        let has_begun = place < at.before as usize;
        let at_before = select(has_begun, before * width + unit, at_cell);
        previous[at_cell] = select(has_begun, output[at_before], 0.0f32);
        let later = select(place < at.after as usize, later[element as usize], 0.0f32);
        result[at_cell] = output_grad[at_cell] + later;
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    output_grad: &[f32],
    gates: &mut [f32],
    recurrent: &mut [f32],
    cells: &[f32],
    output: &[f32],
    previous: &[f32],
    carried: &mut [f32],
    grad_row: u32,
    grad_width: u32,
    grad_column: u32,
    at: StepArguments,
    #[comptime] kind: Cell,
) {
    let element = flat_position();
    if element < at.elements {
        let hidden = at.hidden as usize;
        let place = element as usize / hidden;
        let unit = element as usize % hidden;
        let cell = (at.row as usize + place) * at.directions as usize + at.direction as usize;
        let at_cell = cell * hidden + unit;
        let at_grad =
            (grad_row as usize + place) * grad_width as usize + grad_column as usize + unit;
        let grad = output_grad[at_grad];
        let element = element as usize;
        let from_after = select(place < at.after as usize, carried[element], 0.0f32);
        if comptime!(kind == Cell::Lstm) {
            let base = cell * 4 * hidden + unit;
            let has_begun = place < at.before as usize;
            let before =
                (at.row_before as usize + place) * at.directions as usize + at.direction as usize;
            let at_before = select(has_begun, before * hidden + unit, at_cell);
            let cell_before = select(has_begun, cells[at_before], 0.0f32);
            let input_gate = gates[base];
            let forget_gate = gates[base + hidden];
            let candidate = gates[base + 2 * hidden];
            let output_gate = gates[base + 3 * hidden];
            let squashed = tanh(cells[at_cell]);
            let cell_grad = grad * output_gate * (1.0 - squashed * squashed) + from_after;
            gates[base] = cell_grad * candidate * input_gate * (1.0 - input_gate);
            gates[base + hidden] = cell_grad * cell_before * forget_gate * (1.0 - forget_gate);
            gates[base + 2 * hidden] = cell_grad * input_gate * (1.0 - candidate * candidate);
            gates[base + 3 * hidden] = grad * squashed * output_gate * (1.0 - output_gate);
            #[unroll]
            for gate in 0..4 {
                recurrent[base + gate * hidden] = gates[base + gate * hidden];
            }
            carried[element] = cell_grad * forget_gate;
        } else if comptime!(kind == Cell::Gru) {
            let base = cell * 3 * hidden + unit;
            let grad = grad + from_after;
            let reset = gates[base];
            let update = gates[base + hidden];
            let candidate = gates[base + 2 * hidden];
            let within = recurrent[base + 2 * hidden];
            let d_candidate = grad * (1.0 - update) * (1.0 - candidate * candidate);
            let d_update = grad * (previous[at_cell] - candidate) * update * (1.0 - update);
            let d_reset = d_candidate * within * reset * (1.0 - reset);
            gates[base] = d_reset;
            gates[base + hidden] = d_update;
            gates[base + 2 * hidden] = d_candidate;
            recurrent[base] = d_reset;
            recurrent[base + hidden] = d_update;
            recurrent[base + 2 * hidden] = d_candidate * reset;
            carried[element] = grad * update;
        } else {
            let result = output[at_cell];
            let gradient = if comptime!(kind == Cell::Tanh) {
                grad * (1.0 - result * result)
            } else {
                select(result > 0.0f32, grad, 0.0f32)
            };
            gates[at_cell] = gradient;
            recurrent[at_cell] = gradient;
        }
    }
}
