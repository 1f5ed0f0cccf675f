//! The cell of an LSTM. It decides the order of its roundings.

use super::{Pass, Step, StepBack};
use crate::kernel::activation::{sigmoid, tanh};
use crate::kernel::simd::Lanes;

/// Activations, cell and hidden state.
pub struct Forward(pub Step);

impl Pass for Forward {
    fn size(&self) -> (usize, usize) {
        (self.0.count, self.0.hidden)
    }

    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let step = &self.0;
        let hidden = step.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = step.gates.add(row * 4 * hidden + unit);
            let input = sigmoid(V::load(gates));
            let forget = sigmoid(V::load(gates.add(hidden)));
            let candidate = tanh(V::load(gates.add(2 * hidden)));
            let output = sigmoid(V::load(gates.add(3 * hidden)));
            let previous = if row < step.previous_count {
                V::load(step.previous_cells.add(row * hidden + unit))
            } else {
                V::splat(0.0)
            };
            let cell = forget.mul_add(previous, input.mul(candidate));
            input.store(gates);
            forget.store(gates.add(hidden));
            candidate.store(gates.add(2 * hidden));
            output.store(gates.add(3 * hidden));
            cell.store(step.cells.add(row * hidden + unit));
            output
                .mul(tanh(cell))
                .store(step.output.add(row * step.width + unit));
        }
    }
}

/// Turns the gates into the gradients of their pre-activations, and carries the gradient of the cell
/// back.
pub struct Backward(pub StepBack);

impl Pass for Backward {
    fn size(&self) -> (usize, usize) {
        (self.0.count, self.0.hidden)
    }

    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let step = &self.0;
        let hidden = step.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = step.gates.add(row * 4 * hidden + unit);
            let at = row * hidden + unit;
            let zero = V::splat(0.0);
            let one = V::splat(1.0);
            let input = V::load(gates);
            let forget = V::load(gates.add(hidden));
            let candidate = V::load(gates.add(2 * hidden));
            let output = V::load(gates.add(3 * hidden));
            let squashed = tanh(V::load(step.cells.add(at)));
            let previous = if row < step.previous_count {
                V::load(step.previous_cells.add(at))
            } else {
                zero
            };
            let dh = V::load(step.hidden_gradient.add(at));
            let carried = if row < step.after {
                V::load(step.carried.add(at))
            } else {
                zero
            };
            let slope = one.sub(squashed.mul(squashed));
            let dc = dh.mul(output).mul_add(slope, carried);
            let d_output = dh.mul(squashed).mul(output.mul(one.sub(output)));
            let d_input = dc.mul(candidate).mul(input.mul(one.sub(input)));
            let d_forget = dc.mul(previous).mul(forget.mul(one.sub(forget)));
            let d_candidate = dc.mul(input).mul(one.sub(candidate.mul(candidate)));
            d_input.store(gates);
            d_forget.store(gates.add(hidden));
            d_candidate.store(gates.add(2 * hidden));
            d_output.store(gates.add(3 * hidden));
            dc.mul(forget).store(step.carried.add(at));
        }
    }
}
