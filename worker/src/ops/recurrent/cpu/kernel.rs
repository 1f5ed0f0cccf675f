//! The recurrence of one direction of a layer over packed frames, forward and backward, on slices.
//! It decides the order of the work in time and its division among threads; tensors and differentiation
//! graphs are the callers'.
//!
//! Threads share out the sequences of the batch, and with them the memory that they write to (`share_steps`): no barrier inside the time loop, and since each
//! frame's values are chains of their own (see [`crate::cpu`]), the same bits for any division.

mod backward;
mod cell;
mod forward;
mod weights;

use std::ops::Range;

use simd::Level;

use crate::cpu::block::BlockMut;
use crate::ops::packing::Packing;
use crate::ops::recurrent::Recurrent;

pub(crate) use backward::Backward;
pub(crate) use forward::{OutputColumns, SavedActivations};
pub(crate) use weights::{PackedWeights, State};

/// What each task's sequences have of a matrix of frames: for each of `steps`, in the order of time, the rows of the
/// task's places. `rows` are those of these steps.
fn share_steps<'a>(
    packing: &Packing,
    tasks: &[Range<usize>],
    steps: Range<usize>,
    mut rows: BlockMut<'a>,
) -> Vec<Vec<BlockMut<'a>>> {
    let mut shares: Vec<Vec<BlockMut>> = Vec::new();
    shares.resize_with(tasks.len(), || Vec::with_capacity(steps.len()));
    for step in steps {
        let count = packing.row(step + 1, 0) - packing.row(step, 0);
        let (mut here, later) = rows.split_rows(count);
        rows = later;
        for (share, places) in shares.iter_mut().zip(tasks) {
            let (own, others) =
                here.split_rows(places.len().min(count.saturating_sub(places.start)));
            share.push(own);
            here = others;
        }
    }
    shares
}

/// What each task's sequences have of a matrix with a row for each sequence.
fn share_places<'a>(tasks: &[Range<usize>], mut rows: BlockMut<'a>) -> Vec<BlockMut<'a>> {
    let mut shares = Vec::with_capacity(tasks.len());
    for places in tasks {
        let (own, others) = rows.split_rows(places.len());
        shares.push(own);
        rows = others;
    }
    shares
}

/// How many of `places` are among the first `running`.
fn among(places: &Range<usize>, running: usize) -> usize {
    running.min(places.end).saturating_sub(places.start)
}

/// One direction of a layer over a batch.
#[derive(Clone, Copy)]
pub(crate) struct Direction<'a> {
    level: Level,
    shape: Recurrent,
    packing: &'a Packing,
    /// 0 forward, 1 backward in time.
    index: usize,
}

impl<'a> Direction<'a> {
    /// Direction `index` of a layer of this shape over a packed batch: the passes divide rows among threads by the
    /// number of running sequences, which is the number of rows of a step only without padding.
    ///
    /// # Panics
    /// If the batch is padded, or the layer has no such direction.
    pub(crate) fn new(level: Level, shape: Recurrent, packing: &'a Packing, index: usize) -> Self {
        assert!(!packing.is_padded(), "a packed batch");
        assert!(index < shape.directions, "a direction of the layer");
        Self {
            level,
            shape,
            packing,
            index,
        }
    }

    /// The steps in the order of the recurrence.
    fn step(&self, i: usize) -> usize {
        if self.index == 0 {
            i
        } else {
            self.packing.steps() - 1 - i
        }
    }

    /// The step before `step` in the order of the recurrence, and how many sequences have both.
    fn previous(&self, step: usize) -> Option<(usize, usize)> {
        let previous = if self.index == 0 {
            step.checked_sub(1)?
        } else {
            step + 1
        };
        (previous < self.packing.steps()).then(|| {
            (
                previous,
                self.packing.active(previous).min(self.packing.active(step)),
            )
        })
    }

    /// The step after `step`, likewise.
    fn next(&self, step: usize) -> Option<(usize, usize)> {
        let next = if self.index == 0 {
            step + 1
        } else {
            step.checked_sub(1)?
        };
        (next < self.packing.steps()).then(|| {
            (
                next,
                self.packing.active(next).min(self.packing.active(step)),
            )
        })
    }

    /// How many of the sequences in `places` run at `step`: the first so many.
    fn running(&self, step: usize, places: &Range<usize>) -> usize {
        among(places, self.packing.active(step))
    }

    /// The step before `step` in the order of the recurrence, and how many of the sequences in `places` run at both;
    /// `None` when there is none.
    fn previous_of(&self, step: usize, places: &Range<usize>) -> Option<(usize, usize)> {
        let (previous, both) = self.previous(step)?;
        let count = among(places, both);
        (count > 0).then_some((previous, count))
    }

    /// The same of the step after `step`.
    fn next_of(&self, step: usize, places: &Range<usize>) -> Option<(usize, usize)> {
        let (next, both) = self.next(step)?;
        let count = among(places, both);
        (count > 0).then_some((next, count))
    }

    /// Sequences (as places) for each thread, about equally many frames each: all of them, in order.
    fn tasks(&self) -> Vec<Range<usize>> {
        let threads = rayon::current_num_threads().div_ceil(self.shape.directions);
        let places = self.packing.sequences();
        let mut tasks = Vec::new();
        let (mut start, mut frames) = (0, 0);
        for place in 0..places {
            frames += self.packing.length(place);
            let due = (tasks.len() + 1) * self.packing.rows();
            if place + 1 == places || frames * threads >= due {
                tasks.push(start..place + 1);
                start = place + 1;
            }
        }
        tasks
    }

    /// The steps of the recurrence in runs of at least `rows` rows but for the last: what a run's
    /// product computes is still in a cache when its recurrence uses it, and the other way round.
    fn chunks(&self, rows: usize) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut count) = (0, 0);
        for i in 0..self.packing.steps() {
            count += self.packing.active(self.step(i));
            if count >= rows || i + 1 == self.packing.steps() {
                chunks.push(start..i + 1);
                (start, count) = (i + 1, 0);
            }
        }
        chunks
    }

    /// A run of steps of the recurrence in the order of time.
    fn in_time(&self, steps: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.step(steps.start), self.step(steps.end - 1));
        first.min(last)..first.max(last) + 1
    }

    /// The rows of a run of steps in the order of time.
    fn rows(&self, steps: &Range<usize>) -> Range<usize> {
        self.packing.row(steps.start, 0)..self.packing.row(steps.end, 0)
    }

    /// For each row, the row of the same sequence's previous step in the order of the recurrence.
    fn previous_rows(&self) -> Vec<Option<usize>> {
        let mut previous_rows = Vec::with_capacity(self.packing.rows());
        for step in 0..self.packing.steps() {
            let previous = self.previous(step);
            previous_rows.extend((0..self.packing.active(step)).map(|place| {
                let (previous, both) = previous?;
                (place < both).then(|| self.packing.row(previous, place))
            }));
        }
        previous_rows
    }
}

#[cfg(test)]
mod tests;
