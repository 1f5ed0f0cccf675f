//! The cell of a plain recurrent layer: the hyperbolic tangent of its sum, or what is positive of it.

use super::{CellPass, CellStep, CellStepBackward};
use crate::cpu::activation::{relu, tanh};
use simd::Lanes;

/// The hidden state; with `TANH` or else a ReLU.
pub(super) struct Forward<'a, const TANH: bool>(pub CellStep<'a>);

impl<const TANH: bool> CellPass for Forward<'_, TANH> {
    fn size(&self) -> (usize, usize) {
        (self.0.gates.rows(), self.0.output.columns())
    }

    #[inline(always)]
    fn units<V: Lanes>(&mut self, row: usize, unit: usize) {
        let step = &mut self.0;
        let sum = V::load(&step.gates.as_block().row(row)[unit..]);
        let hidden = if TANH { tanh(sum) } else { relu(sum) };
        hidden.store(&mut step.output.row_mut(row)[unit..]);
    }
}

/// The gradient of the pre-activation, given that of the output.
pub(super) struct Backward<'a, const TANH: bool>(pub CellStepBackward<'a>);

impl<const TANH: bool> CellPass for Backward<'_, TANH> {
    fn size(&self) -> (usize, usize) {
        (self.0.gates.rows(), self.0.hidden_gradient.columns())
    }

    #[inline(always)]
    fn units<V: Lanes>(&mut self, row: usize, unit: usize) {
        let step = &mut self.0;
        let zero = V::splat(0.0);
        let hidden = V::load(&step.output.row(row)[unit..]);
        let grad = V::load(&step.hidden_gradient.row(row)[unit..]);
        let gradient = if TANH {
            grad.mul(V::splat(1.0).sub(hidden.mul(hidden)))
        } else {
            grad.where_less(zero, hidden, zero)
        };
        gradient.store(&mut step.gates.row_mut(row)[unit..]);
    }
}
