//! Workers that hand in what cannot be the answer to their lease, or give leases back without end: it is their fault,
//! it is counted, and the job ends with the bits that it has without them.

use std::path::PathBuf;

use coordinator::records::events::Event;
use proto::{
    contribution::{Contribution, Quarantined, Unusable},
    v1::{self, State, lease_response::Answer, receipt::Outcome},
};
use tonic::{Code, Status};

use crate::{
    site::{Live, Site, calm, events, within},
    toy::{CLASS, Toy, key},
};

/// What becomes of a contribution that a worker of this name hands in after `change`.
async fn hand_in(
    live: &Live,
    name: &str,
    change: impl FnOnce(&mut Contribution, &v1::Lease),
) -> Result<Outcome, Status> {
    let mut toy = Toy::join(&live.url, name).await;
    let lease = within(toy.lease()).await;
    let mut contribution = toy.compute(&lease).await.unwrap();
    change(&mut contribution, &lease);
    let came = within(toy.push(key(&lease), &contribution)).await;
    toy.leave().await;
    came
}

type Change = Box<dyn FnOnce(&mut Contribution, &v1::Lease) + Send>;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_cannot_be_are_their_workers_fault_and_who_sends_many_is_turned_away() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    // It is here all the time: that others of its address are at fault is nothing to it.
    let honest = Toy::join(&live.url, "honest").await;
    let cases: Vec<(&str, Change)> = vec![
        ("`weight`", Box::new(|it, _| it.weight = 0.0)),
        ("`weight`", Box::new(|it, _| it.weight = 1e308)),
        ("`weight`", Box::new(|it, _| it.weight += 1.0)),
        ("`utterances`", Box::new(|it, _| it.utterances += 1)),
        ("`frames`", Box::new(|it, _| it.frames = u64::MAX)),
        ("`audio_seconds`", Box::new(|it, _| it.audio_seconds = 1e12)),
        (
            "utterance 4000000",
            Box::new(|it, _| {
                it.unusable.push(Unusable {
                    utterance: 4_000_000,
                    reason: "made up".to_owned(),
                });
            }),
        ),
    ];
    let faults = cases.len() as u64 + 1;
    for (field, change) in cases {
        let refused = hand_in(&live, &format!("hostile {field}"), change).await;
        let refused = refused.expect_err(field);
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(field), "{refused}");
    }
    // The budget is used up, whatever name comes.
    let last = hand_in(&live, "the last", |it, lease| {
        it.quarantined.push(Quarantined {
            micro_batch: lease.micro_batches.last().unwrap().index + 1,
            utterances: Vec::new(),
            reason: "made up".to_owned(),
        });
    });
    assert_eq!(last.await.unwrap_err().code(), Code::PermissionDenied);
    let refused = Toy::try_join(&live.url, "another name", CLASS).await;
    let refused = refused.err().unwrap();
    assert!(refused.contains("turned away"), "{refused}");

    tokio::spawn(honest.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(
        (report.faults["rejected"], report.faults["turned_away"]),
        (faults, 1)
    );
    let dir = PathBuf::from(live.status(&id).await.run_dir);
    let named = events(&dir);
    let named = named.iter().filter(|event| {
        matches!(event, Event::ContributionRejected { name, .. } if name.starts_with("hostile"))
    });
    assert_eq!(named.count() as u64, faults - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_is_not_finite_is_never_accepted() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let honest = Toy::join(&live.url, "honest").await;
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut single = false;
        let came = hand_in(&live, "hostile", |it, lease| {
            single = key(lease).node.level() == 0;
            if let Some(last) = it.sum.iter_mut().flatten().last() {
                *last = value;
            }
        });
        match came.await {
            // Sums of finite gradients may overflow: each micro-batch is leased alone then.
            Ok(outcome) => assert_eq!((outcome, single), (Outcome::Stale, false)),
            Err(refused) => {
                assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
                assert!(refused.message().contains("not finite"), "{refused}");
            }
        }
    }
    tokio::spawn(honest.work());
    assert_eq!(live.succeeded(&id).await.weights_sha256, expected);
}

fn give_back(toy: &Toy, lease: &v1::Lease, fatal: bool) -> v1::GiveBackRequest {
    v1::GiveBackRequest {
        worker: toy.worker,
        session: toy.session.secret.clone(),
        key: lease.key.clone(),
        reason: "made up".to_owned(),
        fatal,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gives_leases_back_without_end_rests_and_fails_no_job() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let honest = Toy::join(&live.url, "honest").await;
    let mut idler = Toy::join(&live.url, "idler").await;
    let mut returned = 0;
    while let Answer::Lease(lease) = within(idler.ask(1_000)).await.unwrap() {
        // Neither is it believed that the data is at fault.
        let request = give_back(&idler, &lease, returned % 2 == 0);
        idler.workers.give_back(request).await.unwrap();
        returned += 1;
        assert!(returned < 100, "it is served without end");
    }
    assert_eq!(live.status(&id).await.state(), State::Running);
    tokio::spawn(honest.work());
    assert_eq!(live.succeeded(&id).await.weights_sha256, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_is_at_fault_when_a_second_worker_says_so() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut first = Toy::join(&live.url, "first").await;
    let mut second = Toy::join(&live.url, "second").await;
    let lease = within(first.lease()).await;
    let request = give_back(&first, &lease, true);
    first.workers.give_back(request).await.unwrap();
    assert_eq!(live.status(&id).await.state(), State::Running);
    let lease = within(second.lease()).await;
    // Not in the other one's name, though.
    let other = v1::GiveBackRequest {
        worker: first.worker,
        session: first.session.secret.clone(),
        ..give_back(&second, &lease, true)
    };
    first.workers.give_back(other).await.unwrap();
    assert_eq!(live.status(&id).await.state(), State::Running);
    let request = give_back(&second, &lease, true);
    second.workers.give_back(request).await.unwrap();
    let status = live.ended(&id).await;
    assert_eq!(status.cause(), v1::Cause::Data);
    assert!(status.error.contains("second"), "{}", status.error);
}
