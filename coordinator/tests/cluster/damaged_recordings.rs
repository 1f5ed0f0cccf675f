//! Recordings that turn out to be damaged when they are decoded: left out by name, with the same bits whoever
//! works, and bounded.

use std::path::PathBuf;

use coordinator::records::{
    events::{Event, Set},
    report::Report,
};
use proto::v1::{Cause, State};
use speech::left_out::Reason;

use crate::{
    runs::work,
    site::{Live, Site, events},
    toy::Toy,
};

const DAMAGED: [&str; 3] = ["train4", "train17", "valid3"];

async fn toy(live: &Live, name: &str) -> Toy {
    let mut toy = Toy::join(&live.url, name).await;
    toy.damaged = DAMAGED.map(str::to_owned).to_vec();
    toy
}

/// Who is left out of which set, in the order of the events.
fn named(events: &[Event]) -> Vec<(Set, &str)> {
    let named = events.iter().filter_map(|event| match event {
        Event::UtteranceLeftOut {
            utterance,
            set,
            reason,
        } => {
            assert_eq!(reason, "it ends in the middle");
            Some((*set, utterance.as_str()))
        }
        _ => None,
    });
    named.collect()
}

fn check(report: &Report) {
    let [train, valid] = [&report.left_out.train, &report.left_out.valid];
    assert_eq!((train.utterances, train.of), (2, 26));
    assert_eq!((valid.utterances, valid.of), (1, 7));
    assert_eq!(train.by_reason, [(Reason::Damaged, 2)].into());
    // The toy is wrong about three of seven, and one of those is left out.
    let score = &report.metrics.as_ref().unwrap().score;
    assert_eq!(score.utterances, 6);
    assert!((score.accuracy.unwrap() - 4.0 / 6.0).abs() < 1e-9);
    assert_eq!(report.quarantined, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_left_out_by_name_with_the_same_bits_on_any_number_of_workers() {
    let mut seen = Vec::new();
    for (workers, wire) in [(1, "f32"), (2, "f32"), (3, "f32")] {
        let site = Site::new();
        let mut live = site.start().await;
        let job = site
            .job()
            .replace("[train]", &format!("[train]\nwire = {wire:?}"));
        let id = live.submit(&job).await;
        for worker in 0..workers {
            tokio::spawn(toy(&live, &format!("toy{worker}")).await.work());
        }
        let report = live.succeeded(&id).await;
        check(&report);
        let events = events(&PathBuf::from(live.status(&id).await.run_dir));
        let named = named(&events);
        // Each once in three epochs.
        assert_eq!(named.len(), 3, "{named:?}");
        let order: Vec<String> = named.iter().map(|(_, id)| (*id).to_owned()).collect();
        seen.push((report.weights_sha256, order));
        live.shutdown().await;
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_and_taken_up_again_names_none_twice() {
    let undisturbed = {
        let site = Site::new();
        let mut live = site.start().await;
        let id = live.submit(&site.job()).await;
        tokio::spawn(toy(&live, "toy").await.work());
        live.succeeded(&id).await.weights_sha256
    };
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut first = toy(&live, "toy").await;
    // Beyond the first epoch, which meets all of them.
    work(&mut first, 7).await;
    live.kill().await;
    let mut live = site.start().await;
    tokio::spawn(toy(&live, "toy").await.work());
    let report = live.succeeded(&id).await;
    check(&report);
    assert_eq!(report.weights_sha256, undisturbed);
    let events = events(&PathBuf::from(live.status(&id).await.run_dir));
    let mut named = named(&events);
    named.sort_by_key(|(_, id)| *id);
    assert_eq!(
        named,
        [
            (Set::Train, "train17"),
            (Set::Train, "train4"),
            (Set::Valid, "valid3")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_end_the_job_as_data_and_name_the_bound() {
    for (bound, first) in [("0", "\"train"), ("1", "2 of 26")] {
        let site = Site::new();
        let mut live = site.start().await;
        let strict = site
            .job()
            .replace("[corpus]", &format!("[corpus]\nmax_bad = {bound}"));
        let id = live.submit(&strict).await;
        tokio::spawn(toy(&live, "toy").await.work());
        let status = live.ended(&id).await;
        assert_eq!(
            (status.state(), status.cause()),
            (State::Failed, Cause::Data)
        );
        let wanted = [
            "train.jsonl",
            "corpus.max_bad",
            "it ends in the middle",
            first,
        ];
        for word in wanted {
            assert!(status.error.contains(word), "{word}: {}", status.error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_utterance_that_is_not_of_the_step_is_nobodys_to_leave_out() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut liar = Toy::join(&live.url, "liar").await;
    let lease = liar.lease().await;
    let mut contribution = liar.compute(&lease).await.unwrap();
    for utterance in [99, u32::MAX] {
        contribution.unusable.push(proto::contribution::Unusable {
            utterance,
            reason: "no such utterance".to_owned(),
        });
    }
    let key = lease.key.clone().unwrap().try_into().unwrap();
    let refused = liar.push(key, &contribution).await.unwrap_err();
    assert!(refused.message().contains("utterance 99"), "{refused}");
    tokio::spawn(liar.work());
    let report = live.succeeded(&id).await;
    assert!(report.left_out.train.is_empty());
    assert_eq!(report.faults["rejected"], 1);
}
