//! A disk that runs full in the middle of a run: the job fails and says why, the coordinator does not,
//! and once there is room the job goes on.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cluster::Cluster,
    fixture::{DEADLINE, Head, calm, long, skip, tiny_job, unisono, until},
};

/// Why this machine lets nobody mount a disk of their own, if so.
fn obstacle() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// A coordinator that alone sees the disk on which its data directory lies.
fn on_a_small_disk(data: &Path) -> Command {
    let program = unisono();
    let mount = r#"mount -t tmpfs -o size=8m tmpfs "$1" && exec "$0" coordinator --listen 127.0.0.1:0 --data-dir "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", mount])
        .arg(program.get_program())
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    let block = [0; 4096];
    let error = loop {
        if let Err(error) = filler.write_all(&block) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_fails_the_job_and_it_goes_on_once_there_is_room() {
    if let Some(why) = obstacle() {
        return skip("a full disk", &why);
    }
    let mut cluster = Cluster::vacant("127.0.0.1:0");
    let data = cluster.dir.path().join("data");
    fs::create_dir(&data).unwrap();
    cluster.take_coordinator(on_a_small_disk(&data));
    cluster.hire(&["--device", "cpu"], None);
    let job = tiny_job(cluster.dir.path(), Head::Keyword);
    let follower = cluster.follow(&job, long(Head::Keyword));

    let id = "0001-tiny";
    assert!(until(DEADLINE, || {
        cluster.verb(&["status", id]).code == Some(0)
    }));
    cluster.wait_for(id, |status| status["step"].as_u64().unwrap() > 10);
    let pid = cluster.coordinator.as_ref().unwrap().pid();
    let seen_from_there = PathBuf::from(format!("/proc/{}/root", pid.as_raw_nonzero()));
    let filler = seen_from_there
        .join(data.strip_prefix("/").unwrap())
        .join("filler");
    fill(&filler);

    let ended = follower.wait().expect(75);
    let reason = "No space left on device";
    for word in [reason, data.join("jobs").join(id).to_str().unwrap()] {
        assert!(ended.stderr.contains(word), "`{word}` is not in: {ended:?}");
    }
    let failed = cluster.ask(&["status", id]);
    assert_eq!(failed["status"], "failed", "{}", cluster.told());
    assert_eq!(failed["cause"], "infrastructure");
    assert!(failed["error"].as_str().unwrap().contains(reason));

    // Nothing can be promised meanwhile, and nothing is.
    let refused = cluster.verb(&["resume", id]).expect(75);
    assert!(refused.stderr.contains(reason), "{refused:?}");
    assert_eq!(cluster.ask(&["status", id])["status"], "failed");

    fs::remove_file(&filler).unwrap();
    cluster.ask(&["resume", id]);
    let ended = cluster.wait_until_ended(id);
    assert_eq!(ended["status"], "succeeded", "{}", cluster.told());
    let calm = calm(Head::Keyword);
    assert_eq!(ended["weights_sha256"], calm["weights_sha256"]);
    assert_eq!(
        ended["lives"], 2,
        "it did not go on from a checkpoint: {ended:#}"
    );
    assert!(!cluster.told().contains("panicked"), "{}", cluster.told());
    assert!(cluster.coordinator.as_mut().unwrap().is_running());
}
