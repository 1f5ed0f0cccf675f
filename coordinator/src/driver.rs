//! The driver: it owns the state machines, the reduction, the weights and the queue, carries out what the state
//! machines decide, and does all the waiting. It waits, carries out what the state machines decide
//! ([`crate::leases`]: who computes what; [`crate::run`]: what comes next in a run), and gives long work to other
//! threads; it does not depend on the wire.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use proto::buffer_pool::BufferPool;
use proto::contribution::{Contribution, Key, Quarantined};
use speech::corpus_roots::CorpusRoots;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};

mod actions;
mod active_job;
mod background;
mod checkpoints;
mod command;
mod drawing;
mod error;
mod finish;
mod jobs;
mod left_out;
mod lineage;
mod observation;
mod pass;
mod registry;
mod rejected;
mod results;
mod returned_leases;
mod scoring;
mod stall;
mod steps;
mod training;
mod workers;

pub(crate) use active_job::ActiveJob;
pub(crate) use command::JobView;
pub(crate) use command::{
    Announced, Command, Expected, Handle, LeaseAnswer, LeasedNode, Parting, PublishedWeights,
    Reply, Welcome,
};
pub(crate) use error::{Refused, RunError};
pub(crate) use registry::WorkerPolicy;
pub(crate) use registry::{Introduction, Members, WorkerView};
pub(crate) use results::Hypothesis;

use background::WorkDone;
use drawing::Drawing;
use pass::PassData;
use registry::WorkerRegistry;
use training::Training;

use crate::{
    leases::{self, ContributionOutcome, Input, LeaseScheduler, Millis, Output, WorkerId},
    queue::SetAside,
    records::{
        events::{Event, Journal, Published},
        times::Times,
    },
    run::{self, Action},
    stall::Stall,
    store::{Fence, Store, StoreError},
    telemetry::Telemetry,
};

/// Characters of a reason that a worker gives.
const MAX_REASON_CHARS: usize = 2000;
/// Vectors below this many elements are added at once: a thread would cost more.
const ADD_INLINE_ELEMENTS: usize = 1 << 14;

pub(crate) struct Driver {
    clock: Instant,
    terms: WorkerPolicy,
    /// Absent only while it is being written on another thread, which the driver waits for.
    store: Option<Store>,
    /// Where jobs' files may lie.
    roots: CorpusRoots,
    /// Where facts about corpora are kept.
    cache_dir: Option<PathBuf>,
    fence: Fence,
    /// Another coordinator has taken the directory over: this one is to end.
    fenced: Option<StoreError>,
    scheduler: LeaseScheduler,
    registry: WorkerRegistry,
    /// Workers that wait for a lease.
    waiting: BTreeMap<WorkerId, Reply<LeaseAnswer>>,
    /// What followers may read of every job; gone when the coordinator stops.
    feeds: BTreeMap<String, watch::Sender<Published>>,
    run: Option<ActiveRun>,
    /// Counts runs, so that work for one that has ended is told apart.
    runs: u64,
    work: JoinSet<(u64, WorkDone)>,
    active_job: watch::Sender<Option<Arc<ActiveJob>>>,
    weights: watch::Sender<Option<PublishedWeights>>,
    buffers: BufferPool,
    stop: Stop,
    /// The job or its compute class is another: who may compute for it is to be told anew.
    recheck_eligibility: bool,
    /// The compute class of the job was decided: see [`Input::ClassDecided`].
    discount_the_gone: bool,
    stall: Stall,
    /// Jobs that were set aside in this life, because nobody of their compute class was here.
    set_aside: SetAside,
    /// Who wants to know that every worker was told goodbye.
    farewells: Vec<Reply<()>>,
    telemetry: Telemetry,
    /// Jobs are to be counted anew.
    jobs_changed: bool,
}

/// The job that is worked on.
struct ActiveRun {
    number: u64,
    id: String,
    dir: PathBuf,
    name: String,
    abandoned: Arc<AtomicBool>,
    clock: Instant,
    /// Decides what comes next in it.
    core: run::Run,
    /// What `core` has asked for, in order.
    actions: VecDeque<Action>,
    /// Absent while the corpus is prepared.
    active: Option<StartedRun>,
    /// Who wants it cancelled.
    cancel: Vec<Reply<Result<JobView, Refused>>>,
    /// What went wrong first.
    error: Option<RunError>,
    /// Why it is to end as failed, for a reason from outside.
    given_up: Option<RunError>,
    last: LastCauses,
    /// Who waits for that.
    gave_up: Vec<Reply<()>>,
    /// It was told that audits are left undone.
    unaudited_told: bool,
    /// Faults of this life before the run began.
    before: leases::Counters,
    /// The digest of the final model's weights, once it is written.
    weights_sha256: Option<String>,
    drawing: Drawing,
}

/// What happened last of each kind that may end a run, for its message.
#[derive(Debug, Default)]
struct LastCauses {
    left_out: Option<Quarantined>,
    /// Why a step was skipped.
    skipped: Option<String>,
    returned: Option<returned_leases::Returned>,
}

/// What a worker has handed in.
#[derive(Debug)]
enum HandedIn {
    Contribution(Box<Contribution>, Times),
    Results(Vec<Hypothesis>),
}

struct StartedRun {
    training: Training,
    journal: Journal,
}

#[derive(Default)]
enum Stop {
    #[default]
    No,
    Asked(Vec<Reply<()>>),
    Done,
}

/// Starts the driver of `store`'s jobs, whose files lie beneath `roots`.
pub(crate) fn spawn(
    store: Store,
    roots: CorpusRoots,
    cache_dir: Option<PathBuf>,
    terms: WorkerPolicy,
    telemetry: Telemetry,
) -> (Handle, tokio::task::JoinHandle<Result<(), StoreError>>) {
    const COMMAND_QUEUE: usize = 256;
    let (commands, received) = mpsc::channel(COMMAND_QUEUE);
    let (active_job, active_job_seen) = watch::channel(None);
    let (weights, weights_seen) = watch::channel(None);
    let buffers = BufferPool::default();
    let registry = WorkerRegistry::default();
    let handle = Handle {
        members: registry.members(),
        buffers: buffers.clone(),
        commands,
        active_job: active_job_seen,
        weights: weights_seen,
    };
    let config = leases::Config {
        heartbeat_timeout: terms.silence.as_millis() as Millis,
        ..leases::Config::default()
    };
    let driver = Driver {
        clock: Instant::now(),
        terms,
        scheduler: LeaseScheduler::new(store.generation(), config),
        feeds: jobs::feeds(&store),
        fence: store.fence().clone(),
        fenced: None,
        store: Some(store),
        roots,
        cache_dir,
        registry,
        waiting: BTreeMap::new(),
        run: None,
        runs: 0,
        work: JoinSet::new(),
        active_job,
        weights,
        buffers,
        stop: Stop::No,
        recheck_eligibility: false,
        discount_the_gone: false,
        stall: Stall::default(),
        set_aside: SetAside::default(),
        farewells: Vec::new(),
        telemetry,
        jobs_changed: true,
    };
    (handle, tokio::spawn(driver.run(received)))
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), StoreError> {
        loop {
            self.proceed().await;
            if let Some(fenced) = self.fenced.take() {
                return Err(fenced);
            }
            self.part();
            self.observe();
            if std::mem::take(&mut self.recheck_eligibility) {
                self.recheck_eligibility();
            }
            if self.watch_for_stall() {
                continue;
            }
            let due = self.scheduler.next_deadline().into_iter();
            let due = due.chain(self.stall.due()).min();
            let due = due.map(|due| self.clock + Duration::from_millis(due));
            let tick = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return Ok(()),
                },
                Some(done) = self.work.join_next() => self.done(done).await,
                () = tick, if due.is_some() => {
                    self.tell(Input::Tick);
                }
            }
        }
    }

    fn now(&self) -> Millis {
        self.clock.elapsed().as_millis() as Millis
    }

    fn generation(&self) -> u64 {
        self.scheduler.generation()
    }

    fn store(&self) -> &Store {
        self.store
            .as_ref()
            .expect("the driver waits for whoever writes the store")
    }

    /// Changes the store on a thread that may wait for the disk.
    async fn write<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.may_write() {
            self.fence.check()?;
        }
        let mut store = self
            .store
            .take()
            .expect("the driver waits for whoever writes the store");
        let written = tokio::task::spawn_blocking(move || {
            let result = change(&mut store);
            (store, result)
        });
        let (store, result) = written.await.expect("writing the store does not panic");
        self.store = Some(store);
        self.jobs_changed = true;
        if matches!(result, Err(StoreError::Fenced { .. })) {
            self.may_write();
        }
        result
    }

    /// Whether no other coordinator has taken the directory over.
    fn may_write(&mut self) -> bool {
        match self.fence.check() {
            Err(fenced @ StoreError::Fenced { .. }) => {
                self.fenced = Some(fenced);
                false
            }
            // What is wrong with the directory, the write itself will say.
            Ok(()) | Err(_) => true,
        }
    }

    /// Tells the run what happened.
    fn advance(&mut self, input: run::Input) {
        if let Some(run) = &mut self.run {
            run.advance(input);
        }
    }

    /// Tells the lease scheduler, and does what it says.
    fn tell(&mut self, input: Input) {
        self.tell_of(input, None);
    }

    /// The same with what a worker has handed in, which is taken up where it is accepted. Gives what became of it.
    fn tell_of(
        &mut self,
        input: Input,
        mut arrived: Option<HandedIn>,
    ) -> Option<ContributionOutcome> {
        let mut outputs = VecDeque::from(self.scheduler.handle(self.now(), input));
        let mut receipt = None;
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Granted { worker, key, .. } => {
                    if let Some(undelivered) = self.deliver(worker, key) {
                        outputs.extend(self.scheduler.handle(self.now(), undelivered));
                    }
                }
                Output::NothingYet { worker } => {
                    let reason = self.check_class(worker).err();
                    let reason = reason.map(|refused| refused.to_string());
                    self.answer(worker, LeaseAnswer::Idle(reason));
                }
                Output::Unknown { worker } => self.answer(worker, LeaseAnswer::Unknown),
                Output::Receipt {
                    worker,
                    key,
                    outcome,
                } => {
                    receipt = Some(outcome);
                    let accepted = arrived
                        .take()
                        .filter(|_| outcome == ContributionOutcome::Accepted);
                    if let Some(arrived) = accepted {
                        self.accept(worker.0, &key, arrived);
                    }
                }
                Output::PassComplete { .. } => self.advance(run::Input::PassComplete),
                Output::LeaseExpired { worker, key } => self.note(Event::LeaseExpired {
                    worker: worker.0,
                    node: key.node.to_string(),
                }),
                Output::WorkerLost { worker } => {
                    self.answer(worker, LeaseAnswer::Unknown);
                    let name = self.registry.name(worker);
                    self.forget(worker);
                    tracing::warn!(worker = worker.0, name, "a worker fell silent");
                    self.note(Event::WorkerLost {
                        worker: worker.0,
                        name,
                    });
                }
                Output::Differed {
                    key,
                    first,
                    second,
                    late,
                } => {
                    if !late {
                        self.advance(run::Input::PassDoubted);
                    }
                    let node = key.node.to_string();
                    tracing::error!(
                        step = key.step,
                        node,
                        first = first.0,
                        second = second.0,
                        "two workers gave different bits for the same node"
                    );
                    self.note(Event::Differed {
                        node,
                        first: first.0,
                        second: second.0,
                        late,
                    });
                }
                Output::Quarantined { worker, key } => self.quarantine(worker, &key),
                Output::TurnedAway { worker, lasts } => self.turn_away(worker, lasts),
                Output::DataAtFault { .. } => self.fail_over_data(),
                Output::PassRestarted { pass } => self.restart(&pass),
                Output::Unsettled { key, workers } => self.fail(RunError::Unsettled {
                    step: key.step,
                    node: key.node.to_string(),
                    workers: self.registry.names(&workers),
                }),
                Output::Unconfirmed { key } => self.fail(self.unconfirmed(&key)),
            }
        }
        receipt
    }

    fn answer(&mut self, worker: WorkerId, answer: LeaseAnswer) {
        if let Some(reply) = self.waiting.remove(&worker) {
            // Who asked may be gone; there is nothing in this answer to lose.
            let _ = reply.send(answer);
        }
    }

    /// Sends a grant to its worker; gives what the lease scheduler must hear when that fails.
    fn deliver(&mut self, worker: WorkerId, key: Key) -> Option<Input> {
        // The job was pinned to a class by an answer that was accepted just before.
        if let Err(refused) = self.check_class(worker) {
            self.answer(worker, LeaseAnswer::Idle(Some(refused.to_string())));
            self.registry.set_eligible(worker, false);
            return Some(Input::Eligibility {
                worker,
                eligible: false,
            });
        }
        let undelivered = Input::Undelivered {
            worker,
            key: key.clone(),
        };
        let Some(active_job) = self.active_job.borrow().clone() else {
            return Some(undelivered);
        };
        let (Some(reply), Some(pass)) = (self.waiting.remove(&worker), self.pass()) else {
            return Some(undelivered);
        };
        let kind = key.kind;
        let leased = pass.leased(key, Arc::clone(&active_job));
        let utterances = leased.micro_batches.iter();
        let utterances = utterances.flat_map(|(_, utterances)| utterances.iter().copied());
        active_job.lease(worker, kind, utterances);
        if reply.send(LeaseAnswer::Lease(leased)).is_err() {
            return Some(undelivered);
        }
        self.count_in(worker);
        None
    }

    /// What `worker` was leased by `key`, for as long as that is worked on.
    fn leased(&self, worker: WorkerId, key: Key) -> Option<LeasedNode> {
        let active_job = self.active_job.borrow().clone()?;
        let pass = self.pass()?;
        let asked_for = self.is_current(&key) && self.scheduler.expects(worker, &key);
        asked_for.then(|| pass.leased(key, active_job))
    }

    /// Elements of the weights of the running job, and of the vectors that are summed for it.
    fn elements(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.core.elements())
    }

    fn pass(&self) -> Option<&PassData> {
        let active = self.run.as_ref()?.active.as_ref()?;
        active.training.pass.as_ref()
    }

    fn pass_mut(&mut self) -> Option<&mut PassData> {
        self.training_mut()?.pass.as_mut()
    }

    fn training(&self) -> Option<&Training> {
        Some(&self.run.as_ref()?.active.as_ref()?.training)
    }

    fn training_mut(&mut self) -> Option<&mut Training> {
        Some(&mut self.run.as_mut()?.active.as_mut()?.training)
    }

    /// Writes an event of the running job, if there is one.
    fn note(&mut self, event: Event) {
        if !self.may_write() {
            return;
        }
        let Some(run) = &mut self.run else { return };
        let Some(active) = &mut run.active else {
            return;
        };
        if let Err(error) = active.journal.event(active.training.counts.step, event) {
            run.fail(error.into());
        }
    }

    /// Does `work` on a thread that may take its time.
    fn spawn(&mut self, work: impl FnOnce() -> WorkDone + Send + 'static) {
        let number = self.runs;
        self.work.spawn_blocking(move || (number, work()));
    }

    async fn done(&mut self, done: Result<(u64, WorkDone), JoinError>) {
        let Some(run) = self.run.as_mut() else { return };
        match done {
            // The work was for a run that has ended meanwhile.
            Ok((number, _)) if number != run.number => {}
            Ok((_, done)) => {
                if let WorkDone::Begun(Ok(_)) = &done {
                    self.write_prepared().await;
                }
                self.take_up(done);
            }
            Err(panicked) => run.fail(RunError::Broken(panicked.to_string())),
        }
    }
}
