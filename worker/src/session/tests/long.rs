//! What is too long for one message.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_and_a_lease_that_come_in_parts_are_worked_on_like_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let Answer::Lease(lease) = job.lease(PassKind::Gradient, 7) else {
        panic!("a lease is one");
    };
    // Each utterance by itself, so that both micro-batches are cut.
    let parts = job.micro_batches.iter().flat_map(|micro_batch| {
        let utterances = micro_batch.utterances.iter();
        utterances.map(|utterance| v1::LeasePart {
            micro_batches: vec![v1::MicroBatch {
                index: micro_batch.index,
                utterances: vec![utterance.clone()],
            }],
            voices: Vec::new(),
        })
    });
    job.script.parts = parts.collect();
    job.script.piece = 7;
    let lease = v1::Lease {
        micro_batches: Vec::new(),
        in_parts: true,
        ..lease
    };
    let expected = job.contribution(7).digest().to_vec();
    let script = job.leases([Answer::Lease(lease), goodbye()]);
    let mut coordinator = Coordinator::start(script).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let pushed = coordinator.next(|call| match call {
        Call::Push(header, _) => Some(header.digest.to_vec()),
        _ => None,
    });
    assert_eq!(pushed.await, expected);
}
