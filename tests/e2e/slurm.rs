//! `deploy/slurm/unisono.sbatch` under a real Slurm: two nodes on loopback, with daemons, ports, keys and folders of
//! their own. Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fixture::{
    DEADLINE, Head, calm, json_lines, long, report, root, skip, tiny_job, unisono, until,
};

/// Where Debian has the daemons, whatever the caller's PATH says.
fn path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Why no Slurm can be started here.
fn missing() -> Option<String> {
    for program in [
        "munged",
        "slurmctld",
        "slurmd",
        "sbatch",
        "srun",
        "scontrol",
    ] {
        let is_there = path()
            .split(':')
            .any(|dir| Path::new(dir).join(program).is_file());
        if !is_there {
            return Some(format!("{program} is not installed"));
        }
    }
    (!rustix::process::geteuid().is_root()).then(|| "slurmd needs root".to_owned())
}

/// Ports that nobody listens on, below those that the system gives to whoever asks for any. Where the search begins
/// depends on this process: two of them that search at once do not find the same ones.
fn free_ports(count: usize, attempt: u32) -> Vec<u16> {
    const PORTS: u32 = 12_000;
    let offset = (std::process::id() % PORTS * 7919 + attempt * 100) % PORTS;
    let candidates = (0..PORTS).map(|index| 20_000 + (offset + index) % PORTS);
    let candidates = candidates.map(|port| u16::try_from(port).unwrap());
    let free = candidates.filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    free.take(count).collect()
}

/// Processes in whose environment Slurm's configuration is the file `conf`: daemons, jobs and what these started.
fn processes_under(conf: &Path) -> Vec<Pid> {
    let wanted = format!("SLURM_CONF={}", conf.display());
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ours = all.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    });
    let ids = ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(Pid::from_raw).collect()
}

/// A Slurm of two nodes, `n1` and `n2`, with a partition `low` whose jobs are preempted by those of `high`.
struct Slurm {
    daemons: Vec<Child>,
    dir: TempDir,
}

impl Slurm {
    /// Again with other ports when somebody else was faster to listen on one.
    fn start() -> Self {
        let started = (0..3).find_map(|attempt| Self::try_to_start(attempt).ok());
        started.unwrap_or_else(|| Self::try_to_start(3).unwrap())
    }

    /// Starts the daemons and waits until both nodes are idle, or gives what was said when one of the daemons ended.
    fn try_to_start(attempt: u32) -> Result<Self, String> {
        let mut slurm = Self {
            daemons: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["state", "log", "spool-n1", "spool-n2"] {
            fs::create_dir(slurm.at(folder)).unwrap();
        }
        slurm.configure(attempt);
        slurm.start_munge();
        let conf = slurm.conf();
        slurm.start_daemon(
            "slurmctld",
            "slurmctld",
            &["-D", "-f"].map(OsStr::new),
            Some(&conf),
        );
        for node in ["n1", "n2"] {
            slurm.start_daemon(
                node,
                "slurmd",
                &["-D", "-N", node, "-f"].map(OsStr::new),
                Some(&conf),
            );
        }
        let mut are_idle = false;
        let known = until(DEADLINE, || {
            are_idle = slurm.ask("sinfo", &["-h", "-p", "low", "-t", "idle", "-o", "%D"]) == "2";
            are_idle || slurm.has_lost_a_daemon()
        });
        assert!(known, "{}", slurm.told());
        if are_idle {
            Ok(slurm)
        } else {
            Err(slurm.told())
        }
    }

    fn has_lost_a_daemon(&mut self) -> bool {
        self.daemons
            .iter_mut()
            .any(|daemon| daemon.try_wait().unwrap().is_some())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.at("slurm.conf")
    }

    /// `cred_expire` is also how long a job waits that was requeued; less than 5 s is refused.
    fn configure(&self, attempt: u32) {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let dir = self.dir.path().display();
        let ports = free_ports(3, attempt);
        let [controller, first, second] = ports[..] else {
            panic!("no free ports");
        };
        let text = format!(
            "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/log/slurmctld
SlurmdLogFile={dir}/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1
PartitionName=high Nodes=n1,n2 PriorityTier=10
"
        );
        fs::write(self.conf(), text).unwrap();
    }

    fn start_munge(&mut self) {
        let key = self.at("munge.key");
        let mut random = [0; 1024];
        std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut random).unwrap();
        fs::write(&key, random).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let socket = self.at("munge.socket");
        let option = |name: &str, file: &str| format!("--{name}={}", self.at(file).display());
        let args = [
            "--foreground".to_owned(),
            // The temporary folder's parent may be written by others.
            "--force".to_owned(),
            option("socket", "munge.socket"),
            option("key-file", "munge.key"),
            option("pid-file", "munged.pid"),
            option("log-file", "log/munged"),
            option("seed-file", "munge.seed"),
        ];
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        self.start_daemon("munged", "munged", &args, None);
        assert!(until(DEADLINE, || socket.exists()), "{}", self.told());
    }

    /// A program with this Slurm's configuration and nothing of another one.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["SLURM", "SBATCH", "UNISONO"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(self.dir.path())
            .env("PATH", path())
            .env("SLURM_CONF", self.conf())
            .stdin(Stdio::null());
        command
    }

    fn start_daemon(&mut self, name: &str, program: &str, args: &[&OsStr], file: Option<&Path>) {
        let said = File::create(self.at("log").join(format!("{name}.stderr"))).unwrap();
        let mut command = self.command(program);
        command
            .args(args)
            .args(file)
            .stdout(Stdio::null())
            .stderr(said);
        self.daemons.push(command.spawn().unwrap());
    }

    /// What a program of Slurm's prints; nothing while the controller does not answer.
    fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Submits the batch script with `args` for both nodes and gives the job's number.
    fn submit(&self, folder: &str, args: &[&str]) -> String {
        let cache = self.at("cache");
        let mut command = self.command("sbatch");
        command
            .args(["--parsable", "--nodes=2", "--output"])
            .arg(self.at(folder).with_extension("out"))
            .arg(root().join("deploy/slurm/unisono.sbatch"))
            .args(args)
            .env("UNISONO", unisono().get_program())
            .env("FOLDER", self.at(folder))
            .env("NO_COLOR", "1")
            .env(
                "WORKER_OPTIONS",
                format!("--device cpu --threads 1 --cache-dir {}", cache.display()),
            );
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What the batch script printed.
    fn printed(&self, folder: &str) -> String {
        fs::read_to_string(self.at(folder).with_extension("out")).unwrap_or_default()
    }

    #[track_caller]
    fn wait_until_printed(&self, folder: &str, wanted: &str) {
        let printed = until(DEADLINE, || self.printed(folder).contains(wanted));
        assert!(
            printed,
            "no {wanted:?} in\n{}\n{}",
            self.printed(folder),
            self.told()
        );
    }

    /// Waits for the end of job `id` and gives what Slurm knows of it, as `KEY=VALUE` words.
    #[track_caller]
    fn wait_for_end(&self, id: &str) -> Vec<String> {
        let mut job = String::new();
        let ended = until(DEADLINE, || {
            job = self.ask("scontrol", &["show", "job", "--oneliner", id]);
            ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]
                .iter()
                .any(|state| job.contains(&format!("JobState={state} ")))
        });
        assert!(ended, "{job}\n{}", self.told());
        job.split_whitespace().map(str::to_owned).collect()
    }

    /// The coordinator, held still behind step `least` of the run in `folder`: what happens next happens in the
    /// middle of training, however slow this test is. Gives the last step that was written down.
    #[track_caller]
    fn hold_behind(&self, least: usize, folder: &str) -> (Pid, usize) {
        let run = self.at(folder).join("data/jobs/0001-tiny");
        let steps = || {
            fs::read_to_string(run.join("metrics.jsonl"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        assert!(
            until(DEADLINE, || steps() > least),
            "{}\n{}",
            self.printed(folder),
            self.told()
        );
        let is_coordinator = |pid: &Pid| {
            let line =
                fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"coordinator")
        };
        let coordinator = processes_under(&self.conf())
            .into_iter()
            .find(is_coordinator);
        let coordinator = coordinator.expect("it is at work");
        kill_process(coordinator, Signal::STOP).unwrap();
        assert!(
            !run.join("report.json").exists(),
            "it ended too early:\n{}",
            self.printed(folder)
        );
        (coordinator, steps())
    }

    /// What the daemons wrote down, for a test that fails.
    fn told(&self) -> String {
        let files = fs::read_dir(self.at("log")).unwrap().flatten();
        let texts = files.map(|file| {
            let text = fs::read(file.path()).unwrap_or_default();
            format!(
                "--- {}\n{}",
                file.path().display(),
                String::from_utf8_lossy(&text)
            )
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // Again and again: one that is starting another may be ended in between.
        let conf = self.conf();
        let all_gone = until(DEADLINE, || {
            let left = processes_under(&conf);
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            for daemon in &mut self.daemons {
                let _ = daemon.try_wait();
            }
            left.is_empty()
        });
        if !all_gone && !std::thread::panicking() {
            panic!("processes of Slurm are left");
        }
    }
}

/// Whether `signal` waits for the process to go on.
fn is_pending(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    pending.is_some_and(|bits| bits & (1 << (signal.as_raw() - 1)) != 0)
}

#[test]
fn a_job_that_slurm_preempts_and_requeues_ends_with_the_same_bits() {
    if let Some(why) = missing() {
        return skip("deploy/slurm under Slurm", &why);
    }
    let slurm = Slurm::start();
    tiny_job(slurm.dir.path(), Head::Keyword);
    let id = slurm.submit("run", &["tiny.toml", "--set", long(Head::Keyword)]);

    // Slurm lets stopped processes go on, so that they hear its SIGTERM.
    let (_, preempted_at) = slurm.hold_behind(20, "run");
    let preempting = [
        "--parsable",
        "--partition=high",
        "--nodes=2",
        "--output=/dev/null",
        "--wrap=true",
    ];
    assert!(
        !slurm.ask("sbatch", &preempting).is_empty(),
        "{}",
        slurm.told()
    );
    slurm.wait_until_printed("run", "DUE TO PREEMPTION");
    slurm.wait_until_printed("run", "interrupted by SIGTERM");
    slurm.wait_until_printed("run", &format!("start 1 of job {id}"));

    // What Slurm sends a minute before the end of the time (`--signal`).
    let (coordinator, warned_at) = slurm.hold_behind(preempted_at + 20, "run");
    slurm.ask("scancel", &["--batch", "--signal=USR1", &id]);
    let heard = until(DEADLINE, || is_pending(coordinator, Signal::USR1));
    assert!(heard, "{}\n{}", slurm.printed("run"), slurm.told());
    kill_process(coordinator, Signal::CONT).unwrap();
    slurm.wait_until_printed("run", "interrupted by SIGUSR1");
    slurm.wait_until_printed("run", &format!("start 2 of job {id}"));

    let job = slurm.wait_for_end(&id);
    for wanted in ["JobState=COMPLETED", "ExitCode=0:0", "Restarts=2"] {
        assert!(
            job.iter().any(|word| word == wanted),
            "{wanted}: {job:?}\n{}",
            slurm.printed("run")
        );
    }
    let run = slurm.at("run/data/jobs/0001-tiny");
    let events = json_lines(&run.join("events.jsonl"));
    let resumed: Vec<usize> = events
        .iter()
        .filter(|event| event["event"] == "started" && event["resumed_from"].is_string())
        .map(|event| usize::try_from(event["step"].as_u64().unwrap()).unwrap())
        .collect();
    // Nothing that was done is done again: the last checkpoint was written on the signal.
    assert_eq!(resumed.len(), 2, "{events:?}");
    assert!(
        resumed[0] >= preempted_at && resumed[1] >= warned_at,
        "{resumed:?}"
    );
    let calm = calm(Head::Keyword);
    assert_eq!(report(&run)["weights_sha256"], calm["weights_sha256"]);

    // What another start does not mend is not tried again.
    let id = slurm.submit("mistyped", &["tinny.toml"]);
    let job = slurm.wait_for_end(&id);
    for wanted in ["JobState=FAILED", "ExitCode=78:0", "Restarts=0"] {
        assert!(
            job.iter().any(|word| word == wanted),
            "{wanted}: {job:?}\n{}",
            slurm.printed("mistyped")
        );
    }
    assert!(
        slurm.printed("mistyped").contains("tinny.toml"),
        "{}",
        slurm.printed("mistyped")
    );
}
