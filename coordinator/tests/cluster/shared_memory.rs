//! Vectors through memory: the same bits as over the connection, for those on the coordinator's host and
//! for nobody else; what is spoiled there spoils nothing else.

use proto::{
    contribution::{Contribution, Key},
    shared_memory::{self, SharedMemory, SharedMemoryHandle},
    tensor,
    v1::{self, receipt::Outcome},
    wire::Wire,
};
use tonic::{Code, Status};

use crate::{
    site::{Live, Site, within},
    toy::{Toy, key, spent},
};

async fn running(site: &Site) -> (Live, String, Toy) {
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let toy = Toy::join(&live.url, "toy").await;
    (live, id, toy)
}

async fn open(
    toy: &mut Toy,
    change: impl FnOnce(&mut v1::OpenLaneRequest),
) -> Option<SharedMemory> {
    let mut request = v1::OpenLaneRequest {
        worker: toy.worker,
        generation: toy.generation,
        session: toy.session.secret.clone(),
        job: "0001-tones".to_owned(),
        boot_id: shared_memory::boot_id().unwrap(),
    };
    change(&mut request);
    let opened = within(toy.tensors.open_lane(request)).await.unwrap();
    let place = SharedMemoryHandle::try_from(opened.into_inner().lane?).unwrap();
    Some(SharedMemory::open(place, true).unwrap())
}

/// Hands a contribution in whose vector lies in the lane, if anywhere.
async fn push(toy: &mut Toy, key: Key, contribution: &Contribution) -> Result<Outcome, Status> {
    push_at(toy, key, contribution, 1).await
}

async fn push_at(
    toy: &mut Toy,
    key: Key,
    contribution: &Contribution,
    number: u64,
) -> Result<Outcome, Status> {
    let elements = contribution.sum.as_ref().unwrap().len();
    let worker = &toy.session;
    let header = v1::ContributionHeader::unsealed(worker, key, contribution, elements, spent());
    let header = v1::ContributionHeader {
        in_lane: number,
        ..header
    };
    let part = Some(v1::push_request::Part::Header(header));
    let parts = tokio_stream::once(v1::PushRequest { part });
    let receipt = within(toy.tensors.push(parts)).await?;
    Ok(receipt.into_inner().outcome())
}

fn write(lane: &SharedMemory, values: &[f32]) {
    lane.write(&tensor::encode(values, Wire::F32), 0).unwrap();
    lane.commit(1).unwrap();
}

/// The weights of a lease's step, by a worker that says where it is.
async fn pull(toy: &mut Toy, lease: &v1::Lease) -> v1::TensorChunk {
    let key = key(lease);
    let request = v1::PullRequest {
        averaged: false,
        job: key.job,
        generation: key.generation,
        version: key.step,
        boot_id: shared_memory::boot_id().unwrap(),
        worker: toy.worker,
        session: toy.session.secret.clone(),
    };
    let chunks = within(toy.tensors.pull(request)).await.unwrap();
    let chunk = within(chunks.into_inner().message()).await.unwrap();
    chunk.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_through_lanes_ends_with_the_bits_of_one_over_the_connection() {
    let expected = {
        let site = Site::new();
        let (mut live, id, toy) = running(&site).await;
        tokio::spawn(toy.work());
        live.succeeded(&id).await.weights_sha256
    };
    let site = Site::new();
    let (mut live, id, mut toy) = running(&site).await;
    let mut in_lane = 0;
    let mut lane = None;
    while in_lane < 9 {
        let lease = within(toy.lease()).await;
        if key(&lease).kind == proto::contribution::PassKind::Evaluation {
            toy.fulfil(&lease).await.unwrap();
            continue;
        }
        let chunk = pull(&mut toy, &lease).await;
        let contribution = toy.compute(&lease).await.unwrap();
        if let Some(place) = chunk.in_lane {
            let weights =
                SharedMemory::open(place.lane.unwrap().try_into().unwrap(), false).unwrap();
            assert_eq!(weights.number(), place.number);
            let sum = contribution.sum.as_ref().unwrap();
            let mut read = vec![0; 4 * sum.len()];
            weights.read(&mut read, 0).unwrap();
            let streamed = toy.pull(&key(&lease), false, sum.len()).await.unwrap();
            assert_eq!(read, tensor::encode(&streamed, Wire::F32));
            in_lane += 1;
        }
        if lane.is_none() {
            lane = open(&mut toy, |_| {}).await;
        }
        write(lane.as_ref().unwrap(), contribution.sum.as_ref().unwrap());
        let outcome = push(&mut toy, key(&lease), &contribution).await;
        assert_eq!(outcome.unwrap(), Outcome::Accepted);
    }
    // The rest over the connection: the two can be mixed.
    tokio::spawn(toy.work());
    assert_eq!(live.succeeded(&id).await.weights_sha256, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_lie_in_the_lane_is_refused_and_can_be_sent_again() {
    let site = Site::new();
    let (mut live, _, mut toy) = running(&site).await;
    let lease = within(toy.lease()).await;
    let contribution = toy.compute(&lease).await.unwrap();
    let refused = push(&mut toy, key(&lease), &contribution).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);

    let lane = open(&mut toy, |_| {}).await.unwrap();
    write(&lane, contribution.sum.as_ref().unwrap());
    // It is being written anew, or was.
    for (now, pushed) in [(0, 1), (2, 1), (1, 2)] {
        lane.commit(now).unwrap();
        let refused = push_at(&mut toy, key(&lease), &contribution, pushed).await;
        assert_eq!(refused.unwrap_err().code(), Code::Aborted);
    }
    lane.commit(1).unwrap();
    let mut short = contribution.clone();
    short.sum.as_mut().unwrap().pop();
    let refused = push(&mut toy, key(&lease), &short).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let outcome = push(&mut toy, key(&lease), &contribution).await;
    assert_eq!(outcome.unwrap(), Outcome::Accepted);
    // Once more: the step is over, and the answer is counted by its digest all the same.
    let again = push(&mut toy, key(&lease), &contribution).await;
    assert_eq!(again.unwrap(), Outcome::Stale);
    let faults = live.status(&key(&lease).job).await.faults;
    let of = |kind: &str| faults.get(kind).copied().unwrap_or(0);
    assert_eq!(of("late") + of("stale"), 1, "{faults:?}");
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_for_a_worker_of_the_running_job_on_this_host() {
    let site = Site::new();
    let (live, _, mut toy) = running(&site).await;
    within(toy.lease()).await;
    let elsewhere = open(&mut toy, |it| it.boot_id = "another".to_owned()).await;
    assert!(elsewhere.is_none());
    assert!(open(&mut toy, |it| it.boot_id.clear()).await.is_none());
    assert!(open(&mut toy, |it| it.generation += 1).await.is_none());
    let other_job = open(&mut toy, |it| it.job = "0002-other".to_owned()).await;
    assert!(other_job.is_none());
    let own = open(&mut toy, |_| {}).await.unwrap();
    let again = open(&mut toy, |_| {}).await.unwrap();
    assert_eq!(own.handle(), again.handle());
    live.shutdown().await;
}
