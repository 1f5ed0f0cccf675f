//! What people see of a run while it goes on: its curves. It decides nothing about the run.

use std::sync::Arc;

use super::{
    Driver, Run,
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
