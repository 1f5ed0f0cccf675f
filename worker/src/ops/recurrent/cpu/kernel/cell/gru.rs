//! The cell of a GRU, with the gates n, r, z and q side by side, where q is the hidden state's part of
//! n (torch's equations): n = tanh(n + r q), h = (1 - z) n + z h before. It decides the order of its
//! roundings.

use super::{CellPass, CellStep, CellStepBackward, load_before, previous};
use crate::cpu::activation::{sigmoid, tanh};
use simd::Lanes;

/// Activations and hidden state.
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
        let reset = sigmoid(V::load(&gates[hidden..]));
        let update = sigmoid(V::load(&gates[2 * hidden..]));
        let recurrent = V::load(&gates[3 * hidden..]);
        let candidate = tanh(reset.mul_add(recurrent, V::load(gates)));
        let previous: V = previous(step.previous_output, row, unit);
        candidate.store(gates);
        reset.store(&mut gates[hidden..]);
        update.store(&mut gates[2 * hidden..]);
        update
            .mul_add(previous.sub(candidate), candidate)
            .store(&mut step.output.row_mut(row)[unit..]);
    }
}

/// The gates' gradients, and that of the previous hidden state as far as it is led past them.
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
        let candidate = V::load(gates);
        let reset = V::load(&gates[hidden..]);
        let update = V::load(&gates[2 * hidden..]);
        let recurrent = V::load(&gates[3 * hidden..]);
        let previous: V = previous(step.previous_output, row, unit);
        let carried: V = load_before(step.after, step.carried.as_block(), row, unit);
        let grad = V::load(&step.hidden_gradient.row(row)[unit..]).add(carried);
        let d_update = grad
            .mul(previous.sub(candidate))
            .mul(update.mul(one.sub(update)));
        let d_candidate = grad
            .mul(one.sub(update))
            .mul(one.sub(candidate.mul(candidate)));
        let d_reset = d_candidate.mul(recurrent).mul(reset.mul(one.sub(reset)));
        d_candidate.store(gates);
        d_reset.store(&mut gates[hidden..]);
        d_update.store(&mut gates[2 * hidden..]);
        d_candidate.mul(reset).store(&mut gates[3 * hidden..]);
        grad.mul(update)
            .store(&mut step.carried.row_mut(row)[unit..]);
    }
}
