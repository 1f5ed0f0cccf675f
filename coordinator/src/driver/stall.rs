//! A run that does not go on because something is missing: a worker, one of its compute class, or a second
//! one. It decides who may compute for the running job, when it is told what is missing, and when another
//! job goes first.

use std::time::{Duration, Instant};

use proto::contribution::Key;

use super::{Driver, Run, RunError, Stop};
use crate::{
    events::Event,
    job::ComputeClassPolicy,
    leases::{Config, Input, WorkerId},
    run,
    store::State,
};

/// How long something must be missing before it is told: workers come and go.
const FIRST: Duration = Duration::from_secs(10);
/// How often it is told again.
const AGAIN: Duration = Duration::from_secs(600);
/// How long a job waits for workers of its compute class before one goes first that can be computed. A
/// worker that is restarted is back before that.
const ASIDE: Duration = Duration::from_secs(60);
/// How often another job is looked for from then on.
const SEEK: Duration = Duration::from_secs(1);
/// Workers that a message names.
const NAMED: usize = 3;

/// What a run lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Worker,
    /// There are workers, and none of the class that the job is pinned to.
    Class,
    /// Everything is in but what the job's audit asks a second worker for.
    Second,
}

/// Since when the run has lacked something.
#[derive(Debug, Default)]
pub(super) struct Stall(Option<Lacking>);

#[derive(Debug)]
struct Lacking {
    lack: Lack,
    since: Instant,
    told: Option<Instant>,
    /// When it was looked at last.
    looked: Instant,
    /// When another job was looked for that might go first.
    sought: Option<Instant>,
}

impl Stall {
    /// Takes note of what is lacked now. Says whether that is to be told.
    fn look(&mut self, lack: Option<Lack>, now: Instant) -> bool {
        let Some(lack) = lack else {
            self.0 = None;
            return false;
        };
        match &mut self.0 {
            Some(before) if before.lack == lack => {
                before.looked = now;
                let due = before
                    .told
                    .map_or(before.since + FIRST, |told| told + AGAIN);
                if due > now {
                    return false;
                }
                before.told = Some(now);
                true
            }
            changed => {
                let since = now;
                *changed = Some(Lacking {
                    lack,
                    since,
                    told: None,
                    looked: now,
                    sought: None,
                });
                false
            }
        }
    }

    /// Whether it is time to look for a job that those who are here may compute. The queue may be long, so
    /// that it is not looked through with each word of a worker.
    fn seeks(&mut self, now: Instant) -> bool {
        let lacking = self.0.as_mut();
        let Some(lacking) = lacking.filter(|it| it.lack == Lack::Class && it.since + ASIDE <= now)
        else {
            return false;
        };
        let recently = |at: Instant| at + SEEK > now;
        if lacking.sought.is_some_and(recently) {
            return false;
        }
        lacking.sought = Some(now);
        true
    }

    /// When [`Driver::watch_for_stall`] has something to do, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let lacking = self.0.as_ref()?;
        let tell = lacking
            .told
            .map_or(lacking.since + FIRST, |told| told + AGAIN);
        let seek = lacking.since + ASIDE;
        match lacking.lack == Lack::Class && lacking.looked < seek {
            true => Some(tell.min(seek)),
            false => Some(tell),
        }
    }
}

impl Driver {
    /// Tells the machine who may compute for the running job. Those who may not are told why.
    pub(super) fn refit(&mut self) {
        let members = self.roster.iter();
        let members: Vec<(WorkerId, Option<String>)> = members
            .map(|(worker, member)| {
                let refused = self.check_introduction(member).err();
                (worker, refused.map(|refused| refused.to_string()))
            })
            .collect();
        for (worker, refused) in members {
            let fits = refused.is_none();
            if !self.roster.fit(worker, fits) {
                continue;
            }
            self.tell(Input::Fits { worker, fits });
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
        let now = Instant::now();
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
        self.stall.seeks(now) && self.set_aside()
    }

    /// Says once that audits are left undone: a share that nobody computes a second time finds nothing.
    fn tell_of_audits(&mut self) {
        let undone = self.machine.counters().unaudited;
        let Some(run) = self.run.as_mut().filter(|run| run.active.is_some()) else {
            return;
        };
        if !run.unaudited_told && undone > run.before.unaudited {
            run.unaudited_told = true;
            self.note(Event::Unaudited);
        }
    }

    fn lack(&self, run: &Run) -> Option<Lack> {
        if !matches!(self.stop, Stop::No) || run.core.is_resting() {
            return None;
        }
        if self.roster.len() == 0 {
            return Some(Lack::Worker);
        }
        run.active.as_ref()?.training.pass.as_ref()?;
        match self.roster.has_fitting() {
            false => Some(Lack::Class),
            true => self.machine.is_unconfirmed().then_some(Lack::Second),
        }
    }

    /// What the running job needs to go on, where it does not go on.
    pub(super) fn waits_for(&self, run: &Run) -> Option<String> {
        Some(match self.lack(run)? {
            Lack::Worker => "a worker: none is connected".to_owned(),
            Lack::Class => {
                let tally = run.active.as_ref().map(|active| &active.training.tally);
                let pinned = tally.and_then(|tally| tally.compute_class.as_deref());
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
            .roster
            .iter()
            .take(NAMED)
            .map(|(_, member)| format!("{} ({})", member.name, member.compute_class))
            .collect();
        let more = self.roster.len() - named.len();
        if more > 0 {
            named.push(format!("{more} more"));
        }
        format!("connected are {}", named.join(", "))
    }

    /// What a job in the queue needs before it is its turn.
    pub(super) fn is_set_aside_for(&self, id: &str) -> Option<String> {
        let class = self.aside.get(id).filter(|_| self.is_stuck(id))?;
        Some(format!(
            "a worker of compute class \"{class}\", to which the job is pinned; jobs behind it go first until one is connected"
        ))
    }

    /// Whether a job of the queue was set aside and nobody of its class is here.
    fn is_stuck(&self, id: &str) -> bool {
        self.aside.get(id).is_some_and(|class| {
            let mut members = self.roster.iter();
            !members.any(|(_, member)| member.compute_class == *class)
        })
    }

    /// The job whose turn it is: the first in the queue that somebody who is here may compute, or the
    /// first.
    pub(super) fn next_in_turn(&self) -> Option<String> {
        let queued = self.queued();
        let free = queued.iter().find(|id| !self.is_stuck(id));
        free.or(queued.first()).cloned()
    }

    fn queued(&self) -> Vec<String> {
        let jobs = self.store().jobs().iter();
        let mut queued: Vec<_> = jobs
            .filter(|(_, entry)| entry.state == State::Queued)
            .map(|(id, entry)| (entry.turn, id.to_owned()))
            .collect();
        queued.sort();
        queued.into_iter().map(|(_, id)| id).collect()
    }

    /// Has the running job make room for one that those who are here may compute, if there is one. It
    /// leaves a checkpoint and keeps its turn.
    fn set_aside(&mut self) -> bool {
        let others = self.queued();
        let others = others.iter().any(|id| !self.is_stuck(id));
        let Some(run) = self.run.as_ref().filter(|_| others) else {
            return false;
        };
        let tally = run.active.as_ref().map(|active| &active.training.tally);
        let Some(class) = tally.and_then(|tally| tally.compute_class.clone()) else {
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
        self.aside.insert(id, class);
        self.advance(run::Input::Rest(run::Rest::Requeue));
        true
    }

    /// What it means that nobody came to confirm the node of `key`.
    pub(super) fn unconfirmed(&self, key: &Key) -> RunError {
        RunError::Unconfirmed {
            step: key.step,
            node: key.node.to_string(),
            waited: Duration::from_millis(Config::default().check_ceiling),
        }
    }

    /// The running job and the compute class that it is pinned to, if it is.
    pub(super) fn pinned_to(&self) -> Option<(&Run, &str)> {
        let run = self.run.as_ref()?;
        let training = &run.active.as_ref()?.training;
        let tally = &training.tally;
        match training.job.compute_class {
            // It was resumed to be computed by another class.
            ComputeClassPolicy::Pinned if tally.lineage.may_change_class => None,
            ComputeClassPolicy::Pinned => Some((run, tally.compute_class.as_deref()?)),
            ComputeClassPolicy::Any => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_told_after_a_while_and_then_rarely() {
        let start = Instant::now();
        let mut stall = Stall::default();
        let mut told = Vec::new();
        for second in 0..2_000 {
            let now = start + Duration::from_secs(second);
            if stall.look(Some(Lack::Worker), now) {
                told.push(second);
            }
            assert!(stall.due().is_some_and(|due| due > now), "{second}");
        }
        assert_eq!(told, [10, 610, 1210, 1810]);
        let class = Some(Lack::Class);
        let mut due = vec![start];
        let mut stall = Stall::default();
        while due.len() < 5 {
            stall.look(class, due[due.len() - 1]);
            due.extend(stall.due());
        }
        let after = due.iter().map(|due| (*due - start).as_secs());
        assert_eq!(after.collect::<Vec<_>>(), [0, 10, 60, 610, 1210]);
    }

    #[test]
    fn what_passes_soon_is_not_told_and_another_lack_begins_anew() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut stall = Stall::default();
        assert!(!stall.look(Some(Lack::Worker), at(0)));
        assert!(!stall.look(None, at(9)));
        assert_eq!(stall.due(), None);
        assert!(!stall.look(Some(Lack::Worker), at(10)));
        assert!(!stall.look(Some(Lack::Class), at(15)));
        assert!(!stall.look(Some(Lack::Class), at(24)));
        assert!(stall.look(Some(Lack::Class), at(25)));
        assert!(!stall.seeks(at(74)));
        assert!(stall.seeks(at(75)) && !stall.seeks(at(75)));
        assert!(stall.seeks(at(76)));
        stall.look(Some(Lack::Worker), at(77));
        assert!(!stall.seeks(at(200)));
    }
}
