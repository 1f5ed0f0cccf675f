//! What a monitoring system reads of a coordinator, over plain HTTP.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    site::{Live, Site},
    toy::Toy,
};

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    timeout(Duration::from_secs(20), read)
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(addr: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    ask(addr, &request).await
}

/// Samples by name and labels, as they are written.
async fn samples(live: &Live) -> BTreeMap<String, f64> {
    let page = get(live.metrics(), "/metrics").await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_a_run_has_done() {
    let site = Site::new();
    let mut live = site.start_scraped().await;
    let before = samples(&live).await;
    assert_eq!(before["unisono_jobs{state=\"running\"}"], 0.0);
    assert_eq!(before["unisono_workers"], 0.0);
    let id = live.submit(&site.job()).await;
    let waits = async {
        while samples(&live).await.get("unisono_job_waits") != Some(&1.0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), waits).await.unwrap();
    let worker = Toy::join(&live.url, "a name of its own").await;
    tokio::spawn(worker.work());
    let report = live.succeeded(&id).await;
    let after = samples(&live).await;
    let steps = report.steps as f64;
    for (name, value) in [
        ("unisono_step_duration_seconds_count", steps),
        ("unisono_step_duration_seconds_bucket{le=\"+Inf\"}", steps),
        (
            "unisono_steps_clipped_total",
            (report.clipped_share * steps).round(),
        ),
        ("unisono_utterances_total", 26.0 * 3.0),
        (
            "unisono_jobs_ended_total{state=\"succeeded\",cause=\"\"}",
            1.0,
        ),
        ("unisono_jobs{state=\"succeeded\"}", 1.0),
        ("unisono_jobs{state=\"queued\"}", 0.0),
        ("unisono_workers", 1.0),
        (
            "unisono_requests_total{method=\"Jobs/Submit\",code=\"OK\"}",
            1.0,
        ),
        (
            "unisono_requests_total{method=\"Workers/Join\",code=\"OK\"}",
            1.0,
        ),
        ("unisono_faults_total{kind=\"joins\"}", 1.0),
        ("unisono_storage_writable", 1.0),
        ("unisono_serving", 1.0),
    ] {
        assert_eq!(after.get(name), Some(&value), "{name}: {after:#?}");
    }
    assert!((after["unisono_audio_seconds_total"] / 3600.0 - report.audio_hours).abs() < 1e-9);
    for name in [
        "unisono_checkpoints_total",
        "unisono_leases_total",
        "unisono_contributions_total",
        "unisono_storage_free_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(after[name] > 0.0, "{name}: {after:#?}");
    }
    // The job is over, and nothing is told that a peer has chosen.
    assert!(!after.contains_key("unisono_job_step"));
    assert!(
        !after
            .keys()
            .any(|name| name.contains("own") && name.contains("a name"))
    );
    let refused = live.try_submit("nonsense").await.unwrap_err();
    assert!(refused.message().contains("TOML"), "{refused}");
    let refused = "unisono_requests_total{method=\"Jobs/Submit\",code=\"INVALID_ARGUMENT\"}";
    assert_eq!(samples(&live).await[refused], 1.0);
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_are_answered_and_nothing_else() {
    let site = Site::new();
    let live = site.start_scraped().await;
    let addr = live.metrics();
    for _ in 0..100 {
        if get(addr, "/readyz").await.contains(" 200 ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (path, status) in [
        ("/healthz", "200 "),
        ("/readyz", "200 "),
        ("/metrics?x=1", "200 "),
        ("/", "404 "),
        ("/metrics/../../etc/passwd", "404 "),
    ] {
        let answer = get(addr, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
    let post =
        "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(ask(addr, post).await.contains(" 405 "));
    for nonsense in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\r\n\r\n"] {
        let answer = ask(addr, nonsense).await;
        assert!(answer.is_empty() || answer.contains(" 400 "), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // It may be cut off before all of it is sent.
    let _ = stream.write_all(long.as_bytes()).await;
    drop(stream);
    assert!(get(addr, "/healthz").await.contains(" 200 "));
    // A data directory that is gone.
    std::fs::rename(site.path("data"), site.path("moved")).unwrap();
    let unready = async {
        while !get(addr, "/readyz").await.contains(" 503 ") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(30), unready).await.unwrap();
    assert!(get(addr, "/healthz").await.contains(" 200 "));
    live.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_keep_nobody_out_for_long() {
    let site = Site::new();
    let live = site.start_scraped().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(live.metrics()).await.unwrap());
    }
    // Three times the time that a request's head has.
    let answer = timeout(Duration::from_secs(20), get(live.metrics(), "/healthz"));
    assert!(answer.await.unwrap().contains(" 200 "));
    drop(silent);
    live.kill().await;
}
