//! The worker processes of a run on one machine: this same program, started, restarted when one
//! dies, and ended with the run. It decides which death is one too many; what workers compute is no matter of its.

mod deaths;

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use proto::v1::ListWorkersRequest;
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use worker::compute::DeviceChoice;

use crate::{client::CoordinatorClient, control_group, exit::CommandError, process};
use deaths::{Deaths, LastWords, MAX_RESTARTS, Sequel};

/// How the workers are started.
#[derive(Clone, Debug)]
pub(crate) struct FleetSpec {
    pub coordinator: String,
    /// Asked what a worker had done when it died.
    pub jobs: CoordinatorClient,
    pub workers: usize,
    pub threads: usize,
    pub device: DeviceChoice,
    /// Where they keep what they receive; they find a place themselves where there is none.
    pub cache: Option<PathBuf>,
}

/// What the fleet has to tell.
#[derive(Debug)]
pub(crate) enum FleetEvent {
    /// Worth showing to a person.
    Said(String),
    /// No worker can work: the run cannot go on.
    Lost(CommandError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FleetCommand {
    Work,
    Leave,
    Die,
}

#[derive(Debug)]
enum Sign {
    Line {
        worker: usize,
        line: String,
    },
    Ended {
        worker: usize,
        status: ExitStatus,
        done: Option<WorkerProgress>,
    },
}

/// What the coordinator knows of the worker that was called so last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WorkerProgress {
    id: u64,
    /// Answers of its that were accepted.
    contributions: u64,
}

/// The processes. Dropped, they are killed.
pub(crate) struct Fleet {
    spec: FleetSpec,
    slots: Vec<Slot>,
    orders: watch::Sender<FleetCommand>,
    signs: mpsc::UnboundedReceiver<Sign>,
    sender: mpsc::UnboundedSender<Sign>,
    watchers: JoinSet<()>,
    /// Processes that the kernel had killed for memory when a worker was started last.
    memory_kills: u64,
}

#[derive(Debug, Default)]
struct Slot {
    alive: bool,
    /// When it is started again.
    again: Option<Instant>,
    deaths: Deaths,
    /// The coordinator's number for the last life that was counted.
    counted: Option<u64>,
    last_words: LastWords,
}

impl Slot {
    /// Whether the life that ended has done something. One that never joined is listed by the life before it.
    fn has_worked(&mut self, done: Option<WorkerProgress>) -> bool {
        let Some(done) = done.filter(|done| self.counted != Some(done.id)) else {
            return false;
        };
        self.counted = Some(done.id);
        done.contributions > 0
    }
}

impl Fleet {
    /// Starts the workers. To be called, like [`Fleet::next`], on the thread that lives as long as
    /// the program: Linux ends a child with the *thread* that started it.
    pub(crate) fn start(spec: FleetSpec) -> io::Result<Self> {
        let (sender, signs) = mpsc::unbounded_channel();
        let mut fleet = Self {
            slots: Vec::new(),
            orders: watch::Sender::new(FleetCommand::Work),
            signs,
            sender,
            watchers: JoinSet::new(),
            spec,
            memory_kills: 0,
        };
        for worker in 0..fleet.spec.workers {
            fleet.slots.push(Slot::default());
            fleet.launch(worker)?;
        }
        Ok(fleet)
    }

    /// The next thing to tell; safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> FleetEvent {
        loop {
            let again = self.slots.iter().filter_map(|slot| slot.again).min();
            let due = async {
                match again {
                    Some(again) => sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            // The fleet holds a sender itself, so that there always is a next sign.
            let sign = tokio::select! {
                Some(sign) = self.signs.recv() => sign,
                () = due => match self.launch_due() {
                    Some(news) => return news,
                    None => continue,
                },
            };
            match sign {
                Sign::Line { worker, line } => {
                    self.slots[worker].last_words.hear(&line);
                    return FleetEvent::Said(format!("worker {}: {line}", worker + 1));
                }
                Sign::Ended {
                    worker,
                    status,
                    done,
                } => {
                    self.slots[worker].alive = false;
                    if let Some(news) = self.ended(worker, status, done) {
                        return news;
                    }
                }
            }
        }
    }

    /// Asks the workers to leave.
    pub(crate) fn dismiss(&self) {
        self.orders.send_replace(FleetCommand::Leave);
    }

    /// Waits for the workers to end, which whoever calls this has asked for; those that have not
    /// done so after `patience` are killed.
    pub(crate) async fn end(mut self, patience: Duration) {
        let gone = async { while self.watchers.join_next().await.is_some() {} };
        if timeout(patience, gone).await.is_err() {
            self.orders.send_replace(FleetCommand::Die);
            while self.watchers.join_next().await.is_some() {}
        }
    }

    fn ended(
        &mut self,
        worker: usize,
        status: ExitStatus,
        done: Option<WorkerProgress>,
    ) -> Option<FleetEvent> {
        let name = worker + 1;
        if *self.orders.borrow() != FleetCommand::Work || status.success() {
            return None;
        }
        let kills = control_group::memory_kills();
        let for_memory = kills > self.memory_kills;
        self.memory_kills = kills;
        let slot = &mut self.slots[worker];
        let how = deaths::explained(status, for_memory);
        let words = slot.last_words.reason();
        let words = words.map_or(String::new(), |words| format!(": {words}"));
        // A worker that says that it cannot work here would say so again.
        if let Some(code @ (2 | 78)) = status.code() {
            let text = format!("worker {name} cannot work (exit code {code}){words}");
            return Some(FleetEvent::Lost(CommandError::Data(text)));
        }
        let worked = slot.has_worked(done);
        match slot.deaths.another(worked, Instant::now()) {
            Sequel::Again { count, pause } => {
                slot.again = Some(Instant::now() + pause);
                let when = match pause.as_secs() {
                    0 => "started again".to_owned(),
                    seconds => format!("started again in {seconds} s"),
                };
                Some(FleetEvent::Said(format!(
                    "worker {name} ended unexpectedly: {how}{words}; {when} ({count} of {MAX_RESTARTS} times until it works)"
                )))
            }
            Sequel::End if self.goes_on() => Some(FleetEvent::Said(format!(
                "worker {name} ended again: {how}{words}; the run goes on without it"
            ))),
            Sequel::End => Some(FleetEvent::Lost(CommandError::Infrastructure(format!(
                "every worker has ended, the last one after {MAX_RESTARTS} restarts in which it finished nothing: {how}{words}"
            )))),
        }
    }

    /// Whether a worker runs, or is to be started again.
    fn goes_on(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| slot.alive || slot.again.is_some())
    }

    /// Starts those whose pause is over.
    fn launch_due(&mut self) -> Option<FleetEvent> {
        let now = Instant::now();
        let due = |slot: &Slot| slot.again.is_some_and(|again| again <= now);
        let worker = self.slots.iter().position(due)?;
        self.slots[worker].again = None;
        let error = self.launch(worker).err()?;
        let name = worker + 1;
        // Out of processes, or of memory, perhaps: that may pass as well.
        let slot = &mut self.slots[worker];
        match slot.deaths.another(false, now) {
            Sequel::Again { pause, .. } => {
                slot.again = Some(now + pause.max(Duration::from_secs(1)));
                Some(FleetEvent::Said(format!(
                    "worker {name} cannot be started: {error}; it is tried again"
                )))
            }
            Sequel::End if self.goes_on() => Some(FleetEvent::Said(format!(
                "worker {name} cannot be started: {error}; the run goes on without it"
            ))),
            Sequel::End => Some(FleetEvent::Lost(CommandError::Infrastructure(format!(
                "no worker can be started: {error}"
            )))),
        }
    }

    fn launch(&mut self, worker: usize) -> io::Result<()> {
        let spec = &self.spec;
        let log = std::env::var(crate::log::VARIABLE).ok();
        let name = format!("worker-{}", worker + 1);
        let mut command = Command::new(process::program()?);
        command
            .arg("worker")
            .args(["--coordinator", &spec.coordinator])
            .args(["--device", &spec.device.to_string()])
            .args(["--threads", &spec.threads.to_string()])
            .args(["--name", &name])
            .args(["--parent", &std::process::id().to_string()])
            .args(["--give-up-after", "10"])
            // The corpus is this user's own.
            .args(["--corpus-root", "/"])
            // What they do, the run's events say.
            .env(crate::log::VARIABLE, log.as_deref().unwrap_or("warn"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Their own group: Ctrl-C reaches the parent alone, which ends them in order.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cache) = &spec.cache {
            command.arg("--cache-dir").arg(cache);
        }
        self.memory_kills = control_group::memory_kills();
        let mut child = command.spawn()?;
        if let Some(stderr) = child.stderr.take() {
            self.watchers
                .spawn(listen(stderr, worker, self.sender.clone()));
        }
        let orders = self.orders.subscribe();
        let jobs = spec.jobs.clone();
        self.watchers.spawn(watch(
            child,
            (worker, name),
            jobs,
            orders,
            self.sender.clone(),
        ));
        let slot = &mut self.slots[worker];
        slot.alive = true;
        slot.last_words = LastWords::default();
        Ok(())
    }
}

async fn listen(stderr: ChildStderr, worker: usize, signs: mpsc::UnboundedSender<Sign>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Nobody listens any more only when the program ends.
        let _ = signs.send(Sign::Line { worker, line });
    }
}

/// Waits for a process to end, and hands orders on to it meanwhile.
async fn watch(
    mut child: Child,
    (worker, name): (usize, String),
    jobs: CoordinatorClient,
    mut orders: watch::Receiver<FleetCommand>,
    signs: mpsc::UnboundedSender<Sign>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            changed = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    _ if changed.is_err() => break child.wait().await,
                    FleetCommand::Work => {}
                    FleetCommand::Leave => process::send(&child, Signal::TERM),
                    FleetCommand::Die => {
                        let _ = child.start_kill();
                    }
                }
            }
        }
    };
    let Ok(status) = status else { return };
    let unexpected = *orders.borrow() == FleetCommand::Work && !status.success();
    let done = if unexpected {
        done(jobs, &name).await
    } else {
        None
    };
    let _ = signs.send(Sign::Ended {
        worker,
        status,
        done,
    });
}

/// What the worker of this name did in its last life. It is still listed: silence is noticed later.
async fn done(mut jobs: CoordinatorClient, name: &str) -> Option<WorkerProgress> {
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
    let asked = timeout(ANSWER_TIMEOUT, jobs.list_workers(ListWorkersRequest {}));
    let listed = asked.await.ok()?.ok()?.into_inner().workers;
    let last = listed
        .iter()
        .filter(|worker| worker.name == name)
        .max_by_key(|worker| worker.worker)?;
    Some(WorkerProgress {
        id: last.worker,
        contributions: last.contributions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_never_joined_does_not_count_as_the_one_before_it() {
        let mut slot = Slot::default();
        let done = |id, contributions| Some(WorkerProgress { id, contributions });
        assert!(slot.has_worked(done(3, 7)));
        // Listed still, because its silence was not noticed yet.
        assert!(!slot.has_worked(done(3, 7)));
        assert!(!slot.has_worked(done(4, 0)));
        assert!(slot.has_worked(done(5, 1)));
        assert!(!slot.has_worked(None));
    }
}
