//! A coordinator and two workers as processes of their own, and everything that is said to them.

use serde_json::Value;

use crate::{
    cluster::Cluster,
    fixture::{Head, calm, json_lines, long, tiny_job},
};

#[test]
fn jobs_are_queued_followed_cancelled_and_resumed_with_the_bits_of_an_undisturbed_run() {
    let cluster = Cluster::start(&[
        &["--device", "cpu"],
        &["--device", "cpu", "--no-shared-files"],
    ]);
    let dir = cluster.dir.path();
    let job = tiny_job(dir, Head::Keyword);
    let long = long(Head::Keyword);

    let first = cluster.submit(&job, &[long]);
    let second = cluster.submit(&job, &["name=second"]);
    let running = cluster.wait_for(&first, |status| status["step"].as_u64().unwrap() > 3);
    assert_eq!(running["status"], "running");
    assert_eq!(running["epochs"], 100);
    let jobs = cluster.ask(&["jobs"]);
    let listed: Vec<&Value> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["id"])
        .collect();
    assert_eq!(listed, [first.as_str(), second.as_str()]);
    let workers = cluster.ask(&["workers"]);
    assert_eq!(workers.as_array().unwrap().len(), 2);

    let cancelled = cluster.ask(&["cancel", &first]);
    assert_eq!(cancelled["status"], "cancelled");
    let at = cancelled["step"].as_u64().unwrap();
    assert!((4..500).contains(&at), "{cancelled:#}");

    // The next one's turn; its log ends with it.
    let log = cluster.verb(&["logs", "-f", &second]).expect(0);
    assert!(
        log.stdout.contains("held-out synthetic accuracy"),
        "{log:?}"
    );
    assert!(
        log.stdout
            .trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("succeeded"),
        "{log:?}"
    );
    assert_eq!(cluster.wait_until_ended(&second)["status"], "succeeded");

    cluster.ask(&["resume", &first]);
    let ended = cluster.wait_until_ended(&first);
    assert_eq!(ended["status"], "succeeded", "{}", cluster.told());
    let calm = calm(Head::Keyword);
    assert_eq!(ended["weights_sha256"], calm["weights_sha256"]);
    assert_eq!(ended["metrics"], calm["metrics"]);
    let run_dir = dir.join("data/jobs").join(&first);
    let events = json_lines(&run_dir.join("events.jsonl"));
    let resumed = events
        .iter()
        .any(|event| event["event"] == "started" && event["resumed_from"].is_string());
    assert!(resumed, "it did not go on from a checkpoint: {events:#?}");
    assert!(run_dir.join("chart.svg").is_file());
    // Both workers took part, the one without files too.
    let workers = cluster.ask(&["workers"]);
    for worker in workers.as_array().unwrap() {
        assert!(worker["contributions"].as_u64().unwrap() > 0, "{workers:#}");
    }
    let without = cluster.verb(&["status"]).expect(0);
    assert!(without.stdout.contains(&second), "{without:?}");
}

#[test]
fn a_restarted_coordinator_and_a_killed_worker_change_no_bit() {
    let mut cluster = Cluster::start(&[&["--device", "cpu"], &["--device", "cpu"]]);
    let dir = cluster.dir.path().to_owned();
    let job = tiny_job(&dir, Head::Ctc);
    let sets = [long(Head::Ctc), "train.checkpoint_every=7"];
    let id = cluster.submit(&job, &sets);
    cluster.wait_for(&id, |status| status["step"].as_u64().unwrap() > 10);
    cluster.workers.pop();
    cluster.restart_coordinator(rustix::process::Signal::KILL);
    let ended = cluster.wait_until_ended(&id);
    assert_eq!(ended["status"], "succeeded", "{}", cluster.told());
    assert_eq!(ended["weights_sha256"], calm(Head::Ctc)["weights_sha256"]);
    assert!(
        ended["lives"].as_u64().unwrap() >= 2,
        "nothing was interrupted: {ended:#}"
    );
}

#[test]
fn a_job_that_is_followed_prints_its_report() {
    let cluster = Cluster::start(&[&["--device", "cpu"]]);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let ended = cluster
        .verb(&["submit", job.to_str().unwrap(), "-o", "json"])
        .expect(0);
    assert_eq!(ended.json()["status"], "succeeded");
    assert!(ended.stderr.contains("submitted"), "{ended:?}");
    // Its log line for line, as scripts read it.
    let log = cluster.verb(&["logs", "-o", "json"]).expect(0);
    for line in log.stdout.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}
