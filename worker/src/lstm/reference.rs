//! The layer in plain tensor operations, for any device: what the fused operator is tested against,
//! and what runs on wgpu. It decides how masks keep padding out.

use burn::tensor::Tensor;

use super::{LayerShape, Packing};

/// Rows `[packing.rows(), inputs]` and the flat parameters of a layer to rows
/// `[packing.rows(), outputs]`; rows of padding are zeros.
///
/// # Panics
/// If the batch is not padded, or is empty.
pub fn lstm(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: LayerShape,
    packing: &Packing,
) -> Tensor<2> {
    assert!(
        packing.is_padded() && packing.rows() > 0,
        "a padded batch with frames"
    );
    let (steps, places) = (packing.steps(), packing.sequences());
    let mask = mask(packing, &input.device());
    let directions = (0..shape.directions)
        .map(|direction| {
            let ranges = shape.direction(direction);
            let gates = 4 * shape.hidden;
            let take = |range: std::ops::Range<usize>| parameters.clone().slice([range]);
            let bias = take(ranges.bias_ih)
                .add(take(ranges.bias_hh))
                .reshape([1, gates]);
            let weight_ih = take(ranges.weight_ih).reshape([gates, shape.inputs]);
            let weight_hh = take(ranges.weight_hh)
                .reshape([gates, shape.hidden])
                .transpose();
            let projected = input.clone().matmul(weight_ih.transpose()).add(bias);
            let projected = split(projected.reshape([steps, places, gates]));

            let zeros = Tensor::zeros([places, shape.hidden], &input.device());
            let (mut h, mut c) = (zeros.clone(), zeros);
            let mut outputs = vec![None; steps];
            for i in 0..steps {
                let step = if direction == 0 { i } else { steps - 1 - i };
                let pre = projected[step]
                    .clone()
                    .add(h.clone().matmul(weight_hh.clone()));
                let gate = |k: usize| pre.clone().narrow(1, k * shape.hidden, shape.hidden);
                let input_gate = sigmoid(gate(0));
                let forget_gate = sigmoid(gate(1));
                let candidate = gate(2).tanh();
                let output_gate = sigmoid(gate(3));
                let next_c = forget_gate.mul(c.clone()).add(input_gate.mul(candidate));
                let next_h = output_gate.mul(next_c.clone().tanh());
                if packing.active(step) == places {
                    (h, c) = (next_h.clone(), next_c);
                    outputs[step] = Some(next_h);
                } else {
                    // Beyond a sequence's end its state is carried through and its output is zero.
                    let running = mask.clone().narrow(0, step, 1).reshape([places, 1]);
                    outputs[step] = Some(next_h.clone().mul(running.clone()));
                    h = h.clone().add(next_h.sub(h).mul(running.clone()));
                    c = c.clone().add(next_c.sub(c).mul(running));
                }
            }
            Tensor::cat(outputs.into_iter().flatten().collect(), 0)
        })
        .collect();
    Tensor::cat(directions, 1)
}

fn sigmoid(x: Tensor<2>) -> Tensor<2> {
    burn::tensor::activation::sigmoid(x)
}

/// [steps, places, 1]: 1 where a sequence has a frame.
fn mask(packing: &Packing, device: &burn::tensor::Device) -> Tensor<3> {
    let values: Vec<f32> = (0..packing.steps())
        .flat_map(|step| {
            (0..packing.sequences()).map(move |place| {
                if place < packing.active(step) {
                    1.0
                } else {
                    0.0
                }
            })
        })
        .collect();
    let shape = [packing.steps(), packing.sequences(), 1];
    Tensor::from_data(burn::tensor::TensorData::new(values, shape), device)
}

/// The steps of `[steps, places, width]`, by halves: the backward pass of a slice writes a tensor of
/// the size of what was cut, so cutting step by step would cost steps² and this costs steps·log.
fn split(sequence: Tensor<3>) -> Vec<Tensor<2>> {
    let [steps, places, width] = sequence.dims();
    if steps == 1 {
        return vec![sequence.reshape([places, width])];
    }
    let half = steps / 2;
    let mut parts = split(sequence.clone().narrow(0, 0, half));
    parts.extend(split(sequence.narrow(0, half, steps - half)));
    parts
}
