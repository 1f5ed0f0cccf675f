//! Files that an earlier version of the program wrote (`testdata/earlier`): a run with its checkpoint, events, metrics and
//! report, and a model. This version reads them and goes on with the run, with the bits of a run that was never
//! interrupted. Where a format is to change, these files say what has to stay readable.
//!
//! They were written by the program of 2026-11-27, 10:42, and are written anew by
//! `UNISONO_EARLIER_PROGRAM=/path/to/unisono cargo test --release -p coordinator --test cluster -- --ignored earlier`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use coordinator::records::{events::Event, report::Report};
use proto::v1::{self, State, jobs_client::JobsClient};

use crate::{
    runs::work,
    site::{Site, events, metrics, within},
    toy::{Toy, channel},
};

/// What stands in the files for the folder of the corpus, which is another one at every test.
const SITE: &str = "@SITE@";
/// Steps that were made before the run was cancelled, of 15: one of the second epoch.
const STEPS: usize = 6;
const INTERRUPTED: &str = "0001-tones";
const FINISHED: &str = "0002-tones";

fn earlier() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/earlier")
}

/// Copies a tree; in text files one folder's path is exchanged for another.
fn copy(from: &Path, to: &Path, exchange: (&str, &str)) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, exchange);
        } else if let Ok(text) = fs::read_to_string(&path) {
            fs::write(&target, text.replace(exchange.0, exchange.1)).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A site whose data directory is the one of the earlier version.
fn site_of_before() -> Site {
    let site = Site::new();
    let folder = site.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    copy(&earlier(), &site.path("data"), (SITE, folder));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_versions_run_goes_on_and_ends_with_the_same_bits() {
    let site = site_of_before();
    let mut live = site.start().await;
    let status = live.status(INTERRUPTED).await;
    assert_eq!(status.state(), State::Cancelled);
    let dir = PathBuf::from(status.run_dir);
    let report: Report =
        serde_json::from_str(&fs::read_to_string(dir.join("report.json")).unwrap()).unwrap();
    assert_eq!((report.steps, report.lives), (STEPS as u64, 1));
    assert_eq!(metrics(&dir).len(), STEPS);
    let before = events(&dir);
    assert!(before.contains(&Event::Cancelled), "{before:?}");

    let request = v1::ResumeRequest {
        id: INTERRUPTED.to_owned(),
        ..v1::ResumeRequest::default()
    };
    live.jobs.resume(request).await.unwrap();
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let report = live.succeeded(INTERRUPTED).await;
    assert_eq!((report.steps, report.lives), (15, 2));
    assert!(report.bit_identity, "{report:?}");
    // What was told before stays told, once, and what follows comes behind it.
    let after = events(&dir);
    let resumed = after
        .iter()
        .any(|event| matches!(event, Event::Started { resumed_from: Some(name), .. } if name.contains("00000006")));
    assert!(resumed && after.len() > before.len(), "{after:?}");
    let steps: Vec<u64> = metrics(&dir).iter().map(|line| line.step).collect();
    assert_eq!(steps, (1..=15).collect::<Vec<_>>());

    let undisturbed = Site::new();
    let mut live = undisturbed.start().await;
    let id = live.submit(&undisturbed.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let expected = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected.weights_sha256);
    assert_eq!(report.metrics, expected.metrics);
    // That version computed the same bits to its end.
    let earlier = earlier().join("jobs").join(FINISHED).join("report.json");
    let earlier: Report = serde_json::from_str(&fs::read_to_string(earlier).unwrap()).unwrap();
    assert_eq!(earlier.weights_sha256, expected.weights_sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_versions_model_begins_a_run() {
    let site = site_of_before();
    let mut live = site.start().await;
    let finished = live.status(FINISHED).await;
    assert_eq!(finished.state(), State::Succeeded);
    let report: Report = serde_json::from_str(&live.report(FINISHED).await).unwrap();
    let model = Path::new(&finished.run_dir).join("final");
    let init = format!("[train]\ninit = {model:?}\n");
    let id = live.submit(&site.job().replace("[train]\n", &init)).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let second = live.succeeded(&id).await;
    assert_eq!(second.init_sha256, report.weights_sha256);
    assert_ne!(second.weights_sha256, report.weights_sha256);
}

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes testdata/earlier anew with the program that UNISONO_EARLIER_PROGRAM names"]
async fn the_files_of_an_earlier_version_are_written() {
    let program = std::env::var_os("UNISONO_EARLIER_PROGRAM").expect("UNISONO_EARLIER_PROGRAM");
    let site = Site::new();
    let (data, port) = (site.path("data"), site.path("port"));
    let program = Command::new(program)
        .args(["coordinator", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .arg("--port-file")
        .arg(&port)
        .spawn();
    let program = Program(program.unwrap());
    let port = within(async {
        loop {
            match fs::read_to_string(&port) {
                Ok(text) if !text.trim().is_empty() => return text.trim().to_owned(),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let url = format!("http://127.0.0.1:{}", port.await);
    let mut jobs = JobsClient::new(channel(&url).await);
    for id in [INTERRUPTED, FINISHED] {
        let request = v1::SubmitRequest {
            job_toml: site.job(),
            program_version: proto::PROGRAM_VERSION.to_owned(),
        };
        assert_eq!(jobs.submit(request).await.unwrap().into_inner().id, id);
    }
    let mut toy = Toy::join(&url, "toy").await;
    // The cancellation comes before what is made of the last one.
    work(&mut toy, STEPS + 1).await;
    let id = INTERRUPTED.to_owned();
    let cancelled = jobs.cancel(v1::CancelRequest { id });
    within(cancelled).await.unwrap();
    tokio::spawn(toy.work());
    within(async {
        loop {
            let id = FINISHED.to_owned();
            let status = jobs.status(v1::StatusRequest { id }).await.unwrap();
            if status.into_inner().state() == State::Succeeded {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    drop(program);
    let folder = site.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    for name in [
        "lock",
        "jobs/0001-tones/chart.svg",
        "jobs/0002-tones/chart.svg",
    ] {
        fs::remove_file(data.join(name)).unwrap();
    }
    fs::remove_dir_all(data.join("cache")).unwrap();
    let _ = fs::remove_dir_all(earlier());
    copy(&data, &earlier(), (folder, SITE));
}
