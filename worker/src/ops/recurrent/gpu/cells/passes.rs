//! The passes through a layer: which products and launches each step takes.

use burn_cubecl::tensor::CubeTensor;
use speech::model::DirectionRanges;

use super::kernels::{Combine, Rows, Units};
use super::{Cells, SavedActivations, StateGradients, StepRows};
use crate::gpu::Gpu;
use crate::gpu::matmul::{
    Addend, Matrix, Size, Transposed, Transposition, multiply, multiply_long, sum_rows,
};
use crate::ops::recurrent::Cell;

/// What each step of a direction multiplies with.
struct RecurrentWeights<'a> {
    hh: Transposed<'a>,
    /// The weights of a projection.
    hr: Option<Transposed<'a>>,
}

impl Cells {
    /// Columns of a direction's gates.
    fn columns(&self) -> usize {
        self.0.shape.cell.gates() * self.0.shape.hidden
    }

    /// The `i`th step that a direction takes.
    fn step(&self, direction: usize, i: usize) -> StepRows {
        let packing = &self.0.packing;
        let steps = packing.steps();
        let at = |i: usize| if direction == 0 { i } else { steps - 1 - i };
        let step = at(i);
        let common = |other: Option<usize>| match other.filter(|&other| other < steps) {
            Some(other) => {
                let other = at(other);
                let count = packing.active(other).min(packing.active(step));
                (packing.row(other, 0), count)
            }
            None => (packing.row(step, 0), 0),
        };
        StepRows {
            row: packing.row(step, 0),
            count: packing.active(step),
            before: common(i.checked_sub(1)),
            after: common(Some(i + 1)),
        }
    }

    fn ranges(&self) -> impl Iterator<Item = (usize, DirectionRanges)> {
        let shape = self.0.shape;
        (0..shape.directions).map(move |direction| (direction, shape.direction(direction)))
    }

    /// Rows from `row` on of a buffer with `width` values for each direction.
    fn rows<'a>(
        &self,
        buffer: &'a CubeTensor,
        row: usize,
        direction: usize,
        width: usize,
    ) -> Matrix<'a> {
        let stride = self.0.shape.directions * width;
        Matrix {
            buffer,
            offset: row * stride + direction * width,
            stride,
        }
    }

    pub(super) fn forward(&self) -> SavedActivations {
        let (gpu, shape) = (self.0.gpu(), self.0.shape);
        let (rows, columns, state) = (self.0.packing.rows(), self.columns(), shape.state());
        let wide = |width: usize| gpu.empty([rows, shape.directions * width]);
        let saved = SavedActivations {
            gates: wide(columns),
            hidden: wide(columns),
            cells: wide(if shape.cell == Cell::Lstm {
                shape.hidden
            } else {
                1
            }),
            unprojected: (shape.projection > 0).then(|| wide(shape.hidden)),
            output: wide(state),
        };
        for (direction, ranges) in self.ranges() {
            let size = Size {
                m: rows,
                n: columns,
                k: shape.inputs,
            };
            multiply(
                &gpu,
                Transposition::RightTransposed,
                size,
                self.inputs(),
                self.0.weight(ranges.weight_ih.start, shape.inputs),
                Addend::Row(ranges.bias_ih.start),
                self.rows(&saved.gates, 0, direction, columns),
            );
            let weights = self.weights(&gpu, &ranges);
            for i in 0..self.0.packing.steps() {
                gpu.begin_step(i);
                self.step_forward(&gpu, direction, &ranges, &weights, i, &saved);
            }
        }
        saved
    }

    fn weights(&self, gpu: &Gpu, ranges: &DirectionRanges) -> RecurrentWeights<'_> {
        let (shape, state) = (self.0.shape, self.0.shape.state());
        let ready = |start, rows, columns| {
            Transposed::new(gpu, self.0.weight(start, columns), rows, columns)
        };
        let projects = shape.projection > 0;
        RecurrentWeights {
            hh: ready(ranges.weight_hh.start, self.columns(), state),
            hr: projects.then(|| ready(ranges.weight_hr.start, state, shape.hidden)),
        }
    }

    fn step_forward(
        &self,
        gpu: &Gpu,
        direction: usize,
        ranges: &DirectionRanges,
        weights: &RecurrentWeights,
        i: usize,
        saved: &SavedActivations,
    ) {
        let shape = self.0.shape;
        let (columns, state) = (self.columns(), shape.state());
        let step = self.step(direction, i);
        let (row_before, before) = step.before;
        if before > 0 {
            let size = Size {
                m: before,
                n: columns,
                k: state,
            };
            let (kind, weight_hh) = weights.hh.factor();
            multiply(
                gpu,
                kind,
                size,
                self.rows(&saved.output, row_before, direction, state),
                weight_hh,
                Addend::Zero,
                self.rows(&saved.hidden, step.row, direction, columns),
            );
        }
        let units = Units {
            shape,
            direction,
            step,
        };
        let output = saved.unprojected.as_ref().unwrap_or(&saved.output);
        units.forward(gpu, &self.0.parameters, ranges.bias_hh.start, saved, output);
        if let (Some(unprojected), Some(weight_hr)) = (&saved.unprojected, &weights.hr) {
            let size = Size {
                m: step.count,
                n: state,
                k: shape.hidden,
            };
            let (kind, weight_hr) = weight_hr.factor();
            multiply(
                gpu,
                kind,
                size,
                self.rows(unprojected, step.row, direction, shape.hidden),
                weight_hr,
                Addend::Zero,
                self.rows(&saved.output, step.row, direction, state),
            );
        }
    }

    pub(super) fn backward(
        &self,
        output_grad: &CubeTensor,
        saved: &SavedActivations,
    ) -> StateGradients {
        let (gpu, shape) = (self.0.gpu(), self.0.shape);
        let (rows, places) = (self.0.packing.rows(), self.0.packing.sequences());
        let (columns, state, hidden) = (self.columns(), shape.state(), shape.hidden);
        let state_gradients = StateGradients {
            state_grad: gpu.empty([rows, shape.directions * state]),
            previous: gpu.empty([rows, shape.directions * state]),
        };
        let later = gpu.empty([places, state]);
        let carried = gpu.empty([places, hidden]);
        let projected = gpu.empty([places, hidden]);
        for (direction, ranges) in self.ranges() {
            for i in (0..self.0.packing.steps()).rev() {
                gpu.begin_step(i);
                let step = self.step(direction, i);
                let (row_after, after) = step.after;
                if after > 0 {
                    let size = Size {
                        m: after,
                        n: state,
                        k: columns,
                    };
                    multiply(
                        &gpu,
                        Transposition::Plain,
                        size,
                        self.rows(&saved.hidden, row_after, direction, columns),
                        self.0.weight(ranges.weight_hh.start, state),
                        Addend::Zero,
                        matrix(&later, state),
                    );
                }
                let units = Units {
                    shape,
                    direction,
                    step,
                };
                let combine = Combine {
                    output_grad,
                    later: &later,
                    output: &saved.output,
                };
                units.combine(&gpu, combine, &state_gradients);
                let of_units = match ranges.weight_hr.len() {
                    0 => Rows {
                        buffer: &state_gradients.state_grad,
                        row: step.row,
                        width: shape.directions * state,
                        column: direction * state,
                    },
                    _ => {
                        let size = Size {
                            m: step.count,
                            n: hidden,
                            k: state,
                        };
                        multiply(
                            &gpu,
                            Transposition::Plain,
                            size,
                            self.rows(&state_gradients.state_grad, step.row, direction, state),
                            self.0.weight(ranges.weight_hr.start, hidden),
                            Addend::Zero,
                            matrix(&projected, hidden),
                        );
                        Rows {
                            buffer: &projected,
                            row: 0,
                            width: hidden,
                            column: 0,
                        }
                    }
                };
                units.backward(&gpu, saved, &state_gradients, of_units, &carried);
            }
        }
        state_gradients
    }

    pub(super) fn input_gradient(&self, saved: &SavedActivations) -> CubeTensor {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let gradient = gpu.empty([rows, shape.inputs]);
        for (direction, ranges) in self.ranges() {
            let size = Size {
                m: rows,
                n: shape.inputs,
                k: self.columns(),
            };
            let start = if direction == 0 {
                Addend::Zero
            } else {
                Addend::Result
            };
            multiply(
                &gpu,
                Transposition::Plain,
                size,
                self.rows(&saved.gates, 0, direction, self.columns()),
                self.0.weight(ranges.weight_ih.start, shape.inputs),
                start,
                matrix(&gradient, shape.inputs),
            );
        }
        gradient
    }

    pub(super) fn parameter_gradient(
        &self,
        saved: &SavedActivations,
        state_gradients: &StateGradients,
    ) -> CubeTensor {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let (columns, state) = (self.columns(), shape.state());
        let gradient = gpu.empty([shape.elements()]);
        let product = |left: Matrix, m: usize, right: Matrix, n: usize, offset: usize| {
            let result = Matrix {
                buffer: &gradient,
                offset,
                stride: n,
            };
            multiply_long(&gpu, Size { m, n, k: rows }, left, right, result);
        };
        for (direction, ranges) in self.ranges() {
            let gates = self.rows(&saved.gates, 0, direction, columns);
            let hidden = self.rows(&saved.hidden, 0, direction, columns);
            let previous = self.rows(&state_gradients.previous, 0, direction, state);
            let inputs = shape.inputs;
            product(
                gates,
                columns,
                self.inputs(),
                inputs,
                ranges.weight_ih.start,
            );
            product(hidden, columns, previous, state, ranges.weight_hh.start);
            for (sums, offset) in [
                (gates, ranges.bias_ih.start),
                (hidden, ranges.bias_hh.start),
            ] {
                sum_rows(&gpu, sums, rows, columns, &gradient, &[offset]);
            }
            if let Some(unprojected) = &saved.unprojected {
                let state_grad = self.rows(&state_gradients.state_grad, 0, direction, state);
                let unprojected = self.rows(unprojected, 0, direction, shape.hidden);
                product(
                    state_grad,
                    state,
                    unprojected,
                    shape.hidden,
                    ranges.weight_hr.start,
                );
            }
        }
        gradient
    }

    fn inputs(&self) -> Matrix<'_> {
        matrix(&self.0.input, self.0.shape.inputs)
    }
}

fn matrix(buffer: &CubeTensor, stride: usize) -> Matrix<'_> {
    Matrix {
        buffer,
        offset: 0,
        stride,
    }
}
