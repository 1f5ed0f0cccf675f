//! The cell of a plain recurrent layer: the hyperbolic tangent of its sum, or what is positive of it.

use super::{Pass, Step, StepBack};
use crate::kernel::activation::{relu, tanh};
use crate::kernel::simd::Lanes;

/// The hidden state; with `TANH` or else a ReLU.
pub struct Forward<const TANH: bool>(pub Step);

impl<const TANH: bool> Pass for Forward<TANH> {
    fn size(&self) -> (usize, usize) {
        (self.0.count, self.0.hidden)
    }

    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let step = &self.0;
        // SAFETY: as the caller promises.
        unsafe {
            let sum = V::load(step.gates.add(row * step.hidden + unit));
            let hidden = if TANH { tanh(sum) } else { relu(sum) };
            hidden.store(step.output.add(row * step.width + unit));
        }
    }
}

/// The sum's gradient, from what was made of it.
pub struct Backward<const TANH: bool>(pub StepBack);

impl<const TANH: bool> Pass for Backward<TANH> {
    fn size(&self) -> (usize, usize) {
        (self.0.count, self.0.hidden)
    }

    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let step = &self.0;
        let at = row * step.hidden + unit;
        let zero = V::splat(0.0);
        // SAFETY: as the caller promises.
        unsafe {
            let hidden = V::load(step.output.add(row * step.width + unit));
            let slope = V::load(step.hidden_gradient.add(at));
            let gradient = if TANH {
                slope.mul(V::splat(1.0).sub(hidden.mul(hidden)))
            } else {
                slope.where_less(zero, hidden, zero)
            };
            gradient.store(step.gates.add(at));
        }
    }
}
