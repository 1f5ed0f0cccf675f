//! Calls in another worker's name: by somebody who never joined, and by a worker that was admitted itself. They are
//! refused, and the worker whose name was used goes on as if nothing had happened.

use bytes::Bytes;
use coordinator::server::Limits;
use proto::{
    contribution::Contribution,
    session::WorkerSession,
    v1::{self, receipt::Outcome},
};
use tonic::{Code, Status};

use crate::{
    site::{Site, within},
    toy::{Did, Toy, key, spent},
};

/// All calls of a worker, made over the connection of `caller` with `session`; by their names, what came of each.
async fn calls(
    caller: &mut Toy,
    session: &WorkerSession,
    lease: &v1::Lease,
    contribution: &Contribution,
) -> Vec<(&'static str, Result<(), Status>)> {
    let WorkerSession {
        worker,
        generation,
        secret,
    } = session.clone();
    let key = key(lease);
    let wire_key = lease.key.clone();
    let job = key.job.clone();
    let lease_request = v1::LeaseRequest {
        worker,
        generation,
        session: secret.clone(),
        patience_ms: 10,
        // It would free all that the worker has.
        holds: Vec::new(),
    };
    let heartbeat = v1::HeartbeatRequest {
        worker,
        generation,
        session: secret.clone(),
    };
    let leave = v1::LeaveRequest {
        worker,
        generation,
        session: secret.clone(),
    };
    let describe = v1::DescribeJobRequest {
        job: job.clone(),
        worker,
        session: secret.clone(),
    };
    let parts = v1::LeaseInPartsRequest {
        worker,
        session: secret.clone(),
        key: wire_key.clone(),
    };
    let give_back = v1::GiveBackRequest {
        worker,
        session: secret.clone(),
        key: wire_key.clone(),
        reason: "made up".to_owned(),
        fatal: true,
    };
    let report = v1::EvaluationReport {
        worker,
        session: secret.clone(),
        key: wire_key,
        results: Vec::new(),
    };
    let pull = v1::PullRequest {
        averaged: false,
        job: job.clone(),
        generation: key.generation,
        version: key.step,
        boot_id: String::new(),
        worker,
        session: secret.clone(),
    };
    let open_lane = v1::OpenLaneRequest {
        worker,
        generation,
        job: job.clone(),
        boot_id: proto::shared_memory::boot_id().unwrap_or_default(),
        session: secret.clone(),
    };
    let audio = lease.micro_batches[0].utterances[0].audio_digest.clone();
    let fetch = v1::FetchAudioRequest {
        job,
        digests: vec![audio],
        worker,
        session: secret,
    };
    let header = v1::ContributionHeader::new(session, key, contribution, spent());
    let sum = contribution.sum.clone().unwrap();
    let workers = &mut caller.workers;
    let mut came = vec![
        ("Lease", workers.lease(lease_request).await.map(drop)),
        ("Heartbeat", workers.heartbeat(heartbeat).await.map(drop)),
        (
            "DescribeJob",
            workers.describe_job(describe.clone()).await.map(drop),
        ),
        ("Recipe", workers.recipe(describe).await.map(drop)),
        (
            "LeaseInParts",
            workers.lease_in_parts(parts).await.map(drop),
        ),
        ("Report", workers.report(report.clone()).await.map(drop)),
        (
            "ReportInParts",
            workers
                .report_in_parts(tokio_stream::once(report))
                .await
                .map(drop),
        ),
        ("GiveBack", workers.give_back(give_back).await.map(drop)),
        ("Leave", workers.leave(leave).await.map(drop)),
    ];
    let tensors = &mut caller.tensors;
    came.push(("Pull", tensors.pull(pull).await.map(drop)));
    came.push(("OpenLane", tensors.open_lane(open_lane).await.map(drop)));
    came.push(("FetchAudio", tensors.fetch_audio(fetch).await.map(drop)));
    came.push(("Push", caller.push_parts(header, &sum).await.map(drop)));
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_taken_in_another_workers_name_and_that_one_goes_on() {
    let site = Site::new();
    let expected = {
        let mut live = site.start().await;
        let id = live.submit(&site.job()).await;
        tokio::spawn(Toy::join(&live.url, "toy").await.work());
        let hash = live.succeeded(&id).await.weights_sha256;
        live.shutdown().await;
        hash
    };
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut honest = Toy::join(&live.url, "honest").await;
    let mut other = Toy::join(&live.url, "other").await;
    let lease = within(honest.lease()).await;
    let contribution = honest.compute(&lease).await.unwrap();
    let mut forged = contribution.clone();
    if let Some(sum) = &mut forged.sum {
        sum[0] += 1.0;
    }
    let own = honest.session.clone();
    let named = |secret: Bytes| WorkerSession {
        secret,
        ..own.clone()
    };
    let mut flipped = own.secret.to_vec();
    flipped[0] ^= 1;
    let sessions = [
        ("none", named(Bytes::new())),
        ("guessed", named(vec![0; own.secret.len()].into())),
        ("one bit off", named(flipped.into())),
        ("cut", named(own.secret.slice(1..))),
        (
            "that of another worker",
            named(other.session.secret.clone()),
        ),
        (
            "of a worker that never joined",
            WorkerSession {
                worker: 424_242,
                ..own.clone()
            },
        ),
    ];
    for (what, session) in sessions {
        let came = within(calls(&mut other, &session, &lease, &forged)).await;
        for (call, result) in came {
            let refused = result.expect_err(&format!("{call} with a session that is {what}"));
            assert_eq!(
                refused.code(),
                Code::Unauthenticated,
                "{call}, {what}: {refused}"
            );
        }
    }
    // It has its lease still, and is known.
    let key = key(&lease);
    let accepted = within(honest.push(key, &contribution)).await.unwrap();
    assert_eq!(accepted, Outcome::Accepted);
    let honest = tokio::spawn(honest.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(
        (report.faults["leaves"], report.faults["given_back"]),
        (0, 0)
    );
    live.shutdown().await;
    let goodbye = within(honest).await.unwrap();
    assert!(goodbye.contains("shutting down"), "{goodbye}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_goes_to_whom_it_was_leased_alone() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let mut other = Toy::join(&live.url, "other").await;
    let audio = lease.micro_batches[0].utterances[0].audio_digest.clone();
    let request = other.fetch(&id, vec![audio.clone()]);
    let refused = other.tensors.fetch_audio(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let request = toy.fetch(&id, vec![audio]);
    toy.tensors.fetch_audio(request.clone()).await.unwrap();
    // It has left.
    toy.leave().await;
    let refused = toy.tensors.fetch_audio(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_over_another_connection_and_ends_with_the_coordinator() {
    let site = Site::new();
    let mut live = site.start_within(Limits::default()).await;
    live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    // Its network broke: all it has is what it was told at its admission.
    let mut again = Toy::join(&live.url, "toy").await;
    (again.worker, again.generation) = (toy.worker, toy.generation);
    again.session = toy.session.clone();
    let did = within(again.fulfil(&lease)).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Accepted));
    live.shutdown().await;

    let live = site.start().await;
    let mut late = Toy::join(&live.url, "late").await;
    let known = late.workers.heartbeat(v1::HeartbeatRequest {
        worker: toy.worker,
        generation: toy.generation,
        session: toy.session.secret.clone(),
    });
    assert!(!within(known).await.unwrap().into_inner().known);
    // The numbers begin again, and the sessions are others.
    assert_eq!(late.worker, toy.worker);
    let forged = WorkerSession {
        generation: late.generation,
        ..toy.session.clone()
    };
    let lease = within(late.lease()).await;
    let contribution = late.compute(&lease).await.unwrap();
    for (call, result) in within(calls(&mut late, &forged, &lease, &contribution)).await {
        let refused = result.expect_err(call);
        assert_eq!(refused.code(), Code::Unauthenticated, "{call}: {refused}");
    }
}
