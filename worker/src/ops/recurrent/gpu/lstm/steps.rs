//! The steps of a layer through time. It decides which of two ways suits the adapter; both do the same
//! additions in the same order.

mod fused;
mod per_step;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::Trace;
use crate::gpu::{Gpu, sigmoid, tanh};
use crate::ops::recurrent::gpu::Layer;

/// Turns the projections in the trace's gates into gates, and writes cells and outputs.
pub fn forward(gpu: &Gpu, layer: &Layer, trace: &Trace) {
    if gpu.plan.software {
        per_step::forward(gpu, layer, trace);
    } else {
        fused::forward(gpu, layer, trace);
    }
}

/// Turns the trace's gates into their gradients, from the gradient of the outputs, and writes the outputs
/// that each frame began with.
pub fn backward(gpu: &Gpu, layer: &Layer, slopes: &CubeTensor, trace: &Trace) {
    if gpu.plan.software {
        per_step::backward(gpu, layer, slopes, trace);
    } else {
        fused::backward(gpu, layer, slopes, trace);
    }
}

/// One hidden unit of one frame: what goes into its gates i, f, g, o becomes the gates. Returns the cell; the
/// output is the last gate times its [`tanh`].
#[cube]
fn cell_forward(gates: &mut Array<f32>, cell_before: f32) -> f32 {
    gates[0] = sigmoid(gates[0]);
    gates[1] = sigmoid(gates[1]);
    gates[2] = tanh(gates[2]);
    gates[3] = sigmoid(gates[3]);
    gates[1] * cell_before + gates[0] * gates[2]
}

/// The way back: the gates become their gradients, given the gradient of the output (`slope`) and what the
/// later frame hands to the cell (`carried`). Returns what this frame hands to the earlier one.
#[cube]
fn cell_backward(
    gates: &mut Array<f32>,
    cell: f32,
    cell_before: f32,
    slope: f32,
    carried: f32,
) -> f32 {
    let input_gate = gates[0];
    let forget_gate = gates[1];
    let candidate = gates[2];
    let output_gate = gates[3];
    let squashed = tanh(cell);
    let cell_slope = slope * output_gate * (1.0 - squashed * squashed) + carried;
    gates[0] = cell_slope * candidate * input_gate * (1.0 - input_gate);
    gates[1] = cell_slope * cell_before * forget_gate * (1.0 - forget_gate);
    gates[2] = cell_slope * input_gate * (1.0 - candidate * candidate);
    gates[3] = slope * squashed * output_gate * (1.0 - output_gate);
    cell_slope * forget_gate
}
