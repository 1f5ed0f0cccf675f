//! The recurrence of one direction of a layer over packed frames, forward and backward, on slices.
//! It decides the order of the work in time and its division among threads, and refuses to know
//! about tensors and differentiation graphs.
//!
//! Threads share out the sequences of the batch: no barrier inside the time loop, and since each
//! frame's values are chains of their own (see [`crate::kernel`]), the same bits for any division.

mod cell;

use std::ops::Range;

use rayon::prelude::*;

use super::{LayerShape, Packing};
use crate::kernel::matrix::{Left, Panels, Start, add_rows, multiply_parallel, multiply_raw};
use crate::kernel::simd::Level;
use cell::{CellBackward, CellForward};

/// Rows of frames whose input is projected before the recurrence goes over them, while both weights
/// and the rows' gates fit a second-level cache.
const FORWARD_ROWS: usize = 128;
/// The same where the weights are larger, and go through that cache for each step anyway.
const FORWARD_ROWS_LARGE: usize = 1024;
/// Elements of an input's weight that count as large: a megabyte's worth.
const LARGE: usize = 1 << 18;
/// Rows of frames that the recurrence goes back over before their part of the weights' gradient is
/// added: with more, the gradient's way to memory and back is rarer.
const BACKWARD_ROWS: usize = 1024;

/// What the forward pass of a direction leaves to the backward pass.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The gates i, f, g, o after their activations, [rows, 4H].
    gates: Vec<f32>,
    /// The cell state, [rows, H].
    cells: Vec<f32>,
}

/// Memory that several threads write to in disjoint places.
#[derive(Clone, Copy)]
struct Shared(*mut f32, usize);

// SAFETY: the users keep to rows of their own sequences; see `Ranges`.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// # Safety
    /// Nobody writes to the range while the slice lives.
    unsafe fn slice<'a>(self, start: usize, elements: usize) -> &'a [f32] {
        assert!(start + elements <= self.1);
        // SAFETY: within bounds; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts(self.0.add(start), elements) }
    }

    fn at(self, start: usize) -> *mut f32 {
        assert!(start <= self.1);
        // SAFETY: within bounds.
        unsafe { self.0.add(start) }
    }
}

/// One direction of a layer over a batch.
#[derive(Clone, Copy)]
pub struct Direction<'a> {
    pub level: Level,
    pub shape: LayerShape,
    pub packing: &'a Packing,
    /// 0 forward, 1 backward in time.
    pub index: usize,
}

impl Direction<'_> {
    /// The steps in the order of the recurrence.
    fn step(&self, i: usize) -> usize {
        if self.index == 0 {
            i
        } else {
            self.packing.steps() - 1 - i
        }
    }

    /// The step before `step` in the order of the recurrence, and how many sequences have both.
    fn previous(&self, step: usize) -> Option<(usize, usize)> {
        let previous = if self.index == 0 {
            step.checked_sub(1)?
        } else {
            step + 1
        };
        (previous < self.packing.steps()).then(|| {
            (
                previous,
                self.packing.active(previous).min(self.packing.active(step)),
            )
        })
    }

    /// The step after `step`, likewise.
    fn next(&self, step: usize) -> Option<(usize, usize)> {
        let next = if self.index == 0 {
            step + 1
        } else {
            step.checked_sub(1)?
        };
        (next < self.packing.steps()).then(|| {
            (
                next,
                self.packing.active(next).min(self.packing.active(step)),
            )
        })
    }

    /// Sequences (as places) for each thread, about equally many frames each.
    fn tasks(&self) -> Vec<Range<usize>> {
        let threads = rayon::current_num_threads().div_ceil(self.shape.directions);
        let places = self.packing.sequences();
        let mut tasks = Vec::new();
        let (mut start, mut frames) = (0, 0);
        for place in 0..places {
            frames += self.packing.length(place);
            let due = (tasks.len() + 1) * self.packing.rows();
            if place + 1 == places || frames * threads >= due {
                tasks.push(start..place + 1);
                start = place + 1;
            }
        }
        tasks
    }

    /// `input` [rows, I] to this direction's columns of `output` [rows, outputs].
    pub fn forward(&self, input: &[f32], parameters: &[f32], output: SharedOutput) -> Trace {
        let LayerShape { inputs, hidden, .. } = self.shape;
        let ranges = self.shape.direction(self.index);
        let gates_width = 4 * hidden;
        let rows = self.packing.rows();
        let bias: Vec<f32> = parameters[ranges.bias_ih]
            .iter()
            .zip(&parameters[ranges.bias_hh])
            .map(|(ih, hh)| ih + hh)
            .collect();
        let weight_ih = Panels::transpose(&parameters[ranges.weight_ih], inputs, gates_width);
        let weight_hh = Panels::transpose(&parameters[ranges.weight_hh], hidden, gates_width);

        let mut gates = vec![0.0; rows * gates_width];
        let mut cells = vec![0.0; rows * hidden];
        let at_a_time = if inputs * gates_width > LARGE {
            FORWARD_ROWS_LARGE
        } else {
            FORWARD_ROWS
        };
        for steps in self.chunks(at_a_time) {
            let rows = self.rows(&steps);
            multiply_parallel(
                self.level,
                Left::rows(&input[rows.start * inputs..], inputs),
                &weight_ih,
                Start::Row(&bias),
                &mut gates[rows.start * gates_width..rows.end * gates_width],
                gates_width,
            );
            let pass = Recurrence {
                gates: Shared::new(&mut gates),
                cells: Shared::new(&mut cells),
                weight_hh: &weight_hh,
                output,
            };
            self.tasks().into_par_iter().for_each(|places| {
                for i in steps.clone() {
                    self.step_forward(i, places.clone(), &pass);
                }
            });
        }
        Trace { gates, cells }
    }

    /// Step `i` of the recurrence for the sequences in `places`, whose gates hold the input's part.
    fn step_forward(&self, i: usize, places: Range<usize>, pass: &Recurrence) {
        let hidden = self.shape.hidden;
        let gates_width = 4 * hidden;
        let SharedOutput {
            memory: output,
            width,
        } = pass.output;
        let column = self.index * hidden;
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
        // SAFETY: all rows belong to sequences of `places`, which are the caller's alone; earlier
        // steps are only read, and this step's rows only written here.
        unsafe {
            if previous_count > 0 {
                let elements = (previous_count - 1) * width + hidden;
                let h = output.slice(previous_row * width + column, elements);
                multiply_raw(
                    self.level,
                    Left::rows(h, width),
                    pass.weight_hh,
                    Start::Result,
                    pass.gates.at(row * gates_width),
                    gates_width,
                    previous_count,
                );
            }
            self.level.run(CellForward {
                hidden,
                count,
                previous_count,
                gates: pass.gates.at(row * gates_width),
                cells: pass.cells.at(row * hidden),
                previous_cells: pass.cells.at(previous_row * hidden),
                output: output.at(row * width + column),
                width,
            });
        }
    }

    /// From the gradient of the layer's output to the gradient of this direction's parameters
    /// and, where asked for, of its input. A weight's chain goes over the frames run by run, the last
    /// of the recurrence first, in each run as they lie.
    pub fn backward(&self, mut pass: Backward, trace: Trace) -> Vec<f32> {
        let LayerShape { inputs, hidden, .. } = self.shape;
        let ranges = self.shape.direction(self.index);
        let gates_width = 4 * hidden;
        let width = self.shape.outputs();
        let column = self.index * hidden;
        let places = self.packing.sequences();
        let Trace {
            mut gates,
            mut cells,
        } = trace;
        let weight_hh = Panels::pack(
            &pass.parameters[ranges.weight_hh.clone()],
            gates_width,
            hidden,
        );

        let weight_ih = pass
            .input_gradient
            .is_some()
            .then(|| Panels::pack(&pass.parameters[ranges.weight_ih], gates_width, inputs));

        let mut hidden_gradient = vec![0.0; places * hidden];
        let mut cell_gradient = vec![0.0; places * hidden];
        let previous = self.previous_rows();
        // The input and the previous hidden state side by side, and their weights' gradients likewise.
        let both = inputs + hidden;
        let mut panels = Panels::zeros(0, both);
        let mut weights = vec![0.0; gates_width * both];
        let mut bias = vec![0.0; gates_width];
        // The gates turn into their own gradients as time runs back, and are used while they are near.
        for steps in self.chunks(BACKWARD_ROWS).into_iter().rev() {
            let back = Back {
                gates: Shared::new(&mut gates),
                cells: Shared::new(&mut cells),
                hidden_gradient: Shared::new(&mut hidden_gradient),
                cell_gradient: Shared::new(&mut cell_gradient),
                weight_hh: &weight_hh,
                output_gradient: pass.output_gradient,
            };
            self.tasks().into_par_iter().for_each(|places| {
                for i in steps.clone().rev() {
                    self.step_backward(i, places.clone(), &back);
                }
            });
            let rows = self.rows(&steps);
            let gates = &gates[rows.start * gates_width..rows.end * gates_width];
            panels.fill(rows.len(), [inputs, hidden], |row| {
                let row = rows.start + row;
                let output = |row: usize| &pass.output[row * width + column..][..hidden];
                [
                    Some(&pass.input[row * inputs..][..inputs]),
                    previous[row].map(output),
                ]
            });
            multiply_parallel(
                self.level,
                Left::transposed(gates, gates_width),
                &panels,
                Start::Result,
                &mut weights,
                both,
            );
            add_rows(self.level, gates, &mut bias);
            if let (Some(gradient), Some(weight_ih)) = (&mut pass.input_gradient, &weight_ih) {
                multiply_parallel(
                    self.level,
                    Left::rows(gates, gates_width),
                    weight_ih,
                    Start::Zero,
                    &mut gradient[rows.start * inputs..rows.end * inputs],
                    inputs,
                );
            }
        }

        let mut gradient = Vec::with_capacity(self.shape.direction_elements());
        for row in weights.chunks_exact(both) {
            gradient.extend_from_slice(&row[..inputs]);
        }
        for row in weights.chunks_exact(both) {
            gradient.extend_from_slice(&row[inputs..]);
        }
        gradient.extend_from_slice(&bias);
        gradient.extend_from_slice(&bias);
        gradient
    }

    /// Step `i` of the recurrence, back in time, for the sequences in `places`.
    fn step_backward(&self, i: usize, places: Range<usize>, pass: &Back) {
        let hidden = self.shape.hidden;
        let gates_width = 4 * hidden;
        let width = self.shape.outputs();
        let column = self.index * hidden;
        let step = self.step(i);
        let within = |count: usize| count.min(places.end).saturating_sub(places.start);
        let count = within(self.packing.active(step));
        if count == 0 {
            return;
        }
        let row = self.packing.row(step, places.start);
        let (next_row, after) = self.next(step).map_or((0, 0), |(step, both)| {
            (self.packing.row(step, places.start), within(both))
        });
        let (previous_row, previous_count) = self.previous(step).map_or((0, 0), |(step, both)| {
            (self.packing.row(step, places.start), within(both))
        });
        // SAFETY: all rows belong to sequences of `places`, which are the caller's alone.
        unsafe {
            let target = pass.hidden_gradient.at(places.start * hidden);
            for r in 0..count {
                let source = &pass.output_gradient[(row + r) * width + column..][..hidden];
                target
                    .add(r * hidden)
                    .copy_from_nonoverlapping(source.as_ptr(), hidden);
            }
            if after > 0 {
                let left = pass
                    .gates
                    .slice(next_row * gates_width, after * gates_width);
                multiply_raw(
                    self.level,
                    Left::rows(left, gates_width),
                    pass.weight_hh,
                    Start::Result,
                    target,
                    hidden,
                    after,
                );
            }
            self.level.run(CellBackward {
                hidden,
                count,
                after,
                previous_count,
                gates: pass.gates.at(row * gates_width),
                cells: pass.cells.at(row * hidden),
                previous_cells: pass.cells.at(previous_row * hidden),
                hidden_gradient: target,
                cell_gradient: pass.cell_gradient.at(places.start * hidden),
            });
        }
    }

    /// The steps of the recurrence in runs of at least `rows` rows but for the last: what a run's
    /// product computes is still in a cache when its recurrence uses it, and the other way round.
    fn chunks(&self, rows: usize) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut count) = (0, 0);
        for i in 0..self.packing.steps() {
            count += self.packing.active(self.step(i));
            if count >= rows || i + 1 == self.packing.steps() {
                chunks.push(start..i + 1);
                (start, count) = (i + 1, 0);
            }
        }
        chunks
    }

    /// The rows of a run of steps of the recurrence.
    fn rows(&self, steps: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.step(steps.start), self.step(steps.end - 1));
        let (first, last) = (first.min(last), first.max(last));
        self.packing.row(first, 0)..self.packing.row(last + 1, 0)
    }

    /// For each row, the row of the same sequence's previous step in the order of the recurrence.
    fn previous_rows(&self) -> Vec<Option<usize>> {
        let mut previous_rows = Vec::with_capacity(self.packing.rows());
        for step in 0..self.packing.steps() {
            let previous = self.previous(step);
            previous_rows.extend((0..self.packing.active(step)).map(|place| {
                let (previous, both) = previous?;
                (place < both).then(|| self.packing.row(previous, place))
            }));
        }
        previous_rows
    }
}

/// What the steps of a forward pass share.
struct Recurrence<'a> {
    gates: Shared,
    cells: Shared,
    weight_hh: &'a Panels,
    output: SharedOutput,
}

/// What the steps of a backward pass share.
struct Back<'a> {
    gates: Shared,
    cells: Shared,
    /// [sequences, H], of the step in hand.
    hidden_gradient: Shared,
    /// [sequences, H], as it arrives from the step after.
    cell_gradient: Shared,
    weight_hh: &'a Panels,
    output_gradient: &'a [f32],
}

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
