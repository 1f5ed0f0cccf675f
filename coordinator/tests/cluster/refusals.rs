//! What is refused, and in which words.

use std::time::Duration;

use coordinator::{
    server::{Config, Coordinator, StartError},
    store::{Layout, Resumption, StoreError},
};
use proto::v1::{self, receipt::Outcome};
use speech::corpus_roots::CorpusRoots;
use tonic::Code;

use crate::{
    site::{Site, within},
    toy::{CLASS, Did, Toy, channel},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_is_refused_with_its_reason_and_leaves_nothing() {
    let site = Site::new();
    let mut live = site.start().await;
    let job = site.job();
    for (bad, reason) in [
        (format!("{job}max_norms = 1"), "did you mean `max_norm`?"),
        (
            job.replace("epochs = 3", "epochs = 0"),
            "`train.epochs` is 0",
        ),
        (
            job.replace("train.jsonl", "absent.jsonl"),
            "absent.jsonl cannot be read on the coordinator's host",
        ),
        (
            "[corpus]\ntrain = \"train.jsonl\"".to_owned(),
            "names its files by absolute paths",
        ),
        ("corpus".to_owned(), "not TOML"),
    ] {
        let refused = live.try_submit(&bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(reason), "{refused}");
    }
    let request = v1::SubmitRequest {
        job_toml: job,
        program_version: "0.0.1".to_owned(),
    };
    let refused = live.jobs.submit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("0.0.1"), "{refused}");
    let jobs = live.jobs.list(v1::ListRequest::default()).await.unwrap();
    assert!(jobs.into_inner().jobs.is_empty());
    assert!(!site.path("data/jobs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = "0009-nothing".to_owned();
    let cancel = live.jobs.cancel(v1::CancelRequest { id: id.clone() }).await;
    let status = live.jobs.status(v1::StatusRequest { id: id.clone() }).await;
    let request = v1::ResumeRequest {
        id: id.clone(),
        ..v1::ResumeRequest::default()
    };
    let resume = live.jobs.resume(request).await;
    for refused in [
        cancel.unwrap_err(),
        status.unwrap_err(),
        resume.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains(&id), "{refused}");
    }
    let request = v1::LogsRequest {
        id,
        follow: true,
        begin: None,
    };
    let refused = live.jobs.logs(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_version_is_refused_by_both_names() {
    let site = Site::new();
    let live = site.start().await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let request = v1::JoinRequest {
        name: "old".to_owned(),
        program_version: "0.0.1".to_owned(),
        compute_class: CLASS.to_owned(),
        threads: 1,
    };
    let joined = toy.workers.join(request).await.unwrap().into_inner();
    let Some(v1::join_response::Outcome::Refusal(refusal)) = joined.outcome else {
        panic!("another version was admitted");
    };
    assert!(
        refusal.reason.contains("0.0.1") && refusal.reason.contains(proto::PROGRAM_VERSION),
        "{}",
        refusal.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_pinned_to_the_class_of_the_first_that_contributes_and_others_wait() {
    let site = Site::new();
    let mut live = site.start().await;
    // All are here before there is a job. The first that asks only takes a lease and goes: it decides nothing.
    let mut early = Toy::try_join(&live.url, "early", "toy quantum")
        .await
        .unwrap();
    let mut first = Toy::join(&live.url, "first").await;
    let mut second = Toy::try_join(&live.url, "second", "toy gpu").await.unwrap();
    let id = live.submit(&site.job()).await;
    within(early.lease()).await;
    early.leave().await;
    let lease = within(first.lease()).await;
    let of_second = within(second.lease()).await;
    let did = within(first.fulfil(&lease)).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Accepted));
    // What the other class has computed meanwhile does not count.
    let did = within(second.fulfil(&of_second)).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Stale));
    let reason = idle(&mut second).await;
    let named = reason.contains("toy cpu") && reason.contains("toy gpu");
    assert!(
        named && reason.contains("compute_class = \"any\""),
        "{reason}"
    );
    // So does one that comes later, and is told the same.
    let mut third = Toy::try_join(&live.url, "third", "toy gpu").await.unwrap();
    assert_eq!(idle(&mut third).await, reason);
    while live.status(&id).await.step == 0 {
        within(first.step()).await.unwrap();
    }
    live.shutdown().await;

    // It stays pinned in the next life of the coordinator.
    let mut live = site.start().await;
    let mut other = Toy::try_join(&live.url, "other", "toy gpu").await.unwrap();
    let missing = within(async {
        loop {
            let status = live.status(&id).await;
            if status.waiting_for.contains("toy cpu") {
                return status.waiting_for;
            }
        }
    });
    let missing = missing.await;
    assert!(missing.contains("other (toy gpu)"), "{missing}");
    assert_eq!(idle(&mut other).await, reason);
    let toy = Toy::join(&live.url, "toy").await;
    let working = tokio::spawn(toy.work());
    assert_eq!(live.ended(&id).await.waiting_for, "");
    working.abort();
    // The next job is anybody's.
    live.submit(&site.job()).await;
    let mut other = Toy::try_join(&live.url, "other", "toy gpu").await.unwrap();
    within(other.lease()).await;
}

/// Why a worker that asks for work gets none.
async fn idle(toy: &mut Toy) -> String {
    match within(toy.ask(100)).await.unwrap() {
        v1::lease_response::Answer::Idle(idle) => idle.reason,
        other => panic!("another class was told {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_one_job_sends_workers_of_another_class_away() {
    let site = Site::new();
    let run_dir = site.path("run");
    let layout = |resume: bool| Layout::Single {
        run_dir: run_dir.clone(),
        resume: resume.then(Resumption::default),
    };
    let mut live = site.try_start(layout(false)).await.unwrap();
    live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    within(toy.fulfil(&lease)).await.unwrap();
    live.shutdown().await;
    // Nobody else comes to a run: what was begun on another machine is refused, and not waited for.
    let live = site.try_start(layout(true)).await.unwrap();
    let mut other = match Toy::try_join(&live.url, "other", "toy gpu").await {
        Err(reason) => return assert!(reason.contains("toy cpu"), "{reason}"),
        // It joined before the job was prepared.
        Ok(other) => other,
    };
    let told = within(async {
        loop {
            match other.ask(100).await.unwrap() {
                v1::lease_response::Answer::Goodbye(goodbye) => return goodbye,
                v1::lease_response::Answer::Lease(_) => panic!("another class was given work"),
                _ => {}
            }
        }
    });
    assert_eq!(told.await.parting(), v1::Parting::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_workers_are_gone_says_what_it_waits_for() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let waits = live.status(&id).await.waiting_for;
    assert!(waits.contains("a worker"), "{waits}");
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    assert_eq!(live.status(&id).await.waiting_for, "");
    toy.fulfil(&lease).await.unwrap();
    toy.leave().await;
    assert_eq!(live.status(&id).await.waiting_for, waits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stops_says_whether_it_is_expected_back() {
    for (dismiss, expected) in [
        (false, v1::Parting::Returns),
        (true, v1::Parting::Dismissed),
    ] {
        let site = Site::new();
        let mut live = site.start_to(dismiss).await;
        let mut toy = Toy::join(&live.url, "toy").await;
        let request = v1::ListWorkersRequest {};
        let waiting = tokio::spawn(async move { toy.ask(60_000).await.unwrap() });
        within(live.jobs.list_workers(request)).await.unwrap();
        live.shutdown().await;
        let v1::lease_response::Answer::Goodbye(goodbye) = within(waiting).await.unwrap() else {
            panic!("no goodbye");
        };
        assert_eq!(goodbye.parting(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_any_class_says_that_the_promise_is_off() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live
        .submit(&format!("compute_class = \"any\"\n{}", site.job()))
        .await;
    for class in ["toy cpu", "toy gpu"] {
        let toy = Toy::try_join(&live.url, class, class).await.unwrap();
        tokio::spawn(toy.work());
    }
    let report = live.succeeded(&id).await;
    assert!(!report.bit_identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_has_one_coordinator() {
    let site = Site::new();
    let live = site.start().await;
    let error = site.try_start(site.queue()).await.err().unwrap();
    let pid = std::process::id().to_string();
    assert!(
        matches!(&error, StartError::Store(StoreError::Held { holder, .. }) if *holder == pid),
        "{error}"
    );
    live.shutdown().await;
    site.start().await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_refused_by_name_when_it_cannot_be_had_or_should_not() {
    let site = Site::new();
    let live = site.start().await;
    let addr = live.running.as_ref().unwrap().addr();
    let start = |listen: String| {
        Coordinator::start(Config {
            listen,
            metrics: None,
            layout: Layout::Queue {
                data_dir: site.path("elsewhere"),
            },
            allow_plaintext: false,
            corpus_roots: CorpusRoots::nowhere(),
            tls: None,
            cache_dir: None,
            dismiss_workers: false,
        })
    };
    let error = start(addr.to_string()).await.err().unwrap();
    assert!(matches!(error, StartError::InUse(taken) if taken == addr));
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    let error = start("0.0.0.0:0".to_owned()).await.err().unwrap();
    assert!(error.to_string().contains("--allow-plaintext"), "{error}");
    let error = start("nonsense".to_owned()).await.err().unwrap();
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert!(!site.path("elsewhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_those_who_say_nothing() {
    let site = Site::new();
    let mut live = site.start().await;
    live.submit(&site.job()).await;
    let addr = live.running.as_ref().unwrap().addr();
    let silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    let idle = channel(&live.url).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    within(toy.lease()).await;
    let waiting = Toy::join(&live.url, "waiting").await;
    // The pass cannot end without the other one's lease: sooner or later this one waits.
    let waiting = tokio::spawn(waiting.work());
    let shutdown = live.shutdown();
    let in_time = tokio::time::timeout(Duration::from_secs(5), shutdown).await;
    assert!(in_time.is_ok());
    let told = within(waiting).await.unwrap();
    assert!(told.contains("shutting down"), "{told}");
    drop((silent, idle));
}
