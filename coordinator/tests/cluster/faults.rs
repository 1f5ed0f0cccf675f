//! Gradients that are not finite, audio that cannot be had, and workers that vanish.

use std::{path::PathBuf, time::Duration};

use coordinator::{records::events::Event, server::Limits};
use proto::v1::{self, Cause, State, lease_response::Answer};

use crate::{
    site::{Live, Site, events, metrics, within},
    toy::Toy,
};

async fn poisoned(job: &str, site: &Site, poison: &[&str]) -> (Live, String) {
    let mut live = site.start().await;
    let id = live.submit(job).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    toy.poison = poison.iter().map(|&id| id.to_owned()).collect();
    tokio::spawn(toy.work());
    (live, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn micro_batches_that_are_left_out_are_named_and_the_run_goes_on() {
    let site = Site::new();
    let (mut live, id) = poisoned(&site.job(), &site, &["train4"]).await;
    let report = live.succeeded(&id).await;
    assert_eq!(report.quarantined, 3, "once an epoch");
    let dir = PathBuf::from(live.status(&id).await.run_dir);
    let named = events(&dir).into_iter().filter(|event| {
        matches!(event, Event::Quarantined { worker: 1, utterances, .. } if *utterances == ["train4"])
    });
    assert_eq!(named.count(), 3);
    let left_out: u64 = metrics(&dir).iter().map(|line| line.quarantined).sum();
    assert_eq!(left_out, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_which_nothing_is_left_moves_nothing_and_is_an_event() {
    let site = Site::new();
    let everything: Vec<String> = (0..26).map(|index| format!("train{index}")).collect();
    let everything: Vec<&str> = everything.iter().map(String::as_str).collect();
    let job = site
        .job()
        .replace("epochs = 3", "epochs = 1\nmax_quarantined = 100");
    let (mut live, id) = poisoned(&job, &site, &everything).await;
    let report = live.succeeded(&id).await;
    assert_eq!((report.steps, report.applied_steps), (5, 0));
    let dir = PathBuf::from(live.status(&id).await.run_dir);
    let skipped = |event: &Event| matches!(event, Event::StepSkipped { .. });
    let events = events(&dir);
    assert_eq!(events.iter().filter(|event| skipped(event)).count(), 5);
    assert!(metrics(&dir).iter().all(|line| line.loss.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_left_out_end_the_job() {
    let site = Site::new();
    let job = site
        .job()
        .replace("epochs = 3", "epochs = 3\nmax_quarantined = 1");
    let (mut live, id) = poisoned(&job, &site, &["train4"]).await;
    let status = live.ended(&id).await;
    assert_eq!(status.state(), State::Failed);
    assert_eq!(status.cause(), Cause::Training);
    assert!(
        status.error.contains("max_quarantined = 1") && status.error.contains("train4"),
        "{}",
        status.error
    );
    let report = live.report(&id).await;
    assert!(report.contains("\"status\": \"failed\""), "{report}");
}

fn give_back(toy: &Toy, lease: &v1::Lease, fatal: bool) -> v1::GiveBackRequest {
    v1::GiveBackRequest {
        worker: toy.worker,
        session: toy.session.secret.clone(),
        key: lease.key.clone(),
        reason: "utterance \"train7\": the file is truncated".to_owned(),
        fatal,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_no_worker_can_use_ends_the_job_and_is_named() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let request = give_back(&toy, &lease, true);
    toy.workers.give_back(request).await.unwrap();
    let status = live.ended(&id).await;
    assert_eq!(status.state(), State::Failed);
    assert_eq!(status.cause(), Cause::Data);
    assert!(status.error.contains("train7"), "{}", status.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_returned_is_leased_again_but_not_for_ever() {
    let site = Site::new();
    let limits = Limits {
        returns: Duration::ZERO,
        ..Limits::default()
    };
    let mut live = site.start_within(limits).await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let first = within(toy.lease()).await;
    let request = give_back(&toy, &first, false);
    toy.workers.give_back(request).await.unwrap();
    let mut again = within(toy.lease()).await;
    assert_ne!(again.key, first.key, "another attempt");
    assert_eq!(again.micro_batches, first.micro_batches);
    let mut following = live.jobs.clone();
    let followed = v1::LogsRequest {
        id: id.clone(),
        follow: true,
        begin: None,
    };
    let mut followed = following.logs(followed).await.unwrap().into_inner();
    for _ in 0..23 {
        let request = give_back(&toy, &again, false);
        toy.workers.give_back(request).await.unwrap();
        match toy.ask(2_000).await.unwrap() {
            Answer::Lease(lease) => again = lease,
            _ => break,
        }
    }
    while within(followed.message()).await.unwrap().is_some() {}
    let status = live.status(&id).await;
    assert_eq!(status.state(), State::Failed);
    assert_eq!(status.cause(), Cause::Infrastructure, "{}", status.error);
    assert!(status.error.contains("train7"), "{}", status.error);
    // Not a line for each.
    let dir = PathBuf::from(live.status(&id).await.run_dir);
    let told: Vec<u64> = events(&dir)
        .into_iter()
        .filter_map(|event| match event {
            Event::GivenBack { more, .. } => Some(more),
            _ => None,
        })
        .collect();
    assert_eq!(told, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_returns_in_a_moment_end_no_job_however_many_workers_make_them() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toys = Vec::new();
    for name in 0..8 {
        toys.push(Toy::join(&live.url, &name.to_string()).await);
    }
    // There is nothing to return while the corpus is prepared.
    let mut returned = 0;
    // More than end a job, and no more than one host is forgiven at once.
    while returned < 30 {
        for toy in toys.iter_mut().take(30 - returned) {
            let Answer::Lease(lease) = toy.ask(1).await.unwrap() else {
                continue;
            };
            let request = give_back(toy, &lease, false);
            toy.workers.give_back(request).await.unwrap();
            returned += 1;
        }
    }
    let status = live.status(&id).await;
    assert!(status.faults["given_back"] > 24, "{:?}", status.faults);
    assert_eq!(status.state(), State::Running);
    for toy in toys {
        tokio::spawn(toy.work());
    }
    live.succeeded(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_worker_that_leaves_are_free_at_once() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut leaving = Toy::join(&live.url, "leaving").await;
    within(leaving.lease()).await;
    leaving.leave().await;
    assert!(matches!(leaving.ask(1).await.unwrap(), Answer::Unknown(_)));
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.faults["leaves"], 1);
    assert_eq!(report.faults["expired"], 0);
    assert!(report.faults["retries"] > 0);
    assert_eq!(report.workers, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_worker_stopped_waiting_goes_to_another() {
    let site = Site::new();
    let mut live = site.start().await;
    let mut gone = Toy::join(&live.url, "gone").await;
    // It waits for a job, and is cut off while it does.
    let waiting = tokio::spawn(async move { gone.ask(60_000).await });
    let request = v1::ListWorkersRequest {};
    within(live.jobs.list_workers(request)).await.unwrap();
    waiting.abort();
    let _ = waiting.await;
    let id = live.submit(&site.job()).await;
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    live.succeeded(&id).await;
}
