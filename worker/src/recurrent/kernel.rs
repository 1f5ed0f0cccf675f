//! The recurrence of one direction of a layer over packed frames, forward and backward, on slices.
//! It decides the order of the work in time and its division among threads, and refuses to know
//! about tensors and differentiation graphs.
//!
//! Threads share out the sequences of the batch: no barrier inside the time loop, and since each
//! frame's values are chains of their own (see [`crate::kernel`]), the same bits for any division.

mod backward;
mod cell;
mod forward;
mod weights;

use std::ops::Range;

use super::Recurrent;
use crate::kernel::simd::Level;
use crate::packing::Packing;

pub use backward::Backward;
pub use forward::{SharedOutput, Trace};
pub use weights::{State, Weights};

/// Memory that several threads write to in disjoint places.
#[derive(Clone, Copy)]
struct Shared(*mut f32, usize);

// SAFETY: the users keep to rows of their own sequences; see `Ranges`.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// # Safety
    /// Nobody writes to the range while the slice lives.
    unsafe fn slice<'a>(self, start: usize, elements: usize) -> &'a [f32] {
        assert!(start + elements <= self.1);
        // SAFETY: within bounds; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts(self.0.add(start), elements) }
    }

    fn at(self, start: usize) -> *mut f32 {
        assert!(start <= self.1);
        // SAFETY: within bounds.
        unsafe { self.0.add(start) }
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
