//! The recurrence of one direction of a layer over packed frames, forward and backward, on slices.
//! It decides the order of the work in time and its division among threads; tensors and differentiation
//! graphs are the callers'.
//!
//! Threads share out the sequences of the batch: no barrier inside the time loop, and since each
//! frame's values are chains of their own (see [`crate::kernel`]), the same bits for any division.

mod backward;
mod cell;
mod forward;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use super::Recurrent;
use crate::kernel::matrix::Left;
use crate::kernel::simd::Level;
use crate::packing::Packing;

pub use backward::Backward;
pub use forward::{OutputColumns, Trace};
pub use weights::{State, Weights};

/// Memory that several threads write to in disjoint places. It gives pointers and no slices: the rows of
/// one thread's sequences and the columns of one direction lie between those of others, and a slice over
/// them would cover elements that another thread writes meanwhile.
#[derive(Clone, Copy)]
struct Shared<'a> {
    values: *mut f32,
    elements: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may go to another thread. That two threads never touch the
// same element, one of them writing, is for whoever uses the pointers: each keeps to the rows of its own
// sequences (`Direction::tasks`) and to the columns of its own direction.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(values: &'a mut [f32]) -> Self {
        Self {
            values: values.as_mut_ptr(),
            elements: values.len(),
            borrowed: PhantomData,
        }
    }

    /// The pointer to element `start`, of which at least `elements` follow.
    ///
    /// # Panics
    /// If there are fewer.
    fn at(self, start: usize, elements: usize) -> *mut f32 {
        assert!(
            start <= self.elements && elements <= self.elements - start,
            "{elements} elements from {start} on of {}",
            self.elements
        );
        // SAFETY: within bounds, as asserted.
        unsafe { self.values.add(start) }
    }

    /// `count` rows of `columns` elements, `stride` apart, the first of them at element `start`, as the left
    /// factor of a product.
    ///
    /// # Safety
    /// Nobody writes to these elements while the product is computed.
    ///
    /// # Panics
    /// If there are not so many elements.
    unsafe fn rows(self, start: usize, count: usize, columns: usize, stride: usize) -> Left<'a> {
        let elements = span(count, columns, stride);
        // SAFETY: the elements are there, as `at` asserts; the caller answers for the rest.
        unsafe { Left::rows_at(self.at(start, elements), elements, stride) }
    }
}

/// Elements from the first to the last of `count` rows of `columns`, `stride` apart.
fn span(count: usize, columns: usize, stride: usize) -> usize {
    match count.checked_sub(1) {
        Some(others) => others * stride + columns,
        None => 0,
    }
}

/// One direction of a layer over a batch.
#[derive(Clone, Copy)]
pub struct Direction<'a> {
    pub level: Level,
    pub shape: Recurrent,
    pub packing: &'a Packing,
    /// 0 forward, 1 backward in time.
    pub index: usize,
}

impl Direction<'_> {
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

    /// The first row, and how many, of the sequences in `places` that run both at `step` and at the step before
    /// it in the order of the recurrence. `None` when there is none: such a row need not exist, because
    /// backwards in time fewer sequences run at the step before than at `step`.
    fn previous_rows_of(&self, step: usize, places: &Range<usize>) -> Option<(usize, usize)> {
        let (previous, both) = self.previous(step)?;
        self.rows_of(previous, both, places)
    }

    /// The same of the step after `step`.
    fn next_rows_of(&self, step: usize, places: &Range<usize>) -> Option<(usize, usize)> {
        let (next, both) = self.next(step)?;
        self.rows_of(next, both, places)
    }

    /// The first row at `step`, and how many, of the sequences in `places` that are among the first
    /// `running`; `None` when there is none.
    fn rows_of(
        &self,
        step: usize,
        running: usize,
        places: &Range<usize>,
    ) -> Option<(usize, usize)> {
        let count = running.min(places.end).saturating_sub(places.start);
        (count > 0).then(|| (self.packing.row(step, places.start), count))
    }

    /// Sequences (as places) for each thread, about equally many frames each.
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

    /// The rows of a run of steps of the recurrence.
    fn rows(&self, steps: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.step(steps.start), self.step(steps.end - 1));
        let (first, last) = (first.min(last), first.max(last));
        self.packing.row(first, 0)..self.packing.row(last + 1, 0)
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
