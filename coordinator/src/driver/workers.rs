//! What workers ask and hand in. It decides who is admitted and who may work on the running job; what
//! a contribution is worth is the lease scheduler's to say.

use std::time::Duration;

use proto::{
    contribution::{Digest, Key, PassKind},
    shared_memory::SharedMemoryHandle,
};

use super::{
    Driver, HandedIn, Introduction, Refused, RunError, Stop,
    command::{Announced, Command, Expected, LeaseAnswer, Parting, Reply, Welcome},
    results::{self, Hypothesis},
    training::Training,
};
use crate::{
    compute_class::Pinning,
    fault_budget::Peer,
    leases::{ContributionOutcome, Input, WorkerId},
    records::events::Event,
    run,
};

/// Answers. Who asked may be gone by now; no answer holds anything that could be lost with it.
fn give<T>(reply: Reply<T>, answer: T) {
    let _ = reply.send(answer);
}

impl Driver {
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Join {
                introduction,
                peer,
                reply,
            } => give(reply, self.join(introduction, peer)),
            Command::Lease {
                worker,
                generation,
                patience,
                holds,
                reply,
            } => self.lease(WorkerId(worker), generation, patience, holds, reply),
            Command::LeasedNode { worker, key, reply } => {
                give(reply, self.leased(WorkerId(worker), key));
            }
            Command::Heartbeat {
                worker,
                generation,
                reply,
            } => give(reply, self.heartbeat(WorkerId(worker), generation)),
            Command::GiveBack {
                worker,
                key,
                reason,
                fatal,
                reply,
            } => {
                self.given_back(WorkerId(worker), key, reason, fatal);
                give(reply, ());
            }
            Command::Leave {
                worker,
                generation,
                reply,
            } => {
                self.leave(WorkerId(worker), generation);
                give(reply, ());
            }
            Command::OpenLane {
                worker,
                generation,
                job,
                reply,
            } => give(reply, self.open_lane(WorkerId(worker), generation, &job)),
            Command::Announce {
                worker,
                key,
                digest,
                reply,
            } => give(reply, self.announced(WorkerId(worker), key, digest)),
            Command::Interrupted { worker, key } => self.interrupted(WorkerId(worker), &key),
            Command::Contribute {
                worker,
                key,
                contribution,
                digest,
                times,
                finite,
                reply,
            } => {
                let worker = WorkerId(worker);
                let answer = self.contributed(worker, key, (contribution, times), digest, finite);
                give(reply, answer);
            }
            Command::Reject {
                worker,
                key,
                reason,
            } => self.reject(WorkerId(worker), &key, reason),
            Command::Report {
                worker,
                key,
                results,
                reply,
            } => give(reply, self.reported(WorkerId(worker), key, results)),
            Command::Submit { job, reply } => give(reply, self.submit(*job).await),
            Command::List { after, most, reply } => give(reply, self.views(&after, most)),
            Command::Status { id, reply } => give(reply, self.status(&id)),
            Command::Follow { id, reply } => give(reply, self.follow(&id)),
            Command::Cancel { id, reply } => self.cancel(id, reply).await,
            Command::Resume {
                id,
                resumption,
                reply,
            } => give(reply, self.resume(id, resumption).await),
            Command::Prune { age, reply } => give(reply, self.prune(age).await),
            Command::Workers { reply } => give(reply, self.worker_views()),
            Command::Stop { reply } => self.stop(reply),
            Command::GiveUp {
                reason,
                cause,
                reply,
            } => self.give_up(RunError::GivenUp { reason, cause }, reply),
            Command::Farewell { reply } => self.farewells.push(reply),
        }
    }

    fn join(&mut self, introduction: Introduction, peer: Peer) -> Result<Welcome, Refused> {
        if !matches!(self.stop, Stop::No) {
            return Err(Refused::Stopping);
        }
        if let Some(left) = self.scheduler.turned_away(self.now(), &peer) {
            let left = Duration::from_millis(left);
            return Err(Refused::TurnedAway { peer, left });
        }
        if self.terms.one_job {
            self.check_introduction(&introduction)?;
        }
        let worker = self.registry.admit(introduction)?;
        // As it is printed.
        let introduction = self.registry.get(worker).cloned().unwrap_or_default();
        self.recheck_eligibility = true;
        tracing::info!(
            worker = worker.0,
            name = introduction.name,
            compute_class = introduction.compute_class,
            "a worker joined"
        );
        self.tell(Input::Joined { worker, peer });
        self.note(Event::WorkerJoined {
            worker: worker.0,
            name: introduction.name,
            compute_class: introduction.compute_class,
        });
        Ok(Welcome {
            worker: worker.0,
            generation: self.generation(),
            heartbeat: self.terms.heartbeat,
        })
    }

    /// Whether a worker is of the compute class that the running job is pinned to.
    pub(super) fn check_introduction(&self, introduction: &Introduction) -> Result<(), Refused> {
        let class = &introduction.compute_class;
        match self.pinned_to() {
            Some((run, pinned)) if pinned != class => Err(Refused::Class {
                job: run.id.clone(),
                pinned: pinned.to_owned(),
                class: class.clone(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_class(&self, worker: WorkerId) -> Result<(), Refused> {
        let introduction = self.registry.get(worker);
        introduction.map_or(Ok(()), |introduction| self.check_introduction(introduction))
    }

    /// Counts a worker among those of the run.
    pub(super) fn count_in(&mut self, worker: WorkerId) {
        let name = self.registry.name(worker);
        if let Some(training) = self.training_mut() {
            training.run_state.workers.insert(name);
        }
    }

    /// The compute class of the first worker whose answer is accepted is the run's.
    pub(super) fn pin(&mut self, worker: WorkerId) {
        let Some(introduction) = self.registry.get(worker) else {
            return;
        };
        let compute_class = introduction.compute_class.clone();
        let Some(training) = self.training_mut() else {
            return;
        };
        let pinning = training.class_pin().accepted_from(&compute_class);
        let (step, run_state) = (training.counts.step, &mut training.run_state);
        run_state.lineage.may_change_class = false;
        let breaks_promise = match pinning {
            Pinning::Unchanged => return,
            Pinning::Confirmed => {
                self.class_decided();
                return;
            }
            Pinning::Pinned { breaks_promise } => breaks_promise,
        };
        let before = run_state.compute_class.replace(compute_class.clone());
        if let Some(before) = before.filter(|_| breaks_promise) {
            let lineage = &mut run_state.lineage;
            let changed = lineage.change_class(step, before, compute_class.clone());
            self.note(changed.into());
        }
        self.class_decided();
        self.note(Event::Pinned { compute_class });
    }

    /// Workers of another class are told before the next answer is taken.
    fn class_decided(&mut self) {
        self.recheck_eligibility = true;
        self.discount_the_gone = true;
    }

    /// Whether an answer of `worker` may count: the one that decides the compute class has to come from a worker whose
    /// class is known.
    fn may_decide(&self, worker: WorkerId) -> bool {
        let pin = self.training().map(Training::class_pin);
        !pin.is_some_and(|pin| pin.is_open()) || self.registry.get(worker).is_some()
    }

    fn lease(
        &mut self,
        worker: WorkerId,
        generation: u64,
        patience: Duration,
        holds: Vec<Key>,
        reply: Reply<LeaseAnswer>,
    ) {
        // Longer waits are cut off, so that a connection that is gone is noticed.
        const MAX_LEASE_WAIT: Duration = Duration::from_secs(60);
        if !matches!(self.stop, Stop::No) {
            give(reply, self.goodbye());
            self.registry.dismiss(worker);
            return;
        }
        if generation != self.generation() {
            give(reply, LeaseAnswer::Unknown);
            return;
        }
        if let Err(refused) = self.registry.check_quarantine(worker) {
            give(
                reply,
                LeaseAnswer::Goodbye(refused.to_string(), Parting::Refused),
            );
            return;
        }
        if self.registry.get(worker).is_none() {
            give(reply, LeaseAnswer::Unknown);
            return;
        }
        if let Err(refused) = self.check_class(worker)
            && self.terms.one_job
        {
            self.tell(Input::Left { worker });
            self.forget(worker);
            give(
                reply,
                LeaseAnswer::Goodbye(refused.to_string(), Parting::Refused),
            );
            return;
        }
        // A worker that asks again has given up on the answer before.
        self.answer(worker, LeaseAnswer::Idle(None));
        self.waiting.insert(worker, reply);
        let until = self.now() + patience.min(MAX_LEASE_WAIT).as_millis() as u64;
        self.tell(Input::LeaseWanted {
            worker,
            until,
            holds,
        });
    }

    fn heartbeat(&mut self, worker: WorkerId, generation: u64) -> bool {
        if generation != self.generation() {
            return false;
        }
        if self.registry.get(worker).is_some() {
            self.tell(Input::Heartbeat { worker });
            return true;
        }
        // It is told why when it asks for work.
        self.registry.check_quarantine(worker).is_err()
    }

    /// Sends a worker away whose bits were found wrong.
    pub(super) fn quarantine(&mut self, worker: WorkerId, key: &Key) {
        let name = self.registry.quarantine(worker);
        self.forget(worker);
        tracing::error!(
            worker = worker.0,
            name,
            step = key.step,
            node = %key.node,
            "a worker gave wrong bits and is in quarantine"
        );
        self.answer(
            worker,
            LeaseAnswer::Goodbye(
                Refused::Quarantined(name.clone()).to_string(),
                Parting::Refused,
            ),
        );
        self.note(Event::WorkerQuarantined {
            worker: worker.0,
            name,
            node: key.node.to_string(),
        });
    }

    /// A worker is gone. Gives what it said of itself, if it was here.
    pub(super) fn forget(&mut self, worker: WorkerId) -> Option<Introduction> {
        if let Some(active_job) = &*self.active_job.borrow() {
            active_job.forget(worker);
        }
        self.registry.remove(worker)
    }

    fn leave(&mut self, worker: WorkerId, generation: u64) {
        if generation != self.generation() {
            return;
        }
        let Some(introduction) = self.forget(worker) else {
            return;
        };
        tracing::info!(worker = worker.0, name = introduction.name, "a worker left");
        self.answer(
            worker,
            LeaseAnswer::Goodbye("you left".to_owned(), Parting::Dismissed),
        );
        self.note(Event::WorkerLeft {
            worker: worker.0,
            name: introduction.name,
        });
        self.tell(Input::Left { worker });
    }

    /// Whether a key is about the pass that is open.
    pub(super) fn is_current(&self, key: &Key) -> bool {
        let (Some(run), Some(pass)) = (&self.run, self.pass()) else {
            return false;
        };
        pass.is_of(key, &run.id, self.generation())
    }

    /// Whether a vector may come: only who was leased a node of the open pass has one to send.
    pub(super) fn awaits(&self, worker: WorkerId, key: &Key) -> bool {
        key.kind == PassKind::Gradient
            && self.is_current(key)
            && self.may_decide(worker)
            && self.scheduler.expects(worker, key)
    }

    fn announced(&mut self, worker: WorkerId, key: Key, digest: Option<Digest>) -> Announced {
        let expected = self.training().map(|training| Expected {
            elements: self.elements(),
            wire: training.job.train.wire,
            lane: self.registry.lane(worker),
        });
        match (expected, digest) {
            (Some(expected), _) if self.awaits(worker, &key) => {
                self.tell(Input::Heartbeat { worker });
                Announced::Expected(expected)
            }
            (Some(expected), None) => Announced::Unasked(expected),
            (None, None) => Announced::Stale,
            (_, Some(digest)) => {
                // The lease scheduler counts it.
                self.tell(Input::Contributed {
                    worker,
                    key,
                    digest,
                });
                Announced::Stale
            }
        }
    }

    /// Only who may work on the running job has use for a lane, and of one size.
    fn open_lane(
        &mut self,
        worker: WorkerId,
        generation: u64,
        job: &str,
    ) -> Option<SharedMemoryHandle> {
        let of_this = self.run.as_ref().is_some_and(|run| run.id == job);
        let known = generation == self.generation() && self.registry.get(worker).is_some();
        let training = self.training().filter(|_| of_this && known)?;
        let bytes = training.job.train.wire.bytes() * self.elements();
        let place = self.registry.open_lane(worker, bytes as u64);
        if let Err(error) = &place {
            tracing::debug!(worker = worker.0, %error, "there is no shared memory for a worker");
        }
        place.ok()
    }

    fn interrupted(&mut self, worker: WorkerId, key: &Key) {
        let name = self.registry.name(worker);
        tracing::info!(worker = worker.0, name, node = %key.node, "a contribution broke off");
        self.tell(Input::Interrupted);
    }

    fn reported(
        &mut self,
        worker: WorkerId,
        key: Key,
        mut results: Vec<Hypothesis>,
    ) -> Result<ContributionOutcome, Refused> {
        results.sort_by_key(|result| result.index);
        if key.kind != PassKind::Evaluation {
            let reason = "the key is that of a gradient".to_owned();
            return Err(Refused::BadResults(reason));
        }
        if let Some(pass) = self.pass().filter(|_| self.is_current(&key)) {
            pass.check(key.node, &results)?;
        }
        let digest = results::digest(&results);
        Ok(self.hand_in(worker, key, digest, HandedIn::Results(results)))
    }

    /// Gives what became of what a worker has handed in; it is taken up where it is accepted.
    pub(super) fn hand_in(
        &mut self,
        worker: WorkerId,
        key: Key,
        digest: Digest,
        arrived: HandedIn,
    ) -> ContributionOutcome {
        if !self.may_decide(worker) {
            return ContributionOutcome::Stale;
        }
        let contributed = Input::Contributed {
            worker,
            key,
            digest,
        };
        let outcome = self.tell_of(contributed, Some(arrived));
        outcome.unwrap_or(ContributionOutcome::Stale)
    }

    /// Grants nothing more; the running job comes to rest at its step.
    fn stop(&mut self, reply: Reply<()>) {
        match &mut self.stop {
            Stop::No => self.stop = Stop::Asked(vec![reply]),
            Stop::Asked(replies) => return replies.push(reply),
            Stop::Done => return give(reply, ()),
        }
        let waiting: Vec<WorkerId> = self.waiting.keys().copied().collect();
        for worker in waiting {
            self.answer(worker, self.goodbye());
            self.registry.dismiss(worker);
        }
        self.advance(run::Input::Stop(run::StopReason::Requeue));
    }

    /// What workers are told when the coordinator stops.
    fn goodbye(&self) -> LeaseAnswer {
        let parting = if self.terms.dismisses {
            Parting::Dismissed
        } else {
            Parting::Returns
        };
        LeaseAnswer::Goodbye(Refused::Stopping.to_string(), parting)
    }

    /// Ends the running job as failed, at a checkpoint.
    fn give_up(&mut self, error: RunError, reply: Reply<()>) {
        let Some(run) = &mut self.run else {
            return give(reply, ());
        };
        run.given_up.get_or_insert(error);
        run.gave_up.push(reply);
        run.advance(run::Input::Stop(run::StopReason::GiveUp));
    }
}
