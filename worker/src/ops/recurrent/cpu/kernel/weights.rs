//! A direction's parameters as the recurrence uses them, packed once, and how the gates of a frame lie
//! side by side. It decides the layout, and does not depend on the order of the frames.

use std::ops::Range;

use super::cell::{self, CellStep};
use crate::cpu::block::{Block, BlockMut};
use crate::cpu::matrix::{Addend, Left, Panels, multiply};
use crate::ops::recurrent::{Cell, Recurrent};
use simd::Level;

/// The columns of a frame's gates, each H wide: those of an LSTM i, f, g, o; of a GRU n, r, z and the
/// hidden state's part of n, which r weighs before it is added (torch's `W_hn h + b_hn`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub all: usize,
    /// To which the input's products are added.
    pub input: Range<usize>,
    /// To which the hidden state's are.
    pub recurrent: Range<usize>,
}

impl Columns {
    pub(crate) fn of(shape: &Recurrent) -> Self {
        let hidden = shape.hidden;
        let (all, input, recurrent) = match shape.cell {
            Cell::Lstm => (4, 0..4, 0..4),
            Cell::Gru => (4, 0..3, 1..4),
            Cell::Tanh | Cell::Relu => (1, 0..1, 0..1),
        };
        let columns = |range: Range<usize>| range.start * hidden..range.end * hidden;
        Self {
            all: all * hidden,
            input: columns(input),
            recurrent: columns(recurrent),
        }
    }
}

/// Rows of `width` in torch's order of a GRU's gates (r, z, n) in that of the input's columns (n, r,
/// z); those of the other cells as they are.
pub(super) fn to_columns(shape: &Recurrent, rows: &[f32], width: usize) -> Vec<f32> {
    let mut rows = rows.to_vec();
    if shape.cell == Cell::Gru {
        rows.rotate_right(shape.hidden * width);
    }
    rows
}

/// The inverse of [`to_columns`].
pub(super) fn from_columns(shape: &Recurrent, rows: &mut [f32], width: usize) {
    if shape.cell == Cell::Gru {
        rows.rotate_left(shape.hidden * width);
    }
}

/// The parameters of a direction, for the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct PackedWeights {
    shape: Recurrent,
    pub columns: Columns,
    /// [I, input columns]
    pub weight_ih: Panels,
    /// [S, recurrent columns]
    pub weight_hh: Panels,
    /// [H, P]
    pub weight_hr: Option<Panels>,
    /// What the input's products begin with.
    pub bias: Vec<f32>,
    /// What a GRU's last columns begin with; empty for the others.
    pub recurrent_bias: Vec<f32>,
}

impl PackedWeights {
    /// Packs the parameters of a direction of a layer.
    pub(crate) fn new(shape: &Recurrent, direction: usize, parameters: &[f32]) -> Self {
        let ranges = shape.direction(direction);
        let columns = Columns::of(shape);
        let Recurrent { inputs, hidden, .. } = *shape;
        let bias_hh = &parameters[ranges.bias_hh];
        let mut bias: Vec<f32> = parameters[ranges.bias_ih].to_vec();
        let (mut sums, mut recurrent_bias) = (bias.len(), Vec::new());
        if shape.cell == Cell::Gru {
            sums = 2 * hidden;
            recurrent_bias = bias_hh[sums..].to_vec();
        }
        for (ih, hh) in bias[..sums].iter_mut().zip(bias_hh) {
            *ih += hh;
        }
        let weight_ih = to_columns(shape, &parameters[ranges.weight_ih], inputs);
        let weight_hh = &parameters[ranges.weight_hh];
        let weight_hr = &parameters[ranges.weight_hr];
        Self {
            weight_ih: Panels::transpose(&weight_ih, inputs, columns.input.len()),
            weight_hh: Panels::transpose(weight_hh, shape.state(), columns.recurrent.len()),
            weight_hr: (shape.projection > 0)
                .then(|| Panels::transpose(weight_hr, hidden, shape.projection)),
            bias: to_columns(shape, &bias, 1),
            recurrent_bias,
            columns,
            shape: *shape,
        }
    }

    /// The next frame of a sequence: from `frame` [I] and the state before it to the hidden state [S].
    /// Its bits are those of a batch.
    pub(crate) fn step(&self, level: Level, frame: &[f32], state: &mut State) -> Vec<f32> {
        let (shape, columns) = (&self.shape, &self.columns);
        let (hidden, width) = (shape.hidden, shape.state());
        let mut gates = vec![0.0; columns.all];
        let input = &mut gates[columns.input.clone()];
        let (left, start) = (Left::rows(frame, shape.inputs), Addend::Row(&self.bias));
        multiply(level, left, &self.weight_ih, start, input, columns.all, 1);
        gates[columns.input.end..].copy_from_slice(&self.recurrent_bias);
        let previous_count = usize::from(state.began);
        if state.began {
            let left = Left::rows(&state.hidden, width);
            let gates = &mut gates[columns.recurrent.clone()];
            let start = Addend::Result;
            multiply(level, left, &self.weight_hh, start, gates, columns.all, 1);
        }
        let cell_width = if shape.cell == Cell::Lstm { hidden } else { 0 };
        let mut cell = vec![0.0; cell_width];
        let mut output = vec![0.0; hidden];
        cell::forward(
            level,
            shape.cell,
            CellStep {
                gates: BlockMut::new(&mut gates, 1, columns.all),
                cells: BlockMut::new(&mut cell, 1, cell_width),
                previous_cells: Block::new(&state.cell, previous_count, cell_width),
                output: BlockMut::new(&mut output, 1, hidden),
                previous_output: Block::new(&state.hidden, previous_count, width),
            },
        );
        if let Some(weight_hr) = &self.weight_hr {
            let mut projected = vec![0.0; width];
            let left = Left::rows(&output, hidden);
            let start = Addend::Zero;
            multiply(level, left, weight_hr, start, &mut projected, width, 1);
            output = projected;
        }
        *state = State {
            began: true,
            hidden: output.clone(),
            cell,
        };
        output
    }
}

/// What a sequence carries from a frame to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// There was a frame.
    began: bool,
    hidden: Vec<f32>,
    cell: Vec<f32>,
}
