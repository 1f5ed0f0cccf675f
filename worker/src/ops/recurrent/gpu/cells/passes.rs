//! The passes through a layer: which products and launches each step takes.

use burn_cubecl::tensor::CubeTensor;
use speech::model::DirectionRanges;

use super::kernels::{Combine, Rows, Units};
use super::{Back, Cells, Step, Trace};
use crate::gpu::Gpu;
use crate::gpu::matmul::{
    Kind, Matrix, Size, Start, Transposed, multiply, multiply_long, sum_rows,
};
use crate::ops::recurrent::Cell;

/// What each step of a direction multiplies with.
struct Weights<'a> {
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
    fn step(&self, direction: usize, i: usize) -> Step {
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
        Step {
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

    pub(super) fn forward(&self) -> Trace {
        let (gpu, shape) = (self.0.gpu(), self.0.shape);
        let (rows, columns, state) = (self.0.packing.rows(), self.columns(), shape.state());
        let wide = |width: usize| gpu.empty([rows, shape.directions * width]);
        let trace = Trace {
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
                Kind::RightTransposed,
                size,
                self.inputs(),
                self.0.weight(ranges.weight_ih.start, shape.inputs),
                Start::Row(ranges.bias_ih.start),
                self.rows(&trace.gates, 0, direction, columns),
            );
            let weights = self.weights(&gpu, &ranges);
            for i in 0..self.0.packing.steps() {
                gpu.begin_step(i);
                self.step_forward(&gpu, direction, &ranges, &weights, i, &trace);
            }
        }
        trace
    }

    fn weights(&self, gpu: &Gpu, ranges: &DirectionRanges) -> Weights<'_> {
        let (shape, state) = (self.0.shape, self.0.shape.state());
        let ready = |start, rows, columns| {
            Transposed::new(gpu, self.0.weight(start, columns), rows, columns)
        };
        let projects = shape.projection > 0;
        Weights {
            hh: ready(ranges.weight_hh.start, self.columns(), state),
            hr: projects.then(|| ready(ranges.weight_hr.start, state, shape.hidden)),
        }
    }

    fn step_forward(
        &self,
        gpu: &Gpu,
        direction: usize,
        ranges: &DirectionRanges,
        weights: &Weights,
        i: usize,
        trace: &Trace,
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
                self.rows(&trace.output, row_before, direction, state),
                weight_hh,
                Start::Zero,
                self.rows(&trace.hidden, step.row, direction, columns),
            );
        }
        let units = Units {
            shape,
            direction,
            step,
        };
        let output = trace.unprojected.as_ref().unwrap_or(&trace.output);
        units.forward(gpu, &self.0.parameters, ranges.bias_hh.start, trace, output);
        if let (Some(unprojected), Some(weight_hr)) = (&trace.unprojected, &weights.hr) {
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
                Start::Zero,
                self.rows(&trace.output, step.row, direction, state),
            );
        }
    }

    pub(super) fn backward(&self, slopes: &CubeTensor, trace: &Trace) -> Back {
        let (gpu, shape) = (self.0.gpu(), self.0.shape);
        let (rows, places) = (self.0.packing.rows(), self.0.packing.sequences());
        let (columns, state, hidden) = (self.columns(), shape.state(), shape.hidden);
        let back = Back {
            slopes: gpu.empty([rows, shape.directions * state]),
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
                        Kind::Plain,
                        size,
                        self.rows(&trace.hidden, row_after, direction, columns),
                        self.0.weight(ranges.weight_hh.start, state),
                        Start::Zero,
                        matrix(&later, state),
                    );
                }
                let units = Units {
                    shape,
                    direction,
                    step,
                };
                let combine = Combine {
                    slopes,
                    later: &later,
                    output: &trace.output,
                };
                units.combine(&gpu, combine, &back);
                let of_units = match ranges.weight_hr.len() {
                    0 => Rows {
                        buffer: &back.slopes,
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
                            Kind::Plain,
                            size,
                            self.rows(&back.slopes, step.row, direction, state),
                            self.0.weight(ranges.weight_hr.start, hidden),
                            Start::Zero,
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
                units.backward(&gpu, trace, &back, of_units, &carried);
            }
        }
        back
    }

    pub(super) fn input_gradient(&self, trace: &Trace) -> CubeTensor {
        let (gpu, shape, rows) = (self.0.gpu(), self.0.shape, self.0.packing.rows());
        let gradient = gpu.empty([rows, shape.inputs]);
        for (direction, ranges) in self.ranges() {
            let size = Size {
                m: rows,
                n: shape.inputs,
                k: self.columns(),
            };
            let start = if direction == 0 {
                Start::Zero
            } else {
                Start::Result
            };
            multiply(
                &gpu,
                Kind::Plain,
                size,
                self.rows(&trace.gates, 0, direction, self.columns()),
                self.0.weight(ranges.weight_ih.start, shape.inputs),
                start,
                matrix(&gradient, shape.inputs),
            );
        }
        gradient
    }

    pub(super) fn parameter_gradient(&self, trace: &Trace, back: &Back) -> CubeTensor {
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
            let gates = self.rows(&trace.gates, 0, direction, columns);
            let hidden = self.rows(&trace.hidden, 0, direction, columns);
            let previous = self.rows(&back.previous, 0, direction, state);
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
            if let Some(unprojected) = &trace.unprojected {
                let slopes = self.rows(&back.slopes, 0, direction, state);
                let unprojected = self.rows(unprojected, 0, direction, shape.hidden);
                product(
                    slopes,
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
