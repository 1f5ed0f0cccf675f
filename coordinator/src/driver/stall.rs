//! A run that does not go on because something is missing: a worker, one of its compute class, or a second
//! one. Who may compute for a job is [`crate::compute_class`]'s to decide, what it lacks and when that is told
//! [`crate::stall`]'s, and which job goes first [`crate::queue`]'s.

use std::{collections::BTreeSet, time::Duration};

use proto::contribution::Key;

use super::{ActiveRun, Driver, RunError, Stop};
use crate::{
    leases::{Config, Input, WorkerId},
    queue::QueuedJob,
    records::events::Event,
    run,
    stall::{Lack, Presence},
    store::JobState,
};

/// Workers that a message names.
const MAX_NAMED_WORKERS: usize = 3;

impl Driver {
    /// Tells the lease scheduler who may compute for the running job. Those who may not are told why.
    pub(super) fn recheck_eligibility(&mut self) {
        if std::mem::take(&mut self.discount_the_gone) {
            self.tell(Input::ClassDecided);
        }
        let members = self.registry.iter();
        let members: Vec<(WorkerId, Option<String>)> = members
            .map(|(worker, member)| {
                let refused = self.check_introduction(member).err();
                (worker, refused.map(|refused| refused.to_string()))
            })
            .collect();
        for (worker, refused) in members {
            let eligible = refused.is_none();
            if !self.registry.set_eligible(worker, eligible) {
                continue;
            }
            self.tell(Input::Eligibility { worker, eligible });
            if refused.is_some() {
                // It asks again, and is answered when there is something for it.
                self.answer(worker, super::LeaseAnswer::Idle(refused));
            }
        }
    }

    /// Tells what the run lacks when it has lacked it for a while, and lets another job go first. Says
    /// whether that changed what comes next.
    pub(super) fn watch_for_stall(&mut self) -> bool {
        self.tell_of_audits();
        let now = self.now();
        // Nobody can be told before the run's files of lines are open.
        let run = self.run.as_ref().filter(|run| run.active.is_some());
        let lack = run.and_then(|run| self.lack(run));
        if self.stall.look(lack, now)
            && let Some(reason) = self.run.as_ref().and_then(|run| self.waits_for(run))
        {
            let job = self.run.as_ref().map(|run| run.id.clone());
            tracing::warn!(job, "waits for {reason}");
            self.note(Event::Waiting { reason });
        }
        self.stall.seeks(now) && self.make_room()
    }

    /// Says once that audits are left undone: a share that nobody computes a second time finds nothing.
    fn tell_of_audits(&mut self) {
        let undone = self.scheduler.counters().unaudited;
        let Some(run) = self.run.as_mut().filter(|run| run.active.is_some()) else {
            return;
        };
        if !run.unaudited_told && undone > run.before.unaudited {
            run.unaudited_told = true;
            self.note(Event::Unaudited);
        }
    }

    pub(super) fn lack(&self, run: &ActiveRun) -> Option<Lack> {
        if !matches!(self.stop, Stop::No) || run.core.is_stopping() {
            return None;
        }
        let pass = run
            .active
            .as_ref()
            .and_then(|active| active.training.pass.as_ref());
        let presence = Presence {
            connected: self.registry.len(),
            has_eligible: self.registry.has_eligible(),
            pass_is_open: pass.is_some(),
            is_unconfirmed: self.scheduler.is_unconfirmed(),
        };
        presence.lack()
    }

    /// What the running job needs to go on, where it does not go on.
    pub(super) fn waits_for(&self, run: &ActiveRun) -> Option<String> {
        Some(match self.lack(run)? {
            Lack::Worker => "a worker: none is connected".to_owned(),
            Lack::Class => {
                let run_state = run.active.as_ref().map(|active| &active.training.run_state);
                let pinned = run_state.and_then(|run_state| run_state.compute_class.as_deref());
                format!(
                    "a worker of compute class \"{}\", to which the job is pinned: {}",
                    pinned.unwrap_or_default(),
                    self.those_who_are_here()
                )
            }
            Lack::Second => "a second worker: with `train.audit = 1.0` nothing counts that two workers do not agree on, and one alone is connected".to_owned(),
        })
    }

    fn those_who_are_here(&self) -> String {
        let mut named: Vec<String> = self
            .registry
            .iter()
            .take(MAX_NAMED_WORKERS)
            .map(|(_, member)| format!("{} ({})", member.name, member.compute_class))
            .collect();
        let more = self.registry.len() - named.len();
        if more > 0 {
            named.push(format!("{more} more"));
        }
        format!("connected are {}", named.join(", "))
    }

    /// What a job in the queue needs before it is its turn.
    pub(super) fn is_set_aside_for(&self, id: &str) -> Option<String> {
        let class = self.set_aside.waits_for(id, &self.present_classes())?;
        Some(format!(
            "a worker of compute class \"{class}\", to which the job is pinned; jobs behind it go first until one is connected"
        ))
    }

    /// The compute classes of the workers that are here.
    fn present_classes(&self) -> BTreeSet<&str> {
        let members = self.registry.iter();
        members.map(|(_, member)| &*member.compute_class).collect()
    }

    /// The job whose turn it is.
    pub(super) fn next_in_turn(&self) -> Option<String> {
        let next = self.set_aside.next(self.queued(), &self.present_classes());
        next.map(str::to_owned)
    }

    fn queued(&self) -> impl Iterator<Item = QueuedJob<'_>> {
        let jobs = self.store().jobs().iter();
        let queued = jobs.filter(|(_, entry)| entry.state == JobState::Queued);
        queued.map(|(id, entry)| QueuedJob {
            turn: entry.turn,
            id,
        })
    }

    /// Has the running job make room for one that those who are here may compute, if there is one. It
    /// leaves a checkpoint and keeps its turn.
    fn make_room(&mut self) -> bool {
        let classes = self.present_classes();
        let alternative = self.set_aside.has_alternative(self.queued(), &classes);
        let Some(run) = self.run.as_ref().filter(|_| alternative) else {
            return false;
        };
        let run_state = run.active.as_ref().map(|active| &active.training.run_state);
        let Some(class) = run_state.and_then(|run_state| run_state.compute_class.clone()) else {
            return false;
        };
        let id = run.id.clone();
        tracing::warn!(
            job = id,
            class,
            "set aside until a worker of its compute class is connected"
        );
        let reason = self.waits_for(run).unwrap_or_default();
        let reason = format!("{reason}; the next job in the queue goes first");
        self.note(Event::Waiting { reason });
        self.set_aside.set_aside(id, class);
        self.advance(run::Input::Stop(run::StopReason::Requeue));
        true
    }

    /// What it means that nobody came to confirm the node of `key`.
    pub(super) fn unconfirmed(&self, key: &Key) -> RunError {
        RunError::Unconfirmed {
            step: key.step,
            node: key.node.to_string(),
            waited: Duration::from_millis(Config::default().verification_ceiling),
        }
    }

    /// The running job and the compute class that it is pinned to, if it is.
    pub(super) fn pinned_to(&self) -> Option<(&ActiveRun, &str)> {
        let run = self.run.as_ref()?;
        let class = run.active.as_ref()?.training.class_pin().required()?;
        Some((run, class))
    }
}
