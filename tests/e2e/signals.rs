//! Signals: every process ends within five seconds, and nothing but time is lost.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    fixture::{
        DEADLINE, Head, Process, calm, descendants, is_alive, json_file, long, report, tiny_job,
        unisono, until,
    },
};

const LIMIT: Duration = Duration::from_secs(5);

fn train(dir: &Path, extra: &[&str]) -> Process {
    let mut command = unisono();
    command
        .current_dir(dir)
        .args([
            "train",
            "tiny.toml",
            "--workers",
            "2",
            "--device",
            "cpu",
            "--out",
            "run",
        ])
        .args(extra);
    Process::start(command)
}

/// Steps that the run in `dir` has written down.
fn steps(dir: &Path) -> usize {
    let written = std::fs::read_to_string(dir.join("run/metrics.jsonl")).unwrap_or_default();
    written.lines().count()
}

#[track_caller]
fn is_interrupted_and_resumed(signal: Signal, code: i32) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let long = ["--set", long(Head::Keyword)];
    let process = train(dir, &long);
    assert!(until(DEADLINE, || steps(dir) > 5), "{}", process.stderr());
    let started = descendants(process.pid());
    assert_eq!(started.len(), 2, "two workers");
    let begun = std::time::Instant::now();
    process.signal(signal);
    let ended = process.wait().expect(code);
    assert!(begun.elapsed() < LIMIT, "{ended:?}");
    assert!(until(LIMIT.saturating_sub(begun.elapsed()), || {
        !started.iter().any(|&pid| is_alive(pid))
    }));
    assert!(ended.stderr.contains("--out run --resume"), "{ended:?}");
    let checkpoints = std::fs::read_dir(dir.join("run/checkpoints")).unwrap();
    assert!(checkpoints.count() > 0);
    let before = steps(dir);
    assert!(before < 500, "it was over before it was interrupted");

    let resumed = train(dir, &["--resume", long[0], long[1]]);
    let told = resumed.wait().expect(0).stderr;
    assert!(told.contains("goes on from"), "{told}");
    assert!(
        told.contains("/500: loss"),
        "the number of steps is known: {told}"
    );
    // What was done before is not told again.
    let steps_told = told.lines().filter_map(|line| {
        let step = line.split_once(" step ")?.1.split_once('/')?.0;
        step.parse().ok()
    });
    let first_told: Option<usize> = steps_told.min();
    assert!(first_told > Some(before), "{first_told:?} {before}: {told}");
    let (calm, resumed) = (calm(Head::Keyword), report(&dir.join("run")));
    assert_eq!(resumed["weights_sha256"], calm["weights_sha256"]);
    assert_eq!(resumed["metrics"], calm["metrics"]);
    assert_eq!(resumed["lives"], 2);
    assert_eq!(steps(dir), 500);
}

#[test]
fn ctrl_c_leaves_a_checkpoint_that_resumes_to_the_same_bits() {
    is_interrupted_and_resumed(Signal::INT, 130);
}

#[test]
fn sigterm_leaves_a_checkpoint_that_resumes_to_the_same_bits() {
    is_interrupted_and_resumed(Signal::TERM, 143);
}

/// What terminals, batch systems and people send beside those.
#[test]
fn other_signals_leave_a_checkpoint_of_the_last_step_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    for (signal, code) in [
        (Signal::HUP, 129),
        (Signal::QUIT, 131),
        (Signal::USR1, 128 + Signal::USR1.as_raw()),
        (Signal::XCPU, 128 + Signal::XCPU.as_raw()),
    ] {
        let _ = std::fs::remove_dir_all(dir.join("run"));
        let sets = [
            "--set",
            "train.epochs=5000",
            "--set",
            "train.checkpoint_every=0",
        ];
        let process = train(dir, &sets);
        assert!(until(DEADLINE, || steps(dir) > 7), "{}", process.stderr());
        process.signal(signal);
        let ended = process.wait().expect(code);
        assert!(ended.stderr.contains("--out run --resume"), "{ended:?}");
        assert_eq!(newest_checkpoint(dir), steps(dir), "{signal:?}: {ended:?}");
        // Nobody works on it now.
        let state = json_file(&dir.join("run/state.json"));
        let jobs = state["jobs"].as_object().unwrap();
        assert_eq!(jobs.values().next().unwrap()["state"], "queued");
    }
}

/// The step of the newest checkpoint of the run in `dir`.
fn newest_checkpoint(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir.join("run/checkpoints")).unwrap();
    let steps = files.filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        name.starts_with("step-")
            .then(|| digits.parse::<usize>().unwrap())
    });
    steps.max().unwrap()
}

#[test]
fn nohup_keeps_a_run_going_when_its_terminal_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let mut command = std::process::Command::new("sh");
    let program = unisono();
    let ignoring = "trap '' HUP; exec \"$0\" \"$@\"";
    command
        .current_dir(dir)
        .args(["-c", ignoring])
        .arg(program.get_program())
        .args(
            "train tiny.toml --workers 1 --device cpu --out run --set train.epochs=5000".split(' '),
        )
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut process = Process::start(command);
    assert!(until(DEADLINE, || steps(dir) > 5), "{}", process.stderr());
    process.signal(Signal::HUP);
    let before = steps(dir);
    assert!(
        until(DEADLINE, || steps(dir) > before + 20),
        "{}",
        process.stderr()
    );
    assert!(process.is_running());
    process.signal(Signal::TERM);
    process.wait().expect(143);
}

/// A terminal at Ctrl-S, `| less`, a log driver that hangs.
#[test]
fn sigterm_leaves_a_checkpoint_although_nobody_reads_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let mut command = unisono();
    command
        .current_dir(dir)
        .args(
            "train tiny.toml --workers 1 --device cpu --out run --set train.epochs=5000".split(' '),
        )
        .stdout(std::process::Stdio::null());
    // A pipe holds 64 KiB: all but the last few lines' room is taken.
    let (mut unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b'.'; (1 << 16) - 1024]).unwrap();
    let mut child = command.stderr(full).spawn().unwrap();
    drop(command);
    let pid = rustix::process::Pid::from_child(&child);
    assert!(until(DEADLINE, || steps(dir) > 300));
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let mut status = None;
    let ended = until(2 * LIMIT, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let made = steps(dir);
    let _ = child.kill();
    assert!(ended, "still running after {made} steps");
    assert_eq!(status.unwrap().code(), Some(143));
    assert_eq!(newest_checkpoint(dir), made);
    // It was full, and what was said at the end was not waited for.
    let mut said = Vec::new();
    unread.read_to_end(&mut said).unwrap();
    assert!(said.len() > (1 << 16) - 1024, "{} bytes", said.len());
}

#[test]
fn workers_end_with_a_parent_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let process = train(dir.path(), &["--set", "train.epochs=5000"]);
    assert!(
        until(DEADLINE, || steps(dir.path()) > 0),
        "{}",
        process.stderr()
    );
    let started = descendants(process.pid());
    assert_eq!(started.len(), 2);
    process.signal(Signal::KILL);
    assert!(until(LIMIT, || !started.iter().any(|&pid| is_alive(pid))));
}

#[test]
fn a_worker_that_is_killed_is_started_again_and_the_bits_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let long = ["--set", long(Head::Keyword)];
    let process = train(dir, &long);
    assert!(until(DEADLINE, || steps(dir) > 5), "{}", process.stderr());
    let victim = rustix::process::Pid::from_raw(descendants(process.pid())[0]).unwrap();
    rustix::process::kill_process(victim, Signal::KILL).unwrap();
    let ended = process.wait().expect(0);
    assert!(ended.stderr.contains("started again (1 of"), "{ended:?}");
    let (calm, disturbed) = (calm(Head::Keyword), report(&dir.join("run")));
    assert_eq!(disturbed["weights_sha256"], calm["weights_sha256"]);
}

#[test]
fn a_cluster_ends_in_order_and_ctrl_c_on_submit_leaves_the_job_running() {
    let mut cluster = Cluster::start(&[&["--device", "cpu"], &["--device", "cpu"]]);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let mut command = unisono();
    command
        .args([
            "submit",
            job.to_str().unwrap(),
            "--set",
            "train.epochs=5000",
        ])
        .args(["--coordinator", &cluster.url]);
    let follower = Process::start(command);
    let epoch_told = until(DEADLINE, || follower.stderr().contains("epoch "));
    assert!(epoch_told, "{}", follower.stderr());
    follower.signal(Signal::INT);
    let ended = follower.wait().expect(130);
    assert!(ended.stderr.contains("goes on without you"), "{ended:?}");
    let status = cluster.ask(&["status"]);
    assert_eq!(status["status"], "running");
    let step = status["step"].as_u64().unwrap();
    let id = status["id"].as_str().unwrap().to_owned();
    cluster.wait_for(&id, |status| status["step"].as_u64().unwrap() > step);

    // A worker says goodbye; the other one waits for the coordinator that stops, until it is told to end.
    let begun = std::time::Instant::now();
    let leaving = cluster.workers.pop().unwrap();
    leaving.signal(Signal::TERM);
    leaving.wait().expect(143);
    let coordinator = cluster.coordinator.take().unwrap();
    coordinator.signal(Signal::TERM);
    coordinator.wait().expect(143);
    let mut waiting = cluster.workers.pop().unwrap();
    let told = until(DEADLINE, || {
        waiting.stderr().contains("waiting for it to come back")
    });
    assert!(told && waiting.is_running(), "{}", waiting.stderr());
    waiting.signal(Signal::TERM);
    waiting.wait().expect(143);
    assert!(begun.elapsed() < LIMIT * 3);
    let checkpoints = cluster
        .dir
        .path()
        .join("data/jobs")
        .join(id)
        .join("checkpoints");
    assert!(std::fs::read_dir(checkpoints).unwrap().count() > 0);
}
