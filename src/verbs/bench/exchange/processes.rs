//! The processes of `bench exchange`: a coordinator on a folder that is gone afterwards, and workers
//! that are spoken to by line. They end with this one.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use proto::{endpoint::Credentials, identity::Role};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    figures::{MemoryUse, Setting},
    member::Said,
};
use crate::{
    certs::{Authority, Subject},
    exit::{CommandError, Context as _, Result},
    process,
};

/// How long the certificates of a measurement are valid.
const DAYS: u32 = 2;
/// How long the coordinator may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long workers may take until they have made a gradient up, and joined.
const JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// A folder that is removed when it is dropped.
pub(super) struct TempFolder(PathBuf);

impl TempFolder {
    pub(super) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("unisono-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // Whatever is left lies where temporary files lie.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) struct Processes {
    url: String,
    /// Where its certificates lie, if TLS is spoken.
    certs: Option<PathBuf>,
    coordinator: Child,
    workers: Vec<Child>,
    orders: Vec<ChildStdin>,
    said: mpsc::UnboundedReceiver<io::Result<Said>>,
    listeners: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts a coordinator on `folder` and `workers` workers, and waits until they have joined. To be
    /// called on the thread that lives as long as the program: Linux ends a child with the *thread* that
    /// started it.
    pub(super) async fn start(folder: &Path, setting: Setting, tls: bool) -> Result<Self> {
        let workers = setting.workers;
        let certs = tls.then(|| certificates(folder)).transpose()?;
        let port_file = folder.join("port");
        let log = folder.join("coordinator.log");
        let coordinator = command()?
            .arg("coordinator")
            .args(["--listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--port-file")
            .arg(&port_file)
            .arg("--corpus-root")
            .arg(folder)
            .args(options(certs.as_deref()))
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(File::create(&log)?))
            .spawn()
            .context("cannot start a coordinator")?;
        let (sender, said) = mpsc::unbounded_channel();
        let mut processes = Self {
            url: String::new(),
            certs,
            coordinator,
            workers: Vec::new(),
            orders: Vec::new(),
            said,
            listeners: Vec::new(),
        };
        let port = processes.port(&port_file, &log).await?;
        let scheme = if tls { "https" } else { "http" };
        processes.url = format!("{scheme}://127.0.0.1:{port}");
        for _ in 0..workers {
            processes.add(sender.clone(), setting)?;
        }
        for _ in 0..workers {
            match tokio::time::timeout(JOIN_TIMEOUT, processes.next()).await {
                Ok(said) => said?,
                Err(_) => return Err(late("the workers").into()),
            };
        }
        Ok(processes)
    }

    async fn port(&mut self, file: &Path, log: &Path) -> Result<u16> {
        let end = Instant::now() + START_TIMEOUT;
        while Instant::now() < end {
            if let Ok(port) = std::fs::read_to_string(file)
                .unwrap_or_default()
                .trim()
                .parse()
            {
                return Ok(port);
            }
            if let Some(status) = self.coordinator.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing");
                let told = format!("the coordinator ended ({status}): {last}");
                return Err(CommandError::Infrastructure(told).into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Err(late("the coordinator").into())
    }

    fn add(
        &mut self,
        sender: mpsc::UnboundedSender<io::Result<Said>>,
        setting: Setting,
    ) -> Result<()> {
        let mut worker = command()?
            .args(["bench", "exchange-worker"])
            .args(["--coordinator", &self.url])
            .args(options(self.certs.as_deref()))
            .args(["--elements", &setting.parameters.to_string()])
            .args(["--wire", setting.wire.name()])
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        if let (Some(orders), Some(lines)) = (worker.stdin.take(), worker.stdout.take()) {
            self.orders.push(orders);
            self.listeners.push(tokio::spawn(listen(lines, sender)));
        }
        self.workers.push(worker);
        Ok(())
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What this process shows the coordinator.
    pub(super) fn credentials(&self) -> Credentials {
        Credentials {
            certs_dir: self.certs.clone(),
            ..Credentials::default()
        }
    }

    /// Tells every worker to hand in what it has.
    pub(super) async fn go(&mut self) -> io::Result<()> {
        for orders in &mut self.orders {
            orders.write_all(b"\n").await?;
            orders.flush().await?;
        }
        Ok(())
    }

    /// What a worker says next.
    pub(super) async fn next(&mut self) -> Result<Said> {
        match self.said.recv().await {
            Some(said) => Ok(said?),
            None => Err(late("a worker").into()),
        }
    }

    /// The coordinator's memory so far.
    pub(super) fn memory(&self) -> Result<MemoryUse> {
        let pid = self
            .coordinator
            .id()
            .ok_or_else(|| CommandError::Infrastructure("the coordinator has ended".to_owned()))?;
        let path = format!("/proc/{pid}/status");
        let status =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes =
            peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let kibibytes = kibibytes
            .ok_or_else(|| CommandError::Infrastructure(format!("{path} has no VmHWM")))?;
        Ok(MemoryUse {
            peak: 1024 * kibibytes,
            shared: shared(pid)?,
        })
    }

    /// Kills everyone and waits until they are gone.
    pub(super) async fn end(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.coordinator]) {
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

/// A folder of certificates for all processes of the measurement.
fn certificates(folder: &Path) -> Result<PathBuf> {
    let dir = folder.join("certs");
    let authority = Authority::create(&dir, &folder.join("authority"), DAYS)?;
    let host = "127.0.0.1".to_owned();
    authority.issue(&dir, &Subject::node("coordinator", vec![host])?, DAYS)?;
    authority.issue(&dir, &Subject::client("bench", vec![Role::Admin])?, DAYS)?;
    Ok(dir)
}

/// How a process is told of the certificates.
fn options(certs: Option<&Path>) -> Vec<OsString> {
    let certs = certs.map(|certs| ["--certs-dir".into(), certs.into()]);
    certs.into_iter().flatten().collect()
}

fn late(who: &str) -> CommandError {
    CommandError::Infrastructure(format!("{who} did not come up"))
}

/// Bytes of the files in memory that a process has open.
fn shared(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/fd");
    let files = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let in_memory = files.flatten().map(|file| file.path()).filter(|path| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("/memfd:")
    });
    // A block of `stat` has 512 bytes.
    let bytes = in_memory.map(|path| std::fs::metadata(path).map_or(0, |it| 512 * it.blocks()));
    Ok(bytes.sum())
}

/// This program, quiet, in a group of its own, and killed when nobody holds it any more.
fn command() -> io::Result<Command> {
    let mut command = Command::new(process::program()?);
    command
        .env("UNISONO_LOG", "error")
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

async fn listen(lines: ChildStdout, said: mpsc::UnboundedSender<io::Result<Said>>) {
    let mut lines = BufReader::new(lines).lines();
    loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => serde_json::from_str(&line).map_err(io::Error::other),
            Ok(None) => Err(io::Error::other("a worker ended; what it said is above")),
            Err(error) => Err(error),
        };
        let ended = line.is_err();
        // Nobody listens any more only when the measurement is over.
        if said.send(line).is_err() || ended {
            return;
        }
    }
}
