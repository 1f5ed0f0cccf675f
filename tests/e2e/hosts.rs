//! A cluster of three hosts: network namespaces with an address each, joined by a bridge in a fourth. Their links are
//! cut and slowed down while a job is trained. Needs root and iproute2.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::fixture::{
    DEADLINE, Ended, Head, Process, calm, long, run, skip, tiny_job, unisono, until,
};

/// Hosts that are gone with this, and their network.
struct Network {
    /// Begins the names of the namespaces.
    prefix: String,
    hosts: usize,
}

impl Network {
    /// # Errors
    /// Why there are no such hosts here.
    fn start(hosts: usize) -> Result<Self, String> {
        let network = Self {
            prefix: format!("unisono-{}", std::process::id()),
            hosts,
        };
        network.lay_out().map(|()| network)
    }

    fn lay_out(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for host in 0..self.hosts {
            let (name, port) = (self.name(host), format!("port{host}"));
            ip(&["netns", "add", &name])?;
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
                "netns", &name,
            ])?;
            ip(&[
                "-n", &switch, "link", "set", &port, "master", "bridge", "up",
            ])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            let address = format!("{}/24", address(host));
            ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn name(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// The program on a host. Processes of all hosts see each other, and memory must not be shared all the same.
    fn command(&self, host: usize, dir: &Path) -> Command {
        let program = unisono();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(host)])
            .arg(program.get_program())
            .current_dir(dir)
            .env("UNISONO_SHARED_MEMORY", "off")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Takes the host's link down, or up again: packets are lost at the switch, and the host hears nothing of it.
    fn link(&self, host: usize, state: &str) {
        let port = format!("port{host}");
        ip(&["-n", &self.switch(), "link", "set", &port, state]).unwrap();
    }

    /// Slows down what the host sends. Says whether the kernel can.
    fn slow_down(&self, host: usize, rate: &str) -> bool {
        let limits = ["rate", rate, "burst", "32kb", "latency", "400ms"];
        let slowed = Command::new("ip")
            .args(["netns", "exec", &self.name(host)])
            .args(["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf"])
            .args(limits)
            .output();
        slowed.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|host| self.name(host));
        for namespace in hosts.chain([self.switch()]) {
            // One that was not made cannot be taken away.
            let _ = ip(&["netns", "delete", &namespace]);
        }
    }
}

fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

fn ip(args: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(args).output();
    let done = done.map_err(|error| format!("ip: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    Err(format!("ip {}: {}", args.join(" "), told.trim()))
}

/// A coordinator on host 0, and a worker on each other host.
struct Hosts {
    // Before the network, so that processes are gone when it is taken away.
    workers: Vec<Process>,
    coordinator: Process,
    dir: tempfile::TempDir,
    network: Network,
}

const URL: &str = "https://10.77.0.1:7700";

impl Hosts {
    fn start(network: Network) -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), ["certs", "init", "--host", "10.77.0.1"]).expect(0);
        let clients = (1..network.hosts).map(|host| (format!("host-{host}"), "worker"));
        for (name, role) in clients.chain([("ada".to_owned(), "submit")]) {
            let args = ["certs", "client", &name, "--role", role, "--out", &name];
            run(dir.path(), args).expect(0);
        }
        let mut command = network.command(0, dir.path());
        command
            .args(["coordinator", "--listen", "10.77.0.1:7700"])
            .args(["--certs-dir", "certs"])
            .args(["--data-dir", "data"]);
        let coordinator = Process::start(command);
        let ready = until(DEADLINE, || coordinator.stderr().contains("ready on"));
        assert!(ready, "{}", coordinator.stderr());
        let workers = (1..network.hosts).map(|host| {
            let mut command = network.command(host, dir.path());
            command
                .args(["worker", "--coordinator", URL, "--device", "cpu"])
                .args(["--threads", "1", "--name", &format!("host-{host}")])
                .args(["--certs-dir", &format!("host-{host}")])
                .args(["--cache-dir", &format!("cache-{host}")]);
            Process::start(command)
        });
        Self {
            workers: workers.collect(),
            coordinator,
            dir,
            network,
        }
    }

    /// A command of a client on `host`.
    fn verb(&self, host: usize, args: &[&str]) -> Ended {
        let mut command = self.network.command(host, self.dir.path());
        command
            .args(args)
            .args(["--coordinator", URL, "--certs-dir", "ada"]);
        Process::start(command).wait()
    }

    /// The job's status, as the coordinator's own host sees it.
    fn status(&self, id: &str) -> Value {
        self.verb(0, &["status", id, "-o", "json"]).expect(0).json()
    }

    #[track_caller]
    fn wait_for(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        let came = until(DEADLINE, || {
            status = self.status(id);
            wanted(&status) || status["status"] == "failed"
        });
        assert!(
            came && status["status"] != "failed",
            "{status:#}\n{}",
            self.told()
        );
        status
    }

    fn told(&self) -> String {
        let all = [&self.coordinator].into_iter().chain(&self.workers);
        all.map(Process::stderr).collect::<Vec<_>>().join("\n---\n")
    }
}

fn step(status: &Value) -> u64 {
    status["step"].as_u64().unwrap_or_default()
}

fn fault(status: &Value, kind: &str) -> u64 {
    status["faults"][kind].as_u64().unwrap_or_default()
}

#[test]
fn three_hosts_whose_links_are_cut_and_slow_give_the_bits_of_one() {
    if !rustix::process::geteuid().is_root() {
        return skip("a cluster of three hosts", "network namespaces need root");
    }
    let network = match Network::start(3) {
        Ok(network) => network,
        Err(why) => return skip("a cluster of three hosts", &why),
    };
    let hosts = Hosts::start(network);
    let job = tiny_job(hosts.dir.path(), Head::Ctc);
    let submitted = hosts.verb(
        2,
        &[
            "submit",
            job.to_str().unwrap(),
            "--no-wait",
            "-o",
            "json",
            "--set",
            long(Head::Ctc),
            "--set",
            "train.checkpoint_every=7",
        ],
    );
    let id = submitted.expect(0).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    hosts.wait_for(&id, |status| step(status) > 5);
    // Both workers are cut off until the coordinator has lost them.
    for host in [1, 2] {
        hosts.network.link(host, "down");
    }
    let lost = hosts.wait_for(&id, |status| fault(status, "lost") >= 2);
    assert!(
        hosts.verb(1, &["status"]).code != Some(0),
        "host 1 is cut off"
    );
    if !hosts.network.slow_down(1, "20mbit") {
        skip("a slow link", "the kernel has no token bucket filter");
    }
    for host in [1, 2] {
        hosts.network.link(host, "up");
    }
    hosts.wait_for(&id, |status| step(status) > step(&lost));
    // One is cut off for a moment: TCP sends again what was lost.
    hosts.network.link(2, "down");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        thread::sleep(Duration::from_millis(100));
    }
    hosts.network.link(2, "up");
    let ended = hosts.wait_for(&id, |status| status["status"] == "succeeded");
    assert_eq!(ended["weights_sha256"], calm(Head::Ctc)["weights_sha256"]);
    // Both came back by themselves, and nothing went by shared memory.
    let workers = hosts.verb(0, &["workers", "-o", "json"]).expect(0).json();
    let workers = workers.as_array().unwrap();
    let names: Vec<&str> = workers
        .iter()
        .map(|worker| worker["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"host-1") && names.contains(&"host-2"),
        "{names:?}"
    );
}
