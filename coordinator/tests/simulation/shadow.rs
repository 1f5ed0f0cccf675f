//! The new state machine of a run beside the simulation's own rules, for a comparison.

use std::collections::VecDeque;

use coordinator::run::{self, Action, OpenPass, Purpose, Run, RunMemory, RunSpec, Start};

use crate::toy::{self, Progress, Rules};

/// The run's state machine beside this file's own rules: both must decide alike.
#[derive(Debug, Default)]
pub struct Shadow {
    pub run: Run,
    pub opened: Option<OpenPass>,
    /// What is being made of the pass.
    pub settling: Option<Action>,
    pub finishing: bool,
}

impl Shadow {
    pub fn begin(&mut self, rules: &Rules, progress: &Progress, step: u64, elements: usize) {
        let spec = RunSpec {
            steps_per_epoch: toy::EPOCH,
            total_steps: toy::STEPS,
            checkpoint_every: toy::CHECKPOINT,
            keeps_average: rules.ema.is_some(),
            validates: true,
            select: rules.select,
            schedule: rules.schedule,
            max_norm_ratio: None,
            max_left_out: u64::MAX,
            returns_patience: 0,
        };
        let memory = RunMemory {
            policy: progress.course.clone(),
            ..RunMemory::default()
        };
        self.tell(run::Input::Begun(Box::new(Start {
            spec,
            memory,
            step,
            elements,
            chosen: false,
        })));
    }

    /// Tells it `input`, and carries out at once what takes no worker.
    pub fn tell(&mut self, input: run::Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.run.handle(0, input) {
                match action {
                    Action::OpenPass(opened) if opened.purpose == Purpose::Choose => {
                        let (figure, possible) = (None, true);
                        let scored = run::Input::Scored { figure, possible };
                        inputs.extend([run::Input::PassComplete, scored]);
                    }
                    Action::OpenPass(opened) => {
                        (self.opened, self.settling) = (Some(opened), None);
                    }
                    Action::Add { attempt } => inputs.push_back(run::Input::Added { attempt }),
                    Action::Update | Action::Score => self.settling = Some(action),
                    Action::Checkpoint { .. } => {
                        let step = self.run.step();
                        inputs.push_back(run::Input::Checkpointed { step });
                    }
                    Action::Finish => self.finishing = true,
                    _ => {}
                }
            }
        }
    }
}
