//! The processes of one run: a coordinator and workers, each this same program with a log of its own,
//! started again whenever they end, and gone with the verb. It decides which end was meant and which
//! was not; it does not depend on when a process is to be ended.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use proto::failpoint::{self, Order};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use worker::compute::DeviceChoice;

use crate::{exit::CommandError, process};

/// How the processes are started.
#[derive(Clone, Debug)]
pub(super) struct ClusterSpec {
    /// The run's folder: the coordinator's data and every process's log.
    pub dir: PathBuf,
    pub workers: usize,
    pub threads: usize,
    pub device: DeviceChoice,
    /// A folder in it for each worker; in `dir` where there is none.
    pub cache: Option<PathBuf>,
}

/// A process that ends so often without being made to has a reason to.
const MAX_RESTARTS: u32 = 5;
/// How long a coordinator may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Coordinator,
    /// Counted from 0.
    Worker(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Worker(worker) => write!(f, "worker-{}", worker + 1),
        }
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessEnd {
    /// By whoever holds the cluster.
    Made,
    /// At the place where it was told to die.
    Crashed(Order),
    Unexpected(ExitStatus),
}

/// The processes. Dropped, they are killed.
pub(super) struct Cluster {
    spec: ClusterSpec,
    port: u16,
    coordinator: Lives,
    workers: Vec<Lives>,
}

/// One process after the other, at most one at a time.
#[derive(Debug, Default)]
struct Lives {
    child: Option<Child>,
    count: u32,
    /// Where the present one is told to die.
    order: Option<Order>,
    /// Whether its end is wanted.
    made: bool,
    stopped: bool,
    unexpected: u32,
}

impl Cluster {
    /// Starts the coordinator, which may be told to die, and waits until it listens. To be called, like
    /// everything that starts a process, on the thread that lives as long as the program: Linux ends a
    /// child with the *thread* that started it.
    pub(super) async fn start(
        spec: ClusterSpec,
        crash: Option<Order>,
    ) -> Result<Self, CommandError> {
        std::fs::create_dir_all(&spec.dir).map_err(|error| broken(&spec.dir, &error))?;
        let workers = (0..spec.workers).map(|_| Lives::default()).collect();
        let mut cluster = Self {
            spec,
            port: 0,
            coordinator: Lives::default(),
            workers,
        };
        cluster.launch(Who::Coordinator, crash)?;
        cluster.port = cluster.listens().await?;
        Ok(cluster)
    }

    async fn listens(&mut self) -> Result<u16, CommandError> {
        let path = self.port_file();
        let end = Instant::now() + START_TIMEOUT;
        while Instant::now() < end {
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            if let Ok(port) = written.trim().parse() {
                return Ok(port);
            }
            if let Some(status) = self.coordinator.ended()? {
                return Err(self.failure(Who::Coordinator, status));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Err(CommandError::Infrastructure(format!(
            "the coordinator does not listen after {} s; see {}",
            START_TIMEOUT.as_secs(),
            self.log(Who::Coordinator).display()
        )))
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Coordinator processes so far.
    pub(super) fn coordinator_lives(&self) -> u32 {
        self.coordinator.count
    }

    /// Starts a process that is not there, and may be told to die.
    pub(super) fn launch(&mut self, who: Who, crash: Option<Order>) -> Result<(), CommandError> {
        let lives = self.lives(who);
        lives.count += 1;
        lives.order = crash;
        lives.made = false;
        lives.stopped = false;
        let child = self.spawn(who, crash);
        self.lives(who).child = Some(child.map_err(|error| {
            CommandError::Infrastructure(format!("the {who} cannot be started: {error}"))
        })?);
        Ok(())
    }

    fn spawn(&self, who: Who, crash: Option<Order>) -> io::Result<Child> {
        let log = self.open_log(who)?;
        let mut command = Command::new(process::program()?);
        match who {
            Who::Coordinator => self.coordinate(&mut command),
            Who::Worker(worker) => self.work(&mut command, worker),
        }
        command
            .args(["--parent", &std::process::id().to_string()])
            .env_remove(failpoint::VARIABLE)
            .envs(crash.map(|order| (failpoint::VARIABLE, order.to_string())))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Their own group: Ctrl-C reaches the verb alone, which ends them.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn()
    }

    fn coordinate(&self, command: &mut Command) {
        command
            .arg("coordinator")
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.spec.dir.join("data"))
            .arg("--port-file")
            .arg(self.port_file())
            // The job is this user's own.
            .args(["--corpus-root", "/"]);
    }

    fn work(&self, command: &mut Command, worker: usize) {
        let spec = &self.spec;
        let cache = spec.cache.as_ref().unwrap_or(&spec.dir);
        command
            .arg("worker")
            .args(["--coordinator", &self.url()])
            .args(["--device", &spec.device.to_string()])
            .args(["--threads", &spec.threads.to_string()])
            .args(["--name", &self.name(worker)])
            .args(["--corpus-root", "/"])
            .arg("--cache-dir")
            .arg(cache.join(format!("cache-{}", worker + 1)));
    }

    /// What a worker is called in this life of its: the coordinator may still list the one before.
    pub(super) fn name(&self, worker: usize) -> String {
        let who = Who::Worker(worker);
        match self.workers[worker].count {
            0 | 1 => who.to_string(),
            count => format!("{who}-life-{count}"),
        }
    }

    /// Whether something may be done to it: it is there, goes on, nobody has ended it yet, and it is
    /// not about to die by itself.
    pub(super) fn is_free(&self, who: Who) -> bool {
        let lives = match who {
            Who::Coordinator => &self.coordinator,
            Who::Worker(worker) => &self.workers[worker],
        };
        lives.child.is_some() && !lives.made && !lives.stopped && lives.order.is_none()
    }

    /// Ends a process with `signal`.
    pub(super) fn end_one(&mut self, who: Who, signal: Signal) {
        let lives = self.lives(who);
        lives.made = true;
        lives.send(signal);
    }

    pub(super) fn stop(&mut self, worker: usize) {
        let lives = &mut self.workers[worker];
        lives.stopped = true;
        lives.send(Signal::STOP);
    }

    /// Lets a worker go on that was stopped.
    pub(super) fn go_on(&mut self, worker: usize) {
        let lives = &mut self.workers[worker];
        lives.stopped = false;
        lives.send(Signal::CONT);
    }

    /// Starts again whoever has ended, and says who that was and how it ended.
    ///
    /// # Errors
    /// When a process cannot work here, or ends too often.
    pub(super) fn look_after(&mut self) -> Result<Vec<(Who, ProcessEnd)>, CommandError> {
        let workers = (0..self.workers.len()).map(Who::Worker);
        let everyone = std::iter::once(Who::Coordinator).chain(workers);
        let mut ends = Vec::new();
        for who in everyone {
            let lives = self.lives(who);
            let Some(status) = lives.ended()? else {
                continue;
            };
            let end = lives.end(status);
            if let ProcessEnd::Unexpected(status) = end {
                lives.unexpected += 1;
                // Who says that it cannot work here would say so again.
                if matches!(status.code(), Some(2 | 78)) || lives.unexpected > MAX_RESTARTS {
                    return Err(self.failure(who, status));
                }
            }
            ends.push((who, end));
            self.launch(who, None)?;
        }
        Ok(ends)
    }

    fn failure(&self, who: Who, status: ExitStatus) -> CommandError {
        let log = self.log(who);
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        let told = format!("the {who} ended ({status}): {last}; see {}", log.display());
        match status.code() {
            Some(2 | 78) => CommandError::Data(told),
            _ => CommandError::Infrastructure(told),
        }
    }

    /// Kills everyone and waits until they are gone.
    pub(super) async fn end(mut self) {
        let everyone = std::iter::once(&mut self.coordinator).chain(&mut self.workers);
        let mut children: Vec<Child> = everyone.filter_map(|lives| lives.child.take()).collect();
        for child in &mut children {
            let _ = child.start_kill();
        }
        for mut child in children {
            let _ = child.wait().await;
        }
    }

    fn lives(&mut self, who: Who) -> &mut Lives {
        match who {
            Who::Coordinator => &mut self.coordinator,
            Who::Worker(worker) => &mut self.workers[worker],
        }
    }

    fn port_file(&self) -> PathBuf {
        self.spec.dir.join("port")
    }

    fn log(&self, who: Who) -> PathBuf {
        self.spec.dir.join(format!("{who}.log"))
    }

    /// All lives of a process write one log.
    fn open_log(&self, who: Who) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(self.log(who))
    }
}

impl Lives {
    fn send(&self, signal: Signal) {
        if let Some(child) = &self.child {
            process::send(child, signal);
        }
    }

    /// How the present life ended, once it has; it is said once.
    fn ended(&mut self) -> Result<Option<ExitStatus>, CommandError> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait().map_err(|error| {
            CommandError::Infrastructure(format!("a process cannot be waited for: {error}"))
        })?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn end(&self, status: ExitStatus) -> ProcessEnd {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        match self.order {
            _ if self.made => ProcessEnd::Made,
            Some(order) if killed => ProcessEnd::Crashed(order),
            _ => ProcessEnd::Unexpected(status),
        }
    }
}

fn broken(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Infrastructure(format!("{}: {error}", path.display()))
}
