//! The recurrence on a hardware GPU: product, gates, cell and output of a step in one launch, all directions at
//! once. A workgroup has a few sequences and a few hidden units of a direction.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{cell_backward, cell_forward, put, take};
use crate::gpu::split_product::{self, SplitProduct, gather, share, total};
use crate::gpu::{Four, Gpu, arg, flat_position, tanh, word};
use crate::ops::packing::Packing;
use crate::ops::recurrent::gpu::Layer;
use crate::ops::recurrent::gpu::lstm::SavedActivations;

/// Whether these kernels can compute a layer on a device: they read hidden units in fours, and need
/// shared memory.
pub(super) fn can_compute(gpu: &Gpu, layer: &Layer) -> bool {
    let hardware = &gpu.client.properties().hardware;
    let fits = |split: SplitProduct| split.shared_bytes() <= hardware.max_shared_memory_size;
    layer.shape.hidden.is_multiple_of(4)
        && hardware.max_units_per_cube as usize >= split_product::UNITS
        && fits(forward_split(layer))
        && fits(backward_split(layer))
}

/// How a workgroup's product is divided in the forward pass, where a column is a hidden unit's four gates. Fewer
/// rows make more workgroups, and read the weights more often. It follows from the layer alone: the same
/// kernels serve every batch.
fn forward_split(layer: &Layer) -> SplitProduct {
    let rows = match layer.shape.outputs() {
        0..=256 => 4,
        257..=512 => 8,
        _ => 16,
    };
    SplitProduct { rows, columns: 8 }
}

/// The same in the backward pass, where a column is four hidden units and the inner dimension is four
/// times as long.
fn backward_split(layer: &Layer) -> SplitProduct {
    let rows = match layer.shape.outputs() {
        0..=512 => 4,
        _ => 8,
    };
    SplitProduct { rows, columns: 4 }
}

/// Workgroups and units of a step.
fn launch_size(layer: &Layer, columns: usize, split: SplitProduct) -> (CubeCount, CubeDim) {
    let count = CubeCount::Static(
        word(columns.div_ceil(split.columns)),
        word(layer.packing.sequences().div_ceil(split.rows)),
        word(layer.shape.directions),
    );
    (count, CubeDim::new_1d(word(split_product::UNITS)))
}

/// The rows of a step of both directions: the first, and how many. No rows where there is no such step.
fn step_rows(packing: &Packing, i: Option<usize>) -> StepRowsLaunch {
    let steps = packing.steps();
    let at = |i: Option<usize>| match i.filter(|&i| i < steps) {
        Some(step) => (word(packing.row(step, 0)), word(packing.active(step))),
        None => (0, 0),
    };
    let (forward, backward) = (at(i), at(i.and_then(|i| (steps - 1).checked_sub(i))));
    StepRowsLaunch::new(forward.0, forward.1, backward.0, backward.1)
}

/// Turns the projections in the saved gates into gates, and writes cells and outputs.
pub(super) fn forward(gpu: &Gpu, layer: &Layer, saved: &SavedActivations) {
    let (shape, hidden) = (layer.shape, layer.shape.hidden);
    let weights = gpu.empty([shape.directions * hidden, 4 * hidden]);
    let first = shape.direction(0).weight_hh.start;
    let elements = shape.directions * 4 * hidden * hidden;
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        interleave_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(&layer.parameters),
            arg(&weights),
            word(first),
            word(shape.direction_elements()),
            word(hidden),
            word(elements),
        );
    }
    let split = forward_split(layer);
    for i in 0..layer.packing.steps() {
        let (count, units) = launch_size(layer, hidden, split);
        // SAFETY: rows are those of the packing's steps; places beyond a step's last are read as its
        // last and not written, and so are hidden units.
        unsafe {
            forward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&weights),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.output),
                word(hidden),
                step_rows(&layer.packing, Some(i)),
                step_rows(&layer.packing, i.checked_sub(1)),
                split,
            );
        }
    }
}

/// Turns the saved gates into their gradients, from the gradient of the outputs, and writes the outputs
/// that each frame began with.
pub(super) fn backward(
    gpu: &Gpu,
    layer: &Layer,
    output_grad: &CubeTensor,
    saved: &SavedActivations,
) {
    let (shape, hidden) = (layer.shape, layer.shape.hidden);
    let weights = gpu.empty([shape.directions * 4 * hidden, hidden]);
    let elements = shape.directions * 4 * hidden * hidden;
    let (count, units) = gpu.plan.flat(elements);
    // SAFETY: units beyond the last element end at once.
    unsafe {
        copy_kernel::launch_unchecked(
            &gpu.client,
            count,
            units,
            arg(&layer.parameters),
            arg(&weights),
            word(shape.direction(0).weight_hh.start),
            word(shape.direction_elements()),
            word(4 * hidden * hidden),
            word(elements),
        );
    }
    let split = backward_split(layer);
    for i in (0..layer.packing.steps()).rev() {
        let (count, units) = launch_size(layer, hidden / 4, split);
        // SAFETY: rows are those of the packing's steps; places and hidden units beyond the last are read as the last
        // and not written, to gates, cells or previous outputs.
        unsafe {
            backward_kernel::launch_unchecked(
                &gpu.client,
                count,
                units,
                arg(&weights),
                arg(output_grad),
                arg(&saved.output),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.previous),
                word(hidden),
                step_rows(&layer.packing, Some(i)),
                step_rows(&layer.packing, Some(i + 1)),
                step_rows(&layer.packing, i.checked_sub(1)),
                split,
            );
        }
    }
}

/// The rows of one step of both directions.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct StepRows {
    forward: u32,
    forward_count: u32,
    backward: u32,
    backward_count: u32,
}

#[cube]
fn first_row(rows: &StepRows, direction: usize) -> usize {
    select(direction == 0, rows.forward, rows.backward) as usize
}

#[cube]
fn count_of(rows: &StepRows, direction: usize) -> usize {
    select(direction == 0, rows.forward_count, rows.backward_count) as usize
}

/// Recurrent weights [4H, H] of each direction to [directions, H, H, 4]: for each output of the step before and
/// each hidden unit its four gates side by side.
#[cube(launch_unchecked)]
fn interleave_kernel(
    parameters: &[f32],
    weights: &mut [f32],
    first: u32,
    direction_elements: u32,
    hidden: u32,
    elements: u32,
) {
    let element = flat_position() as usize;
    if element < elements as usize {
        let hidden = hidden as usize;
        let gate = element % 4;
        let unit = element / 4 % hidden;
        let column = element / 4 / hidden % hidden;
        let direction = element / 4 / hidden / hidden;
        let row = gate * hidden + unit;
        let at = first as usize + direction * direction_elements as usize + row * hidden + column;
        weights[element] = parameters[at];
    }
}

/// The recurrent weights of each direction, one after the other: where they lie among the parameters is not
/// always at a multiple of four.
#[cube(launch_unchecked)]
fn copy_kernel(
    parameters: &[f32],
    weights: &mut [f32],
    first: u32,
    direction_elements: u32,
    direction_weights: u32,
    elements: u32,
) {
    let element = flat_position();
    if element < elements {
        let direction = element / direction_weights;
        let at = first + direction * direction_elements + element % direction_weights;
        weights[element as usize] = parameters[at as usize];
    }
}

/// The workgroup's part of a step's product: for each of its sequences the row of the step that it comes from, times the
/// recurrent weights, which have `columns` columns of four values and 4 · `inner` rows. Nothing
/// is added where no sequence comes from anywhere. [`total`] then gives the results.
#[cube]
fn recurrent_product(
    left: &[Four],
    weights: &[Four],
    inner: usize,
    columns: usize,
    place: usize,
    active: usize,
    other_row: usize,
    other_active: usize,
    shared: &mut [Four],
    partial: &mut [Four],
    #[comptime] split: SplitProduct,
) {
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let mut sums = Array::<Four>::new(comptime!(split.rows));
    #[unroll]
    for r in 0..comptime!(split.rows) {
        sums[r] = Four::new(0.0);
    }
    if place < other_active && place < active {
        let mut rows = Array::<usize>::new(comptime!(split.rows));
        #[unroll]
        for r in 0..comptime!(split.rows) {
            let own = select(place + r < other_active, place + r, other_active - 1);
            rows[r] = ((other_row + own) * directions + direction) * inner;
        }
        let column = CUBE_POS_X as usize * comptime!(split.columns)
            + UNIT_POS_X as usize % comptime!(split.columns);
        let column = select(column < columns, column, columns - 1);
        let start = direction * 4 * inner * columns + column;
        share(
            left, &rows, weights, start, columns, inner, &mut sums, split,
        );
    }
    gather(&sums, shared, partial, split);
}

/// A step. Hidden units lie in fours, and so do a unit's gates in `weights`.
#[cube(launch_unchecked)]
fn forward_kernel(
    weights: &[Four],
    gates: &mut [Four],
    cells: &mut [Four],
    output: &mut [Four],
    hidden: u32,
    now: StepRows,
    before: StepRows,
    #[comptime] split: SplitProduct,
) {
    let hidden = hidden as usize;
    let fours = hidden / 4;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let place = CUBE_POS_Y as usize * comptime!(split.rows);
    let first_column = CUBE_POS_X as usize * comptime!(split.columns);
    let unit = UNIT_POS_X as usize;
    let row = first_row(&now, direction);
    let active = count_of(&now, direction);
    let row_before = first_row(&before, direction);
    let active_before = count_of(&before, direction);

    let mut shared = Shared::<[Four]>::new_slice(comptime!(split.shared()));
    let mut partial = Shared::<[Four]>::new_slice(comptime!(split.partial()));
    recurrent_product(
        &*output,
        weights,
        fours,
        hidden,
        place,
        active,
        row_before,
        active_before,
        &mut shared,
        &mut partial,
        split,
    );
    if unit < comptime!(split.results()) {
        shared[unit] = total(&partial, unit, split);
    }
    sync_cube();
    // Four hidden units of a sequence.
    let quads = comptime!(split.columns / 4);
    let own_place = place + unit / quads;
    let own_four = first_column / 4 + unit % quads;
    if unit < comptime!(split.results() / 4) && own_place < active && own_four < fours {
        let at = (row + own_place) * directions + direction;
        let goes_on = own_place < active_before;
        let at_before = select(
            goes_on,
            (row_before + own_place) * directions + direction,
            at,
        );
        let zero = Four::new(0.0);
        let cell_before = select(goes_on, cells[at_before * fours + own_four], zero);
        let mut own = Array::<Four>::new(4usize);
        #[unroll]
        for gate in 0..4 {
            own[gate] = gates[(at * 4 + gate) * fours + own_four];
        }
        let mut cell = zero;
        let mut result = zero;
        let mut values = Array::<f32>::new(4usize);
        #[unroll]
        for piece in 0..4usize {
            let recurrent = shared[4 * unit + piece];
            take(&own, &mut values, piece);
            #[unroll]
            for gate in 0..4 {
                values[gate] += select(goes_on, recurrent.extract(gate), 0.0);
            }
            let own_cell = cell_forward(&mut values, cell_before.extract(piece));
            cell.insert(piece, own_cell);
            result.insert(piece, values[3] * tanh(own_cell));
            put(&mut own, &values, piece);
        }
        #[unroll]
        for gate in 0..4 {
            gates[(at * 4 + gate) * fours + own_four] = own[gate];
        }
        cells[at * fours + own_four] = cell;
        output[at * fours + own_four] = result;
    }
}

/// A step back in time.
#[cube(launch_unchecked)]
fn backward_kernel(
    weights: &[Four],
    output_grad: &[Four],
    output: &[Four],
    gates: &mut [Four],
    cells: &mut [Four],
    previous: &mut [Four],
    hidden: u32,
    now: StepRows,
    after: StepRows,
    before: StepRows,
    #[comptime] split: SplitProduct,
) {
    let fours = hidden as usize / 4;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let place = CUBE_POS_Y as usize * comptime!(split.rows);
    let first_column = CUBE_POS_X as usize * comptime!(split.columns);
    let unit = UNIT_POS_X as usize;
    let row = first_row(&now, direction);
    let active = count_of(&now, direction);
    let row_after = first_row(&after, direction);
    let active_after = count_of(&after, direction);
    let row_before = first_row(&before, direction);
    let active_before = count_of(&before, direction);

    let mut shared = Shared::<[Four]>::new_slice(comptime!(split.shared()));
    let mut partial = Shared::<[Four]>::new_slice(comptime!(split.partial()));
    recurrent_product(
        &*gates,
        weights,
        hidden as usize,
        fours,
        place,
        active,
        row_after,
        active_after,
        &mut shared,
        &mut partial,
        split,
    );
    // Four hidden units of a sequence.
    let own_place = place + unit / comptime!(split.columns);
    let own_four = first_column + unit % comptime!(split.columns);
    if unit < comptime!(split.results()) && own_place < active && own_four < fours {
        let at = (row + own_place) * directions + direction;
        let goes_on = own_place < active_after;
        let has_begun = own_place < active_before;
        let at_after = select(
            goes_on,
            (row_after + own_place) * directions + direction,
            at,
        );
        let at_before = select(
            has_begun,
            (row_before + own_place) * directions + direction,
            at,
        );
        let zero = Four::new(0.0);
        let carried = select(goes_on, cells[at_after * fours + own_four], zero);
        let cell_before = select(has_begun, cells[at_before * fours + own_four], zero);
        let output_before = select(has_begun, output[at_before * fours + own_four], zero);
        let recurrent = select(goes_on, total(&partial, unit, split), zero);
        let grad = output_grad[at * fours + own_four] + recurrent;
        let mut cell = cells[at * fours + own_four];
        let mut own = Array::<Four>::new(4usize);
        #[unroll]
        for gate in 0..4 {
            own[gate] = gates[(at * 4 + gate) * fours + own_four];
        }
        let mut values = Array::<f32>::new(4usize);
        #[unroll]
        for piece in 0..4usize {
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
            gates[(at * 4 + gate) * fours + own_four] = own[gate];
        }
        // Nobody needs the cell any more: what it hands to the earlier one takes its place.
        cells[at * fours + own_four] = cell;
        previous[at * fours + own_four] = output_before;
    }
}
