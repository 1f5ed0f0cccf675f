//! `deploy/slurm/unisono.sbatch` under a real Slurm: two nodes on loopback, with daemons, ports, keys and folders of
//! their own. Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge.

use std::{
    collections::BTreeSet,
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

/// The words of a file of a process in `/proc` that has them one behind the other, such as `environ`.
fn words(pid: Pid, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Processes in whose environment Slurm's configuration is the file `conf`: daemons, jobs and what these started.
fn processes_under(conf: &Path) -> Vec<Pid> {
    let wanted = format!("SLURM_CONF={}", conf.display());
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ids = ids.filter_map(Pid::from_raw);
    ids.filter(|pid| words(*pid, "environ").contains(&wanted))
        .collect()
}

/// A Slurm of two nodes, `n1` and `n2`, of two GPUs each as far as Slurm knows, with a partition `low` whose jobs are preempted by those of `high`.
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
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 Gres=gpu:2
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1
PartitionName=high Nodes=n1,n2 PriorityTier=10
"
        );
        fs::write(self.conf(), text).unwrap();
        // Slurm wants to see devices, whatever they are.
        let gpus = [
            ("n1", "null"),
            ("n1", "zero"),
            ("n2", "full"),
            ("n2", "random"),
        ];
        let gpus = gpus.map(|(node, file)| format!("NodeName={node} Name=gpu File=/dev/{file}\n"));
        fs::write(self.at("gres.conf"), gpus.concat()).unwrap();
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

    /// Submits the batch script with `options` of sbatch and `args`, and gives the job's number.
    fn submit(&self, folder: &str, options: &[&str], args: &[&str]) -> String {
        let cache = self.at("cache");
        let mut command = self.command("sbatch");
        command
            .args(options)
            .args(["--parsable", "--output"])
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

    /// The processes of this Slurm that run the program's `verb`.
    fn processes(&self, verb: &str) -> Vec<Pid> {
        let all = processes_under(&self.conf()).into_iter();
        let runs_it = |pid: &Pid| {
            words(*pid, "cmdline")
                .get(1)
                .is_some_and(|word| word == verb)
        };
        all.filter(runs_it).collect()
    }

    /// The nodes of the workers that are there, each with the GPUs that Slurm gave it.
    fn gpus_of_workers(&self) -> BTreeSet<String> {
        let workers = self.processes("worker").into_iter();
        let gpus = workers.map(|pid| {
            let environment = words(pid, "environ");
            let value = |name: &str| {
                let found = environment.iter().find_map(|word| word.strip_prefix(name));
                found.unwrap_or("none").to_owned()
            };
            format!(
                "{} {}",
                value("SLURMD_NODENAME="),
                value("CUDA_VISIBLE_DEVICES=")
            )
        });
        gpus.collect()
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
        let coordinator = self.processes("coordinator").first().copied();
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
    let options = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-task=1"];
    let id = slurm.submit(
        "run",
        &options,
        &["tiny.toml", "--set", long(Head::Keyword)],
    );

    // Slurm lets stopped processes go on, so that they hear its SIGTERM.
    let (_, preempted_at) = slurm.hold_behind(20, "run");
    let each_its_own = BTreeSet::from(["n1 0", "n1 1", "n2 0", "n2 1"].map(str::to_owned));
    let given = until(DEADLINE, || slurm.gpus_of_workers() == each_its_own);
    assert!(given, "{:?}\n{}", slurm.gpus_of_workers(), slurm.told());
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

    // A node fails: the job goes on with the other one's workers.
    let (coordinator, _) = slurm.hold_behind(warned_at + 20, "run");
    slurm.ask(
        "scontrol",
        &["update", "nodename=n2", "state=down", "reason=test"],
    );
    slurm.wait_until_printed("run", "Node failure on n2");
    kill_process(coordinator, Signal::CONT).unwrap();

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
    let id = slurm.submit("mistyped", &["--nodes=1"], &["tinny.toml"]);
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
