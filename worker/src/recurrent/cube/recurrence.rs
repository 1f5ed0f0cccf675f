//! The steps of a layer through time. It decides which of two ways suits the adapter; both do the same
//! additions in the same order.

mod stepwise;
mod together;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{Layer, Trace};
use crate::gpu::{Gpu, sigmoid, tanh};

/// Turns the projections in the trace's gates into gates, and writes cells and outputs.
pub fn forward(gpu: &Gpu, layer: &Layer, trace: &Trace) {
    if gpu.plan.software {
        stepwise::forward(gpu, layer, trace);
    } else {
        together::forward(gpu, layer, trace);
    }
}

/// Turns the trace's gates into their gradients, from the gradient of the outputs, and writes the outputs
/// that each frame began with.
pub fn backward(gpu: &Gpu, layer: &Layer, slopes: &CubeTensor, trace: &Trace) {
    if gpu.plan.software {
        stepwise::backward(gpu, layer, slopes, trace);
    } else {
        together::backward(gpu, layer, slopes, trace);
    }
}

/// One hidden unit of one frame: from what goes into the four gates to the gates (`at`, and on from there
/// in steps of `hidden`), the cell and the output (`at_cell`). Returns the output.
#[cube]
fn cell_forward(
    gates: &mut [f32],
    cells: &mut [f32],
    output: &mut [f32],
    at: usize,
    at_cell: usize,
    hidden: usize,
    values: &Array<f32>,
    cell_before: f32,
) -> f32 {
    let input_gate = sigmoid(values[0]);
    let forget_gate = sigmoid(values[1]);
    let candidate = tanh(values[2]);
    let output_gate = sigmoid(values[3]);
    let cell = forget_gate * cell_before + input_gate * candidate;
    gates[at] = input_gate;
    gates[at + hidden] = forget_gate;
    gates[at + 2 * hidden] = candidate;
    gates[at + 3 * hidden] = output_gate;
    cells[at_cell] = cell;
    let result = output_gate * tanh(cell);
    output[at_cell] = result;
    result
}

/// The way back: from the gates to their gradients, given the gradient of the output (`slope`) and what
/// the later frame hands to the cell (`carried`). What this frame hands to the earlier one takes the
/// place of the cell, which nobody needs any more.
#[cube]
fn cell_backward(
    gates: &mut [f32],
    cells: &mut [f32],
    at: usize,
    at_cell: usize,
    hidden: usize,
    cell_before: f32,
    slope: f32,
    carried: f32,
) {
    let input_gate = gates[at];
    let forget_gate = gates[at + hidden];
    let candidate = gates[at + 2 * hidden];
    let output_gate = gates[at + 3 * hidden];
    let squashed = tanh(cells[at_cell]);
    let cell_slope = slope * output_gate * (1.0 - squashed * squashed) + carried;
    gates[at] = cell_slope * candidate * input_gate * (1.0 - input_gate);
    gates[at + hidden] = cell_slope * cell_before * forget_gate * (1.0 - forget_gate);
    gates[at + 2 * hidden] = cell_slope * input_gate * (1.0 - candidate * candidate);
    gates[at + 3 * hidden] = slope * squashed * output_gate * (1.0 - output_gate);
    cells[at_cell] = cell_slope * forget_gate;
}
