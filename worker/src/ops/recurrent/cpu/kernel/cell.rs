//! The cells at one step of the recurrence, forward and backward, for the sequences that are running.
//! It decides the order of their roundings, and does not depend on where the gates' sums come from.

mod gru;
mod lstm;
mod plain;

use simd::{Kernel, Lanes, Level};

use crate::cpu::block::{Block, BlockMut};
use crate::ops::recurrent::Cell;

/// Some sequences at one step, forward; a row for each, of H units.
pub(super) struct CellStep<'a> {
    /// In: the sums. Out: what the backward pass needs of them. As wide as the cell's columns of gates.
    pub gates: BlockMut<'a>,
    /// The cell states of an LSTM.
    pub cells: BlockMut<'a>,
    /// The previous cell states of the first sequences, which have a previous step; the others begin at zero.
    pub previous_cells: Block<'a>,
    pub output: BlockMut<'a>,
    /// The previous output of a GRU, for the same sequences.
    pub previous_output: Block<'a>,
}

/// The same backward: gates turn into the gradients of their sums.
pub(super) struct CellStepBackward<'a> {
    /// The first so many have a next step, from which a gradient is carried.
    pub after: usize,
    pub gates: BlockMut<'a>,
    /// The cell states of an LSTM.
    pub cells: Block<'a>,
    /// The previous cell states of the first sequences, which have a previous step.
    pub previous_cells: Block<'a>,
    /// The output of a GRU and of a plain layer.
    pub output: Block<'a>,
    /// The previous output of the first sequences, which have a previous step.
    pub previous_output: Block<'a>,
    /// What came from the layer above and, through the weights, from the next step.
    pub hidden_gradient: Block<'a>,
    /// What comes from the next step past the weights, and goes on to the previous one.
    pub carried: BlockMut<'a>,
}

/// Computes a step forward.
///
/// # Panics
/// If a window lacks a row or a column.
pub(super) fn forward(level: Level, cell: Cell, step: CellStep) {
    match cell {
        Cell::Lstm => level.run(Units(lstm::Forward(step))),
        Cell::Gru => level.run(Units(gru::Forward(step))),
        Cell::Tanh => level.run(Units(plain::Forward::<true>(step))),
        Cell::Relu => level.run(Units(plain::Forward::<false>(step))),
    }
}

/// Computes a step backward.
///
/// # Panics
/// As [`forward`].
pub(super) fn backward(level: Level, cell: Cell, step: CellStepBackward) {
    match cell {
        Cell::Lstm => level.run(Units(lstm::Backward(step))),
        Cell::Gru => level.run(Units(gru::Backward(step))),
        Cell::Tanh => level.run(Units(plain::Backward::<true>(step))),
        Cell::Relu => level.run(Units(plain::Backward::<false>(step))),
    }
}

/// What is done to each unit of each sequence.
trait CellPass {
    /// Sequences, and units of each.
    fn size(&self) -> (usize, usize);

    /// LANES units of a sequence from `unit` on.
    fn units<V: Lanes>(&mut self, row: usize, unit: usize);
}

/// Every unit of every row, the last ones of a row one by one where vectors do not come out even.
struct Units<P>(P);

impl<P: CellPass> Kernel for Units<P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let (count, hidden) = self.0.size();
        for row in 0..count {
            let mut unit = 0;
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

/// Some units of a sequence's previous step, or zeros where it has none.
#[inline(always)]
fn previous<V: Lanes>(block: Block, row: usize, unit: usize) -> V {
    load_before(block.rows(), block, row, unit)
}

/// Some units of a row before row `end`, and zeros for the others.
#[inline(always)]
fn load_before<V: Lanes>(end: usize, block: Block, row: usize, unit: usize) -> V {
    if row < end {
        V::load(&block.row(row)[unit..])
    } else {
        V::splat(0.0)
    }
}
