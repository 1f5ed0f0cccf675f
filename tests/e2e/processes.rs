//! What befalls processes on their way: workers that die again and again, coordinators that are restarted, homes that
//! cannot be written, variables that mean nothing.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cluster::Cluster,
    fixture::{
        DEADLINE, Head, Process, calm, descendants, json_file, json_lines, long, report, tiny_job,
        unisono, until,
    },
};

fn steps(dir: &Path) -> usize {
    let written = fs::read_to_string(dir.join("run/metrics.jsonl")).unwrap_or_default();
    written.lines().count()
}

const TRAIN: &str = "train tiny.toml --workers 1 --device cpu --out run";

fn train(dir: &Path, more: &str) -> Process {
    let mut command = unisono();
    command
        .current_dir(dir)
        .args(TRAIN.split(' '))
        .args(more.split_whitespace());
    Process::start(command)
}

#[test]
fn a_worker_may_die_any_number_of_times_as_long_as_it_works_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let mut process = train(dir, "--set train.epochs=5000");
    for kill in 0..8 {
        let before = steps(dir);
        let on = until(DEADLINE, || {
            steps(dir) > before + 5 || !process.is_running()
        });
        assert!(on && process.is_running(), "{kill}: {}", process.stderr());
        let workers = descendants(process.pid());
        assert_eq!(workers.len(), 1);
        kill_process(Pid::from_raw(workers[0]).unwrap(), Signal::KILL).unwrap();
        let gone = || descendants(process.pid()) != workers;
        assert!(until(DEADLINE, gone), "{}", process.stderr());
    }
    process.signal(Signal::INT);
    let ended = process.wait().expect(130);
    assert!(
        ended.stderr.contains("SIGKILL") && ended.stderr.contains("memory"),
        "{ended:?}"
    );
    assert!(!ended.stderr.contains("(2 of"), "{ended:?}");
}

#[test]
fn a_run_whose_workers_cannot_work_is_written_down_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let ended = train(dir, "--cache-dir /dev/null/cache").wait().expect(78);
    assert!(ended.stderr.contains("--cache-dir"), "{ended:?}");
    let state = json_file(&dir.join("run/state.json"));
    let job = state["jobs"].as_object().unwrap().values().next().unwrap();
    assert_eq!(job["state"], "failed");
    assert_eq!(report(&dir.join("run"))["cause"], "data");
    // It can be taken up with a folder that will do.
    train(dir, "--resume").wait().expect(0);
}

#[test]
fn a_home_that_cannot_be_written_costs_nothing_but_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let temporary = dir.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = unisono();
    command
        .current_dir(dir)
        .args(TRAIN.split(' '))
        .env_remove("XDG_CACHE_HOME")
        // Nobody can make a folder below it, root included.
        .env("HOME", "/dev/null")
        .env("TMPDIR", &temporary);
    let ended = Process::start(command).wait().expect(0);
    let warnings = ended.stderr.matches("cannot be used as the cache");
    assert_eq!(warnings.count(), 1, "{ended:?}");
    assert!(fs::read_dir(temporary).unwrap().count() > 0);
}

#[test]
fn an_audit_of_everything_by_nobody_is_refused_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let ended = train(dir.path(), "--set train.audit=1.0").wait().expect(78);
    assert!(ended.stderr.contains("--workers 2"), "{ended:?}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn variables_that_mean_nothing_are_refused_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str, value: &str, code: i32| {
        let mut command = unisono();
        command.args(["completions", "bash"]).env(name, value);
        command.current_dir(dir.path());
        Process::start(command).wait().expect(code).stderr
    };
    let refused = told("UNISONO_SHARED_MEMORY", "offf", 2);
    assert!(
        refused.contains("UNISONO_SHARED_MEMORY=\"offf\""),
        "{refused}"
    );
    let refused = told("UNISONO_LOG", "not a [filter", 2);
    assert!(
        refused.contains("UNISONO_LOG") && refused.contains("not a [filter"),
        "{refused}"
    );
    let warned = told("UNISONO_SHARED_MEMRY", "off", 0);
    assert!(
        warned.contains("did you mean UNISONO_SHARED_MEMORY?"),
        "{warned}"
    );
    // Compose files pass on what is not set as an empty text; Kubernetes sets what it likes.
    for (name, value) in [
        ("UNISONO_COORDINATOR", ""),
        ("UNISONO_LOG", ""),
        ("UNISONO_SHARED_MEMORY", "False"),
        ("UNISONO_SERVICE_HOST", "10.0.0.1"),
    ] {
        assert_eq!(told(name, value, 0), "");
    }
}

#[test]
fn workers_and_followers_wait_for_a_coordinator_that_is_restarted_in_order() {
    let mut cluster = Cluster::start(&[&["--device", "cpu"]]);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let id = cluster.submit(&job, &[long(Head::Keyword)]);
    cluster.wait_for(&id, |status| status["step"].as_u64().unwrap() > 3);
    let mut command = unisono();
    command.args(["logs", "-f", &id, "--coordinator", &cluster.url]);
    let mut follower = Process::start(command);
    follower.wait_for_a_line();
    cluster.restart_coordinator(Signal::TERM);
    let ended = cluster.wait_until_ended(&id);
    assert_eq!(ended["status"], "succeeded", "{}", cluster.told());
    assert_eq!(ended["lives"], 2, "it was over before the restart");
    assert_eq!(
        ended["weights_sha256"],
        calm(Head::Keyword)["weights_sha256"]
    );
    let log = follower.wait().expect(0);
    let last = log.stdout.trim_end().lines().last().unwrap();
    assert!(last.contains("succeeded"), "{log:?}");
    // Each event once, the times of all of them as text in order.
    let events = json_lines(
        &cluster
            .dir
            .path()
            .join("data/jobs")
            .join(&id)
            .join("events.jsonl"),
    );
    assert!(log.stdout.lines().count() >= events.len(), "{log:?}");
    for event in &events {
        assert_eq!(event["time"].as_str().unwrap().len(), 24, "{event}");
    }
}

#[test]
fn logs_that_are_followed_end_as_the_job_does() {
    let cluster = Cluster::start(&[&["--device", "cpu"]]);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let id = cluster.submit(&job, &["train.epochs=5000"]);
    cluster.wait_for(&id, |status| status["step"].as_u64().unwrap() > 3);
    cluster.ask(&["cancel", &id]);
    cluster.verb(&["logs", "-f", &id]).expect(1);
    cluster.verb(&["logs", &id]).expect(0);
}

#[test]
fn a_job_that_nobody_computes_says_so() {
    let mut cluster = Cluster::vacant("127.0.0.1:0");
    cluster.start_coordinator(None);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let follower = cluster.follow(&job, "train.epochs=1");
    let missing = "waits for a worker: none is connected";
    let told = until(DEADLINE, || follower.stderr().contains(missing));
    assert!(told, "{}", follower.stderr());
    let status = cluster.verb(&["status"]).expect(0).stdout;
    assert!(status.contains("waits for    a worker"), "{status}");
    let jobs = cluster.verb(&["jobs"]).expect(0).stdout;
    assert!(jobs.contains("a worker: none is connected"), "{jobs}");
    cluster.hire(&["--device", "cpu"], None);
    follower.wait().expect(0);
    assert_eq!(
        cluster.ask(&["jobs"])[0]["waiting_for"],
        serde_json::Value::Null
    );
}
