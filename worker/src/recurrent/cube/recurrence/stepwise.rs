//! The recurrence where a launch is cheap and loops are dear, a software adapter: for each step a product
//! a direction and a launch for the gates. It decides which rows a step takes part in.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{cell_backward, cell_forward};
use crate::gpu::product::panels::{Panels, multiply};
use crate::gpu::product::{Matrix, Size};
use crate::gpu::{Gpu, arg, word};
use crate::packing::Packing;
use crate::recurrent::cube::{Layer, Trace};

/// Sequences that have a frame in the `i`th step that a direction takes, if there is such a step.
fn active(packing: &Packing, direction: usize, i: usize) -> Option<usize> {
    let steps = packing.steps();
    let step = if direction == 0 {
        i
    } else {
        steps.checked_sub(i.checked_add(1)?)?
    };
    (step < steps).then(|| packing.active(step))
}

/// Projections to gates, cells and outputs.
pub fn forward(gpu: &Gpu, layer: &Layer, trace: &Trace) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let hidden = shape.hidden;
    let recurrent = gpu.empty([packing.sequences(), shape.directions * 4 * hidden]);
    let weights = weights(gpu, layer, true);
    // The outputs of the step before, as a factor: each direction after the other.
    let last = Panels::empty(gpu, packing.sequences(), shape.directions * hidden);
    for i in 0..packing.steps() {
        for (direction, weights) in weights.iter().enumerate() {
            let before = i
                .checked_sub(1)
                .and_then(|before| active(packing, direction, before));
            let (Some(now), Some(before)) = (active(packing, direction, i), before) else {
                continue;
            };
            let gates = 4 * hidden;
            let size = Size {
                m: now.min(before),
                n: gates,
                k: hidden,
            };
            let result = Matrix {
                buffer: &recurrent,
                offset: direction * gates,
                stride: shape.directions * gates,
            };
            let left = last.after(direction * hidden);
            multiply(gpu, size, &left, weights, result);
        }
        let (count, units) = elements(gpu, layer, i);
        // SAFETY: hidden units beyond the last and places beyond a step's last end at once; the rows are
        // those of the packing's steps.
        unsafe {
            gates_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                trace.starts.arg(),
                arg(&recurrent),
                arg(&trace.gates),
                arg(&trace.cells),
                arg(&trace.output),
                arg(last.buffer()),
                word(last.width()),
                word(hidden),
                word(packing.steps()),
                word(i),
            );
        }
    }
}

/// Gates to their gradients, and the outputs that each frame began with.
pub fn backward(gpu: &Gpu, layer: &Layer, slopes: &CubeTensor, trace: &Trace) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let hidden = shape.hidden;
    let recurrent = gpu.empty([packing.sequences(), shape.outputs()]);
    let weights = weights(gpu, layer, false);
    // The gates' gradients of the step after, likewise.
    let last = Panels::empty(gpu, packing.sequences(), shape.directions * 4 * hidden);
    for i in (0..packing.steps()).rev() {
        for (direction, weights) in weights.iter().enumerate() {
            let after = active(packing, direction, i + 1);
            let (Some(now), Some(after)) = (active(packing, direction, i), after) else {
                continue;
            };
            let gates = 4 * hidden;
            let size = Size {
                m: now.min(after),
                n: hidden,
                k: gates,
            };
            let result = Matrix {
                buffer: &recurrent,
                offset: direction * hidden,
                stride: shape.outputs(),
            };
            let left = last.after(direction * gates);
            multiply(gpu, size, &left, weights, result);
        }
        let (count, units) = elements(gpu, layer, i);
        // SAFETY: as in the forward pass.
        unsafe {
            slopes_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                trace.starts.arg(),
                arg(slopes),
                arg(&recurrent),
                arg(&trace.output),
                arg(&trace.gates),
                arg(&trace.cells),
                arg(&trace.previous),
                arg(last.buffer()),
                word(last.width()),
                word(hidden),
                word(packing.steps()),
                word(i),
            );
        }
    }
}

/// The recurrent weights [4H, H] of each direction as right factors: transposed or plain.
fn weights(gpu: &Gpu, layer: &Layer, transposed: bool) -> Vec<Panels> {
    let (shape, hidden) = (layer.shape, layer.shape.hidden);
    let (outer, inner) = if transposed {
        (4 * hidden, hidden)
    } else {
        (hidden, 4 * hidden)
    };
    (0..shape.directions)
        .map(|direction| {
            let matrix = Matrix {
                buffer: &layer.parameters,
                offset: shape.direction(direction).weight_hh.start,
                stride: hidden,
            };
            Panels::pack(gpu, matrix, transposed, outer, inner)
        })
        .collect()
}

/// Workgroups and units for the hidden units of every sequence that has a frame in the `i`th step of any
/// direction.
fn elements(gpu: &Gpu, layer: &Layer, i: usize) -> (CubeCount, CubeDim) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let places = (0..shape.directions)
        .filter_map(|direction| active(packing, direction, i))
        .max()
        .unwrap_or(0);
    let units = gpu.plan.row_of_units(shape.hidden);
    let x = word(shape.hidden).div_ceil(units);
    let count = CubeCount::Static(x, word(places), word(shape.directions));
    (count, CubeDim::new_1d(units))
}

/// The gates of a step: a unit, a place and a direction in the three dimensions.
#[cube(launch_unchecked)]
fn gates_kernel(
    starts: &[u32],
    recurrent: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    output: &mut [f32],
    last: &mut [f32],
    width: u32,
    hidden: u32,
    steps: u32,
    i: u32,
) {
    let hidden = hidden as usize;
    let i = i as usize;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let place = CUBE_POS_Y as usize;
    let unit = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let step = select(direction == 0, i, steps as usize - 1 - i);
    let start = starts[step] as usize;
    let active = starts[step + 1] as usize - start;
    if place < active && unit < hidden {
        let before = select(direction == 0, step - 1, step + 1);
        let before = select(i == 0, step, before);
        let before_start = starts[before] as usize;
        let goes_on = i > 0 && place < starts[before + 1] as usize - before_start;
        let row = start + place;
        let row_before = select(goes_on, before_start + place, row);
        let at_before = (row_before * directions + direction) * hidden + unit;
        let at = row * directions + direction;
        let cell_before = select(goes_on, cells[at_before], 0.0);
        let at_cell = at * hidden + unit;
        let at_gate = at * 4 * hidden + unit;
        let at_place = (place * directions + direction) * 4 * hidden + unit;
        let mut values = Array::<f32>::new(4usize);
        #[unroll]
        for gate in 0..4 {
            let earlier = select(goes_on, recurrent[at_place + gate * hidden], 0.0);
            values[gate] = gates[at_gate + gate * hidden] + earlier;
        }
        let result = cell_forward(
            gates,
            cells,
            output,
            at_gate,
            at_cell,
            hidden,
            &values,
            cell_before,
        );
        last[(direction * hidden + unit) * width as usize + place] = result;
    }
}

/// The gradients of a step, laid out likewise.
#[cube(launch_unchecked)]
fn slopes_kernel(
    starts: &[u32],
    slopes: &[f32],
    recurrent: &[f32],
    output: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    previous: &mut [f32],
    last: &mut [f32],
    width: u32,
    hidden: u32,
    steps: u32,
    i: u32,
) {
    let hidden = hidden as usize;
    let steps = steps as usize;
    let i = i as usize;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let place = CUBE_POS_Y as usize;
    let unit = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    let step = select(direction == 0, i, steps - 1 - i);
    let start = starts[step] as usize;
    let active = starts[step + 1] as usize - start;
    if place < active && unit < hidden {
        let after = select(direction == 0, step + 1, step - 1);
        let after = select(i + 1 == steps, step, after);
        let after_start = starts[after] as usize;
        let goes_on = i + 1 < steps && place < starts[after + 1] as usize - after_start;
        let before = select(direction == 0, step - 1, step + 1);
        let before = select(i == 0, step, before);
        let before_start = starts[before] as usize;
        let has_begun = i > 0 && place < starts[before + 1] as usize - before_start;
        let row = start + place;
        let row_after = select(goes_on, after_start + place, row);
        let row_before = select(has_begun, before_start + place, row);
        let at_after = (row_after * directions + direction) * hidden + unit;
        let at_before = (row_before * directions + direction) * hidden + unit;
        let at = row * directions + direction;
        let at_cell = at * hidden + unit;
        let at_place = (place * directions + direction) * hidden + unit;
        let carried = select(goes_on, cells[at_after], 0.0);
        let later = select(goes_on, recurrent[at_place], 0.0);
        let cell_before = select(has_begun, cells[at_before], 0.0);
        previous[at_cell] = select(has_begun, output[at_before], 0.0);
        cell_backward(
            gates,
            cells,
            at * 4 * hidden + unit,
            at_cell,
            hidden,
            cell_before,
            slopes[at_cell] + later,
            carried,
        );
        #[unroll]
        for gate in 0..4 {
            let own = (direction * 4 + gate) * hidden + unit;
            last[own * width as usize + place] = gates[(at * 4 + gate) * hidden + unit];
        }
    }
}
