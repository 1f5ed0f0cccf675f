//! The cell of an LSTM. It decides the order of its roundings.

use super::{CellPass, CellStep, CellStepBackward, load_before, previous};
use crate::cpu::activation::{sigmoid, tanh};
use simd::Lanes;

/// Activations, cell and hidden state.
pub(super) struct Forward<'a>(pub CellStep<'a>);

impl CellPass for Forward<'_> {
    fn size(&self) -> (usize, usize) {
        (self.0.gates.rows(), self.0.output.columns())
    }

    #[inline(always)]
    fn units<V: Lanes>(&mut self, row: usize, unit: usize) {
        let step = &mut self.0;
        let hidden = step.output.columns();
        let gates = &mut step.gates.row_mut(row)[unit..];
        let input = sigmoid(V::load(gates));
        let forget = sigmoid(V::load(&gates[hidden..]));
        let candidate = tanh(V::load(&gates[2 * hidden..]));
        let output = sigmoid(V::load(&gates[3 * hidden..]));
        let previous: V = previous(step.previous_cells, row, unit);
        let cell = forget.mul_add(previous, input.mul(candidate));
        input.store(gates);
        forget.store(&mut gates[hidden..]);
        candidate.store(&mut gates[2 * hidden..]);
        output.store(&mut gates[3 * hidden..]);
        cell.store(&mut step.cells.row_mut(row)[unit..]);
        output
            .mul(tanh(cell))
            .store(&mut step.output.row_mut(row)[unit..]);
    }
}

/// Turns the gates into the gradients of their pre-activations, and carries the gradient of the cell
/// back.
pub(super) struct Backward<'a>(pub CellStepBackward<'a>);

impl CellPass for Backward<'_> {
    fn size(&self) -> (usize, usize) {
        (self.0.gates.rows(), self.0.hidden_gradient.columns())
    }

    #[inline(always)]
    fn units<V: Lanes>(&mut self, row: usize, unit: usize) {
        let step = &mut self.0;
        let hidden = step.hidden_gradient.columns();
        let gates = &mut step.gates.row_mut(row)[unit..];
        let one = V::splat(1.0);
        let input = V::load(gates);
        let forget = V::load(&gates[hidden..]);
        let candidate = V::load(&gates[2 * hidden..]);
        let output = V::load(&gates[3 * hidden..]);
        let squashed = tanh(V::load(&step.cells.row(row)[unit..]));
        let previous: V = previous(step.previous_cells, row, unit);
        let dh = V::load(&step.hidden_gradient.row(row)[unit..]);
        let carried: V = load_before(step.after, step.carried.as_block(), row, unit);
        let derivative = one.sub(squashed.mul(squashed));
        let dc = dh.mul(output).mul_add(derivative, carried);
        let d_output = dh.mul(squashed).mul(output.mul(one.sub(output)));
        let d_input = dc.mul(candidate).mul(input.mul(one.sub(input)));
        let d_forget = dc.mul(previous).mul(forget.mul(one.sub(forget)));
        let d_candidate = dc.mul(input).mul(one.sub(candidate.mul(candidate)));
        d_input.store(gates);
        d_forget.store(&mut gates[hidden..]);
        d_candidate.store(&mut gates[2 * hidden..]);
        d_output.store(&mut gates[3 * hidden..]);
        dc.mul(forget).store(&mut step.carried.row_mut(row)[unit..]);
    }
}
