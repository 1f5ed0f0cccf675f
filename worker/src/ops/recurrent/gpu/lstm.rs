//! LSTM layers without a projection: how a layer is cut into launches; `steps` has the recurrence.
//!
//! Frames are packed, so that no row is padding. How many frames and sequences there are is told to the
//! kernels when they are launched: a batch of other lengths needs no other kernels.

mod steps;

use burn_cubecl::tensor::CubeTensor;

use super::{Layer, Passes};
use crate::gpu::matmul::{Addend, Matrix, Size, Transposition, multiply, multiply_long, sum_rows};
use crate::gpu::{Table, word};

/// An LSTM layer without a projection.
#[derive(Clone, Debug)]
pub(super) struct Lstm(pub Layer);

impl Passes for Lstm {
    type Activations = SavedActivations;

    fn activations(&self) -> (SavedActivations, CubeTensor) {
        let saved = self.forward();
        let output = saved.output.clone();
        (saved, output)
    }

    fn gradients(
        &self,
        saved: SavedActivations,
        output_grad: &CubeTensor,
        wanted: [bool; 2],
    ) -> [Option<CubeTensor>; 2] {
        steps::backward(&self.0.gpu(), &self.0, output_grad, &saved);
        [
            wanted[0].then(|| self.input_gradient(&saved)),
            wanted[1].then(|| self.parameter_gradient(&saved)),
        ]
    }
}

/// What the forward pass leaves behind, a row for each frame.
#[derive(Debug)]
pub(super) struct SavedActivations {
    /// [rows, directions, 4H]: the gates i, f, g, o; after the backward pass the gradients before their
    /// sigmoids and tanh.
    gates: CubeTensor,
    /// [rows, directions, H]; the backward pass leaves other things there.
    cells: CubeTensor,
    /// [rows, directions, H].
    output: CubeTensor,
    /// [rows, directions, H]: the outputs that each frame began with; the backward pass writes them.
    previous: CubeTensor,
    /// First row of each step, and the number of rows.
    starts: Table,
}

impl Lstm {
    fn forward(&self) -> SavedActivations {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let (gates, width) = (4 * shape.hidden, shape.outputs());
        let starts: Vec<u32> = (0..self.0.packing.steps())
            .map(|step| word(self.0.packing.row(step, 0)))
            .chain([word(rows)])
            .collect();
        let saved = SavedActivations {
            gates: gpu.empty([rows, shape.directions * gates]),
            cells: gpu.empty([rows, width]),
            output: gpu.empty([rows, width]),
            previous: gpu.empty([rows, width]),
            starts: gpu.upload(&starts),
        };
        for direction in 0..shape.directions {
            let ranges = shape.direction(direction);
            let size = Size {
                m: rows,
                n: gates,
                k: shape.inputs,
            };
            let weight = self.0.weight(ranges.weight_ih.start, shape.inputs);
            let biases = Addend::Rows(ranges.bias_ih.start, ranges.bias_hh.start);
            let result = self.gates(&saved, direction);
            multiply(
                &gpu,
                Transposition::RightTransposed,
                size,
                self.rows(),
                weight,
                biases,
                result,
            );
        }
        steps::forward(&gpu, &self.0, &saved);
        saved
    }

    fn input_gradient(&self, saved: &SavedActivations) -> CubeTensor {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let gradient = gpu.empty([rows, shape.inputs]);
        for direction in 0..shape.directions {
            let size = Size {
                m: rows,
                n: shape.inputs,
                k: 4 * shape.hidden,
            };
            let weight = self
                .0
                .weight(shape.direction(direction).weight_ih.start, shape.inputs);
            let start = if direction == 0 {
                Addend::Zero
            } else {
                Addend::Result
            };
            let result = Matrix {
                buffer: &gradient,
                offset: 0,
                stride: shape.inputs,
            };
            let gates = self.gates(saved, direction);
            multiply(
                &gpu,
                Transposition::Plain,
                size,
                gates,
                weight,
                start,
                result,
            );
        }
        gradient
    }

    fn parameter_gradient(&self, saved: &SavedActivations) -> CubeTensor {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let gradient = gpu.empty([shape.elements()]);
        for direction in 0..shape.directions {
            let ranges = shape.direction(direction);
            let gates = self.gates(saved, direction);
            let previous = Matrix {
                buffer: &saved.previous,
                offset: direction * shape.hidden,
                stride: shape.outputs(),
            };
            for (right, columns, offset) in [
                (self.rows(), shape.inputs, ranges.weight_ih.start),
                (previous, shape.hidden, ranges.weight_hh.start),
            ] {
                let size = Size {
                    m: 4 * shape.hidden,
                    n: columns,
                    k: rows,
                };
                let result = Matrix {
                    buffer: &gradient,
                    offset,
                    stride: columns,
                };
                multiply_long(&gpu, size, gates, right, result);
            }
            let biases = [ranges.bias_ih.start, ranges.bias_hh.start];
            sum_rows(&gpu, gates, rows, 4 * shape.hidden, &gradient, &biases);
        }
        gradient
    }

    fn rows(&self) -> Matrix<'_> {
        Matrix {
            buffer: &self.0.input,
            offset: 0,
            stride: self.0.shape.inputs,
        }
    }

    fn gates<'a>(&self, saved: &'a SavedActivations, direction: usize) -> Matrix<'a> {
        let gates = 4 * self.0.shape.hidden;
        Matrix {
            buffer: &saved.gates,
            offset: direction * gates,
            stride: self.0.shape.directions * gates,
        }
    }
}
