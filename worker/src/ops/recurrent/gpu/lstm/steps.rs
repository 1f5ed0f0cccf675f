//! The steps of a layer through time. It decides which of two ways suits the adapter and the layer. Each adds in an
//! order of its own, so that a batch has nothing to say in the choice.

mod fused;
mod per_step;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::SavedActivations;
use crate::gpu::{Gpu, sigmoid, tanh};
use crate::ops::recurrent::gpu::Layer;

/// Turns the projections in the saved gates into gates, and writes cells and outputs.
pub(super) fn forward(gpu: &Gpu, layer: &Layer, saved: &SavedActivations) {
    if gpu.plan.software || !fused::can_compute(gpu, layer) {
        per_step::forward(gpu, layer, saved);
    } else {
        fused::forward(gpu, layer, saved);
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
    if gpu.plan.software || !fused::can_compute(gpu, layer) {
        per_step::backward(gpu, layer, output_grad, saved);
    } else {
        fused::backward(gpu, layer, output_grad, saved);
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

/// Backward: the gates become their gradients, given the gradient of the output (`grad`) and what the
/// later frame hands to the cell (`carried`). Returns what this frame hands to the earlier one.
#[cube]
fn cell_backward(
    gates: &mut Array<f32>,
    cell: f32,
    cell_before: f32,
    grad: f32,
    carried: f32,
) -> f32 {
    let input_gate = gates[0];
    let forget_gate = gates[1];
    let candidate = gates[2];
    let output_gate = gates[3];
    let squashed = tanh(cell);
    let cell_grad = grad * output_gate * (1.0 - squashed * squashed) + carried;
    gates[0] = cell_grad * candidate * input_gate * (1.0 - input_gate);
    gates[1] = cell_grad * cell_before * forget_gate * (1.0 - forget_gate);
    gates[2] = cell_grad * input_gate * (1.0 - candidate * candidate);
    gates[3] = grad * squashed * output_gate * (1.0 - output_gate);
    cell_grad * forget_gate
}

/// The gates of one of the hidden units that lie side by side.
#[cube]
fn take<N: Size>(gates: &Array<Vector<f32, N>>, values: &mut Array<f32>, #[comptime] piece: usize) {
    #[unroll]
    for gate in 0..4 {
        values[gate] = gates[gate].extract(piece);
    }
}

/// Puts the gates of one of the hidden units back.
#[cube]
fn put<N: Size>(gates: &mut Array<Vector<f32, N>>, values: &Array<f32>, #[comptime] piece: usize) {
    #[unroll]
    for gate in 0..4 {
        let mut changed = gates[gate];
        changed.insert(piece, values[gate]);
        gates[gate] = changed;
    }
}
