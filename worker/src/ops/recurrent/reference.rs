//! The layer in plain tensor operations, for any device: what the others are tested against. It decides
//! how masks keep padding out.

use burn::tensor::Tensor;

use super::{Cell, Recurrent};
use crate::ops::linear;
use crate::ops::packing::Packing;

/// [`super::apply`] on any device, over a padded batch; rows of padding are zeros.
///
/// # Panics
/// If the batch is not padded, or is empty.
pub fn apply(
    input: Tensor<2>,
    parameters: Tensor<1>,
    shape: Recurrent,
    packing: &Packing,
) -> Tensor<2> {
    assert!(
        packing.is_padded() && packing.rows() > 0,
        "a padded batch with frames"
    );
    let (steps, places) = (packing.steps(), packing.sequences());
    let device = input.device();
    let mask = mask(packing, &device);
    let directions = (0..shape.directions)
        .map(|direction| {
            let weights = DirectionWeights::new(&parameters, shape, direction);
            let gates = shape.cell.gates() * shape.hidden;
            let projected =
                linear::reference::apply(input.clone(), weights.input.clone(), gates, None);
            let projected = split(projected.reshape([steps, places, gates]));

            let mut h = Tensor::zeros([places, shape.state()], &device);
            let mut c = Tensor::zeros([places, shape.hidden], &device);
            let mut outputs = vec![None; steps];
            for i in 0..steps {
                let step = if direction == 0 { i } else { steps - 1 - i };
                let (next_h, next_c) =
                    weights.step(shape, projected[step].clone(), h.clone(), c.clone());
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

/// The parameters of a direction, each of a linear layer.
struct DirectionWeights {
    input: Tensor<1>,
    hidden: Tensor<1>,
    projection: Option<Tensor<1>>,
}

impl DirectionWeights {
    fn new(parameters: &Tensor<1>, shape: Recurrent, direction: usize) -> Self {
        let ranges = shape.direction(direction);
        let take = |range: std::ops::Range<usize>| parameters.clone().slice([range]);
        let both = |weight, bias| Tensor::cat(vec![take(weight), take(bias)], 0);
        Self {
            input: both(ranges.weight_ih, ranges.bias_ih),
            hidden: both(ranges.weight_hh, ranges.bias_hh),
            projection: (shape.projection > 0).then(|| {
                let bias = Tensor::zeros([shape.projection], &parameters.device());
                Tensor::cat(vec![take(ranges.weight_hr), bias], 0)
            }),
        }
    }

    /// The next hidden and cell state; only an LSTM changes the latter.
    fn step(
        &self,
        shape: Recurrent,
        input: Tensor<2>,
        h: Tensor<2>,
        c: Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let gates = shape.cell.gates() * shape.hidden;
        let hidden = linear::reference::apply(h.clone(), self.hidden.clone(), gates, None);
        let gate = |of: &Tensor<2>, k: usize| of.clone().narrow(1, k * shape.hidden, shape.hidden);
        match shape.cell {
            Cell::Lstm => {
                let sums = input.add(hidden);
                let candidate = gate(&sums, 2).tanh();
                let c = sigmoid(gate(&sums, 1))
                    .mul(c)
                    .add(sigmoid(gate(&sums, 0)).mul(candidate));
                let h = sigmoid(gate(&sums, 3)).mul(c.clone().tanh());
                match &self.projection {
                    Some(projection) => {
                        let h =
                            linear::reference::apply(h, projection.clone(), shape.projection, None);
                        (h, c)
                    }
                    None => (h, c),
                }
            }
            Cell::Gru => {
                let sums = input.clone().add(hidden.clone());
                let reset = sigmoid(gate(&sums, 0));
                let update = sigmoid(gate(&sums, 1));
                let candidate = gate(&input, 2).add(reset.mul(gate(&hidden, 2))).tanh();
                let h = candidate.clone().add(update.mul(h.sub(candidate)));
                (h, c)
            }
            Cell::Tanh => (input.add(hidden).tanh(), c),
            Cell::Relu => (burn::tensor::activation::relu(input.add(hidden)), c),
        }
    }
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
