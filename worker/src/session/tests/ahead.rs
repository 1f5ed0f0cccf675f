//! The next lease while the one before is handed in.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_lease_is_begun_while_the_first_is_handed_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [7, 8, 9].map(|step| job.lease(PassKind::Gradient, step));
    let mut script = job.leases(leases.into_iter().chain([goodbye()]));
    script.push_takes = Duration::from_millis(300);
    let mut coordinator = Coordinator::start(script).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());

    let (mut held, mut order, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    while let Ok(call) = coordinator.calls.try_recv() {
        match call {
            Call::Lease(asked) => held.push(asked.holds.len()),
            Call::Pull(version) => order.push(format!("pull {version}")),
            Call::Push(header, _) => {
                order.push(format!("push {}", header.key.unwrap().step));
                spent.push(header.spent.unwrap());
            }
            _ => {}
        }
    }
    // Never more than two at once, and nothing overtakes.
    assert_eq!(
        order,
        ["pull 7", "pull 8", "push 7", "pull 9", "push 8", "push 9"]
    );
    assert_eq!(held[..2], [0, 1]);
    assert!(held.iter().all(|&holds| holds < 2), "{held:?}");
    // The second was computed meanwhile; the third had to wait for the first to be through.
    assert!(spent[1].push < 0.15 && spent[2].push > 0.15, "{spent:?}");
}
