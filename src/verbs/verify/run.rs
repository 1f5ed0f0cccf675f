//! One run: a job on a cluster, from its submission to its end, with the faults of a schedule when
//! they are due. It does not depend on what other runs gave.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use proto::v1::{JobStatus, ListWorkersRequest, State, StatusRequest, SubmitRequest};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::{
    chaos::{Action, Injected, Schedule},
    cluster::{Cluster, End, Spec, Who},
};
use crate::{
    client::{self, Jobs, has_ended},
    exit::Failure,
    follow::{self, Since, What},
    progress::Progress,
    signals::Signals,
};

/// How often the processes and the job are looked at: small jobs make a step in milliseconds.
const LOOK: Duration = Duration::from_millis(10);
/// A coordinator that does not answer within this time is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the view of the run waits for a coordinator that is away.
const AWAY: Duration = Duration::from_secs(600);

/// What one run is to be.
#[derive(Debug)]
pub struct Plan {
    pub cluster: Spec,
    pub request: SubmitRequest,
    pub epochs: u32,
    pub schedule: Option<Schedule>,
    /// How long a worker is stopped.
    pub stop: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
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
pub async fn run(plan: Plan, signals: &mut Signals) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let crash = plan.schedule.as_ref().map(|it| it.coordinator_crash);
    let mut cluster = tokio::select! {
        cluster = Cluster::start(plan.cluster.clone(), crash) => cluster?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let progress = RefCell::new(Progress::new(plan.epochs));
    let ended = tokio::select! {
        biased;
        signal = signals.next() => Err(interrupted(signal)),
        ended = lead(&mut cluster, plan, &progress) => ended,
    };
    progress.borrow_mut().finish();
    let lives = cluster.coordinator_lives();
    cluster.end().await;
    let (job, injected) = ended?;
    Ok(Outcome {
        job,
        injected,
        lives,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn interrupted(signal: crate::signals::Signal) -> Failure {
    let told = format!("{signal}: every process of the run is ended");
    Failure::Signal { signal, told }
}

async fn lead(
    cluster: &mut Cluster,
    plan: Plan,
    progress: &RefCell<Progress>,
) -> Result<(JobStatus, Injected), Failure> {
    let mut jobs = client::connect(&cluster.url()).await?;
    let submitted = jobs.submit(plan.request).await;
    let id = submitted
        .map_err(|status| client::refused(&status))?
        .into_inner()
        .id;
    // Started after the submission: a coordinator that is told to die does so at work.
    let mut leader = Leader::new(cluster, progress, plan.schedule, plan.stop);
    leader.start_workers(plan.cluster.workers)?;
    let mut viewer = jobs.clone();
    let wanted = follow::Wanted {
        what: What::Everything,
        since: Since::FirstLine,
        patience: AWAY,
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
    progress: &'a RefCell<Progress>,
    schedule: Option<Schedule>,
    stop: Duration,
    /// Stopped workers, and until when.
    stopped: Vec<(usize, Instant)>,
    injected: Injected,
}

impl<'a> Leader<'a> {
    fn new(
        cluster: &'a mut Cluster,
        progress: &'a RefCell<Progress>,
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
    fn start_workers(&mut self, workers: usize) -> Result<(), Failure> {
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
        actions.any(|action| action == Action::Join(worker))
    }

    /// Starts a worker's first life.
    fn start(&mut self, worker: usize) -> Result<(), Failure> {
        let crash = self.schedule.as_ref().map(|it| it.worker_crash);
        let crash = crash.filter(|(chosen, _)| *chosen == worker);
        let crash = crash.map(|(_, order)| order);
        self.cluster.launch(Who::Worker(worker), crash)
    }

    async fn lead(&mut self, jobs: &mut Jobs, id: &str) -> Result<JobStatus, Failure> {
        loop {
            self.look_after()?;
            self.go_on();
            if let Some(job) = status(jobs, id).await? {
                if has_ended(job.state()) {
                    return Ok(job);
                }
                self.inject(jobs, &job).await?;
            }
            sleep(LOOK).await;
        }
    }

    fn look_after(&mut self) -> Result<(), Failure> {
        for (who, end) in self.cluster.look_after()? {
            self.stopped
                .retain(|(worker, _)| who != Who::Worker(*worker));
            match (end, who) {
                (End::Made, _) => {}
                (End::Crashed(order), _) => {
                    match who {
                        Who::Coordinator => self.injected.coordinator_crashes += 1,
                        Who::Worker(_) => self.injected.worker_crashes += 1,
                    }
                    self.say(&format!("chaos: {who} has died at {order}"));
                }
                (End::Unexpected(status), _) => self.say(&format!(
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
    async fn inject(&mut self, jobs: &mut Jobs, job: &JobStatus) -> Result<(), Failure> {
        let Some(schedule) = &mut self.schedule else {
            return Ok(());
        };
        // Before its corpus is prepared a job has no steps.
        let prepared = job.state() == State::Running && job.steps > 0;
        let is_due = |(due, _): &mut (u64, Action)| prepared && *due <= job.step;
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

    fn is_possible(&self, action: Action, members: &BTreeSet<String>) -> bool {
        match action {
            Action::Join(_) => true,
            Action::KillCoordinator => self.cluster.is_free(Who::Coordinator),
            Action::KillWorker(worker) | Action::Stop(worker) | Action::Leave(worker) => {
                let is_member = members.contains(&self.cluster.name(worker));
                is_member && self.cluster.is_free(Who::Worker(worker))
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Join(worker) => self.start(worker)?,
            Action::KillWorker(worker) => self.cluster.end_one(Who::Worker(worker), Signal::KILL),
            Action::KillCoordinator => self.cluster.end_one(Who::Coordinator, Signal::KILL),
            Action::Leave(worker) => self.cluster.end_one(Who::Worker(worker), Signal::TERM),
            Action::Stop(worker) => {
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

fn say(progress: &RefCell<Progress>, text: &str) {
    progress.borrow().message(text);
}

fn in_words(action: Action) -> String {
    match action {
        Action::Join(worker) => format!("{} joins late", Who::Worker(worker)),
        Action::KillWorker(worker) => format!("kill -9 of {}", Who::Worker(worker)),
        Action::KillCoordinator => "kill -9 of the coordinator".to_owned(),
        Action::Stop(worker) => format!("{} is stopped", Who::Worker(worker)),
        Action::Leave(worker) => format!("{} is told to leave", Who::Worker(worker)),
    }
}

/// How the job stands; `None` while the coordinator is away.
async fn status(jobs: &mut Jobs, id: &str) -> Result<Option<JobStatus>, Failure> {
    let request = StatusRequest { id: id.to_owned() };
    match timeout(PATIENCE, jobs.status(request)).await {
        Ok(Ok(job)) => Ok(Some(job.into_inner())),
        Ok(Err(status)) => match client::refused(&status) {
            refusal @ Failure::Data(_) => Err(refusal),
            _ => Ok(None),
        },
        Err(_) => Ok(None),
    }
}

/// Names of the workers that the coordinator knows.
async fn members(jobs: &mut Jobs) -> BTreeSet<String> {
    let listed = timeout(PATIENCE, jobs.list_workers(ListWorkersRequest {})).await;
    let workers = match listed {
        Ok(Ok(list)) => list.into_inner().workers,
        // It is away; what was due is tried again.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    workers.into_iter().map(|worker| worker.name).collect()
}
