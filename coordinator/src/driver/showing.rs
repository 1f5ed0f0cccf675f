//! What people see of a run while it goes on: its curves and its progress. It decides nothing about
//! the run.

use std::sync::Arc;

use super::{
    Active, Driver, Notice, Run,
    training::Training,
    work::{self, Chart, Done},
};

impl Driver {
    /// Draws the curves as far as they go.
    pub(super) fn draw(&mut self) {
        let Some(chart) = self.run.as_ref().map(Run::chart) else {
            return;
        };
        self.spawn(move || {
            work::draw(&chart);
            Done::Drawn
        });
    }

    pub(super) fn publish_progress(&mut self) {
        let Some(run) = &self.run else { return };
        let Some(Active { training, .. }) = &run.active else {
            return;
        };
        // Nobody needs to listen.
        let _ = self.notices.send(Notice::Progress {
            job: run.id.clone(),
            progress: training.progress.clone(),
        });
    }
}

impl Run {
    pub(super) fn chart(&self) -> Chart {
        let synthetic = self
            .training()
            .is_some_and(|training| training.prepared.synthetic);
        let suffix = if synthetic { " (synthetic speech)" } else { "" };
        Chart {
            run_dir: self.dir.clone(),
            title: format!("{}{suffix}", self.name),
            drawing: Arc::clone(&self.drawing),
        }
    }

    fn training(&self) -> Option<&Training> {
        self.active.as_ref().map(|active| &active.training)
    }
}
