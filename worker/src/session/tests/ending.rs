//! What is left when a worker ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_leaves_at_once_whatever_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [job.lease(PassKind::Gradient, 0)];
    let mut script = job.leases(leases);
    script.silent_pulls = true;
    let mut coordinator = Coordinator::start(script).await;
    let worker = worker(coordinator.address, None);
    let pulled = |call| matches!(call, Call::Pull(_)).then_some(());
    coordinator.next(pulled).await;
    let told = Instant::now();
    worker.stop.send_replace(true);
    assert_eq!(worker.ended().await.unwrap(), Farewell::Stopped);
    assert!(told.elapsed() < Duration::from_secs(2));
    let left = |call| matches!(call, Call::Leave(1)).then_some(());
    coordinator.next(left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_is_kept_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [job.lease(PassKind::Gradient, 0)];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    let worker = worker(coordinator.address, None);
    let pushed = |call| matches!(call, Call::Push(..)).then_some(());
    coordinator.next(pushed).await;
    let kept = std::fs::read_dir(worker.folder.path().join("audio")).unwrap();
    let mut kept: Vec<Vec<u8>> = kept
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    kept.sort();
    job.audio.sort();
    assert_eq!(kept, job.audio);
    worker.stop.send_replace(true);
    worker.ended().await.unwrap();
}
