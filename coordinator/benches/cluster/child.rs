//! A coordinator as a process of its own, and what the system says of it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use coordinator::{
    server::{Config, Coordinator},
    store::Layout,
};
use speech::corpus_roots::CorpusRoots;

pub const ARGUMENT: &str = "coordinator-of-a-bench";

/// The child's part: a coordinator on `data_dir`, until its standard input ends.
pub fn coordinate(data_dir: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            metrics: None,
            layout: Layout::Queue {
                data_dir: data_dir.into(),
            },
            allow_plaintext: false,
            corpus_roots: CorpusRoots::anywhere(),
            tls: None,
            cache_dir: None,
            dismiss_workers: false,
        };
        let running = Coordinator::start(config).await.unwrap();
        println!("http://{}", running.addr());
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        ended.await.unwrap().unwrap();
        running.shutdown(Duration::from_secs(5)).await;
    });
}

pub struct Process {
    child: Child,
    pub url: String,
}

impl Process {
    pub fn start(data_dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .arg(data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut url).unwrap();
        Self {
            child,
            url: url.trim().to_owned(),
        }
    }

    /// Seconds that its threads have computed.
    pub fn processor_seconds(&self) -> f64 {
        let stat = self.read("stat");
        /// A second has, on every Linux there is.
        const TICKS: f64 = 100.0;
        // The name, in brackets, may hold anything; user and system time are fields 14 and 15.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .map(|it| it.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / TICKS
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
