//! The simulated driver: one coordinator life around the real machine, reducer and trainer, with its invariants.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::{
    held::Held,
    leases::{Config, Input, Machine, Millis, Outcome, Output, PassId, Scrutiny, WorkerId},
    reduce::Reducer,
    run::{self, Action, Purpose, UpdateOutcome, Updated},
    select::Figure,
    update::{self, Trainer, UpdateRule},
};
use proto::contribution::{Contribution, Key, PassKind};

use crate::{
    disk::Disk,
    faults::Faults,
    network::{Admission, Reply, Request},
    shadow::Shadow,
    toy::{self, End, Progress, Rules},
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
}

/// What was broken. The seed replays it.
pub type Violation = String;

fn check(holds: bool, violation: impl FnOnce() -> Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Who can be trusted, and how far the coordinator does.
#[derive(Clone, Debug)]
pub struct Roles {
    pub audit: f64,
    pub honest: BTreeSet<usize>,
    pub rules: Rules,
}

/// Not admitted in this life: the reply goes to whoever asked.
const NOBODY: WorkerId = WorkerId(0);

/// A reply to a process, by the worker's admission.
pub type Replies = Vec<(WorkerId, Reply)>;

#[derive(Debug)]
pub struct Life {
    bug: Bug,
    audit: f64,
    /// Processes that never lie.
    honest: BTreeSet<usize>,
    pub machine: Machine,
    trainer: Trainer,
    rules: Rules,
    progress: Progress,
    held: Held,
    reducer: Option<Reducer>,
    /// With [`Bug::ArrivalOrder`], the sum instead.
    arrival: Contribution,
    /// Micro-batches of the pass that were added: kept apart from the machine and the reducer.
    added: BTreeSet<u32>,
    grants: usize,
    admissions: u64,
    /// The process of each admission.
    names: BTreeMap<WorkerId, usize>,
    /// Processes in quarantine.
    barred: BTreeSet<usize>,
    /// A dispute was not settled: the run failed, and is to be resumed.
    pub failed: bool,
    pub end: Option<End>,
    shadow: Shadow,
}

/// Ten times quicker than in earnest.
fn config() -> Config {
    Config {
        heartbeat_timeout: 1000,
        first_lease: 4000,
        lease_floor: 300,
        lease_ceiling: 20_000,
        straggler_floor: 60,
        check_patience: 6000,
        check_ceiling: 60_000,
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
            None => (toy::trainer(&rules), Progress::default(), Held::new()),
            Some(saved) => {
                let (spec, config) = (toy::spec(), toy::trainer_config(&rules));
                let trainer = Trainer::restore(&spec, config, saved.trainer);
                let mut trainer = trainer.map_err(|error| error.to_string())?;
                trainer.set_drops(saved.progress.course.drops());
                (trainer, saved.progress, saved.held)
            }
        };
        let mut life = Self {
            bug,
            audit: roles.audit,
            honest: roles.honest.clone(),
            machine: Machine::new(disk.generation, config()),
            trainer,
            rules,
            progress,
            held,
            reducer: None,
            arrival: Contribution::default(),
            added: BTreeSet::new(),
            grants: 0,
            admissions: 0,
            names: BTreeMap::new(),
            barred: BTreeSet::new(),
            failed: false,
            end: None,
            shadow: Shadow::default(),
        };
        let (step, elements) = (life.trainer.step(), life.trainer.elements());
        life.shadow.begin(&rules, &life.progress, step, elements);
        let mut replies = Replies::new();
        life.open_pass(now, disk, &mut replies, faults)?;
        Ok((life, replies))
    }

    /// The pass that follows, or the end.
    fn open_pass(
        &mut self,
        now: Millis,
        disk: &mut Disk,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        let step = self.trainer.step();
        let evaluated = self.progress.evaluations.len() as u64 * toy::EPOCH;
        let kind = match () {
            () if evaluated + toy::EPOCH <= step => PassKind::Evaluation,
            () => {
                self.end = self.progress.end(&self.trainer, &self.held);
                if self.end.is_some() {
                    return check(self.shadow.finishing, || {
                        format!("the run ends, and not by {:?}", self.shadow)
                    });
                }
                PassKind::Gradient
            }
        };
        let average = self.rules.ema.is_some();
        let purpose = match kind {
            PassKind::Gradient => Purpose::Update,
            PassKind::Evaluation => Purpose::Evaluate { average },
        };
        let opened = self.shadow.opened.take();
        let opened = opened.map(|opened| (opened.purpose, opened.version));
        check(opened == Some((purpose, step)), || {
            format!(
                "{purpose:?} of {step} follows, and not by {:?}",
                self.shadow
            )
        })?;
        let micro_batches = toy::micro_batches(kind, step);
        self.begin_sum(micro_batches);
        self.grants = 0;
        let job = "toy".to_owned();
        let pass = PassId { job, kind, step };
        let opened = Input::PassOpened {
            pass,
            micro_batches,
            most: if step.is_multiple_of(2) { 2 } else { u32::MAX },
            cost: f64::from(micro_batches),
            scrutiny: Scrutiny::Compare { audit: self.audit },
        };
        self.feed(now, opened, None, disk, replies, faults)
    }

    fn begin_sum(&mut self, micro_batches: u32) {
        self.reducer = Some(Reducer::new(micro_batches, self.trainer.elements()));
        self.arrival = Contribution::default();
        self.added.clear();
    }

    pub fn handle_request(
        &mut self,
        now: Millis,
        request: Request,
        disk: &mut Disk,
        faults: &mut Faults,
    ) -> Result<Replies, Violation> {
        let mut replies = Replies::new();
        let known = |admission: Admission| admission.generation == self.machine.generation();
        let (input, contribution) = match request {
            Request::Join { process } if self.barred.contains(&process) => {
                replies.push((NOBODY, Reply::Goodbye));
                return Ok(replies);
            }
            Request::Join { process } => {
                self.admissions += 1;
                self.names.insert(WorkerId(self.admissions), process);
                let worker = WorkerId(self.admissions);
                let generation = self.machine.generation();
                let admission = Admission { worker, generation };
                replies.push((worker, Reply::Welcome(admission)));
                (Input::Joined { worker }, None)
            }
            Request::Heard(admission) | Request::Lease { admission, .. } if !known(admission) => {
                replies.push((NOBODY, Reply::Unknown));
                return Ok(replies);
            }
            Request::Leave(admission) if !known(admission) => return Ok(replies),
            Request::Heard(Admission { worker, .. }) => (Input::Heard { worker }, None),
            Request::Lease { admission, holds } => {
                let lease = Input::LeaseWanted {
                    worker: admission.worker,
                    until: now + 250,
                    holds,
                };
                (lease, None)
            }
            Request::Leave(Admission { worker, .. }) => (Input::Left { worker }, None),
            Request::GiveBack { admission, key } => {
                let worker = admission.worker;
                (Input::GivenBack { worker, key }, None)
            }
            Request::Push {
                admission: Admission { worker, .. },
                mut key,
                contribution,
                forged,
            } => {
                let sent_as = key.clone();
                if key.generation != self.machine.generation() {
                    faults.count("other generation");
                    if self.bug == Bug::ForgetGeneration {
                        key.generation = self.machine.generation();
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
        self.feed(now, input, contribution, disk, &mut replies, faults)?;
        Ok(replies)
    }

    pub fn tick(
        &mut self,
        now: Millis,
        disk: &mut Disk,
        faults: &mut Faults,
    ) -> Result<Replies, Violation> {
        let mut replies = Replies::new();
        self.feed(now, Input::Tick, None, disk, &mut replies, faults)?;
        Ok(replies)
    }

    fn feed(
        &mut self,
        now: Millis,
        input: Input,
        mut arrived: Option<Arrived>,
        disk: &mut Disk,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        let outputs = self.machine.handle(now, input);
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
                    let weights = toy::sent(key.kind, &self.trainer, self.rules.wire);
                    replies.push((worker, Reply::Grant { key, weights }));
                }
                Output::NothingYet { worker } => replies.push((worker, Reply::NothingYet)),
                Output::Unknown { worker } => replies.push((worker, Reply::Unknown)),
                Output::Receipt {
                    worker,
                    key,
                    outcome,
                } => {
                    if let Some(arrived) = arrived.take() {
                        self.settle(outcome, arrived)?;
                    }
                    replies.push((worker, Reply::Receipt { key, outcome }));
                }
                Output::PassComplete { .. } => {
                    complete = true;
                    self.shadow.tell(run::Input::PassComplete);
                }
                Output::LeaseExpired { .. } | Output::WorkerLost { .. } => {}
                Output::Differed { key, late, .. } => {
                    if !late {
                        self.shadow.tell(run::Input::PassDoubted);
                    }
                    check(key.attempt < 1000, || format!("{key:?} was forged"))?;
                }
                Output::Quarantined { worker, key } => {
                    let process = self.names[&worker];
                    check(!self.honest.contains(&process), || {
                        format!("worker {worker} was right about {key:?}")
                    })?;
                    self.barred.insert(process);
                    replies.push((worker, Reply::Goodbye));
                }
                Output::PassRestarted { pass } => {
                    self.shadow.tell(run::Input::PassRestarted);
                    self.begin_sum(toy::micro_batches(pass.kind, pass.step));
                }
                Output::Unsettled { .. } | Output::Unconfirmed { .. } => {
                    faults.count("run failed over a dispute");
                    self.failed = true;
                    return Ok(());
                }
            }
        }
        self.check_invariants(complete)?;
        if complete {
            self.complete(now, disk, replies, faults)?;
        }
        Ok(())
    }

    /// Adds what the machine has accepted.
    fn settle(&mut self, outcome: Outcome, arrived: Arrived) -> Result<(), Violation> {
        let Arrived {
            sent_as,
            contribution,
            forged,
        } = arrived;
        let counted = outcome == Outcome::Accepted
            || outcome == Outcome::Duplicate && self.bug == Bug::CountDuplicates;
        if !counted {
            return Ok(());
        }
        check(!forged, || {
            format!("a forged answer was accepted: {sent_as:?}")
        })?;
        check(sent_as.generation == self.machine.generation(), || {
            format!("an answer of another generation was accepted: {sent_as:?}")
        })?;
        let micro_batches = toy::micro_batches(sent_as.kind, sent_as.step);
        for index in sent_as.node.range(micro_batches) {
            check(self.added.insert(index), || {
                format!("micro-batch {index} came twice")
            })?;
        }
        self.shadow.tell(run::Input::Accepted { left_out: 0 });
        if self.bug == Bug::ArrivalOrder {
            let before = std::mem::take(&mut self.arrival);
            self.arrival = before.merge(contribution);
            return Ok(());
        }
        let reducer = self.reducer.as_mut().ok_or("there is no pass")?;
        reducer
            .insert(sent_as.node, contribution)
            .map_err(|error| error.to_string())
    }

    fn check_invariants(&self, complete: bool) -> Result<(), Violation> {
        let Some(pass) = self.machine.pass() else {
            return Ok(());
        };
        let count = toy::micro_batches(pass.kind, pass.step) as usize;
        let missing = self.machine.missing() as usize;
        check(missing == count - self.added.len(), || {
            format!(
                "{missing} of {count} micro-batches are missing, {} were added",
                self.added.len()
            )
        })?;
        check(!complete || missing == 0, || {
            "an incomplete pass was completed".to_owned()
        })?;
        let open = self.reducer.as_ref().map_or(0, Reducer::open);
        check(open <= count.div_ceil(2), || {
            format!("{open} vectors wait for siblings")
        })?;
        let entries = self.machine.pass_entries();
        check(entries <= 2 * count + 2 * self.grants, || {
            format!(
                "{entries} entries for {count} micro-batches and {} grants",
                self.grants
            )
        })?;
        let deadline = self.machine.next_deadline();
        check(
            deadline.is_none_or(|deadline| deadline > self.machine.now()),
            || format!("the deadline {deadline:?} lies in the past"),
        )?;
        let nobody = self.machine.workers().next().is_none();
        check(deadline.is_some() || nobody, || {
            "workers are here and nothing is due".to_owned()
        })
    }

    fn complete(
        &mut self,
        now: Millis,
        disk: &mut Disk,
        replies: &mut Replies,
        faults: &mut Faults,
    ) -> Result<(), Violation> {
        let root = match self.bug {
            Bug::ArrivalOrder => Some(std::mem::take(&mut self.arrival)),
            _ => self.reducer.take().and_then(Reducer::root),
        };
        let root = root.ok_or("the pass is complete and the sum is not")?;
        if self
            .machine
            .pass()
            .is_some_and(|pass| pass.kind == PassKind::Evaluation)
        {
            check(self.shadow.settling == Some(Action::Score), || {
                format!("a score follows, and not by {:?}", self.shadow)
            })?;
            let (trainer, held) = (&mut self.trainer, &mut self.held);
            self.progress.hear(root.loss, &self.rules, trainer, held);
            let figure = Some(Figure {
                value: root.loss,
                rises: false,
            });
            let possible = true;
            self.shadow.tell(run::Input::Scored { figure, possible });
            let memory = self.shadow.run.memory();
            let policy = memory.map(|memory| &memory.policy);
            check(policy == Some(&self.progress.course), || {
                format!("{policy:?} follows from {:?}", self.progress)
            })?;
        } else {
            check(self.shadow.settling == Some(Action::Update), || {
                format!("an update follows, and not by {:?}", self.shadow)
            })?;
            let before = self.trainer.step();
            let outcome = self.trainer.apply(root);
            let outcome = match outcome.map_err(|error| error.to_string())? {
                update::Outcome::Applied(_) => UpdateOutcome::Applied,
                update::Outcome::Skipped(_) => UpdateOutcome::Skipped { left_out: 0 },
            };
            self.shadow.tell(run::Input::Updated(Updated {
                elements: self.trainer.elements(),
                norms: Vec::new(),
                outcome,
            }));
            let after = self.trainer.step();
            check(after == before + 1, || {
                format!("step {before} was followed by {after}")
            })?;
        }
        if self.trainer.step().is_multiple_of(toy::CHECKPOINT) {
            let remembered = (&self.progress, &self.held);
            disk.save(now, &self.trainer.state(), remembered)?;
        }
        self.open_pass(now, disk, replies, faults)
    }
}

struct Arrived {
    /// The key as the worker sent it.
    sent_as: Key,
    contribution: Contribution,
    forged: bool,
}
