//! The cells at one step of the recurrence, forward and backward, for the sequences that are running.
//! It decides the order of their roundings, and refuses to know where the gates' sums come from.

mod gru;
mod lstm;
mod plain;

use crate::kernel::simd::{Kernel, Lanes, Level};
use crate::recurrent::Cell;

/// `count` sequences at one step, forward. Gates and cells of a sequence follow those of the one
/// before; outputs lie `width` apart.
pub struct Step {
    pub hidden: usize,
    pub count: usize,
    /// The first so many have a previous step; the others begin at zero.
    pub previous_count: usize,
    /// In: the sums. Out: what the backward pass needs of them.
    pub gates: *mut f32,
    /// Of an LSTM, as the next.
    pub cells: *mut f32,
    pub previous_cells: *const f32,
    pub output: *mut f32,
    /// Of a GRU, `width` apart.
    pub previous_output: *const f32,
    pub width: usize,
}

/// The same backward: gates turn into the gradients of their sums.
pub struct StepBack {
    pub hidden: usize,
    pub count: usize,
    /// The first so many have a next step, from which a gradient is carried.
    pub after: usize,
    /// The first so many have a previous step.
    pub previous_count: usize,
    pub gates: *mut f32,
    pub cells: *const f32,
    pub previous_cells: *const f32,
    /// Of a GRU and a plain layer, `width` apart, as the next.
    pub output: *const f32,
    pub previous_output: *const f32,
    pub width: usize,
    /// What came from the layer above and, through the weights, from the next step.
    pub hidden_gradient: *const f32,
    /// What comes from the next step past the weights, and goes on to the previous one.
    pub carried: *mut f32,
}

/// Computes a step forward.
///
/// # Safety
/// The pointers cover `count` sequences (the previous ones `previous_count`) of `hidden` units, all
/// their columns of gates, and nobody else touches what is written.
pub unsafe fn forward(level: Level, cell: Cell, step: Step) {
    match cell {
        Cell::Lstm => level.run(Units(lstm::Forward(step))),
        Cell::Gru => level.run(Units(gru::Forward(step))),
        Cell::Tanh => level.run(Units(plain::Forward::<true>(step))),
        Cell::Relu => level.run(Units(plain::Forward::<false>(step))),
    }
}

/// Computes a step backward.
///
/// # Safety
/// As for [`forward`].
pub unsafe fn backward(level: Level, cell: Cell, step: StepBack) {
    match cell {
        Cell::Lstm => level.run(Units(lstm::Backward(step))),
        Cell::Gru => level.run(Units(gru::Backward(step))),
        Cell::Tanh => level.run(Units(plain::Backward::<true>(step))),
        Cell::Relu => level.run(Units(plain::Backward::<false>(step))),
    }
}

/// What is done to each unit of each sequence.
trait Pass {
    /// Sequences, and units of each.
    fn size(&self) -> (usize, usize);

    /// # Safety
    /// `row` is below the sequences, `unit` + LANES at most the units, and the pass' pointers cover
    /// them.
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize);
}

/// Every unit of every row, the last ones of a row one by one where vectors do not come out even.
struct Units<P>(P);

impl<P: Pass> Kernel for Units<P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (count, hidden) = self.0.size();
        for row in 0..count {
            let mut unit = 0;
            // SAFETY: the units stay below `hidden`; whoever made the step answers for the pointers.
            unsafe {
                while unit + V::LANES <= hidden {
                    self.0.units::<V>(row, unit);
                    unit += V::LANES;
                }
                while unit < hidden {
                    self.0.units::<[f32; 1]>(row, unit);
                    unit += 1;
                }
            }
        }
    }
}
