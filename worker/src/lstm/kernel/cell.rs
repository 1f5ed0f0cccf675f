//! The cell of an LSTM at one step of the recurrence, forward and backward, for the sequences that
//! are running. It decides the order of its roundings, and refuses to know where the gates' sums come
//! from.

use crate::kernel::activation::{sigmoid, tanh};
use crate::kernel::simd::{Kernel, Lanes};

/// A pass over the units of a step.
trait Cell {
    /// # Safety
    /// The pointers cover `count` rows of `hidden` units; unit + LANES is at most `hidden`.
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize);
}

/// Every unit of every row, the last ones of a row one by one where vectors do not come out even.
///
/// # Safety
/// The cell's pointers cover `count` rows of `hidden` units.
#[inline(always)]
unsafe fn each<V: Lanes>(cell: &impl Cell, count: usize, hidden: usize) {
    for row in 0..count {
        let mut unit = 0;
        // SAFETY: the units stay below `hidden`; the caller answers for the pointers.
        unsafe {
            while unit + V::LANES <= hidden {
                cell.units::<V>(row, unit);
                unit += V::LANES;
            }
            while unit < hidden {
                cell.units::<[f32; 1]>(row, unit);
                unit += 1;
            }
        }
    }
}

/// Activations, cell and hidden state of `count` sequences at one step.
pub struct CellForward {
    pub hidden: usize,
    pub count: usize,
    /// The first so many have a previous step; the others begin at zero.
    pub previous_count: usize,
    pub gates: *mut f32,
    pub cells: *mut f32,
    pub previous_cells: *const f32,
    pub output: *mut f32,
    pub width: usize,
}

impl Cell for CellForward {
    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let hidden = self.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = self.gates.add(row * 4 * hidden + unit);
            let input = sigmoid(V::load(gates));
            let forget = sigmoid(V::load(gates.add(hidden)));
            let candidate = tanh(V::load(gates.add(2 * hidden)));
            let output = sigmoid(V::load(gates.add(3 * hidden)));
            let previous = if row < self.previous_count {
                V::load(self.previous_cells.add(row * hidden + unit))
            } else {
                V::splat(0.0)
            };
            let cell = forget.mul_add(previous, input.mul(candidate));
            input.store(gates);
            forget.store(gates.add(hidden));
            candidate.store(gates.add(2 * hidden));
            output.store(gates.add(3 * hidden));
            cell.store(self.cells.add(row * hidden + unit));
            output
                .mul(tanh(cell))
                .store(self.output.add(row * self.width + unit));
        }
    }
}

impl Kernel for CellForward {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // SAFETY: the maker of `self` answers for the pointers.
        unsafe { each::<V>(&self, self.count, self.hidden) }
    }
}

/// Turns the gates of `count` sequences at one step into the gradients of their pre-activations,
/// and carries the gradient of the cell back.
pub struct CellBackward {
    pub hidden: usize,
    pub count: usize,
    /// The first so many have a next step, from which a gradient of the cell arrives.
    pub after: usize,
    /// The first so many have a previous step.
    pub previous_count: usize,
    pub gates: *mut f32,
    pub cells: *const f32,
    pub previous_cells: *const f32,
    pub hidden_gradient: *const f32,
    pub cell_gradient: *mut f32,
}

impl Cell for CellBackward {
    #[inline(always)]
    unsafe fn units<V: Lanes>(&self, row: usize, unit: usize) {
        let hidden = self.hidden;
        // SAFETY: as the caller promises.
        unsafe {
            let gates = self.gates.add(row * 4 * hidden + unit);
            let at = row * hidden + unit;
            let zero = V::splat(0.0);
            let one = V::splat(1.0);
            let input = V::load(gates);
            let forget = V::load(gates.add(hidden));
            let candidate = V::load(gates.add(2 * hidden));
            let output = V::load(gates.add(3 * hidden));
            let squashed = tanh(V::load(self.cells.add(at)));
            let previous = if row < self.previous_count {
                V::load(self.previous_cells.add(at))
            } else {
                zero
            };
            let dh = V::load(self.hidden_gradient.add(at));
            let carried = if row < self.after {
                V::load(self.cell_gradient.add(at))
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
            dc.mul(forget).store(self.cell_gradient.add(at));
        }
    }
}

impl Kernel for CellBackward {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // SAFETY: as in `CellForward::run`.
        unsafe { each::<V>(&self, self.count, self.hidden) }
    }
}
