//! The audit log tells of what was asked for and refused, and of nothing else.

use std::time::{Duration, Instant};

use coordinator::records::audit_log::AuditRecord;
use proto::v1;
use tonic::Code;

use crate::{
    site::{Site, within},
    toy::Toy,
};

/// The log's lines, once it has `count` of them.
async fn records(site: &Site, count: usize) -> Vec<AuditRecord> {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(site.path("data/audit.jsonl")).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            let lines = text.lines();
            return lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_refusals_are_told_with_who_asked_for_them_and_reading_is_not() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut jobs = live.jobs.clone();
    within(jobs.list(v1::ListRequest::default())).await.unwrap();
    let request = v1::SubmitRequest {
        job_toml: "not = \"a job\"".to_owned(),
        program_version: proto::PROGRAM_VERSION.to_owned(),
    };
    let refused = within(jobs.submit(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let _toy = Toy::join(&live.url, "toy").await;
    let cancelled = within(jobs.cancel(v1::CancelRequest { id: id.clone() })).await;
    cancelled.unwrap();
    let unknown = v1::CancelRequest {
        id: "none\x1b[2J".to_owned(),
    };
    within(jobs.cancel(unknown)).await.unwrap_err();

    let found = records(&site, 5).await;
    let told: Vec<(&str, Option<&str>, &str)> = found
        .iter()
        .map(|one| (one.method.as_str(), one.job.as_deref(), one.result.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("Jobs/Submit", Some(id.as_str()), "ok"),
            ("Jobs/Submit", None, "invalid-argument"),
            ("Workers/Join", None, "ok"),
            ("Jobs/Cancel", Some(id.as_str()), "ok"),
            ("Jobs/Cancel", Some(r"none\u{1b}[2J"), "not-found"),
        ]
    );
    for one in &found {
        assert!(one.from.ip().is_loopback());
        assert_eq!(one.authentication, "loopback");
        assert_eq!(one.roles, "worker,submit,read,admin");
        assert_eq!(one.reason.is_some(), one.result != "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_fit_is_refused_by_its_size() {
    let site = Site::new();
    let mut live = site.start().await;
    let giant = site.job().replace(
        "layers = 1\nhidden = 3\n",
        "layers = 16\nhidden = 8192\nbidirectional = true\n",
    );
    assert_ne!(giant, site.job());
    let request = v1::SubmitRequest {
        job_toml: giant,
        program_version: proto::PROGRAM_VERSION.to_owned(),
    };
    let refused = within(live.jobs.submit(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = refused.message();
    assert!(
        told.contains("million parameters") && told.contains("model.hidden"),
        "{told}"
    );
    // Others go on.
    let id = live.submit(&site.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    live.succeeded(&id).await;
}
