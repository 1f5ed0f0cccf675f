//! The recurrence of one direction of a layer over packed frames, forward and backward, on slices.
//! It decides the order of the work in time and its division among threads, and refuses to know
//! about tensors and differentiation graphs.
//!
//! Threads share out the sequences of the batch: no barrier inside the time loop, and since each
//! frame's values are chains of their own (see [`crate::kernel`]), the same bits for any division.

use rayon::prelude::*;

use super::{LayerShape, Packing};
use crate::kernel::activation::{sigmoid, tanh};
use crate::kernel::matrix::{Left, Panels, Start, add_rows, multiply_parallel, multiply_raw};
use crate::kernel::simd::{Kernel, Lanes, Level};

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
    fn tasks(&self) -> Vec<std::ops::Range<usize>> {
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
        let start = Start::Row(&bias);
        let left = Left::rows(input, inputs);
        multiply_parallel(self.level, left, &weight_ih, start, &mut gates, gates_width);
        let mut cells = vec![0.0; rows * hidden];
        let (gates_shared, cells_shared) = (Shared::new(&mut gates), Shared::new(&mut cells));
        let SharedOutput {
            memory: output,
            width,
        } = output;
        let column = self.index * hidden;
        self.tasks().into_par_iter().for_each(|places| {
            for i in 0..self.packing.steps() {
                let step = self.step(i);
                let count = self
                    .packing
                    .active(step)
                    .min(places.end)
                    .saturating_sub(places.start);
                if count == 0 {
                    continue;
                }
                let row = self.packing.row(step, places.start);
                let before = self.previous(step).map(|(previous, both)| {
                    let count = both.min(places.end).saturating_sub(places.start);
                    (self.packing.row(previous, places.start), count)
                });
                let (previous_row, previous_count) = before.unwrap_or((0, 0));
                // SAFETY: all rows belong to sequences of `places`, which are this task's alone;
                // earlier steps are only read, and this step's rows only written here.
                unsafe {
                    if previous_count > 0 {
                        let elements = (previous_count - 1) * width + hidden;
                        let h = output.slice(previous_row * width + column, elements);
                        let left = Left::rows(h, width);
                        let target = gates_shared.at(row * gates_width);
                        let start = Start::Result;
                        let level = self.level;
                        multiply_raw(
                            level,
                            left,
                            &weight_hh,
                            start,
                            target,
                            gates_width,
                            previous_count,
                        );
                    }
                    self.level.run(CellForward {
                        hidden,
                        count,
                        previous_count,
                        gates: gates_shared.at(row * gates_width),
                        cells: cells_shared.at(row * hidden),
                        previous_cells: cells_shared.at(previous_row * hidden),
                        output: output.at(row * width + column),
                        width,
                    });
                }
            }
        });
        Trace { gates, cells }
    }

    /// From the gradient of the layer's output to the gradient of this direction's parameters
    /// (added to zeros in `parameter_gradient`, the layer's whole) and, where asked for, added to
    /// `input_gradient` [rows, I].
    pub fn backward(&self, pass: Backward, trace: Trace) -> Vec<f32> {
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

        // The gates turn into their own gradients as time runs back.
        let mut hidden_gradient = vec![0.0; places * hidden];
        let mut cell_gradient = vec![0.0; places * hidden];
        let gates_shared = Shared::new(&mut gates);
        let cells_shared = Shared::new(&mut cells);
        let hidden_shared = Shared::new(&mut hidden_gradient);
        let cell_shared = Shared::new(&mut cell_gradient);
        self.tasks().into_par_iter().for_each(|places| {
            for i in (0..self.packing.steps()).rev() {
                let step = self.step(i);
                let count = self
                    .packing
                    .active(step)
                    .min(places.end)
                    .saturating_sub(places.start);
                if count == 0 {
                    continue;
                }
                let within = |both: usize| both.min(places.end).saturating_sub(places.start);
                let row = self.packing.row(step, places.start);
                let after = self.next(step).map_or(0, |(_, both)| within(both));
                let before = self.previous(step);
                let previous_count = before.map_or(0, |(_, both)| within(both));
                let previous_row =
                    before.map_or(0, |(previous, _)| self.packing.row(previous, places.start));
                // SAFETY: all rows belong to sequences of `places`, which are this task's alone.
                unsafe {
                    let target = hidden_shared.at(places.start * hidden);
                    for r in 0..count {
                        let source = &pass.output_gradient[(row + r) * width + column..][..hidden];
                        target
                            .add(r * hidden)
                            .copy_from_nonoverlapping(source.as_ptr(), hidden);
                    }
                    if let Some((next, _)) = self.next(step).filter(|_| after > 0) {
                        let next_row = self.packing.row(next, places.start);
                        let elements = after * gates_width;
                        let left = gates_shared.slice(next_row * gates_width, elements);
                        let left = Left::rows(left, gates_width);
                        let (level, start) = (self.level, Start::Result);
                        multiply_raw(level, left, &weight_hh, start, target, hidden, after);
                    }
                    self.level.run(CellBackward {
                        hidden,
                        count,
                        after,
                        previous_count,
                        gates: gates_shared.at(row * gates_width),
                        cells: cells_shared.at(row * hidden),
                        previous_cells: cells_shared.at(previous_row * hidden),
                        hidden_gradient: target,
                        cell_gradient: cell_shared.at(places.start * hidden),
                    });
                }
            }
        });

        let mut gradient = vec![0.0; self.shape.direction_elements()];
        let (weights, biases) = gradient.split_at_mut(gates_width * (inputs + hidden));
        let (ih, hh) = weights.split_at_mut(gates_width * inputs);
        let left = Left::transposed(&gates, gates_width);
        let rows = self.packing.rows();
        let panels = Panels::pack(pass.input, rows, inputs);
        multiply_parallel(self.level, left, &panels, Start::Zero, ih, inputs);
        let previous = self.previous_rows();
        let panels = Panels::gather(rows, hidden, |row| {
            previous[row].map(|previous| &pass.output[previous * width + column..][..hidden])
        });
        multiply_parallel(self.level, left, &panels, Start::Zero, hh, hidden);
        let (bias_ih, bias_hh) = biases.split_at_mut(gates_width);
        add_rows(self.level, &gates, bias_ih);
        bias_hh.copy_from_slice(bias_ih);

        if let Some(input_gradient) = pass.input_gradient {
            let weight_ih = Panels::pack(&pass.parameters[ranges.weight_ih], gates_width, inputs);
            let left = Left::rows(&gates, gates_width);
            let start = Start::Result;
            multiply_parallel(self.level, left, &weight_ih, start, input_gradient, inputs);
        }
        gradient
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

/// What the backward pass of a direction reads and adds to.
pub struct Backward<'a> {
    /// [rows, I]
    pub input: &'a [f32],
    /// The layer's flat parameters.
    pub parameters: &'a [f32],
    /// [rows, outputs]
    pub output: &'a [f32],
    /// [rows, outputs]
    pub output_gradient: &'a [f32],
    /// [rows, I], added to.
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

/// Activations, cell and hidden state of `count` sequences at one step.
struct CellForward {
    hidden: usize,
    count: usize,
    /// The first so many have a previous step; the others begin at zero.
    previous_count: usize,
    gates: *mut f32,
    cells: *mut f32,
    previous_cells: *const f32,
    output: *mut f32,
    width: usize,
}

impl CellForward {
    /// # Safety
    /// The pointers cover `count` rows of `hidden` units; unit + LANES is at most `hidden`.
    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let hidden = self.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = self.gates.add(row * 4 * hidden + unit);
            let input = sigmoid(V::load(gates));
            let forget = sigmoid(V::load(gates.add(hidden)));
            let candidate = tanh(V::load(gates.add(2 * hidden)));
            let output = sigmoid(V::load(gates.add(3 * hidden)));
            let previous = if row < self.previous_count {
                V::load(self.previous_cells.add(row * hidden + unit))
            } else {
                V::splat(0.0)
            };
            let cell = forget.mul_add(previous, input.mul(candidate));
            input.store(gates);
            forget.store(gates.add(hidden));
            candidate.store(gates.add(2 * hidden));
            output.store(gates.add(3 * hidden));
            cell.store(self.cells.add(row * hidden + unit));
            output
                .mul(tanh(cell))
                .store(self.output.add(row * self.width + unit));
        }
    }
}

impl Kernel for CellForward {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for row in 0..self.count {
            let mut unit = 0;
            // SAFETY: the units stay below `hidden`; the maker of `self` answers for the pointers.
            unsafe {
                while unit + V::LANES <= self.hidden {
                    self.units::<V>(row, unit);
                    unit += V::LANES;
                }
                while unit < self.hidden {
                    self.units::<[f32; 1]>(row, unit);
                    unit += 1;
                }
            }
        }
    }
}

/// Turns the gates of `count` sequences at one step into the gradients of their pre-activations,
/// and carries the gradient of the cell back.
struct CellBackward {
    hidden: usize,
    count: usize,
    /// The first so many have a next step, from which a gradient of the cell arrives.
    after: usize,
    /// The first so many have a previous step.
    previous_count: usize,
    gates: *mut f32,
    cells: *const f32,
    previous_cells: *const f32,
    hidden_gradient: *const f32,
    cell_gradient: *mut f32,
}

impl CellBackward {
    /// # Safety
    /// As [`CellForward::units`].
    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let hidden = self.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = self.gates.add(row * 4 * hidden + unit);
            let at = row * hidden + unit;
            let zero = V::splat(0.0);
            let one = V::splat(1.0);
            let input = V::load(gates);
            let forget = V::load(gates.add(hidden));
            let candidate = V::load(gates.add(2 * hidden));
            let output = V::load(gates.add(3 * hidden));
            let squashed = tanh(V::load(self.cells.add(at)));
            let previous = if row < self.previous_count {
                V::load(self.previous_cells.add(at))
            } else {
                zero
            };
            let dh = V::load(self.hidden_gradient.add(at));
            let carried = if row < self.after {
                V::load(self.cell_gradient.add(at))
            } else {
                zero
            };
            let slope = one.sub(squashed.mul(squashed));
            let dc = dh.mul(output).mul_add(slope, carried);
            let d_output = dh.mul(squashed).mul(output.mul(one.sub(output)));
            let d_input = dc.mul(candidate).mul(input.mul(one.sub(input)));
            let d_forget = dc.mul(previous).mul(forget.mul(one.sub(forget)));
            let d_candidate = dc.mul(input).mul(one.sub(candidate.mul(candidate)));
            d_input.store(gates);
            d_forget.store(gates.add(hidden));
            d_candidate.store(gates.add(2 * hidden));
            d_output.store(gates.add(3 * hidden));
            dc.mul(forget).store(self.cell_gradient.add(at));
        }
    }
}

impl Kernel for CellBackward {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for row in 0..self.count {
            let mut unit = 0;
            // SAFETY: as in `CellForward::run`.
            unsafe {
                while unit + V::LANES <= self.hidden {
                    self.units::<V>(row, unit);
                    unit += V::LANES;
                }
                while unit < self.hidden {
                    self.units::<[f32; 1]>(row, unit);
                    unit += 1;
                }
            }
        }
    }
}
