//! The run's state machine: what comes next in a run, from its preparation to its end. It decides the order of passes,
//! updates, evaluations, checkpoints and the final model, and what a wish to stop leads to. It knows no job, vector,
//! file or clock: of the job it has a [`RunSpec`], of an update that there was one ([`Updated`]), of time an argument.
//!
//! # How to drive it
//! There are two kinds of methods. [`Run::handle`] takes an [`Input`] and returns the [`Action`]s that follow; the
//! others look at the run and change nothing. The lease scheduler ([`crate::leases::LeaseScheduler`]) stands beside it, and the
//! caller passes between them what each has to know of the other:
//!
//! 1. Something happens. The caller tells the lease scheduler or the run.
//! 2. It takes the lease scheduler's outputs in order, and tells the run at once, before the next output: an accepted
//!    contribution or result by [`Input::Accepted`] or [`Input::ResultsAccepted`], then `PassComplete`, `PassRestarted`
//!    and `Differed` by the inputs of these names. (An answer that completes a pass comes before its completion, so
//!    that no sum is taken that lacks it.)
//! 3. It carries out the run's actions in order. `OpenPass`, `ClosePass` and `AbandonPass` are told to the lease
//!    scheduler, whose outputs are taken as in 2; `Add`, `Update`, `Score`, `Checkpoint` and `Finish` may take long and
//!    end with the input of that name, or with [`Input::Failed`].
//! 4. When there is neither output nor action left, it waits for the next thing to happen, at most until
//!    [`crate::leases::LeaseScheduler::next_deadline`]. The run has no deadlines of its own.
//!
//! # What it promises
//! - One action at a time has the update rule's state: `Update`, `Checkpoint` or `Finish`. At an `EndEpoch`, and at an
//!   `OpenPass` that evaluates the moving average, nobody has it.
//! - A checkpoint is written at the end of each epoch, before its evaluation is scored, and every
//!   [`RunSpec::checkpoint_every`] steps; passes go on meanwhile. A run that comes to rest does so at a checkpoint.
//! - [`Action::End`] comes once and last; every input after it is ignored.
//!
//! # What an update may be
//! The run sees that a pass is whole, asks for an update, and learns that there is a next version of some length.
//! Gradient descent sums gradients, and keeps the length; re-estimation would sum statistics, and its rule may grow the
//! weights and go through stages by the number of the version.

mod interface;
mod pass;
#[cfg(test)]
mod tests;

pub use interface::{
    Action, End, EpochEnd, Failure, Input, OpenPass, Purpose, RunMemory, RunSpec, Start,
    StopReason, UpdateOutcome, Updated,
};
use pass::{MIN_RETURNS, PassProgress, ReturnStreak};

use crate::{leases::Millis, norm_bound::NormBound, select::Figure};

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Run {
    now: Millis,
    /// Absent while the run is prepared.
    active: Option<Box<StartedRun>>,
    ended: bool,
}

/// Who has the update rule's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleHolder {
    /// Nobody.
    AtHand,
    Updating,
    /// A checkpoint is being written.
    Saving,
    /// The final model is being written.
    Finishing,
}

#[derive(Clone, Debug)]
struct StartedRun {
    spec: RunSpec,
    memory: RunMemory,
    step: u64,
    elements: usize,
    chosen: bool,
    /// The step of the newest checkpoint.
    saved: u64,
    rule: RuleHolder,
    pass: Option<PassProgress>,
    /// The attempt of the next sum that is begun: a thread may still add to one of an earlier pass.
    next_attempt: u32,
    stopping: Option<StopReason>,
}

impl Run {
    /// Takes note of `input` at `now`, and says what follows. A clock that jumps back counts as one that stands still.
    pub fn handle(&mut self, now: Millis, input: Input) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        if self.ended {
            return actions;
        }
        let end = match (&mut self.active, input) {
            (_, Input::Failed) => Some(End::Failed(Failure::Reported)),
            (Some(active), input) => active
                .note(self.now, input, &mut actions)
                .or_else(|| active.proceed(&mut actions)),
            (None, Input::Begun(start)) => {
                let active = self.active.insert(Box::new(StartedRun::new(*start)));
                active.proceed(&mut actions)
            }
            (None, Input::Stop(reason)) => {
                actions.push(Action::AbandonPreparation);
                Some(reason.into())
            }
            // There is no pass yet, and nothing was asked for.
            (None, _) => None,
        };
        if let Some(end) = end {
            self.ended = true;
            actions.push(Action::End(end));
        }
        actions
    }

    /// What a checkpoint would keep of it; `None` before it has begun.
    pub fn memory(&self) -> Option<&RunMemory> {
        self.active.as_ref().map(|active| &active.memory)
    }

    /// The version of the weights: updates that were made.
    pub fn step(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.step)
    }

    /// Elements of the weights, and of the vectors that an update pass sums; 0 before it has begun.
    pub fn elements(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.elements)
    }

    /// The epoch of the step that is worked on, counted from 1; 0 before it has begun.
    pub fn epoch(&self) -> u32 {
        self.active.as_ref().map_or(0, |active| active.epoch())
    }

    /// Whether nothing more is to be begun.
    pub fn is_stopping(&self) -> bool {
        let active = self.active.as_ref();
        self.ended || active.is_some_and(|active| active.stopping.is_some())
    }
}

impl From<StopReason> for End {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Requeue => Self::Requeued,
            StopReason::GiveUp => Self::Failed(Failure::GivenUp),
            StopReason::Cancel => Self::Cancelled,
        }
    }
}

impl StartedRun {
    fn new(start: Start) -> Self {
        let Start {
            spec,
            memory,
            step,
            elements,
            chosen,
        } = start;
        Self {
            spec,
            memory,
            step,
            elements,
            chosen,
            saved: step,
            rule: RuleHolder::AtHand,
            pass: None,
            next_attempt: 0,
            stopping: None,
        }
    }

    /// Takes note of what happened. Gives the end that it leads to at once, if it does.
    fn note(&mut self, now: Millis, input: Input, actions: &mut Vec<Action>) -> Option<End> {
        match input {
            Input::Begun(_) | Input::Failed => None,
            Input::PassComplete => self.in_pass(PassProgress::complete),
            Input::PassDoubted => self.in_pass(PassProgress::doubt),
            Input::PassRestarted => {
                if let Some(pass) = self.pass.as_mut().filter(|pass| !pass.is_settling()) {
                    self.memory.left_out -= pass.restart();
                    self.next_attempt += 1;
                }
                None
            }
            Input::Accepted { left_out } => self.accepted(left_out),
            Input::ResultsAccepted => self.in_pass(|pass| pass.returns = None),
            Input::Returned => self.returned(now, actions),
            Input::Added { attempt } => self.in_pass(|pass| pass.added(attempt)),
            Input::Updated(updated) => self.updated(updated),
            Input::Scored { figure, possible } => self.scored(figure, possible, actions),
            Input::Checkpointed { step } => {
                (self.saved, self.rule) = (step, RuleHolder::AtHand);
                None
            }
            Input::Finished => Some(End::Succeeded),
            Input::Stop(reason) => {
                self.stopping = self.stopping.max(Some(reason));
                self.abandon_pass(actions);
                None
            }
        }
    }

    fn in_pass(&mut self, change: impl FnOnce(&mut PassProgress)) -> Option<End> {
        self.pass.as_mut().map(change);
        None
    }

    fn accepted(&mut self, left_out: u64) -> Option<End> {
        let pass = self.pass.as_mut()?;
        pass.accept(left_out);
        self.memory.left_out += left_out;
        let (count, limit) = (self.memory.left_out, self.spec.max_left_out);
        let too_many = left_out > 0 && count > limit;
        too_many.then_some(End::Failed(Failure::TooManyLeftOut { count, limit }))
    }

    fn returned(&mut self, now: Millis, actions: &mut Vec<Action>) -> Option<End> {
        let pass = self.pass.as_mut()?;
        let returns = pass.returns.get_or_insert_with(|| ReturnStreak::begin(now));
        if let Some(more) = returns.count(now) {
            actions.push(Action::TellReturn { more });
        }
        // By time and not by number: many workers return many leases in a moment, and what ails them may pass as well.
        let (times, within) = (returns.times, returns.within(now));
        let fails = times >= MIN_RETURNS && within >= self.spec.returns_patience;
        fails.then_some(End::Failed(Failure::Returned { times, within }))
    }

    fn updated(&mut self, updated: Updated) -> Option<End> {
        let Updated {
            elements,
            norms,
            outcome,
        } = updated;
        self.rule = RuleHolder::AtHand;
        self.pass = None;
        self.step += 1;
        self.elements = elements;
        self.memory.norms.record(&norms);
        let UpdateOutcome::Skipped { left_out } = outcome else {
            return None;
        };
        self.memory.skipped_steps += 1;
        self.memory.left_out += left_out;
        let (count, limit) = (self.memory.left_out, self.spec.max_left_out);
        let too_many = left_out > 0 && count > limit;
        too_many.then_some(End::Failed(Failure::Diverged { count, limit }))
    }

    fn scored(
        &mut self,
        figure: Option<Figure>,
        possible: bool,
        actions: &mut Vec<Action>,
    ) -> Option<End> {
        let pass = self.pass.take()?;
        if pass.opened.purpose == Purpose::Choose {
            self.chosen = true;
            return None;
        }
        if figure.is_none() && !possible && self.spec.goes_by_figures() {
            return Some(End::Failed(Failure::NoFigure));
        }
        self.end_epoch(figure, actions)
    }

    fn end_epoch(&mut self, figure: Option<Figure>, actions: &mut Vec<Action>) -> Option<End> {
        let RunSpec {
            select, schedule, ..
        } = &self.spec;
        let last = self.spec.epochs();
        let policy = &mut self.memory.policy;
        let outcome = policy.end_epoch((select, schedule), last, figure);
        let (drops, best_epoch) = (policy.drops(), policy.best_epoch());
        actions.push(Action::EndEpoch(EpochEnd {
            epoch: self.epoch_ended(),
            outcome,
            drops,
            best_epoch,
        }));
        let never = self.spec.goes_by_figures() && self.is_over() && best_epoch.is_none();
        never.then_some(End::Failed(Failure::NeverFinite))
    }

    /// Gives the open pass up; what is being computed from a whole one is waited for.
    fn abandon_pass(&mut self, actions: &mut Vec<Action>) {
        if let Some(pass) = self.pass.take_if(|pass| !pass.is_settling()) {
            // It is computed anew by whoever takes the run up, and counted then.
            self.memory.left_out -= pass.left_out;
            actions.push(Action::AbandonPass);
        }
    }

    /// Begins what is due, until something has to be waited for. Gives the end, if that is what is due.
    fn proceed(&mut self, actions: &mut Vec<Action>) -> Option<End> {
        loop {
            if let Some(attempt) = self.pass.as_mut().and_then(PassProgress::begin_adding) {
                actions.push(Action::Add { attempt });
            }
            match self.next()? {
                Next::Open(purpose) => self.open(purpose, actions),
                Next::EndEpoch => {
                    if let Some(end) = self.end_epoch(None, actions) {
                        return Some(end);
                    }
                }
                Next::Settle => self.settle(actions),
                Next::Checkpoint => {
                    self.rule = RuleHolder::Saving;
                    let memory = Box::new(self.memory.clone());
                    actions.push(Action::Checkpoint { memory });
                }
                Next::Finish => {
                    self.rule = RuleHolder::Finishing;
                    actions.push(Action::Finish);
                }
                Next::Stop(reason) => return Some(reason.into()),
            }
        }
    }

    fn open(&mut self, purpose: Purpose, actions: &mut Vec<Action>) {
        let ratio = self.spec.max_norm_ratio;
        let bound = |ratio| NormBound {
            most: self.memory.norms.bound(ratio),
        };
        let (version, epoch, norm_bound) = match purpose {
            Purpose::Update => (self.step, self.epoch(), ratio.map(bound)),
            Purpose::Evaluate { .. } => (self.step, self.epoch_ended(), None),
            Purpose::Choose => (self.step + 1, self.epoch_ended(), None),
        };
        let opened = OpenPass {
            purpose,
            version,
            epoch,
            elements: self.elements,
            attempt: self.next_attempt,
            norm_bound,
        };
        self.next_attempt += 1;
        self.pass = Some(PassProgress::new(opened));
        actions.push(Action::OpenPass(opened));
    }

    fn settle(&mut self, actions: &mut Vec<Action>) {
        let Some(pass) = &mut self.pass else { return };
        pass.settle();
        actions.push(Action::ClosePass);
        if pass.is_update() {
            self.rule = RuleHolder::Updating;
            actions.push(Action::Update);
        } else {
            actions.push(Action::Score);
        }
    }

    /// What is due, as things stand; `None` where something has to be waited for.
    fn next(&self) -> Option<Next> {
        let at_hand = self.rule == RuleHolder::AtHand;
        let settling = self.pass.as_ref().is_some_and(PassProgress::is_settling);
        if settling || self.rule == RuleHolder::Finishing {
            return None;
        }
        if let Some(reason) = self.stopping {
            let next = if self.saved == self.step {
                Next::Stop(reason)
            } else {
                Next::Checkpoint
            };
            return at_hand.then_some(next);
        }
        if at_hand && self.is_checkpoint_due() {
            return Some(Next::Checkpoint);
        }
        if let Some(pass) = &self.pass {
            return (at_hand && pass.is_whole()).then_some(Next::Settle);
        }
        if self.is_epoch_end() && self.memory.policy.epochs < self.step / self.spec.steps_per_epoch
        {
            let average = self.spec.keeps_average;
            return match self.spec.validates {
                // The newest weights can be scored while a checkpoint is written.
                true if at_hand || !average => Some(Next::Open(Purpose::Evaluate { average })),
                false if at_hand => Some(Next::EndEpoch),
                _ => None,
            };
        }
        match self.is_over() {
            false => Some(Next::Open(Purpose::Update)),
            true if !at_hand => None,
            true if self.chooses() && !self.chosen => Some(Next::Open(Purpose::Choose)),
            true => Some(Next::Finish),
        }
    }

    /// Every update is made that will be.
    fn is_over(&self) -> bool {
        self.memory.policy.stopped || self.step == self.spec.total_steps
    }

    /// Whether the final model is one whose score is not known yet: a mean, or an earlier epoch's.
    fn chooses(&self) -> bool {
        let policy = &self.memory.policy;
        let last = match policy.held.as_slice() {
            [] => true,
            [only] => only.epoch == policy.epochs,
            _ => false,
        };
        self.spec.validates && !last
    }

    fn is_epoch_end(&self) -> bool {
        self.step > 0 && self.step.is_multiple_of(self.spec.steps_per_epoch)
    }

    fn is_checkpoint_due(&self) -> bool {
        let every = self.spec.checkpoint_every;
        let due =
            self.is_epoch_end() || (self.step > 0 && every > 0 && self.step.is_multiple_of(every));
        due && self.saved != self.step
    }

    /// The epoch of the step that is worked on, counted from 1.
    fn epoch(&self) -> u32 {
        let last = if self.memory.policy.stopped {
            self.step
        } else {
            self.spec.total_steps
        };
        let step = self.step.min(last.saturating_sub(1));
        u32::try_from(step / self.spec.steps_per_epoch + 1).unwrap_or(u32::MAX)
    }

    /// The epoch that ended with this step, counted from 1.
    fn epoch_ended(&self) -> u32 {
        u32::try_from(self.step / self.spec.steps_per_epoch).unwrap_or(u32::MAX)
    }
}

enum Next {
    Open(Purpose),
    /// An epoch is over, and there is nothing to score it on.
    EndEpoch,
    /// The pass is whole: compute what comes of it.
    Settle,
    Checkpoint,
    Finish,
    Stop(StopReason),
}
