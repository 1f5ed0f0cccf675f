//! What people see of a run while it goes on: its curves. It decides nothing about the run.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{ActiveRun, Driver, background::WorkDone};
use crate::records::{
    events::{Offsets, published},
    plots::Plots,
};

/// Drawings may take one part in so many of the time.
const DRAWING_TIME_SHARE: u32 = 20;

/// When a run's pictures are drawn: one drawing at a time, and so seldom that they cost little. One that
/// is due while another runs, or soon after it, is left out; the next one shows the same and more.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// Made with the journal, from where on lines are new in this life.
    plots: Option<Arc<Mutex<Plots>>>,
    busy: bool,
    /// Not before.
    next: Option<Instant>,
}

impl Drawing {
    pub(super) fn begin(run_dir: &Path, title: String, opened: Offsets) -> Self {
        let plots = Plots::open(run_dir, title, opened);
        Self {
            plots: Some(Arc::new(Mutex::new(plots))),
            ..Self::default()
        }
    }

    /// The pictures, if they may be drawn now.
    fn due(&mut self, now: Instant) -> Option<Arc<Mutex<Plots>>> {
        let late = self.next.is_none_or(|next| next <= now);
        let plots = self.plots.as_ref().filter(|_| late && !self.busy)?;
        self.busy = true;
        Some(Arc::clone(plots))
    }

    fn done(&mut self, now: Instant, took: Duration) {
        self.busy = false;
        self.next = Some(now + DRAWING_TIME_SHARE * took);
    }
}

impl Driver {
    /// Draws the curves as far as they go.
    pub(super) fn draw(&mut self) {
        let run = self.run.as_mut();
        let Some(plots) = run.and_then(|run| run.drawing.due(Instant::now())) else {
            return;
        };
        self.spawn(move || {
            let began = Instant::now();
            draw(&plots);
            WorkDone::Drawn(began.elapsed())
        });
    }

    pub(super) fn drawn(&mut self, took: Duration) {
        if let Some(run) = &mut self.run {
            run.drawing.done(Instant::now(), took);
        }
    }
}

impl ActiveRun {
    /// What draws the whole run once more, on a thread that may take its time; also where it failed
    /// before it began.
    pub(super) fn last_drawing(&self) -> impl FnOnce() + Send + use<> {
        let plots = self.drawing.plots.clone();
        let (dir, name) = (self.dir.clone(), self.name.clone());
        move || match plots {
            Some(plots) => draw(&plots),
            None => {
                let opened = published(&dir, true).offsets;
                draw(&Mutex::new(Plots::open(&dir, name, opened)));
            }
        }
    }
}

/// Pictures are for people: a run does not fail for them.
fn draw(plots: &Mutex<Plots>) {
    let mut plots = plots.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err((path, error)) = plots.draw() {
        let path = path.display();
        tracing::warn!("the chart is not drawn: {path}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_drawing_at_a_time_and_a_pause_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let mut drawing = Drawing::begin(dir.path(), "run".to_owned(), Offsets::default());
        assert!(drawing.due(began).is_some());
        let later = began + Duration::from_secs(1000);
        assert!(drawing.due(later).is_none(), "one is under way");
        let took = Duration::from_secs(2);
        drawing.done(later, took);
        assert!(drawing.due(later + 19 * took).is_none());
        assert!(drawing.due(later + 20 * took).is_some());
        assert!(Drawing::default().due(began).is_none(), "nothing began");
    }
}
