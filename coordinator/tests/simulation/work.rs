//! What a simulated coordinator does for its run: it begins what the run asks for, and takes up what came of it some
//! time later. What is on its way when the coordinator dies is lost with it.

use coordinator::{
    leases::{Input, Millis, PassId},
    run::{self, Action, EpochEnd, OpenPass, Purpose, UpdateOutcome, Updated},
    trainer::{StepOutcome, Trainer, checkpoint_average, reduce::Reducer},
};
use proto::{
    contribution::{Contribution, PassKind},
    tree::Node,
};

use crate::{
    coordinator::{Bug, Life, Replies, Violation, check},
    faults::Faults,
    toy::{self, End, Progress},
};

/// The open pass, with what has come in.
#[derive(Debug)]
pub struct Pass {
    pub opened: OpenPass,
    kind: PassKind,
    /// That it is computed from, as workers get them.
    pub weights: Vec<f32>,
    attempt: u32,
    /// Absent while some work adds with it.
    pub reducer: Option<Reducer>,
    pending: Vec<(Node, Contribution)>,
    /// With [`Bug::ArrivalOrder`], the sum instead.
    arrival: Contribution,
}

impl Pass {
    fn new(opened: OpenPass, weights: Vec<f32>) -> Self {
        let kind = match opened.purpose {
            Purpose::Update => PassKind::Gradient,
            Purpose::Evaluate { .. } | Purpose::Choose => PassKind::Evaluation,
        };
        let mut pass = Self {
            opened,
            kind,
            weights,
            attempt: opened.attempt,
            reducer: None,
            pending: Vec::new(),
            arrival: Contribution::default(),
        };
        pass.begin_sum();
        pass
    }

    pub fn id(&self) -> PassId {
        PassId {
            job: "toy".to_owned(),
            kind: self.kind,
            step: self.opened.version,
        }
    }

    pub fn micro_batches(&self) -> u32 {
        toy::micro_batches(self.kind, self.opened.version)
    }

    fn begin_sum(&mut self) {
        let elements = self.opened.elements;
        self.reducer = Some(Reducer::new(self.micro_batches(), elements));
        self.pending.clear();
        self.arrival = Contribution::default();
    }

    pub fn restart(&mut self) {
        self.attempt += 1;
        self.begin_sum();
    }

    pub fn accept(&mut self, node: Node, contribution: Contribution, bug: Bug) {
        if bug == Bug::ArrivalOrder {
            let before = std::mem::take(&mut self.arrival);
            self.arrival = before.merge(contribution);
            return;
        }
        self.pending.push((node, contribution));
    }

    /// The sum over the whole pass.
    fn root(&mut self, bug: Bug) -> Result<Contribution, Violation> {
        let root = match bug {
            Bug::ArrivalOrder => Some(std::mem::take(&mut self.arrival)),
            _ => self.reducer.take().and_then(Reducer::root),
        };
        Ok(root.ok_or("the pass is complete and the sum is not")?)
    }
}

/// Work that takes a while.
#[derive(Debug)]
pub enum Work {
    Add {
        attempt: u32,
        reducer: Reducer,
        pending: Vec<(Node, Contribution)>,
    },
    Update {
        trainer: Trainer,
        sum: Contribution,
    },
    Score {
        loss: f64,
    },
    /// It is on the disk when it is done.
    Checkpoint {
        trainer: Trainer,
        progress: Progress,
        held: checkpoint_average::HeldWeights,
    },
    Finish {
        trainer: Trainer,
    },
}

impl Life {
    /// Does what the run has asked for, until it asks for nothing more.
    pub fn carry_out(
        &mut self,
        now: Millis,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        while let Some(action) = self.actions.pop_front() {
            self.act(now, action, replies, faults)?;
        }
        Ok(())
    }

    fn act(
        &mut self,
        now: Millis,
        action: Action,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        match action {
            Action::OpenPass(opened) => {
                if opened.norm_bound.is_some_and(|bound| bound.most.is_some()) {
                    faults.count("stage: update pass with a bound of norms");
                }
                let pass = Pass::new(opened, self.weights_for(opened.purpose, faults)?);
                return self.open(now, pass, replies, faults);
            }
            Action::ClosePass => return self.feed(now, Input::PassClosed, None, replies, faults),
            Action::AbandonPass => {
                faults.count("stage: rest in a pass");
                self.pass = None;
                return self.feed(now, Input::PassClosed, None, replies, faults);
            }
            Action::Add { attempt } => self.add(now, attempt),
            Action::Update => {
                let sum = self
                    .pass
                    .as_mut()
                    .ok_or("there is no pass")?
                    .root(self.bug)?;
                let trainer = self.take_trainer()?;
                self.begun.push(Work::Update { trainer, sum });
            }
            Action::Score => {
                let pass = self.pass.as_mut().ok_or("there is no pass")?;
                for (node, contribution) in std::mem::take(&mut pass.pending) {
                    let reducer = pass.reducer.as_mut().ok_or("there is no sum")?;
                    reducer
                        .insert(node, contribution)
                        .map_err(|error| error.to_string())?;
                }
                let loss = pass.root(self.bug)?.loss;
                self.begun.push(Work::Score { loss });
            }
            Action::EndEpoch(end) => self.end_epoch(end, faults)?,
            Action::Checkpoint { memory } => {
                faults.count("stage: checkpoint");
                self.saving = true;
                let evaluations = self.evaluations.clone();
                let trainer = self.take_trainer()?;
                self.begun.push(Work::Checkpoint {
                    trainer,
                    progress: Progress {
                        evaluations,
                        memory: *memory,
                    },
                    held: self.held.clone(),
                });
            }
            Action::Finish => {
                faults.count("stage: final model");
                let trainer = self.take_trainer()?;
                self.begun.push(Work::Finish { trainer });
            }
            Action::TellReturn { .. } | Action::AbandonPreparation => {}
            Action::End(end) => self.over = Some(end),
        }
        Ok(())
    }

    /// The run promises that nobody else has it then.
    fn take_trainer(&mut self) -> Result<Trainer, Violation> {
        Ok(self.trainer.take().ok_or("the trainer is away")?)
    }

    fn weights_for(&self, purpose: Purpose, faults: &mut Faults) -> Result<Vec<f32>, Violation> {
        let wire = self.rules.wire;
        faults.count(match purpose {
            Purpose::Update => "stage: update pass",
            Purpose::Evaluate { average: false } => "stage: evaluation",
            Purpose::Evaluate { average: true } => "stage: evaluation of the average",
            Purpose::Choose => "stage: choice",
        });
        if self.saving {
            faults.count(match purpose {
                Purpose::Update => "stage: checkpoint during an update pass",
                _ => "stage: checkpoint during an evaluation",
            });
        }
        Ok(match purpose {
            Purpose::Update | Purpose::Evaluate { average: false } => self.published.clone(),
            Purpose::Evaluate { average: true } => {
                let trainer = self.trainer.as_ref().ok_or("the trainer is away")?;
                toy::sent(trainer.judged(), wire)
            }
            Purpose::Choose => {
                let mean = checkpoint_average::mean(&self.held).ok_or("no weights are held")?;
                toy::sent(&mean, wire)
            }
        })
    }

    fn add(&mut self, now: Millis, attempt: u32) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.attempt == attempt) else {
            return;
        };
        let pending = std::mem::take(&mut pass.pending);
        match pass.reducer.take() {
            Some(reducer) if !pending.is_empty() => self.begun.push(Work::Add {
                attempt,
                reducer,
                pending,
            }),
            reducer => {
                pass.reducer = reducer;
                self.tell(now, run::Input::Added { attempt });
            }
        }
    }

    fn end_epoch(&mut self, end: EpochEnd, faults: &mut Faults) -> Result<(), Violation> {
        let trainer = self.trainer.as_mut().ok_or("the trainer is away")?;
        trainer.set_drops(end.drops);
        if let Some(hold) = end.outcome.hold {
            checkpoint_average::take_up(&mut self.held, hold, trainer.judged());
            faults.count(match hold.replaces {
                None => "stage: weights held",
                Some(_) => "stage: weights held for others",
            });
        }
        if !self.rules.validates {
            faults.count("stage: epoch without a score");
        }
        if end.outcome.lowered {
            faults.count("stage: rate lowered");
        }
        if end.outcome.stopped {
            faults.count("stage: stopped early");
        }
        Ok(())
    }

    /// Takes up what came of some work.
    pub fn done(
        &mut self,
        now: Millis,
        work: Work,
        faults: &mut Faults,
    ) -> Result<Replies, Violation> {
        let input = match work {
            Work::Add {
                attempt,
                mut reducer,
                pending,
            } => {
                for (node, contribution) in pending {
                    reducer
                        .insert(node, contribution)
                        .map_err(|error| error.to_string())?;
                }
                if let Some(pass) = &mut self.pass {
                    if pass.attempt == attempt || self.bug == Bug::ForgetAttempt {
                        pass.reducer = Some(reducer);
                    } else {
                        faults.count("stage: addition to a sum thrown away");
                    }
                }
                run::Input::Added { attempt }
            }
            Work::Update { trainer, sum } => self.updated(trainer, sum, faults)?,
            Work::Score { loss } => {
                let pass = self.pass.take().ok_or("there is no pass")?;
                match pass.opened.purpose {
                    Purpose::Choose => self.choice = Some(loss),
                    _ => self.evaluations.push(loss),
                }
                run::Input::Scored {
                    figure: Some(toy::figure(loss)),
                    possible: true,
                }
            }
            Work::Checkpoint { trainer, .. } => {
                let step = trainer.step();
                self.saving = false;
                self.trainer = Some(trainer);
                run::Input::Checkpointed { step }
            }
            Work::Finish { trainer } => {
                let memory = self.run.memory().cloned().ok_or("the run has not begun")?;
                let evaluations = self.evaluations.clone();
                let progress = Progress {
                    evaluations,
                    memory,
                };
                self.end = Some(End::new(&trainer, &self.held, progress, self.choice));
                run::Input::Finished
            }
        };
        let mut replies = Replies::new();
        self.tell(now, input);
        self.carry_out(now, &mut replies, faults)?;
        Ok(replies)
    }

    fn updated(
        &mut self,
        mut trainer: Trainer,
        sum: Contribution,
        faults: &mut Faults,
    ) -> Result<run::Input, Violation> {
        self.pass = None;
        let before = trainer.step();
        let norms = sum.norms.clone();
        let elements = trainer.elements();
        let outcome = toy::update(&mut trainer, sum, &self.rules)?;
        if trainer.elements() != elements {
            faults.count("stage: weights grew");
        }
        let after = trainer.step();
        check(after == before + 1, || {
            format!("step {before} was followed by {after}")
        })?;
        self.published = toy::sent(trainer.weights(), self.rules.wire);
        let outcome = match outcome {
            StepOutcome::Applied(_) => UpdateOutcome::Applied,
            StepOutcome::Skipped(_) => {
                faults.count("stage: skipped step");
                UpdateOutcome::Skipped { left_out: 0 }
            }
        };
        let elements = trainer.elements();
        self.trainer = Some(trainer);
        Ok(run::Input::Updated(Updated {
            elements,
            norms,
            outcome,
        }))
    }
}
