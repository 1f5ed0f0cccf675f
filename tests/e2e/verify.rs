//! `verify`, with and without chaos. That it finds a difference is tested beside its comparison: no two
//! runs can be made to differ honestly.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{
    DEADLINE, Ended, Head, Process, calm, descendants, is_alive, long, report, run, tiny_job,
    unisono, until,
};

const KINDS: [&str; 7] = [
    "worker_kills",
    "worker_crashes",
    "coordinator_kills",
    "coordinator_crashes",
    "stops",
    "late_joins",
    "leaves",
];

fn verify(dir: &Path, args: &str) -> Ended {
    let args = format!("verify tiny.toml --device cpu -o json --out out {args}");
    run(dir, args.split(' '))
}

/// What was injected, by kind.
fn injected(run: &Value) -> Vec<(&'static str, u64)> {
    let count = |kind: &'static str| (kind, run["injected"][kind].as_u64().unwrap());
    KINDS.map(count).into()
}

#[test]
fn runs_whose_vectors_move_in_half_the_bytes_are_equal_too() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let long = long(Head::Keyword);
    let sets = format!("--workers 1,2 --set {long} --set train.wire=bf16");
    let found = verify(dir.path(), &sets).expect(0).json();
    assert_eq!(found["equal"], true);
    let in_full = &calm(Head::Keyword)["weights_sha256"];
    assert_ne!(
        &found["reference_sha256"], in_full,
        "rounding reaches the bits"
    );
}

#[test]
fn calm_runs_at_two_sizes_are_equal_and_keep_their_files() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let sets = format!("--workers 1,2 --set {}", long(Head::Keyword));
    let found = verify(dir.path(), &sets).expect(0).json();
    assert_eq!(found["job"], "tiny");
    assert_eq!(found["equal"], true);
    let hash = &calm(Head::Keyword)["weights_sha256"];
    assert_eq!(&found["reference_sha256"], hash);
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (workers, run) in [1, 2].into_iter().zip(runs) {
        assert_eq!(run["workers"], workers);
        assert_eq!(run["chaos"], false);
        assert_eq!(run["equal"], true);
        assert_eq!(&run["weights_sha256"], hash);
        assert_eq!(run["status"], "succeeded");
        assert_eq!(run["steps"], 500);
        assert_eq!(run["lives"], 1);
        assert!(run["seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(run["faults"]["joins"], workers);
        assert!(injected(run).iter().all(|(_, count)| *count == 0));
        let kept = dir.path().join(format!("out/workers-{workers}"));
        assert_eq!(
            &report(&kept.join("data/jobs/0001-tiny"))["weights_sha256"],
            hash
        );
        for log in [
            "coordinator.log".to_owned(),
            format!("worker-{workers}.log"),
        ] {
            assert!(kept.join(&log).metadata().unwrap().len() > 0, "{log}");
        }
    }
    // What is there is not written over, and no size is run twice.
    let again = verify(dir.path(), "--workers 2").expect(78);
    assert!(again.stderr.contains("out is not empty"), "{again:?}");
    verify(dir.path(), "--workers 2,2").expect(2);
}

#[track_caller]
fn survives_every_kind_of_fault(head: Head, epochs: u32) {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), head);
    let args = format!("--chaos --stop 3 --workers 2 --set train.epochs={epochs}");
    let ended = verify(dir.path(), &args).expect(0);
    let found = ended.json();
    assert_eq!(found["equal"], true, "{ended:?}");
    let [calm, chaotic] = found["runs"].as_array().unwrap().as_slice() else {
        panic!("{found:#}");
    };
    assert_eq!(calm["chaos"], false);
    assert_eq!(chaotic["chaos"], true);
    assert_eq!(chaotic["weights_sha256"], calm["weights_sha256"]);
    let all = injected(chaotic).iter().all(|(_, count)| *count > 0);
    assert!(all, "{found:#}\n{}", ended.stderr);
    assert_eq!(chaotic["lives"], 3, "{found:#}");
}

#[test]
fn a_keyword_job_survives_every_kind_of_fault_with_the_same_bits() {
    survives_every_kind_of_fault(Head::Keyword, 250);
}

#[test]
fn a_ctc_job_survives_every_kind_of_fault_with_the_same_bits() {
    survives_every_kind_of_fault(Head::Ctc, 150);
}

#[test]
fn ctrl_c_ends_every_process_a_stopped_one_too() {
    const LIMIT: Duration = Duration::from_secs(5);
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let out = format!("out-{code:?}");
        let mut command = unisono();
        command.current_dir(dir.path()).args([
            "verify",
            "tiny.toml",
            "--device",
            "cpu",
            "--chaos",
            "--workers",
            "1",
            "--out",
            &out,
            "--set",
            long(Head::Keyword),
        ]);
        let process = Process::start(command);
        let stopped = until(DEADLINE, || process.stderr().contains("is stopped"));
        assert!(stopped, "{}", process.stderr());
        let started = descendants(process.pid());
        assert_eq!(started.len(), 2, "a coordinator and a worker");
        let begun = std::time::Instant::now();
        process.signal(signal);
        assert_eq!(process.wait().code, code);
        assert!(until(LIMIT.saturating_sub(begun.elapsed()), || {
            !started.iter().any(|&pid| is_alive(pid))
        }));
    }
}

#[test]
fn a_job_that_fails_ends_the_verification_as_it_ends_itself() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    // No utterance is left that the features leave a frame of.
    let ended = verify(dir.path(), "--workers 1,2 --set features.stack=1000").expect(78);
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}
