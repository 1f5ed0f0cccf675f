//! The recurrence where memory is far and units are many: product, gates, cell and output of a step in one
//! launch, all directions at once. It decides who waits for whom.
//!
//! A workgroup has a few sequences of a direction, and a unit some of the hidden units. *Together*, one
//! workgroup has all hidden units and goes through the steps alone; otherwise a launch is one step.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{cell_backward, cell_forward};
use crate::gpu::{Gpu, arg, flat_position, tanh, word};
use crate::ops::recurrent::gpu::Layer;
use crate::ops::recurrent::gpu::lstm::SavedActivations;

/// Up to this many hidden units, a hardware workgroup reads the recurrent weights (256 KiB) from the
/// cache in less than the time of a launch.
const TOGETHER: usize = 128;

/// Sequences of a workgroup: few, so that there are many workgroups.
const SEQUENCES: usize = 2;

fn is_together(layer: &Layer) -> bool {
    layer.shape.hidden <= TOGETHER
}

/// Calls `launch` with each first step, number of steps, workgroups and units.
fn launches(gpu: &Gpu, layer: &Layer, mut launch: impl FnMut(u32, u32, CubeCount, CubeDim)) {
    let (steps, hidden) = (layer.packing.steps(), layer.shape.hidden);
    let units = gpu.plan.row_of_units(hidden);
    let (x, at_once) = if is_together(layer) {
        (1, steps)
    } else {
        (word(hidden).div_ceil(units), 1)
    };
    let groups = word(layer.packing.sequences().div_ceil(SEQUENCES));
    let directions = word(layer.shape.directions);
    let mut first = 0;
    while first < steps {
        let count = at_once.min(steps - first);
        launch(
            word(first),
            word(count),
            CubeCount::Static(x, groups, directions),
            CubeDim::new_1d(units),
        );
        first += count;
    }
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
        transpose_kernel::launch_unchecked(
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
    launches(gpu, layer, |first, count, cubes, units| {
        // SAFETY: rows are those of the packing's steps; places beyond a step's last are read as its
        // last and not written, and so are hidden units.
        unsafe {
            forward_kernel::launch_unchecked(
                &gpu.client,
                cubes,
                units,
                arg(&weights),
                saved.starts.arg(),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.output),
                word(hidden),
                word(layer.packing.steps()),
                first,
                count,
                SEQUENCES,
                is_together(layer),
            );
        }
    });
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
    launches(gpu, layer, |first, count, cubes, units| {
        // SAFETY: rows are those of the packing's steps; places and hidden units beyond the last are read as the last
        // and not written, to gates, cells or previous outputs.
        unsafe {
            backward_kernel::launch_unchecked(
                &gpu.client,
                cubes,
                units,
                arg(&layer.parameters),
                saved.starts.arg(),
                arg(output_grad),
                arg(&saved.output),
                arg(&saved.gates),
                arg(&saved.cells),
                arg(&saved.previous),
                word(shape.direction(0).weight_hh.start),
                word(shape.direction_elements()),
                word(hidden),
                word(layer.packing.steps()),
                first,
                count,
                SEQUENCES,
                is_together(layer),
            );
        }
    });
}

/// Recurrent weights [4H, H] of each direction to [directions, H, 4H].
#[cube(launch_unchecked)]
fn transpose_kernel(
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
        let gates = 4 * hidden;
        let gate = element % gates;
        let column = element / gates % hidden;
        let direction = element / gates / hidden;
        let at = first as usize + direction * direction_elements as usize + gate * hidden + column;
        weights[element] = parameters[at];
    }
}

#[cube(launch_unchecked)]
fn forward_kernel(
    weights: &[f32],
    starts: &[u32],
    gates: &mut [f32],
    cells: &mut [f32],
    output: &mut [f32],
    hidden: u32,
    steps: u32,
    first: u32,
    count: u32,
    #[comptime] sequences: usize,
    #[comptime] together: bool,
) {
    let hidden = hidden as usize;
    let steps = steps as usize;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let width = hidden * directions;
    let place = CUBE_POS_Y as usize * sequences;
    let units = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let mut row_before = Array::<usize>::new(sequences);
    let mut sums = Array::<f32>::new(4 * sequences);
    let mut values = Array::<f32>::new(4usize);
    for i in first as usize..(first + count) as usize {
        let step = select(direction == 0, i, steps - 1 - i);
        let start = starts[step] as usize;
        let active = starts[step + 1] as usize - start;
        if place < active {
            // The step that this direction comes from, and how many sequences have a frame there.
            let before = select(direction == 0, step - 1, step + 1);
            let before = select(i == 0, step, before);
            let before_start = starts[before] as usize;
            let before_active = starts[before + 1] as usize - before_start;
            let before_active = select(i == 0, 0, before_active);
            let last = select(before_active == 0, 0, before_active - 1);
            #[unroll]
            for r in 0..sequences {
                let own = select(place + r < last, place + r, last);
                row_before[r] = (before_start + own) * width + direction * hidden;
            }
            let mut unit = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
            while unit < hidden {
                #[unroll]
                for i in 0..4 * sequences {
                    sums[i] = 0.0;
                }
                if place < before_active {
                    for k in 0..hidden {
                        let weight = (direction * hidden + k) * 4 * hidden + unit;
                        #[unroll]
                        for gate in 0..4 {
                            values[gate] = weights[weight + gate * hidden];
                        }
                        #[unroll]
                        for r in 0..sequences {
                            let h = output[row_before[r] + k];
                            #[unroll]
                            for gate in 0..4 {
                                sums[4 * r + gate] += h * values[gate];
                            }
                        }
                    }
                }
                #[unroll]
                for r in 0..sequences {
                    if place + r < active {
                        let row = start + place + r;
                        let at = (row * directions + direction) * 4 * hidden + unit;
                        let goes_on = place + r < before_active;
                        #[unroll]
                        for gate in 0..4 {
                            let recurrent = select(goes_on, sums[4 * r + gate], 0.0);
                            values[gate] = gates[at + gate * hidden] + recurrent;
                        }
                        let cell_before = select(goes_on, cells[row_before[r] + unit], 0.0);
                        let at_cell = row * width + direction * hidden + unit;
                        let cell = cell_forward(&mut values, cell_before);
                        #[unroll]
                        for gate in 0..4 {
                            gates[at + gate * hidden] = values[gate];
                        }
                        cells[at_cell] = cell;
                        output[at_cell] = values[3] * tanh(cell);
                    }
                }
                unit += units;
            }
        }
        if together {
            sync_storage();
        }
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    parameters: &[f32],
    starts: &[u32],
    output_grad: &[f32],
    output: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    previous: &mut [f32],
    first_weight: u32,
    direction_elements: u32,
    hidden: u32,
    steps: u32,
    first: u32,
    count: u32,
    #[comptime] sequences: usize,
    #[comptime] together: bool,
) {
    let hidden = hidden as usize;
    let steps = steps as usize;
    let directions = CUBE_COUNT_Z as usize;
    let direction = CUBE_POS_Z as usize;
    let width = hidden * directions;
    let place = CUBE_POS_Y as usize * sequences;
    let units = (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    let weights = first_weight as usize + direction * direction_elements as usize;
    let mut row_after = Array::<usize>::new(sequences);
    let mut sums = Array::<f32>::new(sequences);
    for i in first as usize..(first + count) as usize {
        let step = select(direction == 0, steps - 1 - i, i);
        let start = starts[step] as usize;
        let active = starts[step + 1] as usize - start;
        if place < active {
            // The step done just now, which this direction goes to, and the one it comes from.
            let after = select(direction == 0, step + 1, step - 1);
            let after = select(i == 0, step, after);
            let after_start = starts[after] as usize;
            let after_active = starts[after + 1] as usize - after_start;
            let after_active = select(i == 0, 0, after_active);
            let before = select(direction == 0, step - 1, step + 1);
            let before = select(i + 1 == steps, step, before);
            let before_start = starts[before] as usize;
            let before_active = starts[before + 1] as usize - before_start;
            let before_active = select(i + 1 == steps, 0, before_active);
            let last = select(after_active == 0, 0, after_active - 1);
            #[unroll]
            for r in 0..sequences {
                let own = select(place + r < last, place + r, last);
                row_after[r] = (after_start + own) * directions + direction;
            }
            let mut unit = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
            while unit < hidden {
                #[unroll]
                for r in 0..sequences {
                    sums[r] = 0.0;
                }
                if place < after_active {
                    for k in 0..4 * hidden {
                        let value = parameters[weights + k * hidden + unit];
                        #[unroll]
                        for r in 0..sequences {
                            sums[r] += gates[row_after[r] * 4 * hidden + k] * value;
                        }
                    }
                }
                #[unroll]
                for r in 0..sequences {
                    if place + r < active {
                        let row = start + place + r;
                        let goes_on = place + r < after_active;
                        let has_begun = place + r < before_active;
                        let own = direction * hidden + unit;
                        let at = row * width + own;
                        let carried = select(goes_on, cells[row_after[r] * hidden + unit], 0.0);
                        let recurrent = select(goes_on, sums[r], 0.0);
                        let row_before = select(has_begun, before_start + place + r, row);
                        let at_before = row_before * width + own;
                        let cell_before = select(has_begun, cells[at_before], 0.0);
                        previous[at] = select(has_begun, output[at_before], 0.0);
                        let at_gate = (row * directions + direction) * 4 * hidden + unit;
                        let mut values = Array::<f32>::new(4usize);
                        #[unroll]
                        for gate in 0..4 {
                            values[gate] = gates[at_gate + gate * hidden];
                        }
                        let grad = output_grad[at] + recurrent;
                        cells[at] =
                            cell_backward(&mut values, cells[at], cell_before, grad, carried);
                        #[unroll]
                        for gate in 0..4 {
                            gates[at_gate + gate * hidden] = values[gate];
                        }
                    }
                }
                unit += units;
            }
        }
        if together {
            sync_storage();
        }
    }
}
