//! `kill -9` at every place where it hurts, damaged checkpoints, and coordinators that are late or one
//! too many: the run ends with the bits of one that nothing happened to.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use proto::failpoint::{Failpoint, Order};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    fixture::{DEADLINE, Head, calm, json_lines, long, run, tiny_job, until},
};

const CPU: &[&str] = &["--device", "cpu"];

/// Places of one kind of process, each passed a few times before it is deadly.
fn deaths(prefix: &str) -> Vec<String> {
    let places = Failpoint::ALL.into_iter();
    let places = places.filter(|place| place.name().starts_with(prefix));
    let deaths = places.map(|place| {
        let nth = match place {
            Failpoint::CoordinatorRename => 2,
            _ => 5,
        };
        Order { place, nth }.to_string()
    });
    deaths.collect()
}

/// Submits the long tiny job to `cluster` and gives its id.
fn submit(cluster: &Cluster, head: Head) -> String {
    let job = tiny_job(cluster.dir.path(), head);
    cluster.submit(&job, &[long(head)])
}

#[track_caller]
fn ends_as_if_nothing_had_happened(cluster: &Cluster, id: &str, head: Head, what: &str) -> Value {
    let ended = cluster.wait_until_ended(id);
    assert_eq!(ended["status"], "succeeded", "{what}: {}", cluster.told());
    assert_eq!(
        ended["weights_sha256"],
        calm(head)["weights_sha256"],
        "{what}: {ended:#}"
    );
    ended
}

#[test]
fn a_worker_killed_in_any_phase_changes_no_bit() {
    let head = Head::Keyword;
    let deaths = deaths("worker");
    assert_eq!(deaths.len(), 3);
    for death in deaths {
        let mut cluster = Cluster::start(&[CPU]);
        cluster.hire(CPU, Some(&death));
        cluster.wait_for_workers(2);
        let id = submit(&cluster, head);
        let victim = cluster.workers.pop().unwrap();
        victim.wait().expect_killed();
        cluster.hire(CPU, None);
        ends_as_if_nothing_had_happened(&cluster, &id, head, &death);
    }
}

#[test]
fn a_coordinator_killed_in_any_phase_changes_no_bit_and_its_workers_stay() {
    let head = Head::Ctc;
    let deaths = deaths("coordinator");
    assert_eq!(deaths.len(), 5);
    for death in deaths {
        let mut cluster = Cluster::vacant("127.0.0.1:0");
        cluster.start_coordinator(Some(&death));
        cluster.hire(CPU, None);
        cluster.hire(CPU, None);
        cluster.wait_for_workers(2);
        let id = submit(&cluster, head);
        let victim = cluster.coordinator.take().unwrap();
        victim.wait().expect_killed();
        cluster.start_coordinator(None);
        ends_as_if_nothing_had_happened(&cluster, &id, head, &death);
        for worker in &mut cluster.workers {
            assert!(worker.is_running(), "{death}: {}", worker.stderr());
        }
    }
}

#[test]
fn a_job_is_followed_through_the_death_of_its_coordinator() {
    let mut cluster = Cluster::start(&[CPU]);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let follower = cluster.follow(&job, long(Head::Keyword));
    let shown = until(DEADLINE, || follower.stderr().contains("epoch 3:"));
    assert!(shown, "{}", follower.stderr());
    cluster.restart_coordinator(Signal::KILL);
    let ended = follower.wait().expect(0);
    let hash = &calm(Head::Keyword)["weights_sha256"];
    assert_eq!(&ended.json()["weights_sha256"], hash);
    for told in ["waiting for it", "goes on from step-", "epoch 100:"] {
        assert!(ended.stderr.contains(told), "`{told}` is not in: {ended:?}");
    }
}

/// A job's checkpoints, the oldest first.
fn checkpoints(run_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run_dir.join("checkpoints"));
    let paths = entries.into_iter().flatten();
    let mut found: Vec<PathBuf> = paths
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "safetensors"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let head = Head::Keyword;
    let truncate: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let flip: fn(&mut Vec<u8>) = |bytes| {
        let place = bytes.len() * 3 / 4;
        bytes[place] ^= 0b100;
    };
    for (what, damage) in [("cut short", truncate), ("a bit flipped", flip)] {
        let mut cluster = Cluster::start(&[CPU]);
        let id = submit(&cluster, head);
        let run_dir = cluster.dir.path().join("data/jobs").join(&id);
        assert!(until(DEADLINE, || checkpoints(&run_dir).len() >= 2));
        cluster.end_coordinator(Signal::KILL);

        let kept = checkpoints(&run_dir);
        let [.., before, newest] = kept.as_slice() else {
            panic!("{kept:?}");
        };
        let mut bytes = fs::read(newest).unwrap();
        damage(&mut bytes);
        fs::write(newest, bytes).unwrap();
        cluster.start_coordinator(None);
        ends_as_if_nothing_had_happened(&cluster, &id, head, what);

        let events = json_lines(&run_dir.join("events.jsonl"));
        let noticed = events
            .iter()
            .position(|event| event["event"] == "checkpoint-damaged")
            .unwrap_or_else(|| panic!("{what}: {events:#?}"));
        let reason = events[noticed]["reason"].as_str().unwrap();
        assert!(reason.contains(newest.to_str().unwrap()), "{reason}");
        let before = before.file_name().unwrap().to_str().unwrap();
        assert_eq!(events[noticed + 1]["resumed_from"], before, "{what}");
    }
}

#[test]
fn a_second_coordinator_on_a_data_directory_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::start(&[CPU]);
    let id = submit(&cluster, Head::Keyword);
    cluster.wait_for(&id, |status| status["step"].as_u64().unwrap() > 3);
    let args = "coordinator --listen 127.0.0.1:0 --data-dir data";
    let second = run(cluster.dir.path(), args.split(' ')).expect(75);
    let holder = cluster.coordinator.as_ref().unwrap().pid();
    let holder = format!("process {}", holder.as_raw_nonzero());
    assert!(second.stderr.contains(&holder), "{second:?}");
    let ended = ends_as_if_nothing_had_happened(&cluster, &id, Head::Keyword, "a second one");
    assert_eq!(ended["lives"], 1);
}

#[test]
fn a_worker_that_is_there_before_its_coordinator_joins_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut cluster = Cluster::vacant(&address);
    cluster.hire(&["--device", "cpu", "-v"], None);
    let tried = until(DEADLINE, || cluster.told().contains("no contact"));
    assert!(tried, "{}", cluster.told());
    cluster.start_coordinator(None);
    cluster.wait_for_workers(1);
    let id = submit(&cluster, Head::Keyword);
    ends_as_if_nothing_had_happened(&cluster, &id, Head::Keyword, "an early worker");
}
