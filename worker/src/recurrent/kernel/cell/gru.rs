//! The cell of a GRU, with the gates n, r, z and q side by side, where q is the hidden state's part of
//! n (torch's equations): n = tanh(n + r q), h = (1 - z) n + z h before. It decides the order of its
//! roundings.

use super::{Pass, Step, StepBack};
use crate::kernel::activation::{sigmoid, tanh};
use crate::kernel::simd::Lanes;

/// Activations and hidden state.
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
            let reset = sigmoid(V::load(gates.add(hidden)));
            let update = sigmoid(V::load(gates.add(2 * hidden)));
            let recurrent = V::load(gates.add(3 * hidden));
            let candidate = tanh(reset.mul_add(recurrent, V::load(gates)));
            let previous = if row < step.previous_count {
                V::load(step.previous_output.add(row * step.width + unit))
            } else {
                V::splat(0.0)
            };
            candidate.store(gates);
            reset.store(gates.add(hidden));
            update.store(gates.add(2 * hidden));
            update
                .mul_add(previous.sub(candidate), candidate)
                .store(step.output.add(row * step.width + unit));
        }
    }
}

/// The gates' gradients, and that of the previous hidden state as far as it is led past them.
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
            let candidate = V::load(gates);
            let reset = V::load(gates.add(hidden));
            let update = V::load(gates.add(2 * hidden));
            let recurrent = V::load(gates.add(3 * hidden));
            let previous = if row < step.previous_count {
                V::load(step.previous_output.add(row * step.width + unit))
            } else {
                zero
            };
            let carried = if row < step.after {
                V::load(step.carried.add(at))
            } else {
                zero
            };
            let slope = V::load(step.hidden_gradient.add(at)).add(carried);
            let d_update = slope
                .mul(previous.sub(candidate))
                .mul(update.mul(one.sub(update)));
            let d_candidate = slope
                .mul(one.sub(update))
                .mul(one.sub(candidate.mul(candidate)));
            let d_reset = d_candidate.mul(recurrent).mul(reset.mul(one.sub(reset)));
            d_candidate.store(gates);
            d_reset.store(gates.add(hidden));
            d_update.store(gates.add(2 * hidden));
            d_candidate.mul(reset).store(gates.add(3 * hidden));
            slope.mul(update).store(step.carried.add(at));
        }
    }
}
