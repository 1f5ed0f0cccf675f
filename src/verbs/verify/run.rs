//! One run: a job on a cluster, from its submission to its end, with the faults of a schedule when
//! they are due. It does not depend on what other runs gave.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use proto::v1::{JobStatus, ListWorkersRequest, State, StatusRequest, SubmitRequest};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::{
    chaos::{FaultAction, Injected, Schedule},
    cluster::{Cluster, ClusterSpec, ProcessEnd, Who},
};
use crate::{
    client::{self, CoordinatorClient, has_ended},
    exit::CommandError,
    follow::{self, Since, What},
    progress::ProgressView,
    signals::Signals,
};

/// How often the processes and the job are looked at: small jobs make a step in milliseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A coordinator that does not answer within this time is asked again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the view of the run waits for a coordinator that is away.
const MAX_VIEW_ABSENCE: Duration = Duration::from_secs(600);

/// What one run is to be.
#[derive(Debug)]
pub(super) struct RunPlan {
    pub cluster: ClusterSpec,
    pub request: SubmitRequest,
    pub epochs: u32,
    pub schedule: Option<Schedule>,
    /// How long a worker is stopped.
    pub stop: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct RunResult {
    pub job: JobStatus,
    pub injected: Injected,
    /// Coordinator processes.
    pub lives: u32,
    pub seconds: f64,
}

/// Runs a job to its end; no process is left when this returns.
///
/// # Errors
/// When a process cannot work, the coordinator refuses the job, or a signal came.
pub(super) async fn run(plan: RunPlan, signals: &mut Signals) -> Result<RunResult, CommandError> {
    let begun = Instant::now();
    let crash = plan.schedule.as_ref().map(|it| it.coordinator_crash);
    let mut cluster = tokio::select! {
        cluster = Cluster::start(plan.cluster.clone(), crash) => cluster?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let progress = RefCell::new(ProgressView::new(plan.epochs));
    let ended = tokio::select! {
        biased;
        signal = signals.next() => Err(interrupted(signal)),
        ended = lead(&mut cluster, plan, &progress) => ended,
    };
    progress.borrow_mut().finish();
    let lives = cluster.coordinator_lives();
    cluster.end().await;
    let (job, injected) = ended?;
    Ok(RunResult {
        job,
        injected,
        lives,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn interrupted(signal: crate::signals::Signal) -> CommandError {
    let told = format!("{signal}: every process of the run is ended");
    CommandError::Signal { signal, told }
}

async fn lead(
    cluster: &mut Cluster,
    plan: RunPlan,
    progress: &RefCell<ProgressView>,
) -> Result<(JobStatus, Injected), CommandError> {
    let mut jobs = client::connect_local(&cluster.url()).await?;
    let submitted = jobs.submit(plan.request).await;
    let id = submitted
        .map_err(|status| client::refused(&status))?
        .into_inner()
        .id;
    // Started after the submission: a coordinator that is told to die does so at work.
    let mut leader = Leader::new(cluster, progress, plan.schedule, plan.stop);
    leader.start_workers(plan.cluster.workers)?;
    let mut viewer = jobs.clone();
    let wanted = follow::FollowRequest {
        what: What::Everything,
        since: Since::FirstLine,
        patience: MAX_VIEW_ABSENCE,
    };
    let view = async {
        let show = |news| progress.borrow_mut().show(news);
        // What became of the job is not the viewer's to say.
        let _ = follow::follow(&mut viewer, &id, wanted, show).await;
        std::future::pending().await
    };
    let job = tokio::select! {
        job = leader.lead(&mut jobs, &id) => job?,
        never = view => never,
    };
    Ok((job, leader.injected))
}

/// Keeps the processes alive, and does to them what is due.
struct Leader<'a> {
    cluster: &'a mut Cluster,
    progress: &'a RefCell<ProgressView>,
    schedule: Option<Schedule>,
    stop: Duration,
    /// Stopped workers, and until when.
    stopped: Vec<(usize, Instant)>,
    injected: Injected,
}

impl<'a> Leader<'a> {
    fn new(
        cluster: &'a mut Cluster,
        progress: &'a RefCell<ProgressView>,
        schedule: Option<Schedule>,
        stop: Duration,
    ) -> Self {
        Self {
            cluster,
            progress,
            schedule,
            stop,
            stopped: Vec::new(),
            injected: Injected::default(),
        }
    }

    /// Those that are not late.
    fn start_workers(&mut self, workers: usize) -> Result<(), CommandError> {
        for worker in 0..workers {
            if !self.is_late(worker) {
                self.start(worker)?;
            }
        }
        Ok(())
    }

    fn is_late(&self, worker: usize) -> bool {
        let actions = self.schedule.iter().flat_map(|it| &it.actions);
        let mut actions = actions.map(|(_, action)| *action);
        actions.any(|action| action == FaultAction::Join(worker))
    }

    /// Starts a worker's first life.
    fn start(&mut self, worker: usize) -> Result<(), CommandError> {
        let crash = self.schedule.as_ref().map(|it| it.worker_crash);
        let crash = crash.filter(|(chosen, _)| *chosen == worker);
        let crash = crash.map(|(_, order)| order);
        self.cluster.launch(Who::Worker(worker), crash)
    }

    async fn lead(
        &mut self,
        jobs: &mut CoordinatorClient,
        id: &str,
    ) -> Result<JobStatus, CommandError> {
        loop {
            self.look_after()?;
            self.go_on();
            if let Some(job) = status(jobs, id).await? {
                if has_ended(job.state()) {
                    return Ok(job);
                }
                self.inject(jobs, &job).await?;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn look_after(&mut self) -> Result<(), CommandError> {
        for (who, end) in self.cluster.look_after()? {
            self.stopped
                .retain(|(worker, _)| who != Who::Worker(*worker));
            match (end, who) {
                (ProcessEnd::Made, _) => {}
                (ProcessEnd::Crashed(order), _) => {
                    match who {
                        Who::Coordinator => self.injected.coordinator_crashes += 1,
                        Who::Worker(_) => self.injected.worker_crashes += 1,
                    }
                    self.say(&format!("chaos: {who} has died at {order}"));
                }
                (ProcessEnd::Unexpected(status), _) => self.say(&format!(
                    "{who} ended unexpectedly ({status}) and is started again"
                )),
            }
        }
        Ok(())
    }

    fn go_on(&mut self) {
        let now = Instant::now();
        let due = |(_, until): &mut (usize, Instant)| *until <= now;
        for (worker, _) in self.stopped.extract_if(.., due) {
            self.cluster.go_on(worker);
            say(
                self.progress,
                &format!("chaos: {} goes on", Who::Worker(worker)),
            );
        }
    }

    /// Does what is due, as far as the processes that it is done to are there.
    async fn inject(
        &mut self,
        jobs: &mut CoordinatorClient,
        job: &JobStatus,
    ) -> Result<(), CommandError> {
        let Some(schedule) = &mut self.schedule else {
            return Ok(());
        };
        // Before its corpus is prepared a job has no steps.
        let prepared = job.state() == State::Running && job.steps > 0;
        let is_due = |(due, _): &mut (u64, FaultAction)| prepared && *due <= job.step;
        let due: Vec<_> = schedule.actions.extract_if(.., is_due).collect();
        if due.is_empty() {
            return Ok(());
        }
        let members = members(jobs).await;
        for (step, action) in due {
            if self.is_possible(action, &members) {
                self.act(action)?;
                self.injected.count(action);
                self.say(&format!(
                    "chaos: at step {}, {}",
                    job.step,
                    in_words(action)
                ));
            } else if let Some(schedule) = &mut self.schedule {
                schedule.actions.push((step, action));
            }
        }
        Ok(())
    }

    fn is_possible(&self, action: FaultAction, members: &BTreeSet<String>) -> bool {
        match action {
            FaultAction::Join(_) => true,
            FaultAction::KillCoordinator => self.cluster.is_free(Who::Coordinator),
            FaultAction::KillWorker(worker)
            | FaultAction::Stop(worker)
            | FaultAction::Leave(worker) => {
                let is_member = members.contains(&self.cluster.name(worker));
                is_member && self.cluster.is_free(Who::Worker(worker))
            }
        }
    }

    fn act(&mut self, action: FaultAction) -> Result<(), CommandError> {
        match action {
            FaultAction::Join(worker) => self.start(worker)?,
            FaultAction::KillWorker(worker) => {
                self.cluster.end_one(Who::Worker(worker), Signal::KILL)
            }
            FaultAction::KillCoordinator => self.cluster.end_one(Who::Coordinator, Signal::KILL),
            FaultAction::Leave(worker) => self.cluster.end_one(Who::Worker(worker), Signal::TERM),
            FaultAction::Stop(worker) => {
                self.cluster.stop(worker);
                self.stopped.push((worker, Instant::now() + self.stop));
            }
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        say(self.progress, text);
    }
}

fn say(progress: &RefCell<ProgressView>, text: &str) {
    progress.borrow().message(text);
}

fn in_words(action: FaultAction) -> String {
    match action {
        FaultAction::Join(worker) => format!("{} joins late", Who::Worker(worker)),
        FaultAction::KillWorker(worker) => format!("kill -9 of {}", Who::Worker(worker)),
        FaultAction::KillCoordinator => "kill -9 of the coordinator".to_owned(),
        FaultAction::Stop(worker) => format!("{} is stopped", Who::Worker(worker)),
        FaultAction::Leave(worker) => format!("{} is told to leave", Who::Worker(worker)),
    }
}

/// How the job stands; `None` while the coordinator is away.
async fn status(jobs: &mut CoordinatorClient, id: &str) -> Result<Option<JobStatus>, CommandError> {
    let request = StatusRequest { id: id.to_owned() };
    match timeout(REQUEST_TIMEOUT, jobs.status(request)).await {
        Ok(Ok(job)) => Ok(Some(job.into_inner())),
        Ok(Err(status)) => match client::refused(&status) {
            refusal @ CommandError::Data(_) => Err(refusal),
            _ => Ok(None),
        },
        Err(_) => Ok(None),
    }
}

/// Names of the workers that the coordinator knows.
async fn members(jobs: &mut CoordinatorClient) -> BTreeSet<String> {
    let listed = timeout(REQUEST_TIMEOUT, jobs.list_workers(ListWorkersRequest {})).await;
    let workers = match listed {
        Ok(Ok(list)) => list.into_inner().workers,
        // It is away; what was due is tried again.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    workers.into_iter().map(|worker| worker.name).collect()
}
