//! Runs that go on otherwise than they were begun: for more epochs, from other places, with other settings,
//! on other machines; and what stays on record of the lives before.

use std::path::{Path, PathBuf};

use coordinator::{
    job::Job,
    records::{events::Event, report::Report},
    store::{Layout, Resumption, StoreError},
};
use proto::v1::{self, Cause, State};
use tonic::{Code, Status};

use crate::{
    runs::work,
    site::{Live, Site, events, metrics, within},
    toy::Toy,
};

async fn resume(
    live: &mut Live,
    id: &str,
    sets: &[&str],
    allow_change: bool,
) -> Result<v1::JobStatus, Status> {
    let request = v1::ResumeRequest {
        id: id.to_owned(),
        sets: sets.iter().map(|&set| set.to_owned()).collect(),
        allow_change,
    };
    Ok(live.jobs.resume(request).await?.into_inner())
}

async fn run_dir(live: &mut Live, id: &str) -> PathBuf {
    live.status(id).await.run_dir.into()
}

/// The report of a run of `job` that nothing happens to.
async fn undisturbed(job: impl Fn(&Site) -> String) -> Report {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&job(&site)).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    live.succeeded(&id).await
}

fn epochs(site: &Site, count: u32) -> String {
    let job = site.job();
    job.replace("epochs = 3", &format!("epochs = {count}"))
}

/// A job that has made some steps and was cancelled then.
async fn cancelled(site: &Site, live: &mut Live) -> String {
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 8).await;
    let request = v1::CancelRequest { id: id.clone() };
    within(live.jobs.cancel(request)).await.unwrap();
    toy.leave().await;
    id
}

fn named(dir: &Path, wanted: impl Fn(&Event) -> bool) -> usize {
    events(dir).iter().filter(|event| wanted(event)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_that_is_made_longer_has_the_bits_of_a_long_one() {
    let long = undisturbed(|site| epochs(site, 5)).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let short = live.succeeded(&id).await;
    assert_ne!(short.weights_sha256, long.weights_sha256);
    let refused = resume(&mut live, &id, &[], false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("train.epochs=N"), "{refused}");
    resume(&mut live, &id, &["train.epochs=5"], false)
        .await
        .unwrap();
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, long.weights_sha256);
    assert_eq!(report.metrics, long.metrics);
    assert_eq!((report.steps, report.total_epochs), (25, 5));
    assert!(report.bit_identity && report.amendments.is_empty());
    let dir = run_dir(&mut live, &id).await;
    let steps: Vec<u64> = metrics(&dir).iter().map(|line| line.step).collect();
    assert_eq!(steps, (1..=25).collect::<Vec<_>>());
    // The first end stays on record, and what was computed twice is told once.
    assert_eq!(
        named(&dir, |event| matches!(event, Event::Succeeded { .. })),
        2
    );
    assert_eq!(
        named(&dir, |event| matches!(event, Event::Evaluated { .. })),
        5
    );
    let kept = std::fs::read_to_string(dir.join("job.toml")).unwrap();
    assert!(kept.contains("epochs = 5"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_learning_rate_needs_leave_and_ends_the_promise() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = cancelled(&site, &mut live).await;
    let set = ["optimizer.learning_rate=0.05"];
    let refused = resume(&mut live, &id, &set, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let told = refused.message();
    assert!(
        told.contains("learning_rate = 0.05 (before: 0.1)") && told.contains("--allow-change"),
        "{told}"
    );
    let refused = resume(&mut live, &id, &["model.hidden=4"], true).await;
    assert!(refused.unwrap_err().message().contains("model.hidden"));
    assert_eq!(live.status(&id).await.state(), State::Cancelled);

    // Leave is given once, and holds through a death before anything new was written down.
    resume(&mut live, &id, &set, true).await.unwrap();
    live.kill().await;
    let mut live = site.start().await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let report = live.succeeded(&id).await;
    assert!(!report.bit_identity);
    let reason = report.bit_identity_reason.unwrap();
    assert!(reason.contains("learning_rate = 0.05"), "{reason}");
    let [amendment] = report.amendments.as_slice() else {
        panic!("{:?}", report.amendments);
    };
    assert_eq!(amendment.change.key, "optimizer.learning_rate");
    assert!((7..=8).contains(&amendment.step), "{amendment:?}");
    let dir = run_dir(&mut live, &id).await;
    let changed = |event: &Event| matches!(event, Event::JobChanged { bit_identity: false, changes } if changes.len() == 1);
    assert!(named(&dir, changed) >= 1);
    assert_eq!(named(&dir, |event| matches!(event, Event::Cancelled)), 1);
    let rates: Vec<Option<f64>> = metrics(&dir).iter().map(|line| line.lr).collect();
    assert_eq!((rates[0], rates[14]), (Some(0.1), Some(0.05)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_edited_by_hand_is_told_from_the_one_of_the_checkpoint() {
    let expected = undisturbed(Site::job).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = cancelled(&site, &mut live).await;
    let path = run_dir(&mut live, &id).await.join("job.toml");
    let job = std::fs::read_to_string(&path).unwrap();
    let edited = job.replace("learning_rate = 0.1", "learning_rate = 0.2");
    assert_ne!(edited, job);
    std::fs::write(&path, &edited).unwrap();
    resume(&mut live, &id, &[], false).await.unwrap();
    let status = live.ended(&id).await;
    assert_eq!(status.cause(), Cause::Data);
    assert!(
        status.error.contains("learning_rate = 0.2"),
        "{}",
        status.error
    );
    // Fewer epochs than were made are refused as well, and that changes nothing.
    std::fs::write(&path, &job).unwrap();
    resume(&mut live, &id, &["train.epochs=1"], false)
        .await
        .unwrap();
    let status = live.ended(&id).await;
    assert!(
        status.error.contains("train.epochs = 1"),
        "{}",
        status.error
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), job);
    resume(&mut live, &id, &[], false).await.unwrap();
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    assert_eq!(
        live.succeeded(&id).await.weights_sha256,
        expected.weights_sha256
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_no_bit_changes_without_leave() {
    let expected = undisturbed(Site::job).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = cancelled(&site, &mut live).await;
    let sets = ["train.checkpoint_every=3", "train.max_quarantined=77"];
    resume(&mut live, &id, &sets, false).await.unwrap();
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected.weights_sha256);
    assert!(report.bit_identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_where_its_files_lie_elsewhere_and_with_no_other_data() {
    let expected = undisturbed(Site::job).await;
    let site = Site::new();
    let layout = |resume| Layout::Single {
        run_dir: site.path("run"),
        resume,
    };
    let with = |job: &str| {
        let job = Job::parse(job, Path::new("renamed.toml"), &[]).unwrap();
        Some(Resumption {
            job: Some(Box::new(job)),
            ..Resumption::default()
        })
    };
    let mut live = site.try_start(layout(None)).await.unwrap();
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 6).await;
    live.shutdown().await;
    let begun_with = std::fs::read_to_string(site.path("run/job.toml")).unwrap();

    // Another corpus under another path is found out, and the run keeps its job.
    let moved = Site::new();
    moved.manifest("train", 25);
    let job = moved.job().replace("name = \"tones\"\n", "");
    let mut live = site.try_start(layout(with(&job))).await.unwrap();
    let status = live.ended(&id).await;
    assert_eq!(
        (status.state(), status.cause()),
        (State::Failed, Cause::Data)
    );
    assert!(status.error.contains("begun with"), "{}", status.error);
    live.shutdown().await;
    let kept = std::fs::read_to_string(site.path("run/job.toml")).unwrap();
    assert_eq!(kept, begun_with);

    // The same corpus elsewhere is the same.
    moved.manifest("train", 26);
    for name in ["train", "valid"] {
        std::fs::remove_file(site.path(&format!("{name}.jsonl"))).unwrap();
    }
    let mut live = site.try_start(layout(with(&job))).await.unwrap();
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected.weights_sha256);
    assert_eq!((report.name.as_str(), report.bit_identity), ("tones", true));
    let dir = site.path("run");
    assert_eq!(
        named(&dir, |event| matches!(event, Event::Failed { .. })),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_compute_class_takes_over_where_that_is_allowed() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = cancelled(&site, &mut live).await;
    resume(&mut live, &id, &[], true).await.unwrap();
    let toy = Toy::try_join(&live.url, "other", "toy gpu").await.unwrap();
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert!(!report.bit_identity);
    assert_eq!(report.compute_class.as_deref(), Some("toy gpu"));
    let reason = report.bit_identity_reason.unwrap();
    assert!(
        reason.contains("toy gpu") && reason.contains("toy cpu"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_faults_and_lives_survive_every_end() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 3).await;
    // Two workers leave after the last checkpoint before the coordinator is killed.
    toy.leave().await;
    Toy::join(&live.url, "second").await.leave().await;
    live.kill().await;
    let mut live = site.start().await;
    let mut toy = Toy::join(&live.url, "third").await;
    work(&mut toy, 1).await;
    let request = v1::CancelRequest { id: id.clone() };
    within(live.jobs.cancel(request)).await.unwrap();
    let before = live.status(&id).await.faults;
    assert!(before["leaves"] >= 2, "{before:?}");
    resume(&mut live, &id, &[], false).await.unwrap();
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert!(report.faults["leaves"] >= 2, "{:?}", report.faults);
    assert!(
        report.faults["joins"] >= before["joins"],
        "{:?}",
        report.faults
    );
    assert_eq!(report.lives, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_with_the_weights_that_its_job_names() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let first = live.succeeded(&id).await;
    let dir = run_dir(&mut live, &id).await;
    let init = format!("[train]\ninit = {dir:?}\n");
    let job = site.job().replace("[train]\n", &init);
    let id = live.submit(&job).await;
    let second = live.succeeded(&id).await;
    assert_eq!(second.init_sha256, first.weights_sha256);
    assert_ne!(second.weights_sha256, first.weights_sha256);
    // A model of another shape is refused by name before anything is trained.
    let other = job.replace("hidden = 3", "hidden = 4");
    let id = live.submit(&other).await;
    let status = live.ended(&id).await;
    assert_eq!(status.cause(), Cause::Data);
    assert!(status.error.contains("train.init"), "{}", status.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_anything_of_somebodys_is_left_alone() {
    let site = Site::new();
    let run_dir = site.path("mine");
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::write(run_dir.join("job.toml"), "# my own notes\n").unwrap();
    for resume in [None, Some(Resumption::default())] {
        let resumes = resume.is_some();
        let layout = Layout::Single {
            run_dir: run_dir.clone(),
            resume,
        };
        let error = site.try_start(layout).await.err().unwrap();
        let coordinator::server::StartError::Store(error) = error else {
            panic!("{error}");
        };
        if resumes {
            assert!(matches!(error, StoreError::NoRun { .. }), "{error}")
        } else {
            assert!(matches!(error, StoreError::Occupied { .. }), "{error}")
        }
    }
    let left: Vec<_> = std::fs::read_dir(&run_dir).unwrap().collect();
    assert_eq!(left.len(), 1);
}
