//! Workers whose bits are wrong, and micro-batches that are beyond belief.

use std::path::PathBuf;

use coordinator::records::events::Event;
use proto::v1::{self, receipt::Outcome};

use crate::{
    site::{Site, events, within},
    toy::{Did, Toy},
};

/// What the job gives with one honest worker.
async fn calm(job: &str, site: &Site) -> String {
    let mut live = site.start().await;
    let id = live.submit(job).await;
    tokio::spawn(Toy::join(&live.url, "honest").await.work());
    let hash = live.succeeded(&id).await.weights_sha256.unwrap();
    live.shutdown().await;
    hash
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_the_faulty_worker_sends_it_away_and_the_bits_are_right() {
    let site = Site::new();
    let calm = calm(&site.job(), &site).await;
    let job = site.job().replace("epochs = 3", "epochs = 3\naudit = 1.0");
    let mut live = site.start().await;
    let id = live.submit(&job).await;
    let mut faulty = Toy::join(&live.url, "faulty").await;
    faulty.faulty = true;
    let faulty = tokio::spawn(faulty.work());
    for name in ["first", "second"] {
        tokio::spawn(Toy::join(&live.url, name).await.work());
    }
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256.unwrap(), calm);
    assert_eq!(report.faults["quarantined_workers"], 1);
    assert!(report.faults["differed"] > 0 && report.faults["audited"] > 0);

    let goodbye = within(faulty).await.unwrap();
    assert!(
        goodbye.contains("worker faulty gave other bits"),
        "{goodbye}"
    );
    let again = Toy::try_join(&live.url, "faulty", crate::toy::CLASS).await;
    assert!(again.err().unwrap().contains("stays in quarantine"));
    let dir = PathBuf::from(live.status(&id).await.run_dir);
    let events = events(&dir);
    let sent_away =
        |event: &Event| matches!(event, Event::WorkerQuarantined { name, .. } if name == "faulty");
    assert_eq!(events.iter().filter(|event| sent_away(event)).count(), 1);
    let differed = |event: &Event| matches!(event, Event::Differed { late: false, .. });
    assert!(events.iter().any(differed));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_two_different_answers_to_one_lease_is_sent_away_and_neither_counts() {
    let site = Site::new();
    let calm = calm(&site.job(), &site).await;
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "two-tongued").await;
    let mut other = Toy::join(&live.url, "other").await;
    let lease = within(toy.lease()).await;
    let waiting = within(other.lease()).await;
    let key: proto::contribution::Key = lease.key.clone().unwrap().try_into().unwrap();
    let mut contribution = toy.compute(&lease).await.unwrap();
    let push = toy.push(key.clone(), &contribution).await.unwrap();
    assert_eq!(push, Outcome::Accepted);
    contribution.loss += 1.0;
    let push = toy.push(key, &contribution).await.unwrap();
    assert_eq!(push, Outcome::Differs);
    let goodbye = within(toy.step()).await.unwrap();
    assert!(matches!(goodbye, Did::Goodbye(_)), "{goodbye:?}");
    // The step begins again, and what was leased before is of use.
    let did = other.fulfil(&waiting).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Accepted));
    tokio::spawn(other.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256.unwrap(), calm);
    assert_eq!(report.faults["restarted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_micro_batch_beyond_the_running_median_is_left_out_by_name_whoever_computes_it() {
    let site = Site::new();
    let bounded = "epochs = 3\nmax_norm_ratio = 50.0";
    let job = site.job().replace("epochs = 3", bounded);
    let mut hashes = Vec::new();
    for workers in [1, 3] {
        let mut live = site.start().await;
        let id = live.submit(&job).await;
        for name in 0..workers {
            let mut toy = Toy::join(&live.url, &name.to_string()).await;
            toy.absurd = vec!["train4".to_owned()];
            tokio::spawn(toy.work());
        }
        let report = live.succeeded(&id).await;
        let dir = PathBuf::from(live.status(&id).await.run_dir);
        let named = events(&dir).into_iter().filter(|event| {
            matches!(event, Event::Quarantined { utterances, .. } if *utterances == ["train4"])
        });
        // The first epoch has no median to go by yet.
        assert_eq!(named.count(), 2);
        hashes.push(report.weights_sha256.unwrap());
        live.shutdown().await;
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_shown_while_a_job_runs() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let request = v1::GiveBackRequest {
        worker: toy.worker,
        session: toy.session.secret.clone(),
        key: lease.key.clone(),
        reason: "just so".to_owned(),
        fatal: false,
    };
    toy.workers.give_back(request).await.unwrap();
    let status = live.status(&id).await;
    assert_eq!(status.faults["given_back"], 1);
    assert_eq!(status.state(), v1::State::Running);
}
