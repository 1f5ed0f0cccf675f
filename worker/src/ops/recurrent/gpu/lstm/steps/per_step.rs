//! The recurrence where a launch is cheap and loops are dear, a software adapter: for each step a product
//! a direction and a launch for the gates. It decides which rows a step takes part in.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{cell_backward, cell_forward, put, take};
use crate::gpu::matmul::{
    self, Addend, Matrix, Transposed, Transposition, multiply, multiply_slabs,
};
use crate::gpu::{Gpu, arg, tanh, word};
use crate::ops::packing::Packing;
use crate::ops::recurrent::gpu::Layer;
use crate::ops::recurrent::gpu::lstm::SavedActivations;

/// Gates of a step back in time whose products are added at a time: the products of a step are small,
/// and each must keep a processor of its own busy.
const SLAB: usize = 256;

/// Sequences that have a frame in the `i`th step that a direction takes, and its first row, if there is
/// such a step.
fn active(packing: &Packing, direction: usize, i: usize) -> Option<(usize, usize)> {
    let steps = packing.steps();
    let step = if direction == 0 {
        i
    } else {
        steps.checked_sub(i.checked_add(1)?)?
    };
    (step < steps).then(|| (packing.active(step), packing.row(step, 0)))
}

/// Projections to gates, cells and outputs.
pub(super) fn forward(gpu: &Gpu, layer: &Layer, saved: &SavedActivations) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let hidden = shape.hidden;
    let recurrent = gpu.empty([packing.sequences(), shape.directions * 4 * hidden]);
    let weights: Vec<Transposed> = (0..shape.directions)
        .map(|direction| {
            let weight = layer.weight(shape.direction(direction).weight_hh.start, hidden);
            Transposed::new(gpu, weight, 4 * hidden, hidden)
        })
        .collect();
    for i in 0..packing.steps() {
        gpu.begin_step(i);
        for (direction, weight) in weights.iter().enumerate() {
            let before = i
                .checked_sub(1)
                .and_then(|before| active(packing, direction, before));
            let (Some(now), Some((before, before_row))) = (active(packing, direction, i), before)
            else {
                continue;
            };
            let gates = 4 * hidden;
            let size = matmul::Size {
                m: now.0.min(before),
                n: gates,
                k: hidden,
            };
            let left = Matrix {
                buffer: &saved.output,
                offset: (before_row * shape.directions + direction) * hidden,
                stride: shape.outputs(),
            };
            let result = Matrix {
                buffer: &recurrent,
                offset: direction * gates,
                stride: shape.directions * gates,
            };
            let (kind, weight) = weight.factor();
            multiply(gpu, kind, size, left, weight, Addend::Zero, result);
        }
        let (count, units) = elements(gpu, layer, i);
        // SAFETY: hidden units beyond the last and places beyond a step's last end at once; the rows are
        // those of the packing's steps.
        unsafe {
            gates_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                width(layer),
                saved.starts.arg(),
                arg(&recurrent),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.output),
                word(hidden / width(layer)),
                word(packing.steps()),
                word(i),
            );
        }
    }
}

/// Gates to their gradients, and the outputs that each frame began with.
pub(super) fn backward(
    gpu: &Gpu,
    layer: &Layer,
    output_grad: &CubeTensor,
    saved: &SavedActivations,
) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let hidden = shape.hidden;
    let slabs = (4 * hidden).div_ceil(SLAB);
    let apart = packing.sequences() * shape.outputs();
    let recurrent = gpu.empty([slabs, apart]);
    for i in (0..packing.steps()).rev() {
        gpu.begin_step(i);
        for direction in 0..shape.directions {
            let after = active(packing, direction, i + 1);
            let (Some(now), Some((after, after_row))) = (active(packing, direction, i), after)
            else {
                continue;
            };
            let gates = 4 * hidden;
            let size = matmul::Size {
                m: now.0.min(after),
                n: hidden,
                k: gates,
            };
            let left = Matrix {
                buffer: &saved.gates,
                offset: (after_row * shape.directions + direction) * gates,
                stride: shape.directions * gates,
            };
            let result = Matrix {
                buffer: &recurrent,
                offset: direction * hidden,
                stride: shape.outputs(),
            };
            let weight = layer.weight(shape.direction(direction).weight_hh.start, hidden);
            multiply_slabs(
                gpu,
                Transposition::Plain,
                size,
                left,
                weight,
                result,
                (SLAB, apart),
            );
        }
        let (count, units) = elements(gpu, layer, i);
        // SAFETY: hidden units beyond the last and places beyond a step's last end at once; rows are those of the
        // packing's steps, and the slabs read are those that the product before wrote.
        unsafe {
            cell_backward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                width(layer),
                saved.starts.arg(),
                arg(output_grad),
                arg(&recurrent),
                arg(&saved.output),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.previous),
                word(hidden / width(layer)),
                word(packing.steps()),
                word(i),
                word(slabs),
                word(apart / width(layer)),
            );
        }
    }
}

/// Hidden units that a unit of a launch has: values side by side cost one load.
fn width(layer: &Layer) -> usize {
    if layer.shape.hidden.is_multiple_of(4) {
        4
    } else {
        1
    }
}

/// Workgroups and units for the hidden units of every sequence that has a frame in the `i`th step of any
/// direction.
fn elements(gpu: &Gpu, layer: &Layer, i: usize) -> (CubeCount, CubeDim) {
    let (shape, packing) = (layer.shape, &layer.packing);
    let places = (0..shape.directions)
        .filter_map(|direction| active(packing, direction, i))
        .map(|(active, _)| active)
        .max()
        .unwrap_or(0);
    let pieces = shape.hidden / width(layer);
    let units = gpu.plan.row_of_units(pieces);
    let x = word(pieces).div_ceil(units);
    let count = CubeCount::Static(x, word(places), word(shape.directions));
    (count, CubeDim::new_1d(units))
}

/// The gates of a step: a unit, a place and a direction in the three dimensions. `hidden` is counted in
/// pieces of N.
#[cube(launch_unchecked)]
fn gates_kernel<N: Size>(
    starts: &[u32],
    recurrent: &[Vector<f32, N>],
    gates: &mut [Vector<f32, N>],
    cells: &mut [Vector<f32, N>],
    output: &mut [Vector<f32, N>],
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
        let at_cell = at * hidden + unit;
        let at_gate = at * 4 * hidden + unit;
        let at_place = (place * directions + direction) * 4 * hidden + unit;
        let zero = Vector::<f32, N>::new(0.0);
        let cell_before = select(goes_on, cells[at_before], zero);
        let mut own = Array::<Vector<f32, N>>::new(4usize);
        #[unroll]
        for gate in 0..4 {
            let earlier = select(goes_on, recurrent[at_place + gate * hidden], zero);
            own[gate] = gates[at_gate + gate * hidden] + earlier;
        }
        let mut cell = zero;
        let mut result = zero;
        let mut values = Array::<f32>::new(4usize);
        #[unroll]
        for piece in 0..N::value() {
            take(&own, &mut values, piece);
            let own_cell = cell_forward(&mut values, cell_before.extract(piece));
            cell.insert(piece, own_cell);
            result.insert(piece, values[3] * tanh(own_cell));
            put(&mut own, &values, piece);
        }
        #[unroll]
        for gate in 0..4 {
            gates[at_gate + gate * hidden] = own[gate];
        }
        cells[at_cell] = cell;
        output[at_cell] = result;
    }
}

/// The gradients of a step, laid out likewise.
#[cube(launch_unchecked)]
fn cell_backward_kernel<N: Size>(
    starts: &[u32],
    output_grad: &[Vector<f32, N>],
    recurrent: &[Vector<f32, N>],
    output: &[Vector<f32, N>],
    gates: &mut [Vector<f32, N>],
    cells: &mut [Vector<f32, N>],
    previous: &mut [Vector<f32, N>],
    hidden: u32,
    steps: u32,
    i: u32,
    slabs: u32,
    apart: u32,
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
        let at_gate = at * 4 * hidden + unit;
        let at_place = (place * directions + direction) * hidden + unit;
        let zero = Vector::<f32, N>::new(0.0);
        let carried = select(goes_on, cells[at_after], zero);
        let mut later = recurrent[at_place];
        for slab in 1..slabs as usize {
            later += recurrent[slab * apart as usize + at_place];
        }
        let grad = output_grad[at_cell] + select(goes_on, later, zero);
        let cell_before = select(has_begun, cells[at_before], zero);
        previous[at_cell] = select(has_begun, output[at_before], zero);
        let mut cell = cells[at_cell];
        let mut own = Array::<Vector<f32, N>>::new(4usize);
        #[unroll]
        for gate in 0..4 {
            own[gate] = gates[at_gate + gate * hidden];
        }
        let mut values = Array::<f32>::new(4usize);
        #[unroll]
        for piece in 0..N::value() {
            take(&own, &mut values, piece);
            let handed = cell_backward(
                &mut values,
                cell.extract(piece),
                cell_before.extract(piece),
                grad.extract(piece),
                carried.extract(piece),
            );
            cell.insert(piece, handed);
            put(&mut own, &values, piece);
        }
        #[unroll]
        for gate in 0..4 {
            gates[at_gate + gate * hidden] = own[gate];
        }
        // Nobody needs the cell any more: what it hands to the earlier one takes its place.
        cells[at_cell] = cell;
    }
}
