//! A coordinator and workers, each a process of its own, as on several hosts.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use proto::failpoint::VARIABLE;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{DEADLINE, Ended, Process, run, unisono, until};

pub struct Cluster {
    // Before the directory, so that processes are gone when it is removed.
    pub workers: Vec<Process>,
    pub coordinator: Option<Process>,
    pub url: String,
    pub dir: TempDir,
}

impl Cluster {
    /// Waits until everyone has joined. Each of `workers` is a worker's own arguments.
    pub fn start(workers: &[&[&str]]) -> Self {
        let mut cluster = Self::vacant("127.0.0.1:0");
        cluster.start_coordinator(None);
        for args in workers {
            cluster.hire(args, None);
        }
        cluster.wait_for_workers(workers.len());
        cluster
    }

    /// Nobody yet; the coordinator will listen on `address`.
    pub fn vacant(address: &str) -> Self {
        Self {
            workers: Vec::new(),
            coordinator: None,
            url: format!("http://{address}"),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a coordinator, which may be told to die at a place, and waits until it listens.
    pub fn start_coordinator(&mut self, crash: Option<&str>) {
        let mut command = unisono();
        command
            .args(["coordinator", "--listen", self.address(), "--data-dir"])
            .arg(self.dir.path().join("data"))
            .arg("--corpus-root")
            .arg(self.dir.path())
            .envs(crash.map(|place| (VARIABLE, place)));
        self.take_coordinator(command);
    }

    /// Runs `command` as the coordinator; where to write its port is added.
    pub fn take_coordinator(&mut self, mut command: Command) {
        let port_file = self.dir.path().join("port");
        let _ = fs::remove_file(&port_file);
        command.arg("--port-file").arg(&port_file);
        let mut process = Process::start(command);
        let ready = until(DEADLINE, || port_file.exists() || !process.is_running());
        assert!(ready && port_file.exists(), "{}", process.stderr());
        let port = fs::read_to_string(&port_file).unwrap();
        self.url = format!("http://127.0.0.1:{}", port.trim());
        self.coordinator = Some(process);
    }

    /// Starts one more worker, which may be told to die at a place.
    pub fn hire(&mut self, args: &[&str], crash: Option<&str>) {
        let crash = crash.map(|place| (VARIABLE, OsStr::new(place)));
        self.hire_with(args, crash.as_slice());
    }

    /// Starts one more worker with variables of its own in its environment.
    pub fn hire_with(&mut self, args: &[&str], variables: &[(&str, &OsStr)]) {
        let place = self.workers.len();
        let mut command = unisono();
        command
            .args(["worker", "--threads", "1", "--coordinator", &self.url])
            .args(["--name", &format!("w{place}"), "--cache-dir"])
            .arg(self.dir.path().join(format!("cache-{place}")))
            .args(args)
            .envs(variables.iter().copied());
        self.workers.push(Process::start(command));
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub fn wait_for_workers(&self, count: usize) {
        let joined = until(DEADLINE, || {
            self.ask(&["workers"]).as_array().unwrap().len() == count
        });
        assert!(joined, "{}", self.told());
    }

    /// Runs a client verb against the coordinator.
    pub fn verb(&self, args: &[&str]) -> Ended {
        let at = ["--coordinator", self.url.as_str()];
        run(self.dir.path(), args.iter().chain(&at))
    }

    /// A client verb's data.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().chain(&["-o", "json"]).copied().collect();
        self.verb(&args).expect(0).json()
    }

    /// Submits without waiting and gives the id.
    #[track_caller]
    pub fn submit(&self, job: &Path, sets: &[&str]) -> String {
        let mut args = vec!["submit", job.to_str().unwrap(), "--no-wait"];
        for set in sets {
            args.extend(["--set", set]);
        }
        self.ask(&args)["id"].as_str().unwrap().to_owned()
    }

    /// Submits a job with `set` and follows it.
    pub fn follow(&self, job: &Path, set: &str) -> Process {
        let mut command = unisono();
        command
            .args(["submit", job.to_str().unwrap(), "-o", "json"])
            .args(["--set", set])
            .args(["--coordinator", &self.url]);
        Process::start(command)
    }

    /// Waits until the status of job `id` satisfies `wanted`.
    #[track_caller]
    pub fn wait_for(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        let came = until(DEADLINE, || {
            status = self.ask(&["status", id]);
            wanted(&status)
        });
        assert!(came, "{status:#}\n{}", self.told());
        status
    }

    #[track_caller]
    pub fn wait_until_ended(&self, id: &str) -> Value {
        self.wait_for(id, |status| {
            ["succeeded", "failed", "cancelled"].contains(&status["status"].as_str().unwrap())
        })
    }

    /// What every process said, for a test that fails.
    pub fn told(&self) -> String {
        let all = self.coordinator.iter().chain(&self.workers);
        all.map(Process::stderr).collect::<Vec<_>>().join("\n---\n")
    }

    /// Ends the coordinator as `signal` does and starts it again at the same address.
    pub fn restart_coordinator(&mut self, signal: rustix::process::Signal) {
        self.end_coordinator(signal);
        self.start_coordinator(None);
    }

    /// Ends the coordinator as `signal` does.
    pub fn end_coordinator(&mut self, signal: rustix::process::Signal) {
        let old = self.coordinator.take().expect("it runs");
        old.signal(signal);
        old.wait();
    }
}
