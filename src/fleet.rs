//! The worker processes of a run on one machine: this same program, started, restarted when one
//! dies, and ended with the run. It refuses to know what workers compute.

use std::{
    collections::VecDeque,
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{exit::Failure, process};

/// How the workers are started.
#[derive(Clone, Debug)]
pub struct Spec {
    pub coordinator: String,
    pub workers: usize,
    pub threads: usize,
    pub device: &'static str,
}

/// A worker that dies is started again so often; one that dies each time has a reason to.
const RESTARTS: u32 = 5;
/// Of what a worker said last, to explain its end.
const LAST_WORDS: usize = 8;

/// What the fleet has to tell.
#[derive(Debug)]
pub enum News {
    /// Worth showing to a person.
    Said(String),
    /// No worker can work: the run cannot go on.
    Lost(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Work,
    Leave,
    Die,
}

#[derive(Debug)]
enum Sign {
    Line { worker: usize, line: String },
    Ended { worker: usize, status: ExitStatus },
}

/// The processes. Dropped, they are killed.
pub struct Fleet {
    spec: Spec,
    slots: Vec<Slot>,
    orders: watch::Sender<Order>,
    signs: mpsc::UnboundedReceiver<Sign>,
    sender: mpsc::UnboundedSender<Sign>,
    watchers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Slot {
    restarts: u32,
    alive: bool,
    last_words: VecDeque<String>,
}

impl Fleet {
    /// Starts the workers. To be called, like [`Fleet::next`], on the thread that lives as long as
    /// the program: Linux ends a child with the *thread* that started it.
    pub fn start(spec: Spec) -> io::Result<Self> {
        let (sender, signs) = mpsc::unbounded_channel();
        let mut fleet = Self {
            slots: Vec::new(),
            orders: watch::Sender::new(Order::Work),
            signs,
            sender,
            watchers: JoinSet::new(),
            spec,
        };
        for worker in 0..fleet.spec.workers {
            fleet.slots.push(Slot::default());
            fleet.launch(worker)?;
        }
        Ok(fleet)
    }

    /// The next thing to tell; safe to drop while it waits.
    pub async fn next(&mut self) -> News {
        loop {
            // The fleet holds a sender itself, so that there always is a next sign.
            let Some(sign) = self.signs.recv().await else {
                std::future::pending().await
            };
            match sign {
                Sign::Line { worker, line } => {
                    let slot = &mut self.slots[worker];
                    if slot.last_words.len() == LAST_WORDS {
                        slot.last_words.pop_front();
                    }
                    slot.last_words.push_back(line.clone());
                    return News::Said(format!("worker {}: {line}", worker + 1));
                }
                Sign::Ended { worker, status } => {
                    self.slots[worker].alive = false;
                    if let Some(news) = self.ended(worker, status) {
                        return news;
                    }
                }
            }
        }
    }

    /// Asks the workers to leave.
    pub fn dismiss(&self) {
        self.orders.send_replace(Order::Leave);
    }

    /// Waits for the workers to end, which whoever calls this has asked for; those that have not
    /// done so after `patience` are killed.
    pub async fn end(mut self, patience: Duration) {
        let gone = async { while self.watchers.join_next().await.is_some() {} };
        if timeout(patience, gone).await.is_err() {
            self.orders.send_replace(Order::Die);
            while self.watchers.join_next().await.is_some() {}
        }
    }

    fn ended(&mut self, worker: usize, status: ExitStatus) -> Option<News> {
        let name = worker + 1;
        if *self.orders.borrow() != Order::Work || status.success() {
            return None;
        }
        let slot = &mut self.slots[worker];
        let why = slot.last_words.iter().cloned().collect::<Vec<_>>();
        let words = why.last().map_or(String::new(), |line| format!(": {line}"));
        // A worker that says that it cannot work here would say so again.
        if let Some(code @ (2 | 78)) = status.code() {
            let text = format!("worker {name} cannot work (exit code {code}){words}");
            return Some(News::Lost(Failure::Data(text)));
        }
        if slot.restarts < RESTARTS {
            slot.restarts += 1;
            let count = slot.restarts;
            return Some(match self.launch(worker) {
                Ok(()) => News::Said(format!(
                    "worker {name} ended unexpectedly ({status}){words}; started again ({count} of {RESTARTS})"
                )),
                Err(error) => News::Said(format!("worker {name} cannot be started: {error}")),
            });
        }
        if self.slots.iter().any(|slot| slot.alive) {
            return Some(News::Said(format!(
                "worker {name} ended again ({status}){words}; the run goes on without it"
            )));
        }
        Some(News::Lost(Failure::Infrastructure(format!(
            "every worker has ended, the last one ({status}){words}"
        ))))
    }

    fn launch(&mut self, worker: usize) -> io::Result<()> {
        let spec = &self.spec;
        let log = std::env::var("UNISONO_LOG").ok();
        let mut command = Command::new(process::program()?);
        command
            .arg("worker")
            .args(["--coordinator", &spec.coordinator])
            .args(["--device", spec.device])
            .args(["--threads", &spec.threads.to_string()])
            .args(["--name", &format!("worker-{}", worker + 1)])
            .args(["--parent", &std::process::id().to_string()])
            .args(["--give-up-after", "10"])
            // What they do, the run's events say.
            .env("UNISONO_LOG", log.as_deref().unwrap_or("warn"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Their own group: Ctrl-C reaches the parent alone, which ends them in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        if let Some(stderr) = child.stderr.take() {
            self.watchers
                .spawn(listen(stderr, worker, self.sender.clone()));
        }
        let orders = self.orders.subscribe();
        self.watchers
            .spawn(watch(child, worker, orders, self.sender.clone()));
        self.slots[worker].alive = true;
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
    worker: usize,
    mut orders: watch::Receiver<Order>,
    signs: mpsc::UnboundedSender<Sign>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            changed = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    _ if changed.is_err() => break child.wait().await,
                    Order::Work => {}
                    Order::Leave => process::send(&child, Signal::TERM),
                    Order::Die => {
                        let _ = child.start_kill();
                    }
                }
            }
        }
    };
    if let Ok(status) = status {
        let _ = signs.send(Sign::Ended { worker, status });
    }
}
