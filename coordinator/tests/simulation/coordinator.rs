//! One simulated life of a coordinator: it carries out what the real lease scheduler and the real run decide, with the
//! real reducer and trainer ([`crate::work`]). It decides nothing itself, and checks the invariants at every input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coordinator::{
    fault_budget::{BudgetConfig, Peer},
    leases::{
        AuditPolicy, Config, ContributionOutcome, Input, LeaseScheduler, Millis, Output, WorkerId,
    },
    run::{self, Action, Run, Start},
    trainer::{Trainer, checkpoint_average::HeldWeights, reduce::Reducer},
};
use proto::contribution::{Contribution, Key, PassKind};
use speech::random::Stream;

use crate::{
    disk::Disk,
    faults::Faults,
    network::{Admission, Reply, Request},
    toy::{self, End, Progress, Rules},
    work::{Pass, Work},
};

/// A mistake built in on purpose, to see it caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Contributions are added as they come, not along the tree.
    ArrivalOrder,
    /// A duplicate is added as well.
    CountDuplicates,
    /// A contribution of an earlier life passes for one of this.
    ForgetGeneration,
    /// The run learns of a pass's completion before it learns of the answer that completes it.
    CompleteFirst,
    /// What was being added to a sum that was thrown away passes for the present sum.
    ForgetAttempt,
}

/// What was broken. The seed replays it.
pub type Violation = String;

pub fn check(holds: bool, violation: impl FnOnce() -> Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Who can be trusted, and how far the coordinator does.
#[derive(Clone, Debug)]
pub struct Roles {
    pub audit: f64,
    pub honest: BTreeSet<usize>,
    /// All of one host.
    pub hostile: BTreeSet<usize>,
    pub rules: Rules,
    /// Lives that begin while faults are injected give verifications up soon.
    pub impatient: bool,
}

/// Not admitted in this life: the reply goes to whoever asked.
const NOBODY: WorkerId = WorkerId(0);

/// A reply to a process, by the worker's admission.
pub type Replies = Vec<(WorkerId, Reply)>;

#[derive(Debug)]
pub struct Life {
    pub bug: Bug,
    audit: f64,
    /// Processes that never lie.
    honest: BTreeSet<usize>,
    hostile: BTreeSet<usize>,
    pub scheduler: LeaseScheduler,
    pub run: Run,
    /// What the run has asked for, and is not done yet.
    pub actions: VecDeque<Action>,
    /// Begun, and to be scheduled.
    pub begun: Vec<Work>,
    /// Absent while some work has it.
    pub trainer: Option<Trainer>,
    /// The newest weights, as workers get them.
    pub published: Vec<f32>,
    pub rules: Rules,
    pub evaluations: Vec<f64>,
    pub choice: Option<f64>,
    pub held: HeldWeights,
    pub pass: Option<Pass>,
    /// Work under way, for what happens meanwhile.
    pub saving: bool,
    /// Micro-batches of the pass that were added: kept apart from the lease scheduler and the reducer.
    added: BTreeSet<u32>,
    grants: usize,
    admissions: u64,
    /// The process of each admission.
    names: BTreeMap<WorkerId, usize>,
    /// Processes in quarantine.
    barred: BTreeSet<usize>,
    /// How the run ended in this life.
    pub over: Option<run::End>,
    pub end: Option<End>,
}

/// The secret of a worker's admission.
fn secret(generation: u64, worker: WorkerId) -> u64 {
    Stream::new(generation, &[worker.0]).below(1 << 60)
}

/// Ten times quicker than in earnest; an impatient coordinator gives a verification up much sooner.
fn config(impatient: bool) -> Config {
    let hurry = if impatient { 20 } else { 1 };
    Config {
        heartbeat_timeout: 1000,
        first_lease: 4000,
        lease_floor: 300,
        lease_ceiling: 20_000,
        straggler_floor: 60,
        verification_patience: 6000 / hurry,
        verification_ceiling: 60_000 / (hurry * hurry),
        budget: BudgetConfig {
            faults: 4,
            fault_forgiven: 5000,
            turned_away: 4000,
            returns: 12,
            return_forgiven: 500,
            rest: 800,
        },
        ..Config::default()
    }
}

impl Life {
    /// Starts from the newest checkpoint on `disk`.
    pub fn start(
        now: Millis,
        disk: &mut Disk,
        bug: Bug,
        roles: &Roles,
        faults: &mut Faults,
    ) -> Result<(Self, Replies), Violation> {
        disk.generation += 1;
        let rules = roles.rules;
        let (trainer, progress, held) = match disk.load(faults)? {
            None => (
                toy::trainer(&rules),
                Progress::default(),
                HeldWeights::new(),
            ),
            Some(saved) => {
                let spec = toy::spec(&rules, saved.trainer.counts.step);
                let config = toy::trainer_config(&rules);
                let trainer = Trainer::restore(&spec, config, saved.trainer);
                let mut trainer = trainer.map_err(|error| error.to_string())?;
                trainer.set_drops(saved.progress.memory.policy.drops());
                (trainer, saved.progress, saved.held)
            }
        };
        check(progress.memory.policy.held.len() == held.len(), || {
            format!("{} vectors are held for {progress:?}", held.len())
        })?;
        let start = Start {
            spec: rules.spec(),
            memory: progress.memory,
            step: trainer.step(),
            elements: trainer.elements(),
            chosen: false,
        };
        let mut life = Self {
            bug,
            audit: roles.audit,
            honest: roles.honest.clone(),
            hostile: roles.hostile.clone(),
            scheduler: LeaseScheduler::new(disk.generation, config(roles.impatient)),
            run: Run::default(),
            actions: VecDeque::new(),
            begun: Vec::new(),
            published: toy::sent(trainer.weights(), rules.wire),
            trainer: Some(trainer),
            rules,
            evaluations: progress.evaluations,
            choice: None,
            held,
            pass: None,
            saving: false,
            added: BTreeSet::new(),
            grants: 0,
            admissions: 0,
            names: BTreeMap::new(),
            barred: BTreeSet::new(),
            over: None,
            end: None,
        };
        let mut replies = Replies::new();
        life.tell(now, run::Input::Begun(Box::new(start)));
        life.carry_out(now, &mut replies, faults)?;
        Ok((life, replies))
    }

    /// Tells the run what happened.
    pub fn tell(&mut self, now: Millis, input: run::Input) {
        self.actions.extend(self.run.handle(now, input));
    }

    /// A person or a program wants something of the run.
    pub fn come_to_rest(
        &mut self,
        now: Millis,
        reason: run::StopReason,
        faults: &mut Faults,
    ) -> Result<Replies, Violation> {
        let mut replies = Replies::new();
        if self.saving {
            faults.count("stage: rest in a checkpoint");
        } else if self.trainer.is_none() {
            faults.count("stage: rest in an update");
        }
        self.tell(now, run::Input::Stop(reason));
        self.carry_out(now, &mut replies, faults)?;
        Ok(replies)
    }

    /// Opens `pass` with the lease scheduler.
    pub fn open(
        &mut self,
        now: Millis,
        pass: Pass,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        let (id, micro_batches) = (pass.id(), pass.micro_batches());
        self.pass = Some(pass);
        self.added.clear();
        self.grants = 0;
        let opened = Input::PassOpened {
            max_micro_batches: if id.step.is_multiple_of(2) {
                2
            } else {
                u32::MAX
            },
            pass: id,
            micro_batches,
            cost: f64::from(micro_batches),
            audit_policy: AuditPolicy::Compare { audit: self.audit },
        };
        self.feed(now, opened, None, replies, faults)
    }

    pub fn handle_request(
        &mut self,
        now: Millis,
        request: Request,
        faults: &mut Faults,
    ) -> Result<Replies, Violation> {
        let mut replies = Replies::new();
        let known = |admission: Admission| admission.generation == self.scheduler.generation();
        if let Some(admission) = request.admission().filter(|one| known(*one))
            && admission.secret != secret(admission.generation, admission.worker)
        {
            faults.count("without session");
            return Ok(replies);
        }
        let (input, contribution) = match request {
            Request::Join { process } if self.barred.contains(&process) => {
                replies.push((NOBODY, Reply::Goodbye));
                return Ok(replies);
            }
            Request::Join { process }
                if self
                    .scheduler
                    .turned_away(now, &self.peer(process))
                    .is_some() =>
            {
                replies.push((NOBODY, Reply::Goodbye));
                return Ok(replies);
            }
            Request::Join { process } => {
                self.admissions += 1;
                self.names.insert(WorkerId(self.admissions), process);
                let worker = WorkerId(self.admissions);
                let generation = self.scheduler.generation();
                let admission = Admission {
                    worker,
                    generation,
                    secret: secret(generation, worker),
                };
                replies.push((worker, Reply::Welcome(admission)));
                let peer = self.peer(process);
                (Input::Joined { worker, peer }, None)
            }
            Request::Heard(admission) | Request::Lease { admission, .. } if !known(admission) => {
                replies.push((NOBODY, Reply::Unknown));
                return Ok(replies);
            }
            Request::Leave(admission) if !known(admission) => return Ok(replies),
            Request::Heard(Admission { worker, .. }) => (Input::Heartbeat { worker }, None),
            Request::Lease { admission, holds } => {
                let lease = Input::LeaseWanted {
                    worker: admission.worker,
                    until: now + 250,
                    holds,
                };
                (lease, None)
            }
            Request::Leave(Admission { worker, .. }) => (Input::Left { worker }, None),
            Request::GiveBack {
                admission,
                key,
                fatal,
            } => {
                let worker = admission.worker;
                (Input::GivenBack { worker, key, fatal }, None)
            }
            Request::Push {
                admission: Admission { worker, .. },
                key,
                contribution,
                ..
            } if self.cannot_be(worker, &key, &contribution) => {
                let process = self.names[&worker];
                check(!self.honest.contains(&process), || {
                    format!("an honest answer to {key:?} was refused")
                })?;
                let sum = contribution.sum.iter().flatten();
                let finite = sum.copied().all(f32::is_finite);
                let input = match finite || key.node.level() == 0 {
                    true => Input::Rejected { worker, key },
                    false => Input::Overflowed { worker, key },
                };
                (input, None)
            }
            Request::Push {
                admission: Admission { worker, .. },
                mut key,
                contribution,
                forged,
            } => {
                let sent_as = key.clone();
                if key.generation != self.scheduler.generation() {
                    faults.count("other generation");
                    if self.bug == Bug::ForgetGeneration {
                        key.generation = self.scheduler.generation();
                    }
                }
                let input = Input::Contributed {
                    worker,
                    key,
                    digest: contribution.digest(),
                };
                (
                    input,
                    Some(Arrived {
                        sent_as,
                        contribution,
                        forged,
                    }),
                )
            }
        };
        self.feed(now, input, contribution, &mut replies, faults)?;
        self.carry_out(now, &mut replies, faults)?;
        Ok(replies)
    }

    pub fn tick(&mut self, now: Millis, faults: &mut Faults) -> Result<Replies, Violation> {
        let mut replies = Replies::new();
        self.feed(now, Input::Tick, None, &mut replies, faults)?;
        self.carry_out(now, &mut replies, faults)?;
        Ok(replies)
    }

    /// Tells the lease scheduler `input`, with the contribution that it is about, and takes its outputs.
    pub fn feed(
        &mut self,
        now: Millis,
        input: Input,
        mut arrived: Option<Arrived>,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        let mut outputs = self.scheduler.handle(now, input);
        if self.bug == Bug::CompleteFirst {
            outputs.sort_by_key(|output| !matches!(output, Output::PassComplete { .. }));
        }
        let mut complete = false;
        for output in outputs {
            match output {
                Output::Granted {
                    worker,
                    key,
                    expires,
                } => {
                    check(expires > now, || {
                        format!("{key:?} expires as it is granted")
                    })?;
                    self.grants += 1;
                    let pass = self.pass.as_ref().ok_or("a lease without a pass")?;
                    let (weights, bound) = (pass.weights.clone(), pass.opened.norm_bound);
                    let grant = Reply::Grant {
                        key,
                        weights,
                        bound,
                    };
                    replies.push((worker, grant));
                }
                Output::NothingYet { worker } => replies.push((worker, Reply::NothingYet)),
                Output::Unknown { worker } => replies.push((worker, Reply::Unknown)),
                Output::Receipt {
                    worker,
                    key,
                    outcome,
                } => {
                    if let Some(arrived) = arrived.take() {
                        self.settle(now, outcome, arrived)?;
                    }
                    replies.push((worker, Reply::Receipt { key, outcome }));
                }
                Output::PassComplete { .. } => {
                    complete = true;
                    self.tell(now, run::Input::PassComplete);
                }
                Output::LeaseExpired { .. } | Output::WorkerLost { .. } => {}
                Output::Differed { key, late, .. } => {
                    check(key.attempt < 1000, || format!("{key:?} was forged"))?;
                    if !late {
                        self.tell(now, run::Input::PassDoubted);
                    }
                }
                Output::TurnedAway { worker, .. } => {
                    let process = self.names[&worker];
                    check(!self.honest.contains(&process), || {
                        format!("worker {worker} did nothing wrong and was turned away")
                    })?;
                    replies.push((worker, Reply::Goodbye));
                }
                Output::DataAtFault { worker, .. } => {
                    let present = self.scheduler.workers();
                    let present: Vec<usize> = present.map(|one| self.names[&one.worker]).collect();
                    check(
                        !present.iter().any(|process| self.honest.contains(process)),
                        || format!("worker {worker} alone was believed about the data"),
                    )?;
                    self.tell(now, run::Input::Failed);
                    return Ok(());
                }
                Output::Quarantined { worker, key } => {
                    let process = self.names[&worker];
                    check(!self.honest.contains(&process), || {
                        format!("worker {worker} was right about {key:?}")
                    })?;
                    self.barred.insert(process);
                    replies.push((worker, Reply::Goodbye));
                }
                Output::PassRestarted { .. } => {
                    self.added.clear();
                    if let Some(pass) = &mut self.pass {
                        pass.restart();
                    }
                    self.tell(now, run::Input::PassRestarted);
                }
                Output::Unsettled { .. } | Output::Unconfirmed { .. } => {
                    faults.count(match output {
                        Output::Unsettled { .. } => "run failed over a dispute",
                        _ => "run failed unconfirmed",
                    });
                    self.tell(now, run::Input::Failed);
                    return Ok(());
                }
            }
        }
        self.check_invariants(complete)
    }

    /// Who stands behind a process.
    fn peer(&self, process: usize) -> Peer {
        Peer(match self.hostile.contains(&process) {
            true => "hostile".to_owned(),
            false => format!("host {process}"),
        })
    }

    /// Whether a contribution that is waited for cannot be the answer to its lease.
    fn cannot_be(&self, worker: WorkerId, key: &Key, contribution: &Contribution) -> bool {
        let awaited = key.kind == PassKind::Gradient && self.scheduler.expects(worker, key);
        let Some(pass) = self.pass.as_ref().filter(|_| awaited) else {
            return false;
        };
        let norms = pass.opened.norm_bound.is_some();
        let mut sum = contribution.sum.iter().flatten();
        toy::check(key.step, key.node, contribution, norms).is_err()
            || sum.any(|value| !value.is_finite())
    }

    /// Takes up what the lease scheduler has accepted.
    fn settle(
        &mut self,
        now: Millis,
        outcome: ContributionOutcome,
        arrived: Arrived,
    ) -> Result<(), Violation> {
        let Arrived {
            sent_as,
            contribution,
            forged,
        } = arrived;
        let counted = outcome == ContributionOutcome::Accepted
            || outcome == ContributionOutcome::Duplicate && self.bug == Bug::CountDuplicates;
        if !counted {
            return Ok(());
        }
        check(!forged, || {
            format!("a forged answer was accepted: {sent_as:?}")
        })?;
        check(sent_as.generation == self.scheduler.generation(), || {
            format!("an answer of another generation was accepted: {sent_as:?}")
        })?;
        let micro_batches = toy::micro_batches(sent_as.kind, sent_as.step);
        for index in sent_as.node.range(micro_batches) {
            check(self.added.insert(index), || {
                format!("micro-batch {index} came twice")
            })?;
        }
        let left_out = contribution.quarantined.len() as u64;
        let pass = self.pass.as_mut().ok_or("there is no pass")?;
        pass.accept(sent_as.node, contribution, self.bug);
        self.tell(
            now,
            match sent_as.kind {
                PassKind::Gradient => run::Input::Accepted { left_out },
                PassKind::Evaluation => run::Input::ResultsAccepted,
            },
        );
        Ok(())
    }

    fn check_invariants(&self, complete: bool) -> Result<(), Violation> {
        let Some(pass) = self.scheduler.pass() else {
            return Ok(());
        };
        let count = toy::micro_batches(pass.kind, pass.step) as usize;
        let missing = self.scheduler.missing() as usize;
        check(missing == count - self.added.len(), || {
            format!(
                "{missing} of {count} micro-batches are missing, {} were added",
                self.added.len()
            )
        })?;
        check(!complete || missing == 0, || {
            "an incomplete pass was completed".to_owned()
        })?;
        let reducer = self.pass.as_ref().and_then(|pass| pass.reducer.as_ref());
        let open = reducer.map_or(0, Reducer::open);
        check(open <= count.div_ceil(2), || {
            format!("{open} vectors wait for siblings")
        })?;
        let entries = self.scheduler.pass_entries();
        check(entries <= 2 * count + 2 * self.grants, || {
            format!(
                "{entries} entries for {count} micro-batches and {} grants",
                self.grants
            )
        })?;
        let deadline = self.scheduler.next_deadline();
        check(
            deadline.is_none_or(|deadline| deadline > self.scheduler.now()),
            || format!("the deadline {deadline:?} lies in the past"),
        )?;
        let nobody = self.scheduler.workers().next().is_none();
        check(deadline.is_some() || nobody, || {
            "workers are here and nothing is due".to_owned()
        })
    }
}

pub struct Arrived {
    /// The key as the worker sent it.
    sent_as: Key,
    contribution: Contribution,
    forged: bool,
}
